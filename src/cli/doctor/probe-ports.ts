/** Looks at the machine's serial ports: their names, who holds them, who may open them, which configured port each is. Opens none. */
import { constants } from "node:fs";
import { realpath, stat } from "node:fs/promises";
import type { SerialPortConfig } from "../../config/schema.ts";
import { deviceHolders, type Holder } from "../../kernel/device-holders.ts";
import { deviceFileMeant, serialDevices } from "../../kernel/serial-devices.ts";
import { type DeviceRoots, MACHINE_DEVICES } from "../../kernel/usb-serial.ts";
import type { Status } from "../../operations/status.ts";
import { groupName, permissionAdvice } from "../../sources/serial/device-port.ts";
import { placeOf, placeText } from "../../sources/serial/port-place.ts";
import { faultOf } from "./probe-host.ts";

export interface PortFact {
  readonly path: string;
  /** Names that stay the same: by the adapter's serial number, and by the socket that it is plugged into. */
  readonly byId: string | null;
  readonly byPath: string | null;
  /** The best name for the configuration. */
  readonly name: string;
  readonly driver: string | null;
  readonly usb: {
    readonly vendorId: string;
    readonly productId: string;
    readonly manufacturer: string | null;
    readonly product: string | null;
    readonly serialNumber: string | null;
    readonly interface: number | null;
  } | null;
  readonly group: string | null;
  /** Why this user may not open it, and what to do; `null` where nothing is in the way. */
  readonly denied: string | null;
  readonly holders: readonly Holder[];
  /** Names of the configured ports that are this device. */
  readonly configured: readonly string[];
}

/** A configured port that is none of the machine's devices. */
export interface AbsentPort {
  readonly name: string;
  /** As it is configured. */
  readonly path: string;
  /** What a running gateway would find. */
  readonly detail: string;
}

export interface PortsReport {
  readonly ports: readonly PortFact[];
  readonly absent: readonly AbsentPort[];
}

/** `roots`: where devices are looked up. */
export async function probeSerialPorts(
  configured: readonly SerialPortConfig[],
  roots: DeviceRoots = MACHINE_DEVICES,
): Promise<PortsReport> {
  const placed = await Promise.all(configured.map(async (port) => ({ port, place: await placeOf(port, roots) })));
  const devices = await serialDevices(roots);
  const names = new Map<string, string[]>();
  const absent: AbsentPort[] = [];
  // A pseudo-terminal, say: no device of the machine's, and there all the same.
  const others: string[] = [];
  for (const { port, place } of placed) {
    if (place.kind !== "found") {
      absent.push({ name: port.name, path: placeText(port), detail: place.detail });
      continue;
    }
    const device = await realpath(place.path).catch(() => undefined);
    const known = await deviceAmong(devices, device);
    if (place.path.startsWith("tcp://"))
      absent.push(elsewhere(port, "on the network: it is connected to when it is read"));
    else if (device === undefined) absent.push(elsewhere(port, absence(place.path)));
    else {
      if (known === undefined && !others.includes(device)) others.push(device);
      names.set(known ?? device, [...(names.get(known ?? device) ?? []), port.name]);
    }
  }
  const all = [...devices, ...others.map((path) => ({ path }))];
  const ports = await Promise.all(all.map((device) => factOf(device, names.get(device.path) ?? [])));
  return { ports: withStableNames(ports), absent };
}

function absence(path: string): string {
  const meant = deviceFileMeant(path);
  const what = meant === undefined ? "opened as soon as it is plugged in" : `a device file is named in full, ${meant}`;
  return `not there now: ${what}`;
}

const elsewhere = (port: SerialPortConfig, detail: string): AbsentPort => ({
  name: port.name,
  path: placeText(port),
  detail,
});

type Device = Awaited<ReturnType<typeof serialDevices>>[number];

async function deviceAmong(devices: readonly Device[], wanted: string | undefined): Promise<string | undefined> {
  for (const { path } of devices) if ((await realpath(path).catch(() => path)) === wanted) return path;
  return undefined;
}

async function factOf({ path, driver, usb }: Device, configured: readonly string[]): Promise<PortFact> {
  const found = await stat(path).catch(() => undefined);
  const group = found === undefined ? null : await groupName(found.gid);
  const fault = found === undefined ? undefined : await faultOf(path, constants.R_OK | constants.W_OK);
  const byId = usb?.byId ?? null;
  const byPath = usb?.byPath ?? null;
  return {
    path,
    byId,
    byPath,
    name: byId ?? byPath ?? path,
    driver: driver ?? null,
    usb: usb === undefined ? null : usbOf(usb),
    group,
    denied: fault === undefined ? null : await permissionAdvice(path),
    holders: await deviceHolders(path),
    configured,
  };
}

function usbOf(usb: NonNullable<Device["usb"]>): NonNullable<PortFact["usb"]> {
  const { vendorId, productId, manufacturer, product, serialNumber } = usb;
  return {
    vendorId,
    productId,
    manufacturer: manufacturer ?? null,
    product: product ?? null,
    serialNumber: serialNumber ?? null,
    interface: usb.interface ?? null,
  };
}

/** Two adapters with the same serial number share one name by id, which leads to either: only their sockets tell them apart. */
function withStableNames(ports: readonly PortFact[]): PortFact[] {
  const keyOf = ({ usb }: PortFact): string => JSON.stringify(usb);
  return ports.map((port) => {
    const isTwin = port.usb !== null && ports.some((other) => other !== port && keyOf(other) === keyOf(port));
    return isTwin ? { ...port, name: port.byPath ?? port.path } : port;
  });
}

/** Names of the ports that the running daemon has open. */
export function openInDaemon(status: Pick<Status, "sources"> | undefined): ReadonlySet<string> {
  const sources = status?.sources ?? [];
  return new Set(sources.filter(({ kind, state }) => kind === "serial" && state === "open").map(({ name }) => name));
}
