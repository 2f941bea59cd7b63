/** Speeds and parities are tried until what a UART hears makes sense: here a UART that mishears as the real ones do. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { type Attempt, isFound, type LineTry, searchLine } from "#src/cli/doctor/line-search.js";
import { createListener, type ListenOn } from "#src/cli/doctor/port-listen.js";
import { misread, USUAL_BAUD_RATES } from "#src/codec/baud-guess.js";
import { sentenceOf } from "#src/codec/nmea-sentence.js";
import { recognise } from "#src/codec/recognise.js";
import { TestClock } from "../support/test-clock.ts";

const AT_9600: LineTry = { baudRate: 9600, dataBits: 8, parity: "none" };
const LINES = Array.from({ length: 12 }, (_, at) =>
  Buffer.from(sentenceOf(`GPRMC,1235${10 + at}.00,A,4807.0${at}81,N,01131.0002,E,022.4,084.4,230394,003.1,W`)),
);

/** What is heard of `lines`, sent at a speed, by one who listens at another. */
const hear = (lines: readonly Uint8Array[], sentAt: number) => async (line: LineTry) =>
  lines.map((bytes, at) => ({
    ms: at * 1000,
    bytes: line.baudRate === sentAt ? bytes : Uint8Array.from(misread([bytes], sentAt, line.baudRate)),
  }));

async function all(attempts: AsyncIterable<Attempt>): Promise<Attempt[]> {
  const list: Attempt[] = [];
  for await (const attempt of attempts) list.push(attempt);
  return list;
}

for (const rate of USUAL_BAUD_RATES)
  test(`a receiver at ${rate} bit/s is found, most often at the second try`, async () => {
    const attempts = await all(searchLine(AT_9600, hear(LINES, rate), recognise));
    const last = attempts.at(-1);
    assert.ok(last && isFound(last));
    assert.equal(last.line.baudRate, rate);
    assert.equal(last.found[0]?.keys.codec, "nmea0183");
    assert.ok(attempts.length <= 4, attempts.map(({ line }) => line.baudRate).join(" "));
  });

for (const parity of ["even", "odd"] as const)
  test(`seven bits with ${parity} parity are seen in what is read as eight`, async () => {
    const ones = (byte: number): number => byte.toString(2).replaceAll("0", "").length;
    const withParity = LINES.map((line) =>
      line.map((byte) => (ones(byte) % 2 === (parity === "even" ? 0 : 1) ? byte : byte | 0x80)),
    );
    const listen = async (line: LineTry) =>
      (line.dataBits === 7 && line.parity === parity ? LINES : withParity).map((bytes, ms) => ({ ms, bytes }));
    const attempts = await all(searchLine(AT_9600, listen, recognise));
    assert.deepEqual(
      attempts.map(({ line }) => line),
      [AT_9600, { baudRate: 9600, dataBits: 7, parity }],
    );
  });

test("where nothing makes sense each setting is tried once, and then it ends", async () => {
  for (const heard of [[], [{ ms: 0, bytes: Buffer.from([1, 2, 3]) }]]) {
    const attempts = await all(searchLine(AT_9600, async () => heard, recognise));
    const tried = attempts.map(({ line }) => JSON.stringify(line));
    assert.equal(new Set(tried).size, tried.length);
    assert.equal(tried.length, USUAL_BAUD_RATES.length + 2);
    assert.ok(!attempts.some(isFound));
  }
});

test("listening ends when it is clear what speaks, when a wrong setting has had its time, and when all time is over", async () => {
  const clock = new TestClock();
  const times: [number, number][] = [];
  let say: (bytes: Uint8Array, ms: number) => void = () => {};
  const listenOn: ListenOn = async ({ baudRate }, signal, take) => {
    const from = clock.monotonic();
    say = take;
    await new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
    times.push([baudRate, clock.monotonic() - from]);
    return undefined;
  };
  const signal = new AbortController().signal;
  const listen = createListener({ clock, listenOn, recognise, totalMs: 30_000, onlyOne: false, signal });
  const silent = listen(AT_9600);
  await clock.advance(16_000);
  assert.deepEqual(await silent, []);
  const rubbish = listen({ ...AT_9600, baudRate: 4800 });
  await clock.advance(1000);
  say(Buffer.from([0x80, 0xfe, 0x81]), 0);
  await clock.advance(4000);
  assert.equal((await rubbish)?.length, 1);
  const clear = listen({ ...AT_9600, baudRate: 2400 });
  for (const [at, line] of LINES.slice(0, 4).entries()) say(line, at);
  await clock.advance(500);
  assert.equal((await clear)?.length, 4);
  const late = listen({ ...AT_9600, baudRate: 1200 });
  await clock.advance(60_000);
  assert.deepEqual(await late, []);
  assert.equal(await listen(AT_9600), undefined);
  assert.deepEqual(
    times.map(([rate]) => rate),
    [9600, 4800, 2400, 1200],
  );
  const spent = times.map(([, ms]) => ms);
  assert.deepEqual([spent[0], spent[2]], [15_000, 250]);
  assert.ok((spent[1] ?? 0) <= 1000 + 3500 && (spent[3] ?? 0) <= 9_000, spent.join(" "));
});
