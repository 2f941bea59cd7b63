/** What is odd about a port that is open: silence, babble, and rubbish as a wrong speed makes it; each with its control. */
import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { misread } from "#src/codec/baud-guess.js";
import type { SerialPortConfig } from "#src/config/schema.js";
import type { SerialSource } from "#src/sources/serial/serial-source.js";
import { PtyPair } from "../../support/pty-pair.ts";
import { jsonPort, serialHouse } from "../../support/serial-house.ts";
import { temporaryFolder } from "../../support/temporary-folder.ts";
import { TestClock } from "../../support/test-clock.ts";
import { until } from "../../support/until.ts";

const MINUTE = 60_000;

async function site(t: TestContext, over: Partial<SerialPortConfig>, clock = new TestClock()) {
  const pair = await PtyPair.plugIn(temporaryFolder(t));
  t.after(() => pair.unplug());
  const house = serialHouse([jsonPort({ path: pair.device, ...over })], { clock });
  const [source] = house.sources as [SerialSource];
  t.after(() => source.stop());
  await source.start();
  const codes = () => house.conditions.list().map(({ code }) => code);
  const openings = () => house.lines.filter(({ msg }) => msg === "serial port open").length;
  return { ...house, pair, source, clock, codes, openings };
}

const reading = (n: number) => `{"n":${n}}\n`;

test("a port without a frame for silentAfter is said to be silent, since when, until the next frame", async (t) => {
  const { pair, clock, codes, conditions, intake } = await site(t, { silentAfter: 10 * MINUTE });
  await clock.advance(10 * MINUTE - 1);
  assert.deepEqual(codes(), []);
  const fellSilent = clock.now() + 1;
  await clock.advance(MINUTE);
  const [silent] = conditions.list();
  assert.deepEqual(
    { ...silent, detail: "" },
    {
      component: "serial:mast",
      code: "serial-silent",
      severity: "degraded",
      detail: "",
      since: fellSilent,
    },
  );
  assert.match(silent?.detail ?? "", /^no frame on .*tty for 10m or longer; look at the device's power and its cable$/);
  await pair.say(reading(1));
  await until("the reading", () => intake.readings.length === 1);
  assert.deepEqual(codes(), []);
  await clock.advance(10 * MINUTE - 1);
  assert.deepEqual(codes(), [], "counted from the last frame");
  await clock.advance(1);
  assert.deepEqual(codes(), ["serial-silent"]);
});

test("control: without silentAfter nobody says anything", async (t) => {
  const { clock, codes } = await site(t, {});
  await clock.advance(600 * MINUTE);
  assert.deepEqual(codes(), []);
});

test("bytes that never make a frame do not break a silence, and are told", async (t) => {
  const { pair, clock, codes, conditions, source } = await site(t, { silentAfter: MINUTE });
  await pair.say("never ended");
  // Once the port is stopped and started nothing else can be waited for: bytes without a frame leave no trace but this one.
  await until(
    "silent",
    () => /11 bytes came, but no frame: check baudRate/.test(conditions.list()[0]?.detail ?? ""),
    () => clock.advance(MINUTE),
  );
  assert.deepEqual(codes(), ["serial-silent"]);
  await source.stop();
  assert.deepEqual(codes(), []);
});

test("a port that is not read for want of room is not called silent", async (t) => {
  const { pair, clock, codes, intake } = await site(t, { silentAfter: MINUTE });
  intake.saturated = true;
  await pair.say(reading(1));
  await until("held back", () => intake.waitingForRelief === 1);
  await clock.advance(5 * MINUTE + 1000);
  assert.deepEqual(codes(), []);
  intake.relieve();
  await clock.advance(MINUTE - 1);
  assert.deepEqual(codes(), [], "the silence begins with reading");
  await clock.advance(MINUTE);
  assert.deepEqual(codes(), ["serial-silent"]);
});

test("frames of which none can be read for a minute are said, with the last one's fault, until one can be", async (t) => {
  const { pair, clock, codes, conditions, intake } = await site(t, {});
  const say = async (line: string) => {
    const [read, unread] = [intake.readings.length, intake.refusals.length];
    await pair.say(line);
    await until("judged", () => intake.readings.length > read || intake.refusals.length > unread);
  };
  for (let n = 0; n < 20; n++) await say(`V\t12${n}00\n`);
  assert.deepEqual(codes(), [], "what a board says when it starts");
  await clock.advance(MINUTE);
  await say("V\t12800\n");
  assert.deepEqual(codes(), ["serial-unreadable"]);
  assert.match(
    conditions.list()[0]?.detail ?? "",
    /^frames come on .*tty, but none can be read: not JSON; summit-edge serial tail mast shows what comes; check profile/,
  );
  await say(reading(1));
  assert.deepEqual(codes(), []);
});

test("control: a frame now and then that cannot be read, between good ones or far apart, is no condition", async (t) => {
  const { pair, clock, codes, intake } = await site(t, {});
  for (let n = 1; n <= 4; n++) {
    await pair.say(`V\t12${n}00\n`.repeat(4) + reading(n));
    await until("the reading", () => intake.readings.length === n);
    await clock.advance(MINUTE);
  }
  assert.deepEqual(codes(), []);
  await pair.say("V\t1\n");
  await until("refused", () => intake.refusals.length === 17);
  await clock.advance(60 * MINUTE);
  await pair.say("V\t1\n");
  await until("refused", () => intake.refusals.length === 18);
  assert.deepEqual(codes(), []);
});

for (const reopenWhenSilent of [true, false]) {
  test(`a silent port is ${reopenWhenSilent ? "opened again once for each silence" : "left open unless that is asked for"}`, async (t) => {
    const { pair, clock, codes, intake, openings, source } = await site(t, { silentAfter: MINUTE, reopenWhenSilent });
    await clock.advance(MINUTE);
    await until("settled", () => source.status().state === "open" && openings() === (reopenWhenSilent ? 2 : 1));
    assert.deepEqual(codes(), ["serial-silent"]);
    await clock.advance(20 * MINUTE);
    assert.equal(openings(), reopenWhenSilent ? 2 : 1);
    assert.deepEqual(codes(), ["serial-silent"], "the silence goes on");
    await pair.say(reading(1));
    await until("the reading", () => intake.readings.length === 1);
    assert.deepEqual(codes(), []);
    await clock.advance(2 * MINUTE);
    await until("the next silence", () => openings() === (reopenWhenSilent ? 3 : 1));
  });
}

test("a port that babbles is read no faster than maxRate; it is said once, counted, and over after a quiet minute", async (t) => {
  const { pair, clock, codes, intake, lines, metrics } = await site(t, { maxRate: { frames: 10, bytes: 0 } });
  const said = Array.from({ length: 100 }, (_, n) => reading(n));
  // In pieces that the port reads one by one: what is read at once is past holding.
  for (const line of said.slice(0, 11)) await pair.say(line);
  await until("throttled", () => codes().includes("serial-babbles"));
  const read = intake.readings.length;
  await pair.say(said.slice(11).join(""));
  // What was said later has come through elsewhere, all of it, where nothing is held back: this port had its chance.
  const fence = await site(t, { maxRate: { frames: 0, bytes: 0 } });
  await fence.pair.say(said.join(""));
  await until("the other port's readings", () => fence.intake.readings.length === 100);
  assert.deepEqual(fence.codes(), [], "control: without maxRate");
  assert.equal(intake.readings.length, read, "nothing is read while the clock stands still");
  await until(
    "all of it",
    () => intake.readings.length === 100,
    () => clock.advance(100),
  );
  assert.deepEqual(
    intake.payloads(),
    said.map((line) => JSON.parse(line)),
  );
  assert.match(await metrics.metrics(), /summit_edge_serial_throttled_total\{port="mast"\} [1-9]/);
  assert.equal(lines.filter(({ code, level }) => code === "serial-babbles" && level >= 40).length, 1);
  await clock.advance(2 * MINUTE);
  assert.deepEqual(codes(), []);
});

test("bytes without an end count as babble too; control: within the rate nothing is held back", async (t) => {
  const babbler = await site(t, { maxRate: { frames: 0, bytes: 100 } });
  await babbler.pair.say("x".repeat(500));
  await until("throttled", () => babbler.codes().includes("serial-babbles"));
  const calm = await site(t, { maxRate: { frames: 10, bytes: 100 } });
  await calm.pair.say(Array.from({ length: 9 }, (_, n) => reading(n)).join(""));
  await until("the readings", () => calm.intake.readings.length === 9);
  assert.deepEqual(calm.codes(), []);
});

test("a wrong baud rate is recognised, the right one is suggested, and good frames end it", async (t) => {
  const { pair, codes, conditions, intake } = await site(t, { baudRate: 9600 });
  const device = Array.from({ length: 30 }, (_, n) => Buffer.from(`{"station":"ridge","ms":${n * 1.7},"n":${n}}\n`));
  await pair.say(Buffer.from(misread(device, 4800, 9600)));
  await until("recognised", () => codes().includes("serial-garbage"));
  const [garbage] = conditions.list();
  assert.match(
    garbage?.detail ?? "",
    /^what comes on .*tty is rubbish: \d+% of the last \d+ bytes at 9600 bit\/s 8N are no text: check baudRate \(most likely 4800, /,
  );
  await pair.say(`\n${device.join("")}`);
  await until("the readings", () => intake.readings.length === 30);
  assert.deepEqual(codes(), []);
});

test("SenML in lines is text, and its rubbish is recognised as JSON's is; CBOR has any bytes", async (t) => {
  const rubbish = Uint8Array.from({ length: 200 }, (_, at) => 0x80 | (at * 37));
  const lines = await site(t, { codec: "senml" });
  await lines.pair.say(rubbish);
  await until("recognised", () => lines.codes().includes("serial-garbage"));
  assert.match(lines.conditions.list()[0]?.detail ?? "", /are no text/);
  const cobs = await site(t, { codec: "senml", framing: "cobs" });
  await cobs.pair.say(rubbish);
  await until("they have come", () => cobs.source.status().traffic.bytes >= 200);
  assert.deepEqual(cobs.codes(), []);
});

test("control: text that cannot be read is refused, and not taken for a wrong baud rate", async (t) => {
  const { pair, codes, intake } = await site(t, {});
  await pair.say("no JSON at all\n".repeat(100));
  await until("the refusals", () => intake.refusals.length === 100);
  assert.deepEqual(codes(), []);
});
