/** What was recognised on a port, as a port of the configuration. Pure. */
import { stringify } from "yaml";
import type { Recognition } from "../../codec/recognise.ts";
import { formatDuration } from "../../config/units.ts";
import type { LineTry } from "./line-search.ts";

/** What a port has where nothing is said. */
export const USUAL_LINE: LineTry = { baudRate: 9600, dataBits: 8, parity: "none" };

/**
 * The YAML to paste: a `serial` section with this one port. `name`: how the port is to be called. `brought`: what the line is set to
 * where the port says nothing, by the profile or by itself.
 */
export function snippet(
  name: string,
  path: string,
  line: LineTry,
  { keys, profile }: Pick<Recognition, "keys" | "profile">,
  brought: LineTry = USUAL_LINE,
): string {
  const { idle, checksum, ...rest } = keys;
  const own = (["baudRate", "dataBits", "parity"] as const).filter((key) => line[key] !== brought[key]);
  const setUp = Object.fromEntries(own.map((key) => [key, line[key]]));
  const spoken =
    profile !== undefined
      ? { profile }
      : {
          ...rest,
          ...(idle !== undefined && { idle: formatDuration(idle) }),
          ...(checksum !== undefined && { checksum: withoutDefaults(checksum) }),
        };
  return stringify({ serial: [{ name, path, ...setUp, ...spoken }] }, { lineWidth: 0 });
}

const CHECKSUM_DEFAULTS: Readonly<Record<string, unknown>> = {
  from: 0,
  endian: "big",
  complement: "none",
  encoding: "bytes",
};

function withoutDefaults(checksum: object): object {
  return Object.fromEntries(Object.entries(checksum).filter(([key, value]) => value !== CHECKSUM_DEFAULTS[key]));
}

/** A name that the configuration takes: the device's kind where that is known, else the device file's. */
export function nameFor(path: string, { name, profile }: Pick<Recognition, "name" | "profile">): string {
  const file = path.split("/").at(-1) ?? "";
  const chosen = name ?? profile ?? (/[A-Za-z]/.test(file) ? file : `port-${file}`);
  return chosen.replaceAll(/[^A-Za-z0-9_-]/g, "-").slice(0, 64);
}
