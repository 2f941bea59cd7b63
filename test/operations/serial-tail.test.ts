/** Looking on at a serial port: what a tail says, and that one who does not read costs a bounded amount and nobody else anything. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { MAX_HELD_BYTES, MAX_LINES_PER_SECOND, SerialTail } from "#src/operations/serial-tail.js";
import { ALIVE_EVERY_MS, type TimedTailLine } from "#src/operations/tail-line.js";
import { MemoryPort } from "../support/memory-port.ts";
import { mutant } from "../support/mutant.ts";
import { TestClock } from "../support/test-clock.ts";

const NOTHING = { accepted: 1, duplicates: 0, refused: 0, unauthorised: 0 };

function read(tail: SerialTail): TimedTailLine[] {
  const text = String(tail.read() ?? "");
  return text
    .split("\n")
    .slice(0, -1)
    .map((line) => JSON.parse(line));
}

const say = (port: MemoryPort, text: string): void =>
  port.traffic.read(Buffer.from(text), { payload: { text } }, "telemetry", NOTHING);

test("each frame is told with what became of it, when, and what the port did meanwhile", async () => {
  const [port, clock] = [new MemoryPort("mast"), new TestClock()];
  const tail = new SerialTail(port, clock, "frames");
  await clock.advance(250);
  port.traffic.opened("/dev/ttyUSB0");
  port.traffic.heard(Buffer.from("not shown"));
  say(port, "one");
  port.traffic.decoded(Buffer.from("two"), { kind: "refused", detail: "bad checksum" });
  port.traffic.decoded(Buffer.from("three"), { kind: "ignored" });
  port.traffic.discarded({ kind: "discarded", reason: "too-long", bytes: Buffer.from("fo"), length: 9000 });
  port.traffic.read(Buffer.alloc(5000, 1), { payload: { much: true } }, undefined, NOTHING);
  port.traffic.answered("bus-1", { soil: 1 }, "soil", NOTHING);
  port.traffic.fault("server 2 (bus-2)", "no answer to function 3, register 0");
  port.traffic.closed("it was hung up");
  port.traffic.end();
  const lines = read(tail);
  const [first, ...rest] = lines;
  assert.deepEqual(first, {
    at: first?.at,
    ms: 0,
    kind: "port",
    name: "mast",
    state: "open",
    path: "/dev/ttyUSB0",
    device: null,
    detail: null,
    ...port.settings,
  });
  assert.ok(rest.every(({ ms }) => ms === 250));
  const shown = rest.map(({ at, ms, ...line }) => ("hex" in line ? { ...line, hex: line.hex.slice(0, 10) } : line));
  const hex = (text: string): string => Buffer.from(text).toString("hex").slice(0, 10);
  const counts = { accepted: 1, duplicates: 0, refused: 0 };
  assert.deepEqual(shown, [
    { kind: "opened", device: "/dev/ttyUSB0" },
    { kind: "reading", class: "telemetry", length: 3, hex: hex("one"), reading: { text: "one" }, ...counts },
    { kind: "refused", detail: "bad checksum", length: 3, hex: hex("two") },
    { kind: "ignored", length: 5, hex: hex("three") },
    { kind: "discarded", reason: "too-long", length: 9000, hex: hex("fo") },
    { kind: "reading", class: null, length: 5000, hex: "0101010101", reading: null, ...counts },
    { kind: "reading", class: "soil", source: "bus-1", length: 0, hex: "", reading: { soil: 1 }, ...counts },
    { kind: "fault", device: "server 2 (bus-2)", detail: "no answer to function 3, register 0" },
    { kind: "closed", detail: "it was hung up" },
    { kind: "ended" },
  ]);
});

test("raw bytes are told as they came, and no frames", () => {
  const port = new MemoryPort("mast");
  const tail = new SerialTail(port, new TestClock(), "bytes");
  port.traffic.heard(Buffer.from([0x42, 0x4d]));
  say(port, "one");
  assert.deepEqual(
    read(tail).map((line) => ("hex" in line ? line.hex : line.kind)),
    ["port", "424d"],
  );
});

test("what the codec made and JSON cannot write does no harm", () => {
  const port = new MemoryPort("mast");
  const tail = new SerialTail(port, new TestClock(), "frames");
  port.traffic.read(Buffer.from("x"), { payload: { n: 1n } }, undefined, NOTHING);
  const line = read(tail)[1];
  assert.equal(line?.kind === "reading" && line.reading, null);
});

test("it says that it is there, and lets go of the port when nobody reads any more", async () => {
  const [port, clock] = [new MemoryPort("mast"), new TestClock()];
  const tail = new SerialTail(port, clock, "frames");
  assert.equal(port.watchers, 1);
  await clock.advance(ALIVE_EVERY_MS);
  assert.equal(read(tail).at(-1)?.kind, "alive");
  tail.destroy();
  await new Promise((resolve) => tail.once("close", resolve));
  assert.equal(port.watchers, 0);
  say(port, "nobody hears this");
  await clock.advance(3 * ALIVE_EVERY_MS);
});

/** So much comes while nobody reads, and what then lies there. */
async function flood(Tail: typeof SerialTail): Promise<{ held: number; lines: TimedTailLine[]; sent: number }> {
  const [port, clock] = [new MemoryPort("mast"), new TestClock()];
  const tail = new Tail(port, clock, "frames");
  let sent = 0;
  for (let second = 0; second < 10; second++) {
    for (let n = 0; n < MAX_LINES_PER_SECOND; n++, sent++) say(port, "x".repeat(300));
    await clock.advance(1000);
  }
  const held = tail.readableLength;
  const lines = read(tail);
  say(port, "afterwards");
  lines.push(...read(tail));
  tail.destroy();
  return { held, lines, sent };
}

test("one who does not read is left out of what he does not take, and told how much that was", async (t) => {
  const { held, lines, sent } = await flood(SerialTail);
  assert.ok(held <= MAX_HELD_BYTES, `${held} bytes held`);
  const told = lines.filter(({ kind }) => kind === "reading").length;
  const left = lines.reduce((sum, line) => sum + (line.kind === "dropped" ? line.lines : 0), 0);
  assert.ok(left > 1000);
  // One line said that the gateway was there.
  const alive = 1;
  assert.equal(told + left + lines.filter(({ kind }) => kind === "alive").length, sent + 1 + alive);
  assert.equal(lines.at(-1)?.kind, "reading");

  const dist = mutant(
    t,
    "operations/serial-tail.js",
    "if (this.readableLength + text.length > MAX_HELD_BYTES)",
    "if (false)",
  );
  const unbounded = (await import(`${dist}/operations/serial-tail.js`)) as { SerialTail: typeof SerialTail };
  assert.ok((await flood(unbounded.SerialTail)).held > 4 * MAX_HELD_BYTES, "the control holds all of it");
});

test("frames beyond a rate are counted instead of shown", async () => {
  const [port, clock] = [new MemoryPort("mast"), new TestClock()];
  const tail = new SerialTail(port, clock, "frames");
  for (let n = 0; n < MAX_LINES_PER_SECOND + 50; n++) say(port, "x");
  assert.equal(port.traffic.counts().frames, MAX_LINES_PER_SECOND + 50);
  const lines = read(tail);
  assert.equal(lines.filter(({ kind }) => kind === "reading").length, MAX_LINES_PER_SECOND);
  const last = lines.at(-1);
  assert.deepEqual(last?.kind === "dropped" && [last.lines, last.bytes], [50, 0]);
  await clock.advance(1000);
  say(port, "y");
  assert.deepEqual(
    read(tail).map(({ kind }) => kind),
    ["reading"],
  );
});
