import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { encode } from "cborg";
import fc from "fast-check";
import type { BinaryLayout } from "#src/codec/binary-layout.js";
import { sentenceOf } from "#src/codec/nmea-sentence.js";
import { createDecoder } from "#src/codec/pipeline.js";
import { CODECS, type Codec, type CodecConfig } from "#src/codec/pipeline-config.js";

const LAYOUT: BinaryLayout = {
  fields: [
    { type: "u8", name: "kind", equals: 0x42 },
    { type: "u64", name: "count" },
    { type: "f32", name: "t", scale: 1e300, offset: 1e300 },
    { type: "i24", name: "n", scale: 1e-300 },
    { type: "u16", bits: [{ name: "b", at: 15, width: 1 }] },
    { type: "text", name: "label", length: 4 },
    { type: "group", name: "g", fields: [{ type: "bytes", name: "x", length: 2 }] },
  ],
};

const CONFIG: Readonly<Record<Codec, CodecConfig>> = {
  json: { codec: "json" },
  csv: { codec: "csv", columns: ["a", { name: "b", type: "number" }], separator: ";" },
  nmea0183: { codec: "nmea0183" },
  senml: { codec: "senml" },
  cbor: { codec: "cbor" },
  binary: { codec: "binary", layout: LAYOUT },
  fields: { codec: "fields", fields: { known: [{ label: "V", name: "v", scale: 1e-3, none: ["---"] }] } },
};

/** Frames that a codec likes, for the tests to spoil. */
const GOOD: readonly Uint8Array[] = [
  Buffer.from('[{"bn":"a:","n":"b","v":1,"t":-5},{"n":"c","vs":"x"}]'),
  Buffer.from("1;2"),
  Buffer.from("V\t12800\r\nLOAD\tON\r\n__proto__\t1"),
  Buffer.from(sentenceOf("GPRMC,123519,A,4807.038,N,01131.000,E,022.4,084.4,230394,003.1,W")),
  Buffer.from(sentenceOf("WIXDR,C,22.1,C,AIRT,P,1.01,B,")),
  encode([{ n: "a", v: 1.5, t: 3 }, new Map([[0, "b"]])]),
  encode({ a: [1, { b: null }], c: new Uint8Array(3), d: 1n << 63n }),
  Buffer.from(`42${"00".repeat(40)}`, "hex"),
];

/** A good frame with some bytes changed, or cut. */
const spoilt = fc
  .tuple(fc.constantFrom(...GOOD), fc.array(fc.tuple(fc.nat(60), fc.nat(255)), { maxLength: 6 }), fc.nat(60))
  .map(([good, changes, length]) => {
    const bytes = Uint8Array.from(good);
    for (const [at, value] of changes) if (at < bytes.length) bytes[at] = value;
    return length < bytes.length && changes.length % 2 === 1 ? bytes.slice(0, length) : bytes;
  });

describe("any bytes whatever", () => {
  for (const codec of CODECS) {
    it(`are a reading, refused or ignored by codec ${codec}, and never thrown over`, async () => {
      const decoder = await createDecoder(CONFIG[codec]);
      fc.assert(
        fc.property(fc.oneof(fc.uint8Array({ maxLength: 200 }), spoilt), fc.nat(), (frame, at) => {
          const before = Uint8Array.from(frame);
          const decoded = decoder.decode(frame, at, at);
          assert.ok(["reading", "refused", "ignored"].includes(decoded.kind));
          if (decoded.kind === "reading") assert.ok(typeof decoded.payload === "object" && decoded.payload !== null);
          if (decoded.kind === "refused") assert.ok(decoded.detail.length > 0 && decoded.detail.length < 200);
          assert.deepEqual(Uint8Array.from(frame), before, "the frame is not written to");
        }),
        { numRuns: 2000 },
      );
    });
  }

  it("are read by each codec where they are what it reads", async () => {
    for (const codec of CODECS) {
      const decoder = await createDecoder(CONFIG[codec]);
      assert.ok(
        GOOD.some((frame) => decoder.decode(frame, 0, 0).kind === "reading"),
        codec,
      );
    }
  });
});
