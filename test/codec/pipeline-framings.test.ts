import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import type { Frame } from "#src/codec/framing.js";
import { createFramer, createFrameWriter } from "#src/codec/pipeline.js";
import { type FramingConfig, pipelineFaults } from "#src/codec/pipeline-config.js";

const hex = (digits: string): Uint8Array => Uint8Array.from(Buffer.from(digits.replaceAll(" ", ""), "hex"));
const concat = (parts: readonly Uint8Array[]): Uint8Array => Uint8Array.from(Buffer.concat(parts));
const CRC = { type: "crc-32", from: 0, endian: "big", complement: "none", encoding: "bytes" } as const;
const FIELD = { at: 2, size: 2, endian: "big", counts: "rest", extra: 0 } as const;
const BOUND = 64;

/** A framing, what frames it can carry, and what has to stand before one that comes after noise. */
interface Case {
  readonly name: string;
  readonly config: FramingConfig;
  /** From any bytes to a frame as the framer gives it. */
  readonly frame: (payload: Uint8Array) => Uint8Array;
  /** Ends the noise before a frame, where the writer does not. */
  readonly lead: Uint8Array;
}

const NOTHING = new Uint8Array();
const printable = (payload: Uint8Array): Uint8Array =>
  Uint8Array.from([0x41, ...payload].map((byte) => 0x20 + (byte % 64)));
const headed =
  (length?: number) =>
  (payload: Uint8Array): Uint8Array => {
    const rest = length === undefined ? payload : Uint8Array.from({ length: length - 8 }, (_, at) => payload[at] ?? 7);
    return concat([hex("42 4d"), length === undefined ? lengthOf(rest) : NOTHING, rest]);
  };
/** Of framing length-prefixed: two bytes that count what stands behind them, the checksum's four included. */
const lengthOf = (rest: Uint8Array): Uint8Array => Uint8Array.of(0, rest.length + 4);

const base = { maxFrameBytes: BOUND };
const CASES: readonly Case[] = [
  { name: "lines", config: { ...base, framing: "lines" }, frame: printable, lead: hex("0a") },
  {
    name: "lines with a checksum",
    config: { ...base, framing: "lines", checksum: { ...CRC, encoding: "hex" } },
    frame: printable,
    lead: hex("0d"),
  },
  {
    name: "delimiter",
    config: { ...base, framing: "delimiter", delimiter: "0d 0a 0d 0a" },
    frame: printable,
    // The byte before it keeps noise from being its beginning.
    lead: hex("41 0d 0a 0d 0a"),
  },
  {
    name: "delimiter that overlaps itself",
    config: { ...base, framing: "delimiter", delimiter: "ffff00ff" },
    frame: printable,
    lead: hex("41 ffff00ff"),
  },
  {
    name: "fixed",
    config: { ...base, framing: "fixed", header: "42 4d", length: 20, checksum: CRC },
    // Twenty bytes with header and checksum: the frame that is given has sixteen.
    frame: (payload) => headed(22)(payload).subarray(0, 16),
    lead: NOTHING,
  },
  {
    name: "fixed without a header",
    config: { ...base, framing: "fixed", length: 12, checksum: CRC },
    frame: (payload) => Uint8Array.from({ length: 8 }, (_, at) => payload[at] ?? 1),
    lead: NOTHING,
  },
  {
    name: "length-prefixed",
    config: { ...base, framing: "length-prefixed", header: "42 4d", lengthField: FIELD, checksum: CRC },
    frame: headed(),
    lead: NOTHING,
  },
  {
    name: "length-prefixed, little-endian, all of the frame counted",
    config: {
      ...base,
      framing: "length-prefixed",
      lengthField: { at: 0, size: 4, endian: "little", counts: "frame", extra: 0 },
      checksum: CRC,
    },
    frame: (payload) => concat([Uint8Array.of(payload.length + 8, 0, 0, 0), payload]),
    lead: NOTHING,
  },
  {
    name: "slip",
    config: { ...base, framing: "slip", checksum: CRC },
    frame: (payload) => concat([hex("c0"), payload]),
    lead: NOTHING,
  },
  {
    name: "hdlc",
    config: { ...base, framing: "hdlc", checksum: CRC },
    frame: (payload) => concat([hex("7e"), payload]),
    lead: NOTHING,
  },
  {
    name: "cobs",
    config: { ...base, framing: "cobs", checksum: CRC },
    frame: (payload) => concat([hex("00"), payload]),
    lead: NOTHING,
  },
  {
    name: "ve-direct",
    config: { ...base, framing: "ve-direct" },
    // Letters only: a colon would begin a HEX message.
    frame: (payload) =>
      concat([hex("56 09"), Uint8Array.from(payload, (byte) => 0x41 + (byte % 26)), hex("0d0a 49 09")]),
    // The first may be a checksum, the second has no place anywhere.
    lead: hex("00 00"),
  },
];

/** Feeds `stream` cut at the given places, and ends it. */
function framesOf(config: FramingConfig, stream: Uint8Array, cuts: readonly number[] = []): Frame[] {
  const framer = createFramer(config);
  const within = cuts.filter((cut) => cut <= stream.length).sort((a, b) => a - b);
  const places = [0, ...within, stream.length];
  const frames = places.slice(1).flatMap((to, index) => framer.push(stream.slice(places[index], to)));
  return [...frames, ...framer.end()];
}

const good = (frames: readonly Frame[]): Buffer[] =>
  frames.filter((frame) => frame.kind === "frame").map((frame) => Buffer.from(frame.bytes));

const payload = fc.uint8Array({ maxLength: 18 });
/** Any bytes, and the bytes that the framings here are made of more often than chance has it. */
const noise = fc.array(
  fc.oneof(
    fc.integer({ min: 0, max: 255 }),
    fc.constantFrom(0x42, 0x4d, 0x00, 0xc0, 0xdb, 0x7e, 0x7d, 0xff, 0x0a, 0x0d, 0x14, 0x3a, 0x09),
  ),
  { maxLength: 90 },
);

for (const { name, config, frame, lead } of CASES) {
  const write = createFrameWriter(config);

  describe(`framing ${name}`, () => {
    it("fits together as it is configured here", () => {
      assert.deepEqual(pipelineFaults({ ...config, codec: "json" }), []);
    });

    it("gives back every frame that was written, and nothing else", () => {
      fc.assert(
        fc.property(fc.array(payload, { maxLength: 6 }), (payloads) => {
          const frames = payloads.map(frame);
          const stream = concat(frames.map(write));
          assert.deepEqual(
            framesOf(config, stream).map(({ kind, bytes }) => [kind, Buffer.from(bytes)]),
            frames.map((one) => ["frame", Buffer.from(one)]),
          );
        }),
      );
    });

    it("gives the same wherever the stream is cut in two", () => {
      const wires = [1, 5, 17].map((length) => write(frame(Uint8Array.from({ length }, (_, at) => at * 31))));
      const stream = concat([
        hex("42 4d 00"),
        ...wires,
        hex("42 4d ff ff c0 db 7e 00 0d 0a"),
        ...wires.map((wire) => wire.slice(2)),
      ]);
      const whole = framesOf(config, stream);
      assert.ok(good(whole).length >= 2);
      for (let cut = 0; cut <= stream.length; cut++)
        assert.deepEqual(framesOf(config, stream, [cut]), whole, `at ${cut}`);
    });

    it("gives the same however any bytes are cut", () => {
      const parts = fc.array(
        fc.oneof(
          noise,
          payload.map((one) => [...write(frame(one))]),
        ),
        { maxLength: 6 },
      );
      fc.assert(
        fc.property(parts, fc.array(fc.nat(300), { maxLength: 40 }), (pieces, cuts) => {
          const stream = Uint8Array.from(pieces.flat());
          assert.deepEqual(framesOf(config, stream, cuts), framesOf(config, stream));
        }),
      );
    });

    it("finds every good frame between any rubbish", () => {
      fc.assert(
        fc.property(fc.array(fc.tuple(noise, payload), { maxLength: 6 }), fc.array(fc.nat(600)), (parts, cuts) => {
          const frames = parts.map(([, one]) => Buffer.from(frame(one)));
          const stream = concat(
            parts.flatMap(([before], index) => [Uint8Array.from(before), lead, write(frames[index] ?? NOTHING)]),
          );
          const found = good(framesOf(config, stream, cuts));
          let from = 0;
          for (const wanted of frames) {
            const at = found.findIndex((one, index) => index >= from && one.equals(wanted));
            assert.ok(
              at >= 0,
              `${wanted.toString("hex")} is missing or out of order in ${Buffer.from(stream).toString("hex")}`,
            );
            from = at + 1;
          }
        }),
        { numRuns: 300 },
      );
    });

    it("holds and gives no more than its bound, whatever comes", () => {
      fc.assert(
        fc.property(fc.array(noise, { maxLength: 8 }), (pieces) => {
          for (const one of framesOf(config, Uint8Array.from(pieces.flat()))) {
            assert.ok(one.bytes.length <= (one.kind === "frame" ? BOUND : 256));
          }
        }),
      );
    });
  });
}

describe("framing delimiter", () => {
  it("finds a delimiter behind what looks like its beginning", () => {
    const config: FramingConfig = { ...base, framing: "delimiter", delimiter: "ff ff 00 ff" };
    const stream = hex("41 ff ff ff 00 ff 42 ff 00 ff ff 00 ff");
    for (let cut = 0; cut <= stream.length; cut++) {
      assert.deepEqual(good(framesOf(config, stream, [cut])), [
        Buffer.from("41ff", "hex"),
        Buffer.from("42ff00", "hex"),
      ]);
    }
  });
});

describe("framings with a header", () => {
  const fixed: FramingConfig = {
    ...base,
    framing: "fixed",
    header: "42 4d",
    length: 10,
    checksum: { ...CRC, type: "sum8" },
  };
  const prefixed: FramingConfig = {
    ...base,
    framing: "length-prefixed",
    header: "42 4d",
    lengthField: FIELD,
    checksum: CRC,
  };
  const shown = (frames: readonly Frame[]) =>
    frames.map((one) =>
      one.kind === "frame" ? Buffer.from(one.bytes).toString("hex") : `${one.reason} ${one.length}`,
    );

  it("account for every byte, as part of a frame or of what was discarded", () => {
    const write = createFrameWriter(fixed);
    const wire = payload.map((one) => [...write(headed(17)(one))]);
    fc.assert(
      fc.property(fc.array(fc.oneof(noise, wire), { maxLength: 8 }), (pieces) => {
        const stream = Uint8Array.from(pieces.flat());
        const accounted = framesOf(fixed, stream).reduce(
          (sum, one) => sum + (one.kind === "frame" ? one.bytes.length + 1 : one.length),
          0,
        );
        assert.equal(accounted, stream.length);
      }),
    );
  });

  it("find the next frame inside one whose checksum is wrong, not behind it", () => {
    const whole = createFrameWriter(fixed)(hex("42 4d 01 02 03 04 05 06 07"));
    const cut = whole.slice(0, 4);
    assert.deepEqual(shown(framesOf(fixed, concat([cut, whole, whole]))), [
      "bad-checksum 4",
      "424d01020304050607",
      "424d01020304050607",
    ]);
  });

  it("find the next frame behind a length that was garbled into more than the bound, or into less than a frame", () => {
    const whole = createFrameWriter(prefixed)(hex("42 4d 00 00 01 02"));
    assert.deepEqual(shown(framesOf(prefixed, concat([hex("42 4d ff ff 09"), whole]))), ["too-long 5", "424d00060102"]);
    assert.deepEqual(shown(framesOf(prefixed, concat([hex("42 4d 00 01 09"), whole]))), [
      "bad-length 5",
      "424d00060102",
    ]);
  });

  it("find a frame inside one that the stream's end has cut", () => {
    const whole = createFrameWriter(prefixed)(hex("42 4d 00 00 01 02"));
    assert.deepEqual(shown(framesOf(prefixed, concat([hex("42 4d 00 30 09"), whole]))), [
      "unfinished 5",
      "424d00060102",
    ]);
  });

  it("give up the rest of a frame that does not come, and find the good one inside, where a pause is declared", () => {
    const whole = createFrameWriter(prefixed)(hex("42 4d 00 00 01 02"));
    const looksLong = concat([hex("42 4d 00 30 09"), whole]);
    for (let cut = 1; cut < looksLong.length; cut++) {
      const framer = createFramer({ ...prefixed, idle: 20 });
      const seen = [...framer.push(looksLong.slice(0, cut), 0), ...framer.push(looksLong.slice(cut), 19)];
      assert.deepEqual(shown(seen), []);
      assert.deepEqual(
        shown(framer.push(whole, 39)),
        ["unfinished 5", "424d00060102", "424d00060102"],
        `cut at ${cut}`,
      );
      assert.deepEqual(shown(framer.push(looksLong, 100)), []);
      assert.deepEqual(shown(framer.idle?.() ?? []), ["unfinished 5", "424d00060102"]);
    }
    const patient = createFramer(prefixed);
    patient.push(looksLong, 0);
    assert.deepEqual(shown(patient.push(whole, 1000)), [], "without it, the good ones wait for the 48 bytes");
  });

  it("report noise that never ends while it goes on", () => {
    const framer = createFramer(fixed);
    const seen = framer.push(new Uint8Array(200_000).fill(0x55));
    assert.deepEqual(shown(seen), ["noise 65536", "noise 65536", "noise 65536"]);
    assert.deepEqual(shown(framer.end()), ["noise 3392"]);
  });

  it("count each of several bad frames in a row", () => {
    const bad = hex("42 4d 01 02 03 04 05 06 07 00");
    assert.deepEqual(shown(framesOf(fixed, concat([bad, bad, bad]))), [
      "bad-checksum 10",
      "bad-checksum 10",
      "bad-checksum 10",
    ]);
  });

  it("read the frame of the Plantower data sheet: length of the rest, 16-bit sum", () => {
    const plantower: FramingConfig = { ...prefixed, checksum: { ...CRC, type: "sum16" } };
    const body = hex("42 4d 00 1c 00 05 00 0d 00 16 00 05 00 0d 00 16 02 fd 00 ed 00 1d 00 11 00 02 00 00 91 00");
    const sum = body.reduce((total, byte) => total + byte, 0);
    const wire = concat([body, Uint8Array.of(sum >> 8, sum & 0xff)]);
    assert.equal(wire.length, 32);
    assert.deepEqual(shown(framesOf(plantower, concat([wire.slice(20), wire]))), [
      "noise 12",
      Buffer.from(body).toString("hex"),
    ]);
    assert.deepEqual(createFrameWriter(plantower)(body), wire);
  });
});

describe("framing idle", () => {
  const config: FramingConfig = { ...base, framing: "idle", idle: 20 };
  const shown = (frames: readonly Frame[]) =>
    frames.map((one) => (one.kind === "frame" ? Buffer.from(one.bytes).toString() : `${one.reason} ${one.length}`));

  it("ends a frame at a pause, however its bytes were cut", () => {
    const text = "frame";
    for (let cut = 0; cut <= text.length; cut++) {
      const framer = createFramer(config);
      assert.deepEqual(shown(framer.push(Buffer.from(text.slice(0, cut)), 1000)), []);
      assert.deepEqual(shown(framer.push(Buffer.from(text.slice(cut)), 1019.9)), []);
      assert.deepEqual(shown(framer.push(Buffer.from("next"), 1039.9)), [text]);
      assert.deepEqual(shown(framer.idle?.() ?? []), ["next"]);
      assert.deepEqual(shown(framer.idle?.() ?? []), []);
    }
  });

  it("discards what is longer than its bound, and takes the next frame", () => {
    const framer = createFramer(config);
    framer.push(Buffer.from("x".repeat(BOUND + 1)), 0);
    assert.deepEqual(shown(framer.push(Buffer.from("y".repeat(BOUND)), 20)), [`too-long ${BOUND + 1}`]);
    assert.deepEqual(shown(framer.idle?.() ?? []), ["y".repeat(BOUND)]);
  });

  it("gives up a frame whose end nobody saw, because the port was closed", () => {
    const framer = createFramer(config);
    framer.push(Buffer.from("half"), 0);
    assert.deepEqual(shown(framer.end()), ["unfinished 4"]);
  });

  it("looks at the checksum of what stood between two pauses", () => {
    const checked: FramingConfig = { ...config, checksum: { ...CRC, type: "crc-16/modbus", endian: "little" } };
    const framer = createFramer(checked);
    assert.equal(framer.idleAfter, 20);
    framer.push(createFrameWriter(checked)(Buffer.from("good")), 0);
    assert.deepEqual(shown(framer.push(Buffer.from("bad one"), 50)), ["good"]);
    assert.deepEqual(shown(framer.idle?.() ?? []), ["bad-checksum 7"]);
  });
});
