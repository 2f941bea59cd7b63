import assert from "node:assert/strict";
import { test } from "node:test";
import { fits, usbSerialPorts } from "#src/kernel/usb-serial.js";
import { FakeSysfs } from "../support/fake-sysfs.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

test("each USB port is known by its adapter's attributes, its interface and its socket; other terminals are none", async (t) => {
  const machine = new FakeSysfs(temporaryFolder(t));
  machine.plugIn({ tty: "ttyUSB10", socket: "1-2", vendorId: "10c4", productId: "ea60", interface: 1 });
  machine.plugIn({ tty: "ttyUSB2", socket: "1-1.4", vendorId: "0403", productId: "6001", serialNumber: "A50285BI" });
  machine.plugIn({ tty: "ttyACM0", socket: "1-3", vendorId: "1546", productId: "01a8" });
  const byPath = (name: string) => `${machine.dev}/serial/by-path/pci-0000:00:14.0-usb-0:${name}-port0`;
  assert.deepEqual(await usbSerialPorts(machine), [
    { path: `${machine.dev}/ttyACM0`, vendorId: "1546", productId: "01a8", interface: 0, byPath: byPath("3:1.0") },
    {
      path: `${machine.dev}/ttyUSB2`,
      vendorId: "0403",
      productId: "6001",
      serialNumber: "A50285BI",
      interface: 0,
      byPath: byPath("1.4:1.0"),
    },
    { path: `${machine.dev}/ttyUSB10`, vendorId: "10c4", productId: "ea60", interface: 1, byPath: byPath("2:1.1") },
  ]);
});

test("a machine without sysfs has no USB ports", async (t) => {
  const folder = temporaryFolder(t);
  assert.deepEqual(await usbSerialPorts({ sysfs: `${folder}/none`, dev: `${folder}/none` }), []);
});

test("a port fits where it has all that is asked for, in whichever case it is written", () => {
  const port = { path: "/dev/ttyUSB0", vendorId: "10c4", productId: "ea60", serialNumber: "0001", interface: 1 };
  assert.ok(fits(port, { vendorId: "10C4", productId: "EA60", serialNumber: "0001", interface: 1 }));
  for (const other of [{ vendorId: "0403" }, { productId: "6001" }, { serialNumber: "0002" }, { interface: 0 }])
    assert.ok(!fits(port, { vendorId: "10c4", ...other }), JSON.stringify(other));
});
