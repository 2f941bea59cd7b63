import assert from "node:assert/strict";
import { test } from "node:test";
import { lineSpeedFor, playCapture } from "#src/simulator/replay.js";
import { TestClock } from "../support/test-clock.ts";

const piece = (ms: number, text: string) => ({ ms, bytes: Buffer.from(text) });
const PIECES = [piece(500, "a"), piece(1500, "bb"), piece(1500, "c"), piece(61_500, "dddd")];

async function play(speed: number, takes: (text: string) => boolean = () => true) {
  const clock = new TestClock();
  const from = clock.monotonic();
  const said: [number, string][] = [];
  const ended = new AbortController();
  const line = {
    write: (bytes: Uint8Array) => {
      said.push([clock.monotonic() - from, Buffer.from(bytes).toString()]);
      return takes(Buffer.from(bytes).toString());
    },
  };
  const playing = playCapture(PIECES, line, { clock, speed, signal: ended.signal });
  return { clock, said, ended, playing };
}

test("each piece comes as long after the first as it was captured, or so many times as fast", async () => {
  for (const speed of [1, 4]) {
    const { clock, said, playing } = await play(speed);
    for (let step = 0; step < 61; step++) await clock.advance(1000 / speed);
    assert.deepEqual(await playing, { bytes: 8, dropped: 0 });
    assert.deepEqual(
      said,
      [
        [0, "a"],
        [1000, "bb"],
        [1000, "c"],
        [61_000, "dddd"],
      ].map(([ms, text]) => [Number(ms) / speed, text]),
    );
  }
});

test("what the line does not take is counted, and an end in a pause is an end at once", async () => {
  const { clock, said, ended, playing } = await play(1, (text) => text !== "c");
  await clock.advance(1000);
  ended.abort();
  assert.deepEqual(await playing, { bytes: 3, dropped: 1 });
  assert.equal(said.length, 3);
});

test("the line is given the speed that the busiest stretch needs", () => {
  const burst = Array.from({ length: 100 }, (_, at) => ({ ms: at, bytes: new Uint8Array(1000) }));
  const quiet = Array.from({ length: 100 }, (_, at) => ({ ms: 60_000 + at * 1000, bytes: new Uint8Array(1) }));
  const bytesInTenSeconds = (bits: number): number => bits;
  assert.ok(bytesInTenSeconds(lineSpeedFor([...burst, ...quiet], 1)) >= 100_000);
  assert.ok(lineSpeedFor(quiet, 1) < 1000);
  assert.equal(lineSpeedFor([], 1), 0);
});
