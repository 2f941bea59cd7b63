/** Every serial port that this machine has, on USB or on its board, as the kernel's sysfs tells. Nothing is opened. */
import { readdir, readFile, realpath } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { type DeviceRoots, MACHINE_DEVICES, type UsbSerialPort, usbSerialPorts } from "./usb-serial.ts";

export interface SerialDevice {
  /** The device file as the kernel named it: `/dev/ttyUSB3`, `/dev/ttyAMA0`. */
  readonly path: string;
  /** The kernel's driver, where it tells. */
  readonly driver?: string;
  /** Of a USB adapter. */
  readonly usb?: UsbSerialPort;
}

/** What to write where nothing is at `path` because it lacks its folder: `/dev/ttyUSB0` for `ttyUSB0`; `undefined` where it has one. */
export function deviceFileMeant(path: string): string | undefined {
  if (/^[./~]/.test(path) || path.includes(":")) return undefined;
  return `/dev/${path.replace(/^dev\//, "")}`;
}

/** The ports, in the order of their names. */
export async function serialDevices(roots: DeviceRoots = MACHINE_DEVICES): Promise<SerialDevice[]> {
  const onUsb = new Map((await usbSerialPorts(roots)).map((usb) => [usb.path, usb]));
  const folder = join(roots.sysfs, "class", "tty");
  const names = await readdir(folder).catch(() => []);
  const found = await Promise.all(
    names.map(async (name): Promise<SerialDevice[]> => {
      const path = join(roots.dev, name);
      const usb = onUsb.get(path);
      if (usb === undefined && !(await isUart(join(folder, name)))) return [];
      const driver = await driverOf(join(folder, name, "device"), roots.sysfs);
      return [{ path, ...(driver !== undefined && { driver }), ...(usb !== undefined && { usb }) }];
    }),
  );
  return found.flat().sort((one, other) => one.path.localeCompare(other.path, "en", { numeric: true }));
}

/** Linux 6.5 and later put two devices of its own between the port and the chip. */
const BETWEEN: ReadonlySet<string> = new Set(["port", "ctrl"]);

/** Upwards from a port's device: the first real driver. */
async function driverOf(device: string, sysfs: string): Promise<string | undefined> {
  const [start, root] = await Promise.all([realpath(device), realpath(sysfs)]).catch(() => []);
  if (start === undefined || root === undefined) return undefined;
  for (let folder = start; folder.startsWith(`${root}/`); folder = dirname(folder)) {
    const driver = await realpath(join(folder, "driver")).catch(() => undefined);
    if (driver !== undefined && !BETWEEN.has(basename(driver))) return basename(driver);
  }
  return undefined;
}

/** What has a device is no virtual terminal; and a UART of type 0 is a place where the kernel found none. */
async function isUart(folder: string): Promise<boolean> {
  const device = await realpath(join(folder, "device")).catch(() => undefined);
  if (device === undefined) return false;
  const type = await readFile(join(folder, "type"), "utf8").catch(() => "");
  return type.trim() !== "0";
}
