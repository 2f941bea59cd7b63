/** Modbus servers that others wrote (pymodbus) on one bus over a pseudo-terminal, some of them out of order; each with its control. */
import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import type { SerialPortConfig } from "#src/config/schema.js";
import type { createSerialSources, SerialSource } from "#src/sources/serial/serial-source.js";
import { missing } from "../../../support/commands.ts";
import { ModbusBus, withoutPymodbus } from "../../../support/modbus-bus.ts";
import { mutant } from "../../../support/mutant.ts";
import { PtyPair } from "../../../support/pty-pair.ts";
import { jsonPort, serialHouse } from "../../../support/serial-house.ts";
import { temporaryFolder } from "../../../support/temporary-folder.ts";
import { until } from "../../../support/until.ts";

const skip = missing("socat") || withoutPymodbus;

type Modbus = NonNullable<SerialPortConfig["modbus"]>;
type Server = Modbus["servers"][number];

const EVERY_MS = 100;
const TIMEOUT_MS = 150;

function server(address: number, over: Partial<Server> = {}): Server {
  const level = { name: "level", function: 3, at: 0 } as const;
  const registers: Server["registers"] = [level, { name: "next", function: 3, at: 1, scale: 0.1 }];
  return { address, words: "big", endian: "big", gap: 0, maxRegisters: 125, registers, ...over };
}

async function site(t: TestContext, servers: Server[], create?: typeof createSerialSources, addresses = [1, 2, 3, 4]) {
  const folder = temporaryFolder(t);
  const pair = await PtyPair.plugIn(folder);
  const bus = await ModbusBus.start(`${pair.device}.far`, addresses);
  const { codec: _, ...line } = jsonPort({ name: "bus", path: pair.device, baudRate: 19_200 });
  const config: SerialPortConfig = { ...line, modbus: { every: EVERY_MS, timeout: TIMEOUT_MS, retries: 1, servers } };
  const house = serialHouse([config], {}, create);
  const [source] = house.sources as [SerialSource];
  t.after(async () => {
    await source.stop();
    await bus.stop();
    await pair.unplug();
  });
  const count = (name: string) => house.intake.readings.filter(({ origin }) => origin.source === name).length;
  const condition = (code: string) => house.conditions.list().find((one) => one.code === code)?.detail ?? "";
  return { ...house, folder, pair, bus, source, count, condition };
}

test("the good servers are polled in time, and who is silent or garbled is named until it answers again", {
  skip,
}, async (t) => {
  const { bus, source, count, condition, intake, conditions, metrics, lines } = await site(t, [
    server(1),
    server(3),
    server(4, { source: "gauge" }),
    server(2, { source: "pump", class: "power", priority: "high", every: 200 }),
  ]);
  await bus.make("silent", 3);
  await bus.make("garbled", 4);
  await source.start();
  await until("many polls of the good ones", () => count("bus-1") >= 15 && count("pump") >= 8);
  assert.equal(count("bus-3") + count("gauge"), 0, "a wrong CRC is no reading");
  assert.ok((bus.requests.get(3) ?? 0) < (bus.requests.get(1) ?? 0), "the silent one is asked ever less often");
  assert.match(
    condition("serial-no-answer"),
    /^server 3 \(bus-3\) since 20\S+Z: no answer to function 3, registers 0 to 1; look at its power/,
  );
  assert.match(
    condition("serial-bad-answer"),
    /^server 4 \(gauge\) since 20\S+Z: a wrong checksum in the answer to function 3/,
  );
  assert.equal(
    conditions.list().every(({ component }) => component === "serial:bus"),
    true,
  );
  assert.ok(lines.some(({ msg, level }) => level === 40 && msg.startsWith("server 3 (bus-3): no answer")));

  const [first] = intake.readings.filter(({ origin }) => origin.source === "bus-1");
  assert.deepEqual(first?.payload, { level: 1000, next: 100.1 });
  const [pump] = intake.readings.filter(({ origin }) => origin.source === "pump");
  assert.deepEqual(pump?.origin, {
    kind: "serial",
    name: "bus",
    source: "pump",
    class: "power",
    priority: "high",
    via: first?.origin.via,
  });

  const text = await metrics.metrics();
  assert.match(text, /serial_polls_total\{port="bus",device="1",outcome="answered"\} \d\d/);
  assert.match(text, /serial_polls_total\{port="bus",device="3",outcome="timeout"\} \d/);
  assert.match(text, /serial_polls_total\{port="bus",device="4",outcome="bad-crc"\} \d/);

  await bus.make("silent");
  await bus.make("garbled");
  await until("all well again", () => conditions.list().length === 0 && count("bus-3") > 0 && count("gauge") > 0);
  assert.ok(lines.some(({ msg }) => msg === "server 3 (bus-3) is well again"));
});

test("control: without the CRC's check, garbled answers become readings", { skip }, async (t) => {
  const dist = mutant(
    t,
    "codec/modbus.js",
    'if (hasChecksum(frame, MODBUS_CRC))\n                    return { kind: "data"',
    'return { kind: "data"',
  );
  const { createSerialSources: create } = await import(`${dist}/sources/serial/serial-source.js`);
  const { bus, source, count } = await site(t, [server(4)], create);
  await bus.make("garbled", 4);
  await source.start();
  await until("a reading that ought not to be", () => count("bus-4") > 0);
});

test("a register that a server does not have is an exception by its name; the others are read", { skip }, async (t) => {
  const registers: Server["registers"] = [
    { name: "level", function: 3, at: 0 },
    { name: "none", function: 3, at: 500 },
    { name: "on", function: 1, at: 1 },
    { name: "off", function: 1, at: 2 },
  ];
  const { source, condition, intake, conditions, metrics } = await site(t, [server(2, { registers })]);
  await source.start();
  await until("readings", () => intake.readings.length > 2 && conditions.list().length > 0);
  assert.deepEqual(intake.payloads().at(-1), { on: true, off: false, level: 2000 });
  assert.match(
    condition("serial-exception"),
    /^server 2 \(bus-2\) since \S+: illegal data address \(2\) for function 3, registers 500; compare with/,
  );
  assert.match(await metrics.metrics(), /device="2",outcome="exception"\} \d/);
});

test("an unplug in the middle of a poll is a port that is missing, and polled again once it is there", {
  skip,
}, async (t) => {
  const { source, pair, bus, folder, count, conditions } = await site(t, [server(1), server(3)]);
  await bus.make("silent", 3);
  await source.start();
  await until("a poll, and one in vain", () => count("bus-1") > 0 && conditions.list().length > 0);
  await bus.stop();
  await pair.unplug();
  await until("missed", () => source.status().state === "waiting");
  assert.deepEqual(
    conditions.list().map(({ code }) => code),
    ["serial-port-missing"],
  );
  const again = await PtyPair.plugIn(folder);
  const other = await ModbusBus.start(`${again.device}.far`, [1]);
  t.after(async () => {
    await other.stop();
    await again.unplug();
  });
  const before = count("bus-1");
  await until("polled again", () => count("bus-1") > before);
});
