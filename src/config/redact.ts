/** The effective configuration as it may be shown: written with units again, and without secrets. Pure. */
import type { Config } from "./schema.ts";
import { mapScalars, rootNode } from "./schema-node.ts";
import { formatDuration, formatSize } from "./units.ts";

const REDACTED = "redacted";

/**
 * A URL without its user name, password, query and fragment: each may hold a secret. Text that is no URL with a
 * host is shown only where it has no such part.
 */
export function redactUrl(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url === undefined || url.host === "") return /[@?#]/.test(text) ? REDACTED : text;
  if (url.username !== "" || url.password !== "") {
    url.username = REDACTED;
    url.password = "";
  }
  if (url.search !== "") url.search = REDACTED;
  if (url.hash !== "") url.hash = REDACTED;
  return url.href;
}

/**
 * The configuration as a person writes it: durations and sizes with their unit, URLs without secrets. Files are shown by
 * their path; what they hold is never read for this.
 */
export function presentable(config: Config): unknown {
  return mapScalars(rootNode, config, (node, value) => {
    if (node.format === "duration" && typeof value === "number") return formatDuration(value);
    if (node.format === "size" && typeof value === "number") return formatSize(value);
    if (node.format === "url" && typeof value === "string") return redactUrl(value);
    return value;
  });
}
