/** What was recognised on a port, as a port of the configuration. Pure. */
import { stringify } from "yaml";
import type { Recognition } from "../../codec/recognise.ts";
import { formatDuration } from "../../config/units.ts";
import type { LineTry } from "./line-search.ts";

const DEFAULT_RATE = 9600;

/** The YAML to paste: a `serial` section with this one port. `name`: how the port is to be called. */
export function snippet(name: string, path: string, line: LineTry, { keys }: Pick<Recognition, "keys">): string {
  const { idle, checksum, ...rest } = keys;
  const port = {
    name,
    path,
    ...(line.baudRate !== DEFAULT_RATE && { baudRate: line.baudRate }),
    ...(line.dataBits !== 8 && { dataBits: line.dataBits }),
    ...(line.parity !== "none" && { parity: line.parity }),
    ...rest,
    ...(idle !== undefined && { idle: formatDuration(idle) }),
    ...(checksum !== undefined && { checksum: withoutDefaults(checksum) }),
  };
  return stringify({ serial: [port] }, { lineWidth: 0 });
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
export function nameFor(path: string, recognised: Pick<Recognition, "name">): string {
  const name = recognised.name ?? path.split("/").at(-1) ?? "";
  return name.replaceAll(/[^A-Za-z0-9_-]/g, "-").slice(0, 64) || "port";
}
