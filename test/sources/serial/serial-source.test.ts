import assert from "node:assert/strict";
import {
  chmodSync,
  chownSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  rmSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, before, describe, it } from "node:test";
import { pino } from "pino";
import type { SerialPortConfig } from "#src/config/schema.js";
import { type Clock, systemClock } from "#src/kernel/clock.js";
import { Conditions } from "#src/kernel/conditions.js";
import { GatewayError } from "#src/kernel/errors.js";
import { createMetrics } from "#src/kernel/telemetry.js";
import { createSerialSources, type SerialSource } from "#src/sources/serial/serial-source.js";
import { PtyPair } from "../../support/pty-pair.ts";
import { RecordingIntake } from "../../support/recording-intake.ts";
import { jsonPort } from "../../support/serial-house.ts";
import { TestClock } from "../../support/test-clock.ts";
import { until } from "../../support/until.ts";

function portConfig(path: string, over: Partial<SerialPortConfig> = {}): SerialPortConfig {
  return jsonPort({ path, ...over });
}

/** All that a source needs, and what it leaves behind. */
function house(configs: SerialPortConfig[], clock: Clock = systemClock) {
  const lines: { msg: string; code?: string; level: number }[] = [];
  const log = pino({ level: "debug" }, { write: (line: string) => void lines.push(JSON.parse(line)) });
  const intake = new RecordingIntake();
  const conditions = new Conditions(clock, log);
  const metrics = createMetrics();
  const parts = { intake, clock, random: () => 0.5, conditions, telemetry: { log, metrics } };
  const sources = createSerialSources(configs, parts);
  return { sources, intake, conditions, metrics, lines };
}

const numbered = (from: number, to: number): object[] =>
  Array.from({ length: to - from }, (_, index) => ({ n: from + index, word: "smoke" }));
const asLines = (payloads: object[]): string => payloads.map((payload) => `${JSON.stringify(payload)}\r\n`).join("");
const isOpen = (source: SerialSource) => () => source.status().state === "open";

describe("a serial source", () => {
  let folder = "";
  const running: { stop(): Promise<void> }[] = [];
  const pairs: PtyPair[] = [];

  before(() => {
    folder = mkdtempSync(join(tmpdir(), "serial-"));
    chmodSync(folder, 0o755);
  });
  afterEach(async () => {
    for (const source of running.splice(0)) await source.stop();
    for (const pair of pairs.splice(0)) await pair.unplug();
  });
  after(() => rmSync(folder, { recursive: true }));

  async function plugIn(name: string): Promise<PtyPair> {
    const pair = await PtyPair.plugIn(folder, name);
    pairs.push(pair);
    return pair;
  }

  async function start(sources: SerialSource[]): Promise<SerialSource> {
    running.push(...sources);
    await Promise.all(sources.map((source) => source.start()));
    const [first] = sources;
    assert.ok(first);
    return first;
  }

  it("submits every reading, however the bytes are cut, with what the port knows about it", async () => {
    const pair = await plugIn("cut");
    const { sources, intake } = house([portConfig(pair.device, { class: "smoke", priority: "high" })]);
    const source = await start(sources);
    const { since, traffic, ...status } = source.status();
    assert.deepEqual(status, { name: "mast", kind: "serial", state: "open", path: pair.device, device: pair.device });
    assert.ok(since <= Date.now());
    assert.equal(traffic.bytes, 0);
    for (const [round, pieceBytes] of [1, 2, 7, 64].entries()) {
      await pair.say(asLines(numbered(round * 10, round * 10 + 10)), pieceBytes);
    }
    await until("40 readings", () => intake.readings.length === 40);
    assert.deepEqual(intake.payloads(), numbered(0, 40));
    assert.deepEqual(intake.readings[0]?.origin, {
      kind: "serial",
      name: "mast",
      source: "mast",
      class: "smoke",
      priority: "high",
      via: pair.device,
    });
    assert.deepEqual(intake.refusals, []);
  });

  it("gives positions of a satellite receiver, and refuses what is not valid", async () => {
    const pair = await plugIn("gps");
    const config = portConfig(pair.device, { codec: "nmea0183", source: "truck-7" });
    const { sources, intake } = house([config]);
    await start(sources);
    await pair.say(
      [
        "$GPRMC,123519,A,4807.038,N,01131.000,E,022.4,084.4,230394,003.1,W*6A",
        "$GPGSA,A,3,04,05,,09,12,,,24,,,,,2.5,1.3,2.1*39",
        "$GPGGA,123519,4807.038,N,01131.000,E,1,08,0.9,545.4,M,46.9,M,,*47",
        "$GPGGA,123519,4807.038,N,01131.000,E,1,08,0.9,545.4,M,46.9,M,,*00",
        "",
      ].join("\r\n"),
    );
    await until("the refusal", () => intake.refusals.length === 1);
    assert.deepEqual(
      intake.payloads().map((payload) => Object.entries(payload as object).slice(0, 2)),
      [
        [
          ["ts_iso", "1994-03-23T12:35:19.000Z"],
          ["lat", 48.1173],
        ],
        [
          ["ts_iso", "1994-03-23T12:35:19.000Z"],
          ["lat", 48.1173],
        ],
      ],
    );
    assert.equal(intake.readings[0]?.origin.class, "position");
    assert.equal(intake.readings[0]?.origin.source, "truck-7");
    assert.equal(intake.refusals[0]?.detail, "bad checksum");
    assert.match(intake.refusals[0]?.raw ?? "", /^\$GPGGA/);
  });

  it("says what to write where a device's name lacks its folder", async () => {
    const { sources, conditions } = house([portConfig("ttyNone7")]);
    await start(sources);
    await until("noticed", () => conditions.list()[0]?.code === "serial-port-missing");
    assert.match(conditions.list()[0]?.detail ?? "", /ttyNone7 is not there: .* write \/dev\/ttyNone7$/);
  });

  it("opens an unplugged device again when it is back, and loses nothing but the cut frame", async () => {
    let pair = await plugIn("plug");
    const { sources, intake, conditions, lines } = house([portConfig(pair.device)]);
    const source = await start(sources);
    for (let round = 0; round < 3; round++) {
      await until("open", isOpen(source));
      assert.deepEqual(conditions.list(), []);
      await pair.say(`${asLines(numbered(round * 5, round * 5 + 5))}{"cut":`);
      await until("the readings", () => intake.readings.length === (round + 1) * 5);
      await pair.unplug();
      await until("noticed", () => conditions.list()[0]?.code === "serial-port-missing");
      assert.equal(conditions.list()[0]?.component, "serial:mast");
      assert.equal(conditions.list()[0]?.severity, "degraded");
      assert.equal(source.status().state, "waiting");
      assert.match(source.status().detail ?? "", /plug is not there: plug the device in/);
      pair = await plugIn("plug");
    }
    assert.deepEqual(intake.payloads(), numbered(0, 15));
    assert.deepEqual(intake.refusals, []);
    await until("open", isOpen(source));
    assert.equal(lines.filter(({ msg }) => msg === "serial port open").length, 4);
    assert.ok(lines.filter(({ level }) => level >= 40).length <= 6, "each change of state is logged once");
  });

  it("counts the frame that an unplug has cut", async () => {
    const pair = await plugIn("cutframe");
    const { sources, metrics, intake, conditions } = house([portConfig(pair.device)]);
    await start(sources);
    await pair.say('{"n":1}\n{"n":');
    await until("the reading", () => intake.readings.length === 1);
    await pair.unplug();
    await until("noticed", () => conditions.list().length === 1);
    const exposition = await metrics.metrics();
    assert.match(exposition, /summit_edge_serial_frames_discarded_total\{port="mast",reason="unfinished"\} 1/);
  });

  it("waits for a device that is not there yet, without disturbing another port", async () => {
    const pair = await plugIn("living");
    const absent = portConfig(join(folder, "absent"), { name: "absent" });
    const { sources, intake, conditions } = house([absent, portConfig(pair.device, { name: "living" })]);
    const missing = await start(sources);
    assert.equal(missing.status().state, "waiting");
    await pair.say(asLines(numbered(0, 50)));
    await until("the living port's readings", () => intake.readings.length === 50);
    assert.deepEqual(
      conditions.list().map(({ component, code }) => [component, code]),
      [["serial:absent", "serial-port-missing"]],
    );
    const late = await plugIn("absent");
    await until("the late port", isOpen(missing));
    await late.say(asLines(numbered(0, 1)));
    await until("its reading", () => intake.payloads("absent").length === 1);
    assert.deepEqual(conditions.list(), []);
  });

  it("discards an overlong line, refuses it by name, and goes on with the next", async () => {
    const pair = await plugIn("long");
    const { sources, intake, metrics } = house([portConfig(pair.device, { maxFrameBytes: 64 })]);
    await start(sources);
    await pair.say(`${"x".repeat(1000)}\r\n{"n":1}\n`);
    await until("the good line", () => intake.readings.length === 1);
    assert.equal(intake.refusals.length, 1);
    assert.equal(intake.refusals[0]?.detail, "a frame of 1000 bytes where 64 are allowed");
    assert.match(await metrics.metrics(), /frames_discarded_total\{port="mast",reason="too-long"\} 1/);
  });

  it("does not read while too much waits for its commit, and goes on afterwards", async () => {
    const pair = await plugIn("full");
    const fence = await plugIn("fence");
    const { sources, intake } = house([portConfig(pair.device)]);
    const other = house([portConfig(fence.device)]);
    await start(sources);
    await start(other.sources);
    intake.saturated = true;
    await pair.say(asLines(numbered(0, 1)));
    await until("held back", () => intake.waitingForRelief === 1);
    await pair.say(asLines(numbered(1, 8)));
    // What was said later has come through elsewhere: this port had its chance.
    await fence.say(asLines(numbered(0, 1)));
    await until("the other port's reading", () => other.intake.readings.length === 1);
    assert.equal(intake.readings.length, 1);
    intake.relieve();
    await until("all of it", () => intake.readings.length === 8);
    assert.deepEqual(intake.payloads(), numbered(0, 8));
  });

  it("notices the unplug of a port that was held back, as soon as it reads again", async () => {
    const pair = await plugIn("hungup");
    // A clock that stands still: nobody looks at the device file, the read itself has to tell.
    const { sources, intake, conditions } = house([portConfig(pair.device)], new TestClock());
    const source = await start(sources);
    intake.saturated = true;
    await pair.say(asLines(numbered(0, 1)));
    await until("held back", () => intake.waitingForRelief === 1);
    await pair.unplug();
    assert.equal(source.status().state, "open");
    intake.relieve();
    await until("noticed", () => conditions.list()[0]?.code === "serial-port-missing");
  });

  it("notices that a silent device's file is gone", async () => {
    const pair = await plugIn("silent");
    const clock = new TestClock();
    const { sources, conditions } = house([portConfig(pair.device)], clock);
    const source = await start(sources);
    await clock.advance(10_000);
    assert.equal(source.status().state, "open");
    unlinkSync(pair.device);
    const noticed = () => conditions.list()[0]?.code === "serial-port-missing";
    await until("noticed", noticed, () => clock.advance(100));
  });

  it("does not read a device that was plugged in again while too much waits for its commit", async () => {
    const pair = await plugIn("again");
    const fence = await plugIn("fence");
    const clock = new TestClock();
    const { sources, intake } = house([portConfig(pair.device)], clock);
    const other = house([portConfig(fence.device)]);
    const source = await start(sources);
    await start(other.sources);
    intake.saturated = true;
    await pair.say(asLines(numbered(0, 1)));
    await until("held back", () => intake.waitingForRelief === 1);
    await pair.unplug();
    await until(
      "noticed",
      () => source.status().state === "waiting",
      () => clock.advance(100),
    );
    const back = await plugIn("again");
    await until("open", isOpen(source), () => clock.advance(100));
    await back.say(asLines(numbered(1, 2)));
    await fence.say(asLines(numbered(0, 1)));
    await until("the other port's reading", () => other.intake.readings.length === 1);
    assert.equal(intake.readings.length, 1);
    intake.relieve();
    await until("the second reading", () => intake.readings.length === 2);
  });

  for (const { mode, advice } of [
    { mode: 0o060, advice: 'it belongs to group GROUP; join it with "sudo usermod -aG GROUP ' },
    { mode: 0o040, advice: "it belongs to group GROUP with mode 0040; give the group dialout access with a udev rule" },
  ]) {
    it(`says who may open a device of mode ${mode.toString(8)}, and how to get in`, async () => {
      const pair = await plugIn("denied");
      const terminal = realpathSync(pair.device);
      const [group = "", , gid = ""] = groupEntry();
      chmodSync(terminal, mode);
      const asRoot = process.getuid?.() === 0;
      if (asRoot) chownSync(terminal, 0, Number(gid));
      await import("serialport");
      const { sources, conditions } = house([portConfig(pair.device)]);
      if (asRoot) process.seteuid?.(65534);
      try {
        await start(sources);
      } finally {
        if (asRoot) process.seteuid?.(0);
      }
      const [condition] = conditions.list();
      assert.equal(condition?.code, "serial-permission");
      const detail = condition?.detail ?? "";
      assert.ok(detail.startsWith(`permission denied on ${pair.device}: ${advice.replaceAll("GROUP", group)}`), detail);
    });
  }

  it("says so where the path is no serial device", async () => {
    const file = join(folder, "file");
    writeFileSync(file, "");
    const { sources, conditions } = house([portConfig(file), portConfig("/dev/null", { name: "null" })]);
    await start(sources);
    assert.deepEqual(
      conditions.list().map(({ component, code }) => [component, code]),
      [
        ["serial:mast", "serial-failed"],
        ["serial:null", "serial-failed"],
      ],
    );
    assert.match(conditions.list()[0]?.detail ?? "", /is not a serial device/);
  });

  it("does not share a port, and takes it over when it is free", async () => {
    const pair = await plugIn("shared");
    const first = house([portConfig(pair.device)]);
    const second = house([portConfig(pair.device)]);
    const holder = await start(first.sources);
    const waiter = await start(second.sources);
    assert.equal(second.conditions.list()[0]?.code, "serial-failed");
    assert.match(
      second.conditions.list()[0]?.detail ?? "",
      /is in use by this gateway itself, as another port: correct/,
    );
    await holder.stop();
    await until("taken over", isOpen(waiter));
    assert.deepEqual(second.conditions.list(), []);
  });

  it("stops without a trace: the port is free, and its state is closed", async () => {
    const pair = await plugIn("stopped");
    const { sources, conditions, lines } = house([portConfig(pair.device)]);
    const source = await start(sources);
    await source.stop();
    assert.equal(source.status().state, "closed");
    assert.deepEqual(conditions.list(), []);
    assert.equal(lines.filter(({ level }) => level >= 40).length, 0);
    const again = await start(house([portConfig(pair.device)]).sources);
    assert.equal(again.status().state, "open");
  });

  it("leaves the port free where it is stopped while it opens", async () => {
    const pair = await plugIn("hasty");
    const [hasty] = house([portConfig(pair.device)]).sources;
    assert.ok(hasty);
    const started = hasty.start();
    await hasty.stop();
    await started;
    assert.equal(hasty.status().state, "closed");
    const next = await start(house([portConfig(pair.device)]).sources);
    assert.equal(next.status().state, "open");
  });

  it("reads with any line settings", async () => {
    const odd = { baudRate: 12_345, dataBits: 5, parity: "odd", stopBits: 1.5 } as const;
    const pair = await plugIn("odd");
    const { sources, intake } = house([portConfig(pair.device, odd)]);
    await start(sources);
    await pair.say(asLines(numbered(0, 3)));
    await until("the readings", () => intake.readings.length === 3);
    assert.deepEqual(intake.payloads(), numbered(0, 3));
  });

  it("is refused where codec csv has no columns", () => {
    const create = () => house([portConfig("/dev/null", { codec: "csv" })]);
    assert.throws(create, (error) => error instanceof GatewayError && error.code === "CONFIG_INVALID");
  });
});

/** A group that is not root's: name, password, number, members. */
function groupEntry(): string[] {
  const own = process.getgid?.();
  const entries = readFileSync("/etc/group", "utf8")
    .split("\n")
    .map((line) => line.split(":"));
  const entry = entries.find(([, , gid]) => (own === 0 ? Number(gid) > 0 : Number(gid) === own));
  assert.ok(entry);
  return entry;
}
