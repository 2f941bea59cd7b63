/** Polled ports with simulated devices, by a clock that the test moves: slots, late answers, gaps, echoes, SDI-12, own commands. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { encodeAnswer, type ModbusAnswer, type ReadRequest } from "#src/codec/modbus.js";
import { createFrameWriter } from "#src/codec/pipeline.js";
import { sdi12Crc } from "#src/codec/sdi12.js";
import type { SerialPortConfig } from "#src/config/schema.js";
import { PortPolling } from "#src/sources/serial/polling/port-polling.js";
import { mutant } from "../../../support/mutant.ts";
import { type Said, type SimulatedDevice, simulatedBus } from "../../../support/simulated-bus.ts";

type Server = NonNullable<SerialPortConfig["modbus"]>["servers"][number];

const EVERY_MS = 1000;
const TIMEOUT_MS = 200;
/** At 115,200 bit/s the bytes themselves take next to nothing. */
const LINE = { baudRate: 115_200 } as const;

function server(address: number, over: Partial<Server> = {}): Server {
  const registers: Server["registers"] = [{ name: "v", function: 3, at: 0 }];
  return { address, words: "big", endian: "big", gap: 0, maxRegisters: 125, registers, ...over };
}

function modbus(servers: Server[], retries = 1): Partial<SerialPortConfig> {
  const { codec: _, ...line } = { codec: undefined, ...LINE };
  return { ...line, modbus: { every: EVERY_MS, timeout: TIMEOUT_MS, retries, servers } };
}

function requestIn(bytes: Buffer): ReadRequest {
  return {
    address: bytes.readUInt8(0),
    function: bytes.readUInt8(1) as ReadRequest["function"],
    at: bytes.readUInt16BE(2),
    count: bytes.readUInt16BE(4),
  };
}

/** A good answer: each register holds its own address on the wire. */
function answerTo(request: ReadRequest): Uint8Array {
  const data = Buffer.alloc(2 * request.count);
  for (let index = 0; index < request.count; index++) data.writeUInt16BE(request.at + index, 2 * index);
  return encodeAnswer(request, { kind: "data", data } satisfies ModbusAnswer);
}

/** Good servers, but for those that `dead` names. */
const bus =
  (...dead: number[]): SimulatedDevice =>
  (heard) => {
    const request = requestIn(heard);
    return dead.includes(request.address) ? undefined : [{ after: 5, bytes: answerTo(request) }];
  };

const sourcesOf = (readings: readonly { origin: { source: string } }[]) => readings.map(({ origin }) => origin.source);

const DEAD = [2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13];

/** The longest that server 1 waited for its turn, in milliseconds, beyond the time at which it was due. */
async function longestDelay(Polling: typeof PortPolling): Promise<number> {
  const { clock, sent } = await simulatedBus(modbus([1, ...DEAD].map((one) => server(one))), bus(...DEAD), Polling);
  await clock.advance(60_000);
  // In the first round it is not known yet who is dead.
  const round = DEAD.length * 2 * TIMEOUT_MS + EVERY_MS;
  const at = sent.filter((one) => one.bytes[0] === 1 && one.at > round).map((one) => one.at);
  assert.ok(at.length > 40);
  return Math.max(...at.map((time) => time % EVERY_MS));
}

/** One time-out, and what the bytes take at this speed, to within the clock of whoever waits. */
const SLOT_MS = TIMEOUT_MS + 10;

describe("a Modbus bus", () => {
  test("twelve dead servers never cost the good one more than one slot of one of them, once they are known", async () => {
    assert.ok((await longestDelay(PortPolling)) <= SLOT_MS);
  });

  test("control: where those who fail are not put behind, the good one waits for several of them", async (t) => {
    const dist = mutant(t, "sources/serial/polling/turns.js", "(failures === 0 ||", "(failures >= 0 ||");
    const { PortPolling: Polling } = await import(`${dist}/sources/serial/polling/port-polling.js`);
    assert.ok((await longestDelay(Polling)) > SLOT_MS);
  });

  test("the late answer of one server is not taken for the next one's, and is counted as nobody's", async () => {
    const late: SimulatedDevice = (heard) => {
      const request = requestIn(heard);
      return [{ after: request.address === 1 ? TIMEOUT_MS + 30 : 60, bytes: answerTo(request) }];
    };
    const other = { name: "v", function: 3, at: 7 } as const;
    const { clock, intake, condition, metrics } = await simulatedBus(
      modbus([server(1), server(2, { registers: [other] })], 0),
      late,
    );
    await clock.advance(900);
    assert.deepEqual(intake.payloads(), [{ v: 7 }]);
    assert.deepEqual(sourcesOf(intake.readings), ["bus-2"]);
    assert.match(condition("serial-no-answer") ?? "", /^server 1 \(bus-1\)/);
    assert.doesNotMatch(condition("serial-no-answer") ?? "", /nobody has answered/);
    await clock.advance(60_000);
    assert.match(await metrics.metrics(), /device="1",outcome="timeout"/);
  });

  /** A server that answers its first request late, when it has been asked again; its second block must not get that answer. */
  async function blocksOfASlowServer(Polling: typeof PortPolling) {
    const registers = [3, 50].map((at) => ({ name: `r${at}`, function: 3, at }) as const);
    const slow: SimulatedDevice = (heard, attempt) => {
      const request = requestIn(heard);
      return [{ after: attempt === 1 ? TIMEOUT_MS + 20 : 50, bytes: answerTo(request) }];
    };
    const { clock, intake, sent } = await simulatedBus(modbus([server(1, { registers })]), slow, Polling);
    await clock.advance(900);
    assert.equal(sent.length, 3);
    return intake.payloads();
  }

  test("the answers to a request and to its repetition are not taken for one to the next request", async () => {
    assert.deepEqual(await blocksOfASlowServer(PortPolling), [{ r3: 3, r50: 50 }]);
  });

  /** A server that answers the request of its first turn in its second, and the one of that late within its slot. */
  async function turnsOfASlowServer(Polling: typeof PortPolling) {
    const registers = [3, 50].map((at) => ({ name: `r${at}`, function: 3, at }) as const);
    const delays = [EVERY_MS + TIMEOUT_MS + 20, 150, 190];
    const slow: SimulatedDevice = (heard, attempt) => [
      { after: delays[attempt - 1] ?? 10, bytes: answerTo(requestIn(heard)) },
    ];
    const { clock, intake } = await simulatedBus(modbus([server(1, { registers })], 0), slow, Polling);
    await clock.advance(2 * EVERY_MS);
    return intake.payloads();
  }

  test("nor is an answer that comes only in the server's next turn", async () => {
    assert.deepEqual(await turnsOfASlowServer(PortPolling), [{ r3: 3, r50: 50 }]);
  });

  test("control: where the second one is not waited for, it is", async (t) => {
    const dist = mutant(t, "sources/serial/polling/bus-line.js", "this.#heldUntil = end;", "void end;");
    const { PortPolling: Polling } = await import(`${dist}/sources/serial/polling/port-polling.js`);
    assert.deepEqual(await blocksOfASlowServer(Polling), [{ r3: 3, r50: 3 }]);
    assert.deepEqual(await turnsOfASlowServer(Polling), [{ r3: 3, r50: 3 }]);
  });

  test("an adapter's echo of each request is passed over; alone, it is no answer", async () => {
    const echoing: SimulatedDevice = (heard) => [{ after: 1, bytes: heard }, ...(bus(2)(heard, 1) ?? [])];
    const { clock, intake, condition } = await simulatedBus(modbus([server(1), server(2)]), echoing);
    await clock.advance(900);
    assert.deepEqual(sourcesOf(intake.readings), ["bus-1"]);
    assert.match(condition("serial-no-answer") ?? "", /server 2/);
    assert.equal(condition("serial-bad-answer"), undefined);
  });

  test("a request begins three and a half characters after what was heard last, and never waits for a babbler for long", async () => {
    const { clock, sent, use } = await simulatedBus({ ...modbus([server(1), server(2)]), baudRate: 1200 }, bus());
    await clock.advance(900);
    const gap = (sent[1]?.at ?? 0) - 5;
    assert.ok(gap >= (3.5 * 10 * 1000) / 1200 && gap < 40, `${gap} ms`);
    const before = sent.length;
    for (let ms = 0; ms < 5000; ms += 10) {
      use.heard(Buffer.from([0xff]));
      await clock.advance(10);
    }
    assert.ok(sent.length > before + 3);
  });

  test("whoever looks on is told who answered, and who did not", async () => {
    const { traffic, clock } = await simulatedBus(modbus([server(1), server(2)]), bus(2));
    const told: string[] = [];
    traffic.watch((event) => {
      if (event.kind === "reading") told.push(event.source ?? "");
      if (event.kind === "fault") told.push(`${event.device}: ${event.detail}`);
    });
    await clock.advance(2 * TIMEOUT_MS + 100);
    assert.deepEqual(told.slice(0, 2), ["bus-1", "server 2 (bus-2): no answer to function 3, registers 0"]);
  });

  test("when nobody answers at all, it is the line that is suspected", async () => {
    const { clock, condition } = await simulatedBus(modbus([server(1), server(2)]), bus(1, 2));
    await clock.advance(3000);
    assert.match(
      condition("serial-no-answer") ?? "",
      /^server 1 .*; server 2 .*; nobody has answered on \/dev\/bus since it was opened: check baudRate, parity and the wires/,
    );
  });

  test("while too much waits for its commit nobody is asked, and nobody is said to be silent", async () => {
    const { clock, sent, intake, conditions } = await simulatedBus(modbus([server(1)]), bus());
    await clock.advance(100);
    intake.saturated = true;
    await clock.advance(1000);
    const before = sent.length;
    await clock.advance(60_000);
    assert.equal(sent.length, before);
    assert.deepEqual(conditions.list(), []);
    intake.relieve();
    await clock.advance(3000);
    assert.ok(sent.length > before);
  });

  test("a port on which all are silent is opened anew, once for each silence", async () => {
    const silent = { ...modbus([server(1)]), silentAfter: 10_000, reopenWhenSilent: true };
    const { clock, reopened, use, port, conditions } = await simulatedBus(silent, bus(1));
    await clock.advance(9000);
    assert.equal(reopened(), 0);
    await clock.advance(30_000);
    assert.equal(reopened(), 1);
    await use.closed(undefined);
    assert.equal(conditions.list().length, 1, "the silence goes on");
    use.opened(port);
    await clock.advance(300_000);
    assert.equal(reopened(), 1);
    await use.closed({ kind: "missing", detail: "" });
    assert.deepEqual(conditions.list(), [], "of a port that is gone, only that is said");
  });

  test("a port that closes in the middle of a poll ends it at once", async () => {
    const { clock, use, sent, conditions } = await simulatedBus(modbus([server(1)]), bus(1));
    await clock.advance(50);
    await use.closed(undefined);
    await clock.advance(60_000);
    assert.equal(sent.length, 1);
    assert.deepEqual(conditions.list(), []);
  });

  test("a server that answers in part is not asked less often", async () => {
    const registers = [3, 50].map((at) => ({ name: `r${at}`, function: 3, at }) as const);
    const half: SimulatedDevice = (heard) => (requestIn(heard).at === 50 ? undefined : bus()(heard, 1));
    const { clock, intake, condition } = await simulatedBus(modbus([server(1, { registers })]), half);
    await clock.advance(10_900);
    assert.equal(intake.readings.length, 11);
    assert.match(condition("serial-no-answer") ?? "", /no answer to function 3, registers? 50;/);
  });
});

/** Sensors by their address: what each says to a command. */
function sdi12(
  sensors: readonly Partial<Sensor>[],
  answers: Readonly<Record<string, readonly Said[]>>,
): [Partial<SerialPortConfig>, SimulatedDevice] {
  const each = sensors.map((one) => ({ address: "0", measure: "M", values: ["v"], ...one }) as Sensor);
  return [
    { sdi12: { every: 60_000, timeout: 1000, retries: 1, sensors: each } },
    (heard) => answers[heard.toString("latin1")],
  ];
}

type Sensor = NonNullable<SerialPortConfig["sdi12"]>["sensors"][number];
const line = (text: string, after = 20): Said => ({ after, bytes: `${text}\r\n` });
const checked = (data: string): Said => line(data + sdi12Crc(data));

describe("SDI-12 sensors behind an adapter", () => {
  test("M: the values are asked for when the sensor says that it is ready", async () => {
    const values: Sensor["values"] = ["moisture_percent", null, { name: "t_c", scale: 0.1 }];
    const { clock, intake, textsSent, sent } = await simulatedBus(
      ...sdi12([{ values }], { "0M!": [line("00103"), line("0", 4000)], "0D0!": [line("0+31.5-7+215")] }),
    );
    await clock.advance(30_000);
    assert.deepEqual(textsSent(), ["0M!", "0D0!"]);
    assert.ok((sent[1]?.at ?? 0) >= 4000 && (sent[1]?.at ?? 0) < 4100);
    assert.deepEqual(intake.payloads(), [{ moisture_percent: 31.5, t_c: 21.5 }]);
    assert.equal(intake.readings[0]?.origin.source, "bus-0");
    await clock.advance(60_000);
    assert.equal(intake.readings.length, 2);
  });

  test("M: a sensor that does not say so is asked when its time is up; one that needs none, at once", async () => {
    const answers = { "0M!": [line("00101")], "0D0!": [line("0+1")], "1M!": [line("10001")], "1D0!": [line("1+2")] };
    const { clock, intake, sent } = await simulatedBus(...sdi12([{}, { address: "1" }], answers));
    await clock.advance(30_000);
    assert.deepEqual(intake.payloads(), [{ v: 1 }, { v: 2 }]);
    const [first, second, third, fourth] = sent.map(({ at }) => at);
    assert.ok((second ?? 0) - (first ?? 0) >= 10_000);
    assert.ok((fourth ?? 0) - (third ?? 0) < 100);
  });

  test("C: others measure meanwhile", async () => {
    const answers = {
      "0C!": [line("000301")],
      "0D0!": [line("0+1")],
      "1M!": [line("10001")],
      "1D0!": [line("1+2")],
    };
    const { clock, intake, textsSent, sent } = await simulatedBus(
      ...sdi12([{ measure: "C" }, { address: "1" }], answers),
    );
    await clock.advance(50_000);
    assert.deepEqual(textsSent(), ["0C!", "1M!", "1D0!", "0D0!"]);
    assert.deepEqual(sourcesOf(intake.readings), ["bus-1", "bus-0"]);
    assert.ok((sent[3]?.at ?? 0) >= 3000);
    await clock.advance(30_000);
    assert.deepEqual(textsSent().slice(4), ["0C!", "1M!", "1D0!", "0D0!"]);
    assert.ok((sent[4]?.at ?? 0) < 60_100, "measured on its grid, however long it takes");
  });

  /** A sensor that has the values of the measurement that was begun last, and is measured in three ways. */
  async function measuredInThreeWays(Polling: typeof PortPolling) {
    let value = "";
    const device: SimulatedDevice = (heard) => {
      const command = heard.toString("latin1");
      if (command === "0D0!") return [line(`0${value}`)];
      value = `+${{ "0C!": 1, "0C1!": 2, "0M2!": 3 }[command]}`;
      return [line(command === "0M2!" ? "00001" : "000301")];
    };
    const ways = (["C", "C1", "M2"] as const).map((measure) => ({ measure, values: [measure] }));
    const { clock, intake } = await simulatedBus(sdi12(ways, {})[0], device, Polling);
    await clock.advance(90_000);
    return intake.payloads();
  }

  test("C: a sensor that measures already is not told to measure something else", async () => {
    const round = [{ C: 1 }, { C1: 2 }, { M2: 3 }];
    assert.deepEqual(await measuredInThreeWays(PortPolling), [...round, ...round]);
  });

  test("control: where it is, the values of one measurement go by the names of another", async (t) => {
    const dist = mutant(t, "sources/serial/polling/sdi12-station.js", "if (busyUntil !== undefined)", "if (false)");
    const { PortPolling: Polling } = await import(`${dist}/sources/serial/polling/port-polling.js`);
    assert.deepEqual((await measuredInThreeWays(Polling)).slice(0, 3), [{ M2: 3 }, { C: 3 }, { C1: 3 }]);
  });

  test("values are gathered from as many answers as they need", async () => {
    const answers = { "0MC2!": [line("00003")], "0D0!": [checked("0+1+2")], "0D1!": [checked("0+3")] };
    const values = ["a", "b", "c"];
    const { clock, intake, textsSent } = await simulatedBus(...sdi12([{ measure: "MC2", values }], answers));
    await clock.advance(30_000);
    assert.deepEqual(textsSent(), ["0MC2!", "0D0!", "0D1!"]);
    assert.deepEqual(intake.payloads(), [{ a: 1, b: 2, c: 3 }]);
  });

  test("a wrong CRC is asked for again, and named where it stays wrong", async () => {
    let tries = 0;
    const wrong =
      (until: number): SimulatedDevice =>
      (heard) => {
        if (heard.toString() === "0MC!") return [line("00001")];
        return ++tries < until ? [line("0+3.15OqZ")] : [line("0+3.14OqZ")];
      };
    const [config] = sdi12([{ measure: "MC" }], {});
    const once = await simulatedBus(config, wrong(2));
    await once.clock.advance(30_000);
    assert.deepEqual(once.intake.payloads(), [{ v: 3.14 }]);
    assert.deepEqual(once.conditions.list(), []);
    const always = await simulatedBus(config, wrong(99));
    await always.clock.advance(30_000);
    assert.deepEqual(always.intake.payloads(), []);
    assert.match(
      always.condition("serial-bad-answer") ?? "",
      /^sensor 0 MC \(bus-0\) since \S+: a wrong checksum in the answer to command D0; /,
    );
  });

  test("control: without the CRC's check the wrong value is taken", async (t) => {
    const dist = mutant(t, "codec/sdi12.js", "sdi12Crc(data) !== line.slice(-CRC_CHARACTERS)", "false");
    const { PortPolling: Polling } = await import(`${dist}/sources/serial/polling/port-polling.js`);
    const answers = { "0MC!": [line("00001")], "0D0!": [line("0+3.15OqZ")] };
    const { clock, intake } = await simulatedBus(...sdi12([{ measure: "MC" }], answers), Polling);
    await clock.advance(30_000);
    assert.deepEqual(intake.payloads(), [{ v: 3.15 }]);
  });

  test("a late service request is not taken for an answer without values", async () => {
    const answers = { "0M!": [line("00011")], "0D0!": [line("0", 100), line("0+5", 200)] };
    const { clock, intake } = await simulatedBus(...sdi12([{}], answers));
    await clock.advance(30_000);
    assert.deepEqual(intake.payloads(), [{ v: 5 }]);
  });

  test("a sensor without values, and one that is not there, are named; an echo changes nothing", async () => {
    const answers = {
      "0M!": [{ after: 1, bytes: "0M!" }, line("00000")],
      "1M!": [{ after: 1, bytes: "1M!" }],
      "2M!": [{ after: 1, bytes: "2M!" }, line("20001")],
      "2D0!": [{ after: 1, bytes: "2D0!" }, line("2-1.25")],
    };
    const { clock, intake, condition } = await simulatedBus(
      ...sdi12([{}, { address: "1" }, { address: "2" }], answers),
    );
    await clock.advance(30_000);
    assert.deepEqual(intake.payloads(), [{ v: -1.25 }]);
    assert.match(
      condition("serial-bad-answer") ?? "",
      /^sensor 0 \(bus-0\) since \S+: what came is no answer to command M, for/,
    );
    assert.match(condition("serial-no-answer") ?? "", /^sensor 1 \(bus-1\) since \S+: no answer to command M; look at/);
  });
});

/** Winsen MH-Z19B, as its manual (version 1.6) gives request and answer: 0x0260 are 608 ppm. */
const MH_Z19B: Partial<SerialPortConfig> = {
  framing: "fixed",
  length: 9,
  header: "ff 86",
  checksum: { type: "sum8", from: 1, endian: "big", complement: "twos", encoding: "bytes" },
  codec: "binary",
  layout: { endian: "big", fields: [{ type: "u16", at: 2, name: "co2_ppm" }] },
  poll: {
    every: 10_000,
    timeout: 500,
    retries: 1,
    framed: false,
    start: [],
    requests: [{ send: "ff 01 86 00 00 00 00 00 79" }],
  },
};
const CO2_ANSWER = Buffer.from("ff86026047000000d1", "hex");

/** Sensirion SPS30 (SHDLC): frames between 0x7E, their checksum the inverted sum; measuring has to be begun. */
const SPS30: Partial<SerialPortConfig> = {
  framing: "hdlc",
  checksum: { type: "sum8", from: 0, endian: "big", complement: "ones", encoding: "bytes" },
  codec: "binary",
  layout: {
    endian: "big",
    fields: [
      { type: "u8", at: 1, equals: 3 },
      { type: "u8", at: 2, equals: 0 },
      { type: "f32", at: 4, name: "pm1_0_ug_m3" },
    ],
  },
  poll: {
    every: 1000,
    timeout: 100,
    retries: 0,
    framed: true,
    start: [{ send: "00 00 02 01 03" }],
    requests: [{ send: "00 03 00" }],
  },
};

/** The sensor, with what it forgets when its power goes: that it is to measure. */
function sps30() {
  const write = createFrameWriter({ ...SPS30, framing: "hdlc", maxFrameBytes: 256 });
  const state = { isMeasuring: false, isOn: true };
  const device: SimulatedDevice = (heard) => {
    if (!state.isOn) return undefined;
    const text = heard.toString("hex");
    if (text === "7e0000020103f97e") {
      state.isMeasuring = true;
      return [{ after: 5, bytes: write(Buffer.from("00000000", "hex")) }];
    }
    assert.equal(text, "7e000300fc7e");
    return [{ after: 5, bytes: write(Buffer.from(state.isMeasuring ? "0003000441bc0000" : "00034300", "hex")) }];
  };
  return { state, device };
}

describe("a device with commands of its own", () => {
  test("its answer comes through the port's framing, checksum and layout", async () => {
    const { clock, intake, sent } = await simulatedBus(MH_Z19B, () => [{ after: 20, bytes: CO2_ANSWER }]);
    await clock.advance(25_000);
    assert.deepEqual(sent[0]?.bytes.toString("hex"), "ff0186000000000079");
    assert.deepEqual(intake.payloads(), [{ co2_ppm: 608 }, { co2_ppm: 608 }, { co2_ppm: 608 }]);
    assert.equal(intake.readings[0]?.origin.source, "bus");
  });

  test("an answer with a wrong checksum is asked for again, counted, and named where it stays wrong", async () => {
    const wrong = Buffer.from(CO2_ANSWER);
    wrong[3] = 0x61;
    const { clock, intake, sent, condition, metrics } = await simulatedBus(MH_Z19B, () => [
      { after: 20, bytes: wrong },
    ]);
    await clock.advance(5000);
    assert.equal(sent.length, 2);
    assert.deepEqual(intake.payloads(), []);
    assert.match(condition("serial-bad-answer") ?? "", /^bus since \S+: .* answer .*to command ff 01 86 00/);
    assert.match(
      await metrics.metrics(),
      /frames_discarded_total\{port="bus",reason="(bad-checksum|noise|unfinished)"\}/,
    );
  });

  test("what it says without having been asked is no reading", async () => {
    const { clock, use, intake, metrics } = await simulatedBus(MH_Z19B, () => [{ after: 20, bytes: CO2_ANSWER }]);
    await clock.advance(1000);
    use.heard(CO2_ANSWER);
    await clock.advance(1000);
    assert.equal(intake.readings.length, 1);
    assert.match(await metrics.metrics(), /discarded_bytes_total\{port="bus",reason="unasked"\} 9/);
  });

  test("it is started in the port's framing, and again when it has lost its power; neither is a reading", async () => {
    const { device, state } = sps30();
    const { clock, intake, conditions, condition } = await simulatedBus(SPS30, device);
    await clock.advance(2500);
    assert.deepEqual(intake.payloads(), [{ pm1_0_ug_m3: 23.5 }, { pm1_0_ug_m3: 23.5 }, { pm1_0_ug_m3: 23.5 }]);
    Object.assign(state, { isOn: false, isMeasuring: false });
    await clock.advance(2000);
    assert.match(condition("serial-no-answer") ?? "", /^bus since \S+: no answer to command 00 03 00; look at/);
    state.isOn = true;
    await clock.advance(10_000);
    assert.ok(intake.readings.length > 4);
    assert.deepEqual(conditions.list(), []);
    assert.deepEqual(intake.refusals, []);
  });

  test("text: a wind sensor in polled mode, whose adapter gives the command back", async () => {
    const wind: Partial<SerialPortConfig> = {
      framing: "lines",
      codec: "csv",
      columns: [{ name: "node", type: "text" }, "wind_direction_deg", "wind_speed_m_s"],
      poll: { every: 1000, timeout: 300, retries: 1, framed: true, start: [{ text: "*" }], requests: [{ text: "?Q" }] },
    };
    const { clock, intake, textsSent, conditions } = await simulatedBus(wind, (heard) => {
      const command = heard.toString();
      const answer = command === "?Q\r\n" ? [{ after: 40, bytes: "Q,229,002.74\r\n" }] : [];
      return [{ after: 2, bytes: command }, ...answer];
    });
    await clock.advance(1500);
    assert.deepEqual(textsSent().slice(0, 3), ["*\r\n", "*\r\n", "?Q\r\n"]);
    assert.deepEqual(intake.payloads().at(0), { node: "Q", wind_direction_deg: 229, wind_speed_m_s: 2.74 });
    assert.deepEqual(conditions.list(), []);
    assert.deepEqual(intake.refusals, []);
  });

  test("what cannot be read is refused, and asked for again", async () => {
    const json: Partial<SerialPortConfig> = {
      poll: { every: 1000, timeout: 300, retries: 1, framed: false, start: [], requests: [{ text: "r" }] },
    };
    const { clock, intake } = await simulatedBus(json, (_, attempt) => [
      { after: 5, bytes: attempt === 1 ? '{"v":' : '{"v":1}\n' },
      ...(attempt === 1 ? [{ after: 6, bytes: "}\n" }] : []),
    ]);
    await clock.advance(900);
    assert.deepEqual(intake.payloads(), [{ v: 1 }]);
    assert.equal(intake.refusals.length, 1);
  });
});
