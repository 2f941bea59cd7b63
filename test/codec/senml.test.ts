import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { encode } from "cborg";
import fc from "fast-check";
import type { Decoded } from "#src/codec/decoder.js";
import { SenmlDecoder } from "#src/codec/senml.js";

const NOW = Date.parse("2026-11-21T08:00:00Z");
const decodeBytes = (frame: Uint8Array): Decoded => new SenmlDecoder().decode(frame, 0, NOW);
const decode = (pack: unknown): Decoded => decodeBytes(new TextEncoder().encode(JSON.stringify(pack)));

function readingsOf(decoded: Decoded): Record<string, unknown>[] {
  assert.equal(decoded.kind, "reading", JSON.stringify(decoded));
  return decoded.kind === "reading" && Array.isArray(decoded.payload) ? decoded.payload : [];
}
function refusal(pack: unknown): string {
  const decoded = decode(pack);
  return decoded.kind === "refused" ? decoded.detail : decoded.kind;
}

/** RFC 8428, section 5.1.2, the second example. */
const VOLTAGE_AND_CURRENT = [
  { bn: "urn:dev:ow:10e2073a0108006:", bt: 1.276020076001e9, bu: "A", bver: 5, n: "voltage", u: "V", v: 120.1 },
  { n: "current", t: -5, v: 1.2 },
  { n: "current", t: -4, v: 1.3 },
  { n: "current", t: -3, v: 1.4 },
  { n: "current", t: -2, v: 1.5 },
  { n: "current", t: -1, v: 1.6 },
  { n: "current", v: 1.7 },
];

/** The same, in section 6. */
const IN_CBOR = Uint8Array.from(
  Buffer.from(
    `87 a7 21 781b 75726e3a6465763a6f773a31306532303733613031303830 30363a
     22 fb41d303a15b001062 23 6141 20 05 00 67766f6c74616765 01 6156 02 fb405e066666666666
     a3 00 6763757272656e74 06 24 02 fb3ff3333333333333
     a3 00 6763757272656e74 06 23 02 fb3ff4cccccccccccd
     a3 00 6763757272656e74 06 22 02 fb3ff6666666666666
     a3 00 6763757272656e74 06 21 02 f93e00
     a3 00 6763757272656e74 06 20 02 fb3ff999999999999a
     a3 00 6763757272656e74 06 00 02 fb3ffb333333333333`.replaceAll(/\s/g, ""),
    "hex",
  ),
);

const DEVICE = "urn:dev:ow:10e2073a0108006";
const RESOLVED = [
  { ts: 1276020076.001, source: DEVICE, n: `${DEVICE}:voltage`, u: "V", v: 120.1 },
  ...[1.2, 1.3, 1.4, 1.5, 1.6, 1.7].map((v, index) => ({
    ts: 1276020071.001 + index,
    source: DEVICE,
    n: `${DEVICE}:current`,
    u: "A",
    v,
  })),
];

describe("codec senml", () => {
  it("resolves the RFC's example of base name, base time, base unit and times before them", () => {
    assert.deepEqual(readingsOf(decode(VOLTAGE_AND_CURRENT)), RESOLVED);
  });

  it("resolves the same in CBOR", () => {
    assert.deepEqual(readingsOf(decodeBytes(IN_CBOR)), RESOLVED);
  });

  it("reads the RFC's single data point, and leaves its time to the gateway", () => {
    const point = { n: "urn:dev:ow:10e2073a01080063", u: "Cel", v: 23.1 };
    assert.deepEqual(readingsOf(decode([point])), [point]);
  });

  it("reads the RFC's sensor with values of different types", () => {
    const pack = [
      { bn: "urn:dev:ow:10e2073a01080063:", n: "temp", u: "Cel", v: 23.1 },
      { n: "label", vs: "Machine Room" },
      { n: "open", vb: false },
      { n: "nfc-reader", vd: "aGkgCg" },
    ];
    assert.deepEqual(
      readingsOf(decode(pack)).map(({ n, source, ...value }) => [String(n).slice(28), value]),
      [
        ["temp", { u: "Cel", v: 23.1 }],
        ["label", { vs: "Machine Room" }],
        ["open", { vb: false }],
        ["nfc-reader", { vd: "aGkgCg" }],
      ],
    );
    const inCbor = encode([
      new Map<number, unknown>([
        [0, "nfc-reader"],
        [8, Buffer.from("hi \n")],
      ]),
    ]);
    assert.deepEqual(readingsOf(decodeBytes(inCbor)), [{ n: "nfc-reader", vd: "aGkgCg" }]);
  });

  it("reads the RFC's collection of resources: a base name changes on the way, the base time stays", () => {
    const pack = [
      { bn: "2001:db8::2/", bt: 1.320078429e9, n: "temperature", u: "Cel", v: 25.2 },
      { n: "humidity", u: "%RH", v: 30 },
      { bn: "2001:db8::1/", n: "temperature", u: "Cel", v: 12.3 },
      { n: "humidity", u: "%RH", v: 67 },
    ];
    assert.deepEqual(
      readingsOf(decode(pack)).map(({ source, n, ts, v }) => [source, n, ts, v]),
      [
        ["2001:db8::2", "2001:db8::2/temperature", 1320078429, 25.2],
        ["2001:db8::2", "2001:db8::2/humidity", 1320078429, 30],
        ["2001:db8::1", "2001:db8::1/temperature", 1320078429, 12.3],
        ["2001:db8::1", "2001:db8::1/humidity", 1320078429, 67],
      ],
    );
  });

  it("takes a time below 2^28 as relative to the frame's arrival, and from there on as Unix time", () => {
    const time = (t: number) => readingsOf(decode([{ n: "a", v: 1, t }]))[0]?.ts;
    assert.equal(time(-10), NOW / 1000 - 10);
    assert.equal(time(0.5), NOW / 1000 + 0.5);
    assert.equal(time(2 ** 28 - 1), NOW / 1000 + 2 ** 28 - 1);
    assert.equal(time(2 ** 28), 2 ** 28);
    assert.equal(time(0), undefined);
    assert.equal(refusal([{ n: "a", v: 1, t: 1e11 }]), "record 1: a time beyond the year 5138");
  });

  it("adds base value and base sum, a missing one counting as 0", () => {
    const values = (pack: unknown[]) => readingsOf(decode(pack)).map(({ v, s }) => [v, s]);
    assert.deepEqual(values([{ bn: "a", bv: 20, v: 1.5 }, { v: -3 }, { t: 5 }]), [
      [21.5, undefined],
      [17, undefined],
      [20, undefined],
    ]);
    assert.deepEqual(
      values([
        { bn: "a", bs: 100, v: 1 },
        { v: 1, s: 5 },
      ]),
      [
        [1, 100],
        [1, 105],
      ],
    );
    assert.deepEqual(values([{ n: "a", s: 3 }]), [[undefined, 3]]);
  });

  it("makes no reading of a record that only sets base fields", () => {
    assert.deepEqual(
      readingsOf(
        decode([
          { bn: "a:", bt: 1.3e9 },
          { n: "b", v: 1 },
        ]),
      ),
      [{ ts: 1.3e9, source: "a", n: "a:b", v: 1 }],
    );
    assert.equal(refusal([{ bn: "a" }]), "a SenML pack without a value");
  });

  it("refuses a pack whole that is wrong anywhere, and says which record it was", () => {
    assert.equal(
      refusal([
        { n: "a", v: 1 },
        { n: "b", v: "1" },
      ]),
      "record 2: v is no number",
    );
    assert.equal(refusal([{ n: "a", v: 1, vs: "x" }]), "record 1: more than one value");
    assert.equal(refusal([{ n: "a" }]), "record 1: no value");
    assert.equal(refusal([{ v: 1 }]), "record 1: no name");
    assert.equal(refusal([{ n: "-a", v: 1 }]), "record 1: a name with characters that it may not have");
    assert.equal(
      refusal([{ n: "a", v: 1, bver: 11 }]),
      "record 1: version 11 of SenML, where 10 is the last one known",
    );
    assert.equal(refusal([{ n: "a", v: 1, magic_: 1 }]), "record 1: field magic_ must be understood, and is not");
    assert.equal(refusal({ n: "a", v: 1 }), "not SenML: no array of records");
    assert.equal(refusal([1]), "not SenML: no array of records");
    assert.equal(readingsOf(decode([{ n: "a", v: 1, unknown: 1 }])).length, 1);
  });

  it("gives the same for a pack in JSON and in CBOR", () => {
    const label = { bn: -2, bt: -3, bu: -4, bv: -5, bs: -6, n: 0, u: 1, v: 2, vs: 3, vb: 4, s: 5, t: 6, ut: 7 };
    const number = fc.double({ noNaN: true, noDefaultInfinity: true });
    const record = fc.record(
      {
        bn: fc.constantFrom("urn:dev:mac:0024befffe804ff1/", "x."),
        bt: number,
        bv: number,
        n: fc.constantFrom("t", "humidity"),
        u: fc.constantFrom("Cel", "%RH"),
        v: number,
        vs: fc.string(),
        vb: fc.boolean(),
        s: number,
        t: number,
        ut: number,
      },
      { requiredKeys: [] },
    );
    fc.assert(
      fc.property(fc.array(record, { maxLength: 5 }), (pack) => {
        const maps = pack.map(
          (one) => new Map(Object.entries(one).map(([key, value]) => [label[key as keyof typeof label], value])),
        );
        const inCbor = decodeBytes(encode(maps));
        assert.deepEqual(JSON.parse(JSON.stringify(inCbor)), JSON.parse(JSON.stringify(decode(pack))));
      }),
    );
  });
});
