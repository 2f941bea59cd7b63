import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { type Frame, LONGEST_DISCARD_BYTES } from "#src/codec/framing.js";
import { VeDirectFramer, veDirectBlock } from "#src/codec/framing-ve-direct.js";

const bytes = (text: string): Uint8Array => Buffer.from(text, "latin1");
const block = (text: string): Buffer => Buffer.from(veDirectBlock(bytes(text)));
const MAX = 128;
/** CR LF before the first line, and the line of the checksum. */
const OVERHEAD = 14;

function framesOf(stream: Uint8Array, cuts: readonly number[] = [], maxFrameBytes = MAX): Frame[] {
  const framer = new VeDirectFramer(maxFrameBytes);
  const within = cuts.filter((cut) => cut <= stream.length).sort((a, b) => a - b);
  const places = [0, ...within, stream.length];
  const frames = places.slice(1).flatMap((to, index) => framer.push(stream.slice(places[index], to)));
  return [...frames, ...framer.end()];
}

const brief = (frames: readonly Frame[]): string[] =>
  frames.map((frame) =>
    frame.kind === "frame" ? Buffer.from(frame.bytes).toString("latin1") : `${frame.reason} ${frame.length}`,
  );

describe("framing ve-direct", () => {
  it("gives a block's lines, wherever the stream is cut", () => {
    const stream = Buffer.concat([block("PID\t0xA053\r\nV\t12800\r\nI\t-150"), block("V\t12810\r\nLOAD\tON")]);
    const whole = framesOf(stream);
    assert.deepEqual(brief(whole), ["PID\t0xA053\r\nV\t12800\r\nI\t-150", "V\t12810\r\nLOAD\tON"]);
    for (let cut = 0; cut <= stream.length; cut++) assert.deepEqual(framesOf(stream, [cut]), whole, `cut at ${cut}`);
  });

  it("takes any byte for a checksum, the CR and the colon included", () => {
    for (let value = 0; value < 4000; value++) {
      const wire = Buffer.concat([block(`V\t${value}`), block("I\t1")]);
      assert.deepEqual(brief(framesOf(wire)), [`V\t${value}`, "I\t1"]);
    }
  });

  it("passes over HEX messages, between blocks and inside one, but never takes a checksum for one", () => {
    const wire = block("V\t12800\r\nI\t7");
    const message = bytes(":A0102000543\n");
    for (let at = 0; at < wire.length; at++) {
      const stream = Buffer.concat([block("V\t1"), wire.subarray(0, at), message, wire.subarray(at)]);
      const expected = at === wire.length - 1 ? undefined : ["V\t1", "V\t12800\r\nI\t7"];
      // Where the checksum's byte is due, the colon is it.
      if (expected === undefined) assert.equal(brief(framesOf(stream))[1]?.startsWith("bad-checksum"), true);
      else assert.deepEqual(brief(framesOf(stream)), expected, `at ${at}`);
    }
  });

  it("discards a block with a wrong checksum, and as noise one whose beginning was not heard", () => {
    const spoilt = Buffer.from(block("V\t12800"));
    spoilt[5] = 0x39;
    const good = block("I\t1");
    const stream = Buffer.concat([block("V\t12800\r\nI\t3").subarray(6), good, spoilt, good]);
    assert.deepEqual(brief(framesOf(stream)), [
      `noise ${block("V\t12800\r\nI\t3").length - 6}`,
      "I\t1",
      `bad-checksum ${spoilt.length}`,
      "I\t1",
    ]);
  });

  it("finds its way back within a block where a byte was lost", () => {
    const wire = block("V\t12800\r\nI\t3");
    for (let at = 0; at < wire.length; at++) {
      const cut = Buffer.concat([wire.subarray(0, at), wire.subarray(at + 1)]);
      const stream = Buffer.concat([wire, cut, wire, wire, wire]);
      const found = brief(framesOf(stream)).filter((text) => text === "V\t12800\r\nI\t3");
      assert.ok(found.length >= 3, `without byte ${at}: ${found.length}`);
    }
  });

  it("bounds what it holds, and reports what never ends", () => {
    const long = block(`V\t${"1".repeat(MAX)}`);
    const frames = framesOf(Buffer.concat([block("I\t1"), long, block("I\t2"), block("I\t3")]));
    assert.deepEqual(brief(frames).slice(0, 2), ["I\t1", `too-long ${MAX + 1}`]);
    assert.equal(brief(frames).at(-1), "I\t3");
    const endless = framesOf(new Uint8Array(3 * LONGEST_DISCARD_BYTES).fill(0x55));
    assert.deepEqual(
      brief(endless),
      Array.from({ length: 3 }, () => `noise ${LONGEST_DISCARD_BYTES}`),
    );
    const hex = framesOf(bytes(`\r\n:${"A".repeat(3 * MAX)}\n`));
    assert.deepEqual(brief(hex), [`noise ${2 + 1 + 3 * MAX + 1}`]);
  });

  it("says how a block that the end of the stream cut off was lost", () => {
    assert.deepEqual(brief(framesOf(Buffer.concat([block("I\t1"), block("V\t5").subarray(0, 6)]))), [
      "I\t1",
      "unfinished 6",
    ]);
    assert.deepEqual(brief(framesOf(Buffer.concat([block("I\t1"), bytes("\r\nV\t:A0")]))), ["I\t1", "unfinished 7"]);
  });

  it("accounts for every byte, and gives the same however any bytes are cut", () => {
    const piece = fc.oneof(
      fc.array(fc.constantFrom(0x0d, 0x0a, 0x09, 0x3a, 0x41, 0x00, 0xff), { maxLength: 30 }),
      fc.integer({ min: 0, max: 99_999 }).map((value) => [...block(`V\t${value}`)]),
    );
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 12 }), fc.array(fc.nat(400), { maxLength: 30 }), (pieces, cuts) => {
        // Without a whole HEX message, which is passed over uncounted.
        const stream = Buffer.from(
          bytes(
            Buffer.from(pieces.flat())
              .toString("latin1")
              .replaceAll(/:[0-9A-Fa-f]*\n/g, ""),
          ),
        );
        const frames = framesOf(stream);
        const accounted = frames.reduce(
          (sum, frame) => sum + (frame.kind === "frame" ? frame.bytes.length + OVERHEAD : frame.length),
          0,
        );
        // A block of nothing but a checksum is skipped, as every framing skips what is empty.
        const empty = stream.toString("latin1").split("\r\nChecksum\t").length;
        assert.ok(accounted <= stream.length && accounted >= stream.length - 12 * empty);
        assert.deepEqual(framesOf(stream, cuts), frames);
      }),
    );
  });
});
