import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, before, describe, it } from "node:test";
import { encode } from "cborg";
import { pino } from "pino";
import { IdleFramer } from "#src/codec/framing.js";
import { sentenceOf } from "#src/codec/nmea-sentence.js";
import { createFrameWriter } from "#src/codec/pipeline.js";
import type { SerialPortConfig } from "#src/config/schema.js";
import { systemClock } from "#src/kernel/clock.js";
import { Conditions } from "#src/kernel/conditions.js";
import { GatewayError } from "#src/kernel/errors.js";
import { createMetrics } from "#src/kernel/telemetry.js";
import { FrameStream } from "#src/sources/serial/pipeline.js";
import { PortStream } from "#src/sources/serial/port-stream.js";
import { createSerialMeters } from "#src/sources/serial/port-use.js";
import { createSerialSources, type SerialSource } from "#src/sources/serial/serial-source.js";
import { SerialTraffic } from "#src/sources/serial/traffic.js";
import { mutant } from "../../support/mutant.ts";
import { PtyPair } from "../../support/pty-pair.ts";
import { RecordingIntake } from "../../support/recording-intake.ts";
import { jsonPort } from "../../support/serial-house.ts";
import { TestClock } from "../../support/test-clock.ts";
import { until } from "../../support/until.ts";

function portConfig(path: string, over: Partial<SerialPortConfig>): SerialPortConfig {
  return jsonPort({ name: "node", path, baudRate: 9600, ...over });
}

function house(config: SerialPortConfig) {
  const clock = systemClock;
  const log = pino({ level: "silent" });
  const intake = new RecordingIntake();
  const metrics = createMetrics();
  const conditions = new Conditions(clock, log);
  const parts = { intake, clock, random: () => 0.5, conditions, telemetry: { log, metrics } };
  const [source] = createSerialSources([config], parts);
  assert.ok(source);
  return { source, intake, metrics };
}

const CRC = { type: "crc-16/ccitt-false", from: 0, endian: "big", complement: "none", encoding: "bytes" } as const;

describe("a serial source with declared frames", () => {
  let folder = "";
  const running: SerialSource[] = [];
  const pairs: PtyPair[] = [];

  before(() => {
    folder = mkdtempSync(join(tmpdir(), "serial-framings-"));
  });
  afterEach(async () => {
    for (const source of running.splice(0)) await source.stop();
    for (const pair of pairs.splice(0)) await pair.unplug();
  });
  after(() => rmSync(folder, { recursive: true }));

  async function port(name: string, over: Partial<SerialPortConfig>) {
    const pair = await PtyPair.plugIn(folder, name);
    pairs.push(pair);
    const config = portConfig(pair.device, over);
    const built = house(config);
    running.push(built.source);
    await built.source.start();
    return { pair, config, ...built };
  }

  it("takes CBOR in COBS with a checksum from between noise, and refuses the frame that noise has spoilt", async () => {
    const { pair, config, intake, metrics } = await port("cobs", { framing: "cobs", codec: "cbor", checksum: CRC });
    const frame = (n: number): Uint8Array => createFrameWriter(config)(encode({ n, zeros: [0, 0] }));
    const spoilt = frame(3);
    spoilt[4] = (spoilt[4] ?? 0) ^ 0x40;
    await pair.say(Buffer.concat([frame(1), Buffer.from("\x07noise"), frame(2), spoilt, frame(4)]), 5);
    await until("three readings", () => intake.readings.length === 3);
    assert.deepEqual(
      intake.payloads(),
      [1, 2, 4].map((n) => ({ n, zeros: [0, 0] })),
    );
    assert.deepEqual(
      intake.refusals.map(({ detail }) => detail),
      ["not cobs: bytes that it never writes", "a wrong checksum (crc-16/ccitt-false)"],
    );
    const exposition = await metrics.metrics();
    assert.match(exposition, /frames_discarded_total\{port="node",reason="bad-checksum"\} 1/);
    assert.match(exposition, /discarded_bytes_total\{port="node",reason="bad-encoding"\} 6/);
  });

  it("reads numbers by a layout, and counts what stands between frames as noise, not as refused readings", async () => {
    const over: Partial<SerialPortConfig> = {
      framing: "length-prefixed",
      header: "42 4d",
      lengthField: { at: 2, size: 2, endian: "big", counts: "rest", extra: 0 },
      checksum: { ...CRC, type: "sum16" },
      codec: "binary",
      layout: { endian: "big", fields: [{ at: 4, type: "u16", name: "pm2_5_ug_m3", scale: 0.1 }] },
      class: "dust",
    };
    const { pair, config, intake, metrics } = await port("binary", over);
    const wire = createFrameWriter(config)(Uint8Array.of(0, 0, 0, 0, 0x01, 0x02));
    await pair.say(Buffer.concat([Uint8Array.of(1, 2, 3), wire, Uint8Array.of(0x42), wire]), 3);
    await until("two readings", () => intake.readings.length === 2);
    assert.deepEqual(intake.payloads(), [{ pm2_5_ug_m3: 25.8 }, { pm2_5_ug_m3: 25.8 }]);
    assert.equal(intake.readings[0]?.origin.class, "dust");
    assert.deepEqual(intake.refusals, []);
    assert.match(await metrics.metrics(), /discarded_bytes_total\{port="node",reason="noise"\} 4/);
  });

  it("ends a frame at a pause", async () => {
    const { pair, intake } = await port("idle", { framing: "idle", idle: 30, codec: "json" });
    for (const n of [1, 2, 3]) {
      await pair.say(JSON.stringify({ n }));
      await until("the reading", () => intake.readings.length === n);
    }
    assert.deepEqual(intake.payloads(), [{ n: 1 }, { n: 2 }, { n: 3 }]);
  });

  it("ends a frame at a pause counted from its last byte, with one timer for all of them", async () => {
    const clock = new TestClock();
    const frames: string[] = [];
    const stream = new FrameStream(new IdleFramer(20, 4096), clock, (some) => {
      for (const frame of some) frames.push(`${frame.kind} ${Buffer.from(frame.bytes).toString()}`);
    });
    for (const byte of "abc") {
      stream.push(Buffer.from(byte));
      assert.equal(clock.waiting, 1);
      await clock.advance(19);
      assert.deepEqual(frames, []);
    }
    await clock.advance(1);
    assert.deepEqual(frames, ["frame abc"]);
    assert.equal(clock.waiting, 0, "a silent line keeps no timer");
    // A busy event loop is late: what was said when still tells the frames apart.
    stream.push(Buffer.from("d"));
    clock.stall(25);
    stream.push(Buffer.from("e"));
    assert.deepEqual(frames, ["frame abc", "frame d"]);
    stream.end();
    assert.deepEqual(frames, ["frame abc", "frame d", "discarded e"]);
    assert.equal(clock.waiting, 0);
  });

  /** A port that has just been opened, by a clock that the test moves. */
  async function opened(over: Partial<SerialPortConfig>, isMidstream = false, Stream = PortStream) {
    const clock = new TestClock();
    const intake = new RecordingIntake();
    const conditions = new Conditions(clock, pino({ level: "silent" }));
    const meters = createSerialMeters(createMetrics());
    const traffic = new SerialTraffic();
    const parts = { intake, clock, conditions, meters, traffic, reopen: () => {} };
    const stream = new Stream(portConfig("/dev/null", over), parts);
    const nothing = async (): Promise<void> => {};
    await stream.prepare();
    stream.opened({ isMidstream, read: () => {}, pause: () => {}, resume: () => {}, write: nothing, close: nothing });
    return { clock, intake, stream, traffic };
  }

  /** What is made of pieces between which the port was not read, for far longer than the pause that ends a frame. */
  async function heldUp(over: Partial<SerialPortConfig>, pieces: readonly Uint8Array[], Stream = PortStream) {
    const { clock, intake, stream } = await opened(over, false, Stream);
    for (const piece of pieces) {
      intake.saturated = true;
      stream.heard(piece);
      await clock.advance(5000);
      intake.relieve();
    }
    await clock.advance(5000);
    stream.heard(Buffer.from("7"));
    await clock.advance(5000);
    assert.equal(clock.waiting, 0);
    return intake.payloads();
  }
  const PAUSE: Partial<SerialPortConfig> = { framing: "idle", idle: 30, codec: "csv", columns: ["t"] };
  const PAIRS = Buffer.from("BM12BM34BM56");
  const FIXED: Partial<SerialPortConfig> = {
    ...{ framing: "fixed", header: "42 4d", length: 4, idle: 30 },
    codec: "binary",
    layout: { endian: "big", fields: [{ type: "text", at: 2, length: 2, name: "n" }] },
  };

  it("takes no part of a frame for all of it because the port was not read meanwhile, and several for one", async () => {
    const pieces = [Buffer.from("23."), Buffer.from("524")];
    assert.deepEqual(await heldUp(PAUSE, pieces), [{ t: 7 }]);
  });

  it("gives no frame up of which the rest was not read yet", async () => {
    const pieces = [PAIRS.subarray(0, 5), PAIRS.subarray(5, 11), PAIRS.subarray(11)];
    assert.deepEqual(await heldUp(FIXED, pieces), [{ n: "12" }, { n: "34" }, { n: "56" }]);
  });

  it("control: does, where not reading is taken for a silence", async (t) => {
    const dist = mutant(t, "sources/serial/port-stream.js", "this.#stream?.leaveOff();", "");
    const { PortStream: Stream } = await import(`${dist}/sources/serial/port-stream.js`);
    assert.deepEqual(await heldUp(PAUSE, [Buffer.from("23."), Buffer.from("524")], Stream), [
      { t: 23 },
      { t: 524 },
      { t: 7 },
    ]);
    const pieces = [PAIRS.subarray(0, 5), PAIRS.subarray(5, 11), PAIRS.subarray(11)];
    assert.deepEqual(await heldUp(FIXED, pieces, Stream), [{ n: "12" }]);
  });

  const NUMBERS: Partial<SerialPortConfig> = { codec: "csv", columns: ["t"] };

  /** What is made of what comes so long after the port was opened. */
  async function firstHeard(said: string, afterMs: number, over: Partial<SerialPortConfig> = {}, isMidstream = true) {
    const { clock, intake, stream, traffic } = await opened({ ...NUMBERS, ...over }, isMidstream);
    await clock.advance(afterMs);
    stream.heard(Buffer.from(said));
    await clock.advance(1000);
    assert.deepEqual(intake.refusals, []);
    return [...intake.payloads(), ...(traffic.counts().discardedBytes > 0 ? ["and bytes discarded"] : [])];
  }

  it("takes no number for whole that a device was saying when its port was opened", async () => {
    assert.deepEqual(await firstHeard("3.5\r\n24.5\r\n", 10), [{ t: 24.5 }, "and bytes discarded"]);
    assert.deepEqual(await firstHeard("\n24.5\r\n", 10), [{ t: 24.5 }], "all but the line's end was over");
    const ends = { framing: "delimiter", delimiter: "3b" } as const;
    assert.deepEqual(await firstHeard("3.5;24.5;", 10, ends), [{ t: 24.5 }, "and bytes discarded"]);
    assert.deepEqual(await firstHeard("3.5", 10, { framing: "idle", idle: 30 }), ["and bytes discarded"]);
    const hdlc = { framing: "hdlc", maxFrameBytes: 64 } as const;
    assert.deepEqual(await firstHeard("3.5~24.5~", 10, hdlc), [{ t: 24.5 }, "and bytes discarded"]);
  });

  it("takes what comes once a port was open for a while, and what shows by itself whether it is whole", async () => {
    assert.deepEqual(await firstHeard("23.5\r\n24.5\r\n", 100), [{ t: 23.5 }, { t: 24.5 }]);
    const sum = { ...CRC, type: "xor8", encoding: "hex" } as const;
    assert.deepEqual(await firstHeard("737\r\n", 10, { checksum: sum }), [{ t: 7 }]);
    const { stream, intake } = await opened({ codec: "json" }, true);
    stream.heard(Buffer.from('{"t":23.5}\r\n'));
    assert.deepEqual(intake.payloads(), [{ t: 23.5 }]);
    const control = await firstHeard("3.5\r\n24.5\r\n", 10, {}, false);
    assert.deepEqual(control, [{ t: 3.5 }, { t: 24.5 }], "control: where nobody minds, the rest of a number is one");
  });

  it("calls wind wind on a port of positions, and by the port's class where it has one of its own", async () => {
    const wind = sentenceOf("WIMWV,214.8,T,3.2,M,A");
    for (const [portClass, expected] of [
      [undefined, "wind"],
      ["position", "wind"],
      ["weather", "weather"],
    ] as const) {
      const over = portClass === undefined ? {} : { class: portClass };
      const { pair, intake } = await port(`class-${portClass}`, { codec: "nmea0183", ...over });
      await pair.say(wind);
      await until("the reading", () => intake.readings.length === 1);
      assert.equal(intake.readings[0]?.origin.class, expected);
    }
  });

  it("refuses to be built where something is missing, and names it", () => {
    assert.throws(
      () => house(portConfig("/dev/null", { framing: "length-prefixed", header: "42" })),
      (thrown: unknown) =>
        thrown instanceof GatewayError &&
        thrown.code === "CONFIG_INVALID" &&
        thrown.message ===
          "serial port node: lengthField is missing: framing length-prefixed needs where a frame tells its length",
    );
  });
});
