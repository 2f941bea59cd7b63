import { mkdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { DeviceRoots } from "#src/kernel/usb-serial.js";

export interface FakeAdapter {
  /** The kernel's name: `ttyUSB0`, `ttyACM1`. */
  readonly tty: string;
  /** Where it is plugged in: `1-1`, `1-1.2`. */
  readonly socket: string;
  readonly vendorId: string;
  readonly productId: string;
  readonly serialNumber?: string;
  readonly interface?: number;
  /** What the device file is: a pseudo-terminal, where one is to be opened. */
  readonly device?: string;
}

/** `/sys` and `/dev` of a machine with USB adapters, laid out as Linux does; no adapter can be plugged in here. */
export class FakeSysfs implements DeviceRoots {
  readonly sysfs: string;
  readonly dev: string;

  constructor(folder: string) {
    this.sysfs = join(folder, "sys");
    this.dev = join(folder, "dev");
    for (const made of [
      join(this.sysfs, "class/tty"),
      join(this.dev, "serial/by-path"),
      join(this.dev, "serial/by-id"),
    ])
      mkdirSync(made, { recursive: true });
    // A terminal without hardware, as each machine has dozens of.
    mkdirSync(join(this.sysfs, "class/tty/tty0"));
  }

  plugIn(adapter: FakeAdapter): void {
    const { tty, socket, interface: number = 0 } = adapter;
    const usb = join(this.sysfs, "devices/pci0000:00/0000:00:14.0/usb1", socket);
    const face = join(usb, `${socket}:1.${number}`);
    // ttyUSB ports have a device of their own under the interface, ttyACM ports are the interface.
    const device = tty.startsWith("ttyUSB") ? join(face, tty) : face;
    mkdirSync(join(device, "tty", tty), { recursive: true });
    writeFileSync(join(usb, "idVendor"), `${adapter.vendorId}\n`);
    writeFileSync(join(usb, "idProduct"), `${adapter.productId}\n`);
    if (adapter.serialNumber !== undefined) writeFileSync(join(usb, "serial"), `${adapter.serialNumber}\n`);
    writeFileSync(join(face, "bInterfaceNumber"), `${number.toString(16).padStart(2, "0")}\n`);
    symlinkSync(device, join(device, "tty", tty, "device"));
    symlinkSync(join(device, "tty", tty), join(this.sysfs, "class/tty", tty));
    if (adapter.device === undefined) writeFileSync(join(this.dev, tty), "");
    else symlinkSync(adapter.device, join(this.dev, tty));
    symlinkSync(join("../..", tty), this.#byPath(adapter));
  }

  unplug(adapter: FakeAdapter): void {
    for (const gone of [join(this.sysfs, "class/tty", adapter.tty), join(this.dev, adapter.tty), this.#byPath(adapter)])
      rmSync(gone);
  }

  #byPath({ socket, interface: number = 0 }: FakeAdapter): string {
    return join(this.dev, "serial/by-path", `pci-0000:00:14.0-usb-0:${socket.slice(2)}:1.${number}-port0`);
  }
}
