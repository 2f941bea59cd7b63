/**
 * The serial ports of USB adapters, as the kernel's sysfs describes them: which adapter a `ttyUSB3` is at this moment.
 *
 * Nothing is opened and nothing is kept: numbers change with every plug, so whoever opens a port asks anew.
 */
import { readdir, readFile, realpath } from "node:fs/promises";
import { dirname, join } from "node:path";

/** Where devices are looked up; tests hand in folders of their own. */
export interface DeviceRoots {
  readonly sysfs: string;
  readonly dev: string;
}

export const MACHINE_DEVICES: DeviceRoots = { sysfs: "/sys", dev: "/dev" };

export interface UsbSerialPort {
  /** The device file as the kernel numbered it: `/dev/ttyUSB3`. */
  readonly path: string;
  /** Four hexadecimal digits, lower case. */
  readonly vendorId: string;
  readonly productId: string;
  readonly serialNumber?: string;
  readonly manufacturer?: string;
  readonly product?: string;
  readonly interface?: number;
  /** Its names by adapter and by socket in `/dev/serial`, where udev has given it such. */
  readonly byId?: string;
  readonly byPath?: string;
}

/** What a port must have; absent: anything. */
export interface UsbMatch {
  readonly vendorId?: string | undefined;
  readonly productId?: string | undefined;
  readonly serialNumber?: string | undefined;
  readonly interface?: number | undefined;
}

/** The USB serial ports that are plugged in, in the order of their names. */
export async function usbSerialPorts(roots: DeviceRoots = MACHINE_DEVICES): Promise<UsbSerialPort[]> {
  const folder = join(roots.sysfs, "class", "tty");
  const names = (await readdir(folder).catch(() => [])).sort(byNumber);
  const [ids, paths] = await Promise.all([stableNames(roots, "by-id"), stableNames(roots, "by-path")]);
  const ports = await Promise.all(
    names.map(async (name): Promise<UsbSerialPort[]> => {
      const usb = await usbOf(join(folder, name, "device"), roots.sysfs);
      if (usb === undefined) return [];
      const path = join(roots.dev, name);
      const device = await realpath(path).catch(() => path);
      const [byId, byPath] = [ids.get(device), paths.get(device)];
      return [{ path, ...usb, ...(byId === undefined ? {} : { byId }), ...(byPath === undefined ? {} : { byPath }) }];
    }),
  );
  return ports.flat();
}

/** Whether a port has all that is asked for. Pure. */
export function fits(port: UsbSerialPort, match: UsbMatch): boolean {
  return (
    (match.vendorId === undefined || match.vendorId.toLowerCase() === port.vendorId) &&
    (match.productId === undefined || match.productId.toLowerCase() === port.productId) &&
    (match.serialNumber === undefined || match.serialNumber === port.serialNumber) &&
    (match.interface === undefined || match.interface === port.interface)
  );
}

type UsbAttributes = Omit<UsbSerialPort, "path" | "byId" | "byPath">;

/** Upwards from a terminal's device: first its interface, then the adapter. `undefined` for what is not on USB. */
async function usbOf(device: string, sysfs: string): Promise<UsbAttributes | undefined> {
  const [start, root] = await Promise.all([realpath(device), realpath(sysfs)]).catch(() => []);
  if (start === undefined || root === undefined) return undefined;
  let number: string | undefined;
  for (let folder = start; folder.startsWith(`${root}/`); folder = dirname(folder)) {
    number ??= await attribute(folder, "bInterfaceNumber");
    const vendorId = await attribute(folder, "idVendor");
    if (vendorId !== undefined) return adapter(folder, vendorId, number);
  }
  return undefined;
}

async function adapter(folder: string, vendorId: string, number: string | undefined): Promise<UsbAttributes> {
  const names = ["idProduct", "serial", "manufacturer", "product"] as const;
  const [productId, serialNumber, manufacturer, product] = await Promise.all(
    names.map((name) => attribute(folder, name)),
  );
  return {
    vendorId,
    productId: productId ?? "",
    ...(serialNumber === undefined ? {} : { serialNumber }),
    ...(manufacturer === undefined ? {} : { manufacturer }),
    ...(product === undefined ? {} : { product }),
    ...(number === undefined ? {} : { interface: Number.parseInt(number, 16) }),
  };
}

async function attribute(folder: string, name: string): Promise<string | undefined> {
  const text = await readFile(join(folder, name), "utf8").catch(() => "");
  return text.trim() === "" ? undefined : text.trim();
}

/** Device file → its name in one of udev's folders. */
async function stableNames({ dev }: DeviceRoots, kind: "by-id" | "by-path"): Promise<Map<string, string>> {
  const folder = join(dev, "serial", kind);
  const names = (await readdir(folder).catch(() => [])).sort();
  const targets = await Promise.all(names.map((name) => realpath(join(folder, name)).catch(() => undefined)));
  return new Map(
    names.flatMap((name, index) => {
      const target = targets[index];
      return target === undefined ? [] : [[target, join(folder, name)] as const];
    }),
  );
}

function byNumber(one: string, other: string): number {
  return one.localeCompare(other, "en", { numeric: true });
}
