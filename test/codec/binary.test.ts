import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { BinaryDecoder } from "#src/codec/binary.js";
import { encodeBinary } from "#src/codec/binary-encode.js";
import { type BinaryLayout, type LayoutField, layoutFaults } from "#src/codec/binary-layout.js";
import { SCALAR_TYPES, type ScalarType } from "#src/codec/binary-scalars.js";
import type { Decoded } from "#src/codec/decoder.js";

const hex = (digits: string): Uint8Array => Uint8Array.from(Buffer.from(digits.replaceAll(" ", ""), "hex"));
const decode = (layout: BinaryLayout, digits: string): Decoded => new BinaryDecoder(layout).decode(hex(digits));
function payloadOf(decoded: Decoded): Record<string, unknown> {
  assert.equal(decoded.kind, "reading", JSON.stringify(decoded));
  return decoded.kind === "reading" ? { ...(decoded.payload as Record<string, unknown>) } : {};
}
/** The one value of a field at the beginning of a frame. */
function firstOf(field: Omit<LayoutField, "name">, digits: string, endian: "big" | "little" = "big"): unknown {
  return payloadOf(decode({ endian, fields: [{ ...field, name: "value" }] }, digits)).value;
}

/** Plantower PMS5003: concentrations under atmospheric conditions, in µg/m³. */
const PLANTOWER: BinaryLayout = {
  fields: [
    { at: 10, type: "u16", name: "pm1_0_ug_m3" },
    { type: "u16", name: "pm2_5_ug_m3" },
    { type: "u16", name: "pm10_ug_m3" },
  ],
};

/** Nova SDS011: tenths of µg/m³, low byte first; C0 says that it is a measurement. */
const NOVA: BinaryLayout = {
  endian: "little",
  fields: [
    { at: 1, type: "u8", equals: 0xc0 },
    { type: "u16", name: "pm2_5_ug_m3", scale: 0.1 },
    { type: "u16", name: "pm10_ug_m3", scale: 0.1 },
    { type: "u16", name: "device_id" },
  ],
};

describe("codec binary", () => {
  it("reads frames of data sheets", () => {
    const plantower = "42 4d 00 1c 00 05 00 0d 00 16 00 05 00 0d 00 16 02 fd 00 ed 00 1d 00 11 00 02 00 00 91 00";
    assert.deepEqual(payloadOf(decode(PLANTOWER, plantower)), { pm1_0_ug_m3: 5, pm2_5_ug_m3: 13, pm10_ug_m3: 22 });
    assert.deepEqual(payloadOf(decode(NOVA, "aa c0 d4 04 3a 0a a1 60 1d ab")), {
      pm2_5_ug_m3: 123.6,
      pm10_ug_m3: 261.8,
      device_id: 24737,
    });
    // Winsen MH-Z19B: CO2 in bytes 2 and 3.
    const winsen = { fields: [{ at: 2, type: "u16", name: "co2_ppm" }] } as const;
    assert.deepEqual(payloadOf(decode(winsen, "ff 86 02 60 47 00 00 00 d1")), { co2_ppm: 608 });
  });

  it("reads every type in both byte orders", () => {
    const cases: readonly [ScalarType, string, unknown][] = [
      ["u8", "ff", 255],
      ["i8", "ff", -1],
      ["u16", "01 02", 0x0102],
      ["i16", "ff fe", -2],
      ["u24", "01 02 03", 0x010203],
      ["i24", "ff ff fe", -2],
      ["i24", "7f ff fe", 0x7ffffe],
      ["u32", "ff 00 00 01", 0xff000001],
      ["i32", "ff ff ff fe", -2],
      ["u64", "00 00 00 00 00 00 01 00", 256],
      ["i64", "ff ff ff ff ff ff ff fe", -2],
      ["f32", "41 b8 cc cd", 23.1],
      ["f64", "40 37 19 99 99 99 99 9a", 23.1],
    ];
    for (const [type, digits, value] of cases) {
      assert.deepEqual(firstOf({ type }, digits), value, type);
      const turned = digits.split(" ").reverse().join("");
      assert.deepEqual(firstOf({ type }, turned, "little"), value, `${type}, least significant byte first`);
    }
    assert.equal(firstOf({ type: "u16", endian: "little" }, "01 02"), 0x0201, "a field of its own order");
  });

  it("keeps an integer that a double cannot hold as its text", () => {
    assert.equal(firstOf({ type: "u64" }, "ff ff ff ff ff ff ff ff"), "18446744073709551615");
    assert.equal(firstOf({ type: "u64" }, "00 20 00 00 00 00 00 00"), 2 ** 53);
  });

  it("scales without noise in the last digits", () => {
    const scaled = (scale: number, offset: number, digits: string) => firstOf({ type: "i16", scale, offset }, digits);
    assert.equal(scaled(0.1, 0, "00 03"), 0.3);
    assert.equal(scaled(0.01, -40, "0f a1"), 0.01);
    assert.equal(scaled(0.0625, 0, "ff ff"), -0.0625);
    assert.equal(scaled(1e-7, 0, "00 03"), 3e-7);
    assert.equal(scaled(10, 5, "00 03"), 35);
  });

  it("leaves out what is no reading: sentinels, and floats that are no number", () => {
    const layout: BinaryLayout = {
      fields: [
        { type: "u16", name: "a", none: [0xffff, 0xfffe], scale: 0.1 },
        { type: "f32", name: "b" },
        { type: "u8", name: "c" },
      ],
    };
    assert.deepEqual(payloadOf(decode(layout, "ff fe 7f c0 00 00 01")), { c: 1 });
    assert.deepEqual(payloadOf(decode(layout, "00 0a 3f 80 00 00 01")), { a: 1, b: 1, c: 1 });
    const nothing = { fields: [{ type: "u8", name: "a", none: [255] }] } as const;
    assert.deepEqual(decode(nothing, "ff"), { kind: "refused", detail: "no value in any field" });
  });

  it("reads bits as true and false, as numbers and as words", () => {
    const layout: BinaryLayout = {
      fields: [
        {
          type: "u16",
          bits: [
            { name: "fan_failed", at: 0 },
            { name: "laser_failed", at: 1 },
            { name: "mode", at: 2, width: 2, values: { 0: "idle", 1: "measuring" } },
            { name: "level_pct", at: 8, width: 8, scale: 0.5, none: [255] },
            { name: "switch", at: 4, values: { 0: "off", 1: "on" } },
          ],
        },
      ],
    };
    assert.deepEqual(payloadOf(decode(layout, "c8 06")), {
      fan_failed: false,
      laser_failed: true,
      mode: "measuring",
      level_pct: 100,
      switch: "off",
    });
    assert.equal(payloadOf(decode(layout, "ff 0c")).mode, 3, "a number without a word stays one");
    assert.equal("level_pct" in payloadOf(decode(layout, "ff 00")), false);
    assert.equal(firstOf({ type: "u32", bits: [{ name: "all", at: 0, width: 32 }] }, "ff ff ff ff"), 0xffffffff);
  });

  it("reads words, texts, bytes and repeated groups", () => {
    assert.equal(firstOf({ type: "i8", values: { "-1": "down", 1: "up" } }, "ff"), "down");
    assert.equal(firstOf({ type: "text", length: 6 }, "c3 bc 41 20 20 00"), "üA");
    assert.equal(firstOf({ type: "text" }, "41 42 00 ff"), "AB", "up to its first NUL");
    assert.equal(firstOf({ type: "bytes", length: 2 }, "0a ff 11"), "0aff");
    assert.deepEqual(decode({ fields: [{ type: "text", name: "label" }] }, "ff"), {
      kind: "refused",
      detail: "field label is not UTF-8",
    });
    const channels: BinaryLayout = {
      fields: [
        { type: "u8", name: "version" },
        {
          type: "group",
          name: "channels",
          fields: [
            { type: "u8", name: "id" },
            { type: "i16", name: "value", none: [-1] },
          ],
        },
      ],
    };
    assert.deepEqual(payloadOf(decode(channels, "07 01 00 0a 02 ff ff 03")), {
      version: 7,
      channels: [{ id: 1, value: 10 }, { id: 2 }],
    });
    assert.deepEqual(payloadOf(decode(channels, "07")), { version: 7 });
  });

  it("ignores a frame of another kind, and refuses one that is too short", () => {
    assert.deepEqual(decode(NOVA, "aa c5 02 01 01 00 a1 60 05 ab"), { kind: "ignored" });
    assert.deepEqual(decode(NOVA, "aa c0 d4 04"), { kind: "refused", detail: "4 bytes where the layout has 8" });
  });

  it("says what in a layout does not fit together", () => {
    const faults = (fields: readonly LayoutField[]) =>
      layoutFaults({ fields }).map(({ path, message }) => `${path.join(".")} ${message}`);
    assert.deepEqual(faults([{ type: "u8" }]), ["fields.0.name is missing (a field without one is of type skip)"]);
    assert.deepEqual(faults([{ type: "u8", name: "a", length: 2 }]), [
      "fields.0.length is of no use in a field of type u8: text, bytes or skip has it",
    ]);
    assert.deepEqual(faults([{ type: "f32", bits: [{ name: "a", at: 0 }] }]), [
      "fields.0.bits is of no use in a field of type f32: an integer of up to 32 bits has it",
    ]);
    assert.deepEqual(faults([{ type: "u8", bits: [{ name: "a", at: 7, width: 2 }] }]), [
      "fields.0.bits `a` reaches beyond the 8 bits of u8",
    ]);
    assert.deepEqual(
      faults([
        { type: "text", name: "a" },
        { type: "u8", name: "a" },
      ]),
      [
        "fields.0.length is missing: only the last field of a frame may go on to its end",
        "fields.1.name `a` stands twice in the layout",
      ],
    );
    assert.deepEqual(faults([{ type: "group", name: "g" }]), ["fields.0.fields is missing: a group has fields"]);
    assert.deepEqual(faults([{ type: "group", name: "g", fields: [{ type: "text", name: "a" }] }]), [
      "fields.0.fields.0.length is missing: only the last field of a frame may go on to its end",
    ]);
    assert.deepEqual(faults([{ type: "u8", name: "a", scale: 0 }]), ["fields.0.scale must not be 0"]);
    for (const { fields } of [PLANTOWER, NOVA]) assert.deepEqual(faults(fields), []);
  });
});

/** Layouts of numbers, with what a configuration can say about them. */
const numberField = fc.record({
  type: fc.constantFrom(...SCALAR_TYPES.filter((type) => !type.startsWith("f"))),
  endian: fc.constantFrom("big" as const, "little" as const),
  scale: fc.constantFrom(1, 0.1, 0.25, -0.001, 10),
  offset: fc.constantFrom(0, -40, 0.5),
});

describe("codec binary and its encoder", () => {
  it("read back what was written, of every integer type, scaled or not", () => {
    const fields = fc.array(fc.tuple(numberField, fc.bigInt({ min: 0n, max: 2n ** 31n - 1n })), {
      minLength: 1,
      maxLength: 12,
    });
    fc.assert(
      fc.property(fields, (chosen) => {
        const layout: BinaryLayout = { fields: chosen.map(([field], index) => ({ ...field, name: `f${index}` })) };
        const raw = new Uint8Array(chosen.length * 8);
        for (const [index, [, bits]] of chosen.entries())
          raw.set(Buffer.from(bits.toString(16).padStart(16, "0"), "hex"), index * 8);
        const reading = payloadOf(new BinaryDecoder(layout).decode(raw));
        const frame = encodeBinary(layout, reading);
        assert.ok(frame instanceof Uint8Array, JSON.stringify(frame));
        const again = payloadOf(new BinaryDecoder(layout).decode(frame));
        assert.deepEqual(Object.keys(again), Object.keys(reading));
        for (const [index, [{ type }]] of chosen.entries()) {
          const [value, before] = [again[`f${index}`], reading[`f${index}`]];
          // A double does not hold 64 bits: what is scaled and scaled back is rounded in its last place.
          if (type.endsWith("64") && typeof value === "number" && typeof before === "number")
            assert.ok(Math.abs(value - before) <= 4 * Number.EPSILON * Math.abs(before), `${value}, not ${before}`);
          else assert.deepEqual(value, before);
        }
        // What scaling rounds is less than half a step, so the very bytes come back where doubles hold the raw number.
        if (chosen.every(([{ type }]) => !type.endsWith("64"))) assert.deepEqual(frame, raw.slice(0, frame.length));
      }),
    );
  });

  it("read back floats, words, bits, texts and groups", () => {
    const layout: BinaryLayout = {
      endian: "little",
      fields: [
        { type: "u8", equals: 0xc0 },
        { type: "f32", name: "t" },
        { type: "f64", name: "d" },
        { type: "u8", name: "state", values: { 0: "idle", 2: "on" } },
        {
          type: "u16",
          bits: [
            { name: "ok", at: 3 },
            { name: "n", at: 4, width: 12 },
          ],
        },
        { type: "text", name: "label", length: 6 },
        { type: "bytes", name: "id", length: 3 },
        { type: "skip", length: 2 },
        { type: "i16", name: "none", none: [-32768] },
        { type: "group", name: "g", count: 2, fields: [{ type: "u8", name: "a" }] },
      ],
    };
    assert.deepEqual(layoutFaults(layout), []);
    const reading = {
      t: 23.1,
      d: 1e300,
      state: "on",
      ok: true,
      n: 4095,
      label: "üx",
      id: "00ff10",
      g: [{ a: 1 }, { a: 2 }],
    };
    const frame = encodeBinary(layout, reading);
    assert.ok(frame instanceof Uint8Array);
    assert.deepEqual(payloadOf(new BinaryDecoder(layout).decode(frame)), reading);
  });

  it("name the value that does not fit its field", () => {
    const layout: BinaryLayout = {
      fields: [
        { type: "u8", name: "a" },
        { type: "text", name: "b", length: 2 },
      ],
    };
    assert.deepEqual(encodeBinary(layout, { a: 256 }), { unfit: "a" });
    assert.deepEqual(encodeBinary(layout, { a: "word" }), { unfit: "a" });
    assert.deepEqual(encodeBinary(layout, { a: 1, b: "abc" }), { unfit: "b" });
  });
});

describe("a frame that is shorter than its layout", () => {
  const decoder = new BinaryDecoder({
    fields: [
      { type: "u8", equals: 3 },
      { type: "u8", equals: 4 },
      { type: "f32", name: "t" },
    ],
  });

  it("is refused, but ignored where what there is of it says that it is of another kind", () => {
    assert.equal(decoder.decode(Uint8Array.of(3, 4, 0)).kind, "refused");
    assert.equal(decoder.decode(Uint8Array.of(3)).kind, "refused");
    assert.equal(decoder.decode(Uint8Array.of(3, 0)).kind, "ignored");
    assert.equal(decoder.decode(Uint8Array.of(0)).kind, "ignored");
  });
});
