/** Polled devices of the real daemon, over pseudo-terminals: pymodbus servers, an SDI-12 sensor, a CO2 sensor with a command of its own. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { Collector } from "../support/collector.ts";
import { missing } from "../support/commands.ts";
import { Daemon } from "../support/daemon.ts";
import { ModbusBus, withoutPymodbus } from "../support/modbus-bus.ts";
import { PtyDevice } from "../support/pty-device.ts";
import { PtyPair } from "../support/pty-pair.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { until } from "../support/until.ts";

const skip = missing("socat") || withoutPymodbus;

const CO2 = {
  framing: "fixed",
  length: 9,
  header: "ff 86",
  checksum: { type: "sum8", from: 1, complement: "twos" },
  codec: "binary",
  layout: { fields: [{ type: "u16", at: 2, name: "co2_ppm" }] },
  poll: { every: "300ms", requests: [{ send: "ff 01 86 00 00 00 00 00 79" }] },
};
const SDI12_ANSWERS: Readonly<Record<string, string>> = { "0MC!": "00001\r\n", "0D0!": "0+3.14OqZ\r\n" };

async function site(t: TestContext) {
  const folder = temporaryFolder(t);
  const pair = await PtyPair.plugIn(folder, "modbus");
  const bus = await ModbusBus.start(`${pair.device}.far`, [1, 2]);
  const soil = await PtyDevice.plugIn(join(folder, "soil"), (heard) => SDI12_ANSWERS[heard.toString("latin1")]);
  const co2 = await PtyDevice.plugIn(join(folder, "co2"), () => Buffer.from("ff86026047000000d1", "hex"));
  const fusion = await Collector.start();
  const registers = [{ name: "level", at: 0 }];
  const modbus = { every: "200ms", timeout: "200ms", servers: [1, 2].map((address) => ({ address, registers })) };
  const sdi12 = { every: "300ms", sensors: [{ address: "0", measure: "MC", values: ["moisture_percent"] }] };
  const serial = [
    { name: "bus", path: pair.device, class: "water", modbus },
    { name: "soil", path: join(folder, "soil"), sdi12 },
    { name: "co2", path: join(folder, "co2"), class: "gas", ...CO2 },
  ];
  const daemon = await Daemon.start({ folder, changes: { serial, uplink: { url: fusion.url } } });
  t.after(async () => {
    await daemon.stop("SIGKILL");
    await fusion.stop();
    await bus.stop();
    for (const device of [soil, co2, pair]) await device.unplug();
  });
  return { daemon, fusion, bus };
}

test("polled devices bring their readings to fusion; one that falls silent is named in health until it answers again", {
  skip,
}, async (t) => {
  const { daemon, fusion, bus } = await site(t);
  await bus.make("silent", 2);
  const { conditions } = await daemon.untilStatus(
    ({ sources, conditions: all }) =>
      ["bus", "soil", "co2"].every((name) => sources.some((one) => one.name === name && one.accepted >= 3)) &&
      all.some(({ code }) => code === "serial-no-answer"),
  );
  assert.deepEqual(
    conditions
      .filter(({ component }) => component.startsWith("serial:"))
      .map(({ component, code }) => [component, code]),
    [["serial:bus", "serial-no-answer"]],
  );
  const health = await (await daemon.get("/health")).text();
  assert.match(health, /server 2 \(bus-2\) since 20\S+Z: no answer to function 3, registers 0/);
  assert.match(
    await (await daemon.get("/metrics")).text(),
    /^summit_edge_serial_polls_total\{port="bus",device="2",outcome="timeout"\} \d+$/m,
  );
  await bus.make("silent");
  await daemon.untilStatus(({ conditions: all }) => !all.some(({ component }) => component.startsWith("serial:")));
  const kinds = () =>
    new Set(fusion.received.map(({ source, class: name, attributes }) => JSON.stringify([source, name, attributes])));
  await until("a reading of each", () => kinds().size === 4);
  assert.deepEqual([...kinds()].sort(), [
    '["bus-1","water",{"level":1000}]',
    '["bus-2","water",{"level":2000}]',
    '["co2","gas",{"co2_ppm":608}]',
    '["soil-0","telemetry",{"moisture_percent":3.14}]',
  ]);
  assert.equal(await daemon.stop(), 0);
});
