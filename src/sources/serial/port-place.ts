/** Which device a configured port is at this moment: looked up anew at each opening, because numbers change with every plug. */
import type { SerialPortConfig } from "../../config/schema.ts";
import { type DeviceRoots, fits, MACHINE_DEVICES, type UsbMatch, usbSerialPorts } from "../../kernel/usb-serial.ts";
import type { PortFault } from "./port.ts";

type Placed = Pick<SerialPortConfig, "path" | "match">;

/** Where the port is, or why that cannot be said. */
export async function placeOf(
  { path, match = {} }: Placed,
  roots: DeviceRoots = MACHINE_DEVICES,
): Promise<{ readonly kind: "found"; readonly path: string } | PortFault> {
  if (path !== undefined) return { kind: "found", path };
  const plugged = await usbSerialPorts(roots);
  const fitting = plugged.filter((port) => fits(port, match));
  const [port] = fitting;
  if (port === undefined) return { kind: "missing", detail: absent(match, plugged.length) };
  if (fitting.length === 1) return { kind: "found", path: port.path };
  const names = fitting.map(({ path: device, byPath }) => (byPath === undefined ? device : `${byPath} (${device})`));
  const remedy = "add serialNumber or interface to `match`, or name one of them as `path`";
  return {
    kind: "ambiguous",
    detail: `${fitting.length} adapters are ${wordsOf(match)}: ${names.join(", ")}; ${remedy}`,
  };
}

/** The port's place as the operator has written it, for provenance and log. */
export function placeText({ path, match = {} }: Placed): string {
  return path ?? wordsOf(match);
}

function absent(match: UsbMatch, others: number): string {
  const state = others === 0 ? "no USB adapter is plugged in" : `none of the ${others} USB serial ports here fits`;
  const remedy = "plug it in, or correct the port's `match` (lsusb -v shows what adapters say)";
  return `${wordsOf(match)} is not there, ${state}: ${remedy}. It is opened as soon as it is there`;
}

/** `USB 0403:6001, serial number A50285BI, interface 1`. */
function wordsOf({ vendorId = "*", productId = "*", serialNumber, interface: number }: UsbMatch): string {
  const serial = serialNumber === undefined ? "" : `, serial number ${serialNumber}`;
  return `USB ${vendorId}:${productId}${serial}${number === undefined ? "" : `, interface ${number}`}`;
}
