/** A back-off of which only the longest wait was written: the first wait then is no longer than that. Pure. */
import { isMapping, propertyOf, rootNode, type SchemaNode } from "./schema-node.ts";
import { numberOf } from "./validation.ts";

const RETRY = ["uplink", "retry"].reduce<SchemaNode | undefined>(propertyOf, rootNode);
const REOPEN = propertyOf(propertyOf(rootNode, "serial")?.items, "reopen");

/**
 * Puts `initial` into every back-off of a configuration as it was written, in place, where only a `max` shorter than the
 * default of `initial` stands. What cannot be read is left to the schema to refuse.
 */
export function shortenBackOffs(data: Readonly<Record<string, unknown>>): void {
  const { uplink, serial } = data;
  if (isMapping(uplink)) shorten(uplink.retry, RETRY);
  if (!Array.isArray(serial)) return;
  for (const port of serial) if (isMapping(port)) shorten(port.reopen, REOPEN);
}

function shorten(backOff: unknown, node: SchemaNode | undefined): void {
  if (!isMapping(backOff) || backOff.initial !== undefined) return;
  const usual = propertyOf(node, "initial")?.default;
  const [max, initial] = [backOff.max, usual].map(milliseconds);
  if (max !== undefined && initial !== undefined && 0 < max && max < initial) backOff.initial = backOff.max;
}

function milliseconds(written: unknown): number | undefined {
  try {
    return typeof written === "string" ? numberOf("duration", written) : undefined;
  } catch {
    return undefined;
  }
}
