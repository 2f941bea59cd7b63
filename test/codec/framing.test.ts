import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { DISCARDED_HEAD_BYTES, type Frame, LineFramer, LONGEST_DISCARD_BYTES } from "#src/codec/framing.js";

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
const text = (frame: Frame): string => new TextDecoder().decode(frame.bytes);
const MAX = 16;

/** Feeds `stream` cut at the given places, and ends it. */
function framesOf(stream: Uint8Array, cuts: readonly number[], maxFrameBytes = MAX): Frame[] {
  const framer = new LineFramer(maxFrameBytes);
  const places = [0, ...[...cuts].sort((a, b) => a - b), stream.length];
  const frames = places.slice(1).flatMap((to, index) => framer.push(stream.slice(places[index], to)));
  return [...frames, ...framer.end()];
}

describe("framing lines", () => {
  it("gives the same frames wherever the stream is cut in two", () => {
    const stream = bytes("one\r\ntwo\nthree\r\r\n\nthis one is much too long\r\nfour\r\nunfin");
    const whole = framesOf(stream, []);
    assert.deepEqual(
      whole.map((frame) => [frame.kind, text(frame)]),
      [
        ["frame", "one"],
        ["frame", "two"],
        ["frame", "three"],
        ["discarded", "this one is much too long"],
        ["frame", "four"],
        ["discarded", "unfin"],
      ],
    );
    for (let cut = 0; cut <= stream.length; cut++) assert.deepEqual(framesOf(stream, [cut]), whole, `cut at ${cut}`);
  });

  it("gives the same frames however the stream is cut", () => {
    const stream = fc.array(fc.constantFrom(0x0a, 0x0d, 0x00, 0x41, 0xff), { maxLength: 120 });
    fc.assert(
      fc.property(stream, fc.array(fc.nat(120)), (values, cuts) => {
        const data = Uint8Array.from(values);
        const within = cuts.filter((cut) => cut <= data.length);
        assert.deepEqual(framesOf(data, within), framesOf(data, []));
      }),
    );
  });

  it("finds every good line between any rubbish, and accounts for every byte of the rest", () => {
    const line = fc.stringMatching(/^[a-z]{1,16}$/);
    const rubbish = fc.uint8Array({ maxLength: 60 });
    fc.assert(
      fc.property(fc.array(fc.tuple(rubbish, line), { maxLength: 10 }), fc.array(fc.nat(600)), (parts, cuts) => {
        const stream = Buffer.concat(parts.flatMap(([noise, good]) => [noise, bytes(`\n${good}\r\n`)]));
        const frames = framesOf(
          stream,
          cuts.filter((cut) => cut <= stream.length),
        );
        const found = frames.filter((frame) => frame.kind === "frame").map(text);
        let from = 0;
        for (const [, good] of parts) {
          from = found.indexOf(good, from) + 1;
          assert.ok(from > 0, `${good} is missing or out of order`);
        }
        const payload = stream.filter((byte) => byte !== 0x0a && byte !== 0x0d).length;
        const accounted = frames.reduce(
          (sum, frame) => sum + (frame.kind === "frame" ? frame.bytes.length : frame.length),
          0,
        );
        assert.equal(accounted, payload);
      }),
    );
  });

  it("takes a line of exactly the bound and discards one of a byte more", () => {
    const [exact, longer, next] = framesOf(bytes(`${"x".repeat(MAX)}\n${"y".repeat(MAX + 1)}\nok\n`), []);
    assert.equal(exact?.kind, "frame");
    assert.deepEqual(longer, {
      kind: "discarded",
      reason: "too-long",
      bytes: bytes("y".repeat(MAX + 1)),
      length: MAX + 1,
    });
    assert.equal(next && text(next), "ok");
  });

  it("keeps only the head of a line that is too long", () => {
    const [frame] = framesOf(bytes(`${"z".repeat(5000)}\n`), [1, 2, 3, 1000]);
    assert.equal(frame?.kind === "discarded" && frame.length, 5000);
    assert.equal(frame?.bytes.length, DISCARDED_HEAD_BYTES);
  });

  it("takes long lines where the bound allows them", () => {
    const long = "w".repeat(200_000);
    const [frame, ...none] = framesOf(bytes(`${long}\n`), [1, 70_000, 199_999], 200_000);
    assert.equal(frame?.kind, "frame");
    assert.equal(frame && text(frame), long);
    assert.deepEqual(none, []);
  });

  it("reports noise that never ends while it goes on, and finds back after it", () => {
    const framer = new LineFramer(MAX);
    const noise = framer.push(new Uint8Array(LONGEST_DISCARD_BYTES * 2 + 10).fill(0x55));
    assert.equal(noise.length, 2);
    const rest = framer.push(bytes("still noise\ngood\n"));
    assert.deepEqual(
      rest.map((frame) => frame.kind),
      ["discarded", "frame"],
    );
  });

  it("hands out copies: the chunk may be reused", () => {
    const framer = new LineFramer(MAX);
    const chunk = bytes("abc\nde");
    const [frame] = framer.push(chunk);
    chunk.fill(0x58);
    assert.equal(frame && text(frame), "abc");
    assert.deepEqual(framer.push(bytes("\n")).map(text), ["de"]);
  });

  it("starts afresh after the stream has ended", () => {
    const framer = new LineFramer(MAX);
    framer.push(bytes("a cut one, and far too long for it"));
    assert.deepEqual(
      framer.end().map((frame) => frame.kind === "discarded" && frame.reason),
      ["too-long"],
    );
    framer.push(bytes("cut"));
    assert.deepEqual(
      framer.end().map((frame) => frame.kind === "discarded" && frame.reason),
      ["unfinished"],
    );
    assert.deepEqual(framer.push(bytes("whole\n")).map(text), ["whole"]);
  });
});
