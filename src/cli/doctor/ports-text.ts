/** The machine's serial ports as a person reads about them. Pure. */
import type { SerialPortConfig } from "../../config/schema.ts";
import { languageOf } from "../../gateway-serial.ts";
import { holderText } from "../../kernel/device-holders.ts";
import { printable } from "../format.ts";
import type { PortFact, PortsReport } from "./probe-ports.ts";

export interface Surroundings {
  readonly configured: readonly SerialPortConfig[];
  /** Names of the ports that the running daemon has open. */
  readonly open: ReadonlySet<string>;
}

export function portsText({ ports, absent }: PortsReport, surroundings: Surroundings): string {
  const none = "This machine has no serial port: plug an adapter in, and see whether dmesg speaks of it.\n";
  const blocks = [
    ...(ports.length === 0 ? [none] : ports.map((port) => portText(port, surroundings))),
    ...absent.map(({ name, path, detail }) => block(path, [["used by", `${name}; ${detail}`]])),
  ];
  return blocks.join("\n");
}

function portText(port: PortFact, { configured, open }: Surroundings): string {
  const { path, byId, byPath, driver, group, denied, holders } = port;
  const users = port.configured.map((name) => userText(name, configured, open));
  const isOurs = port.configured.some((name) => open.has(name));
  const held = holders.length === 0 ? "nobody" : holderText(holders);
  const best = (name: string): string =>
    name === port.name && port.usb !== null ? `${name}  (for the configuration)` : name;
  return block(path, [
    ["what", whatText(port)],
    ...(byId === null ? [] : [["by id", best(byId)] as const]),
    ...(byPath === null ? [] : [["by path", best(byPath)] as const]),
    ...(driver === null ? [] : [["driver", driver] as const]),
    ["used by", users.length === 0 ? "no port of the configuration" : users.join("; ")],
    ["held by", isOurs ? `${held}: the gateway` : held],
    ["access", denied ?? `may be opened by this user${group === null ? "" : `; group ${group}`}`],
  ]);
}

function whatText({ usb, driver, path }: PortFact): string {
  if (usb === null)
    return driver === null ? `a terminal${path.startsWith("/dev/pts/") ? " (pseudo)" : ""}` : "a port of the board";
  const { vendorId, productId, manufacturer, product, serialNumber } = usb;
  const name = [manufacturer, product].filter((part) => part !== null).join(" ") || "USB adapter";
  const serial = serialNumber === null ? ", without a serial number" : `, serial number ${serialNumber}`;
  return `${name}, USB ${vendorId}:${productId}${serial}${usb.interface === null ? "" : `, interface ${usb.interface}`}`;
}

function userText(name: string, configured: readonly SerialPortConfig[], open: ReadonlySet<string>): string {
  const port = configured.find((each) => each.name === name);
  if (port === undefined) return name;
  const line = `${port.baudRate} bit/s ${port.dataBits}${port.parity.charAt(0).toUpperCase()}${port.stopBits}`;
  const language = languageOf(port);
  const spoken = port.codec === undefined ? language : `${port.framing}, ${language}`;
  return `${name} (${line}, ${spoken})${open.has(name) ? ", open in the daemon" : ""}`;
}

function block(title: string, rows: readonly (readonly [string, string])[]): string {
  return `${printable(title)}\n${rows.map(([key, value]) => `  ${key.padEnd(8)} ${printable(value)}\n`).join("")}`;
}
