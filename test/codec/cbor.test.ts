import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { encode } from "cborg";
import fc from "fast-check";
import { CborDecoder } from "#src/codec/cbor.js";
import type { Decoded } from "#src/codec/decoder.js";

const decoder = new CborDecoder();
const decode = (digits: string): Decoded =>
  decoder.decode(Uint8Array.from(Buffer.from(digits.replaceAll(" ", ""), "hex")));
/** What the item becomes as the one value of a map. */
function itemOf(digits: string): unknown {
  const decoded = decode(`a1 61 61 ${digits}`);
  assert.equal(decoded.kind, "reading", JSON.stringify(decoded));
  return decoded.kind === "reading" ? (decoded.payload as { a: unknown }).a : undefined;
}
function refusal(digits: string): string {
  const decoded = decode(digits);
  return decoded.kind === "refused" ? decoded.detail : decoded.kind;
}

describe("codec cbor", () => {
  it("reads the examples of RFC 8949, appendix A", () => {
    const examples: readonly [string, unknown][] = [
      ["00", 0],
      ["17", 23],
      ["18 18", 24],
      ["19 03e8", 1000],
      ["1a 000f4240", 1000000],
      ["1b 000000e8d4a51000", 1000000000000],
      ["1b ffffffffffffffff", "18446744073709551615"],
      ["c2 49 010000000000000000", 2 ** 64],
      ["3b ffffffffffffffff", -(2 ** 64)],
      ["20", -1],
      ["39 03e7", -1000],
      ["f9 0000", 0],
      ["f9 3c00", 1],
      ["fb 3ff199999999999a", 1.1],
      ["f9 7bff", 65504],
      ["fa 47c35000", 100000],
      ["fb 7e37e43c8800759c", 1.0e300],
      ["f9 0001", 2 ** -24],
      ["fb c010666666666666", -4.1],
      ["f9 7c00", null],
      ["f9 7e00", null],
      ["f4", false],
      ["f5", true],
      ["f6", null],
      ["f7", null],
      ["c0 74 323031332d30332d32315432303a30343a30305a", "2013-03-21T20:04:00Z"],
      ["c1 1a 514b67b0", 1363896240],
      ["d7 44 01020304", "AQIDBA"],
      ["44 01020304", "AQIDBA"],
      ["62 c3bc", "ü"],
      ["83 01 02 03", [1, 2, 3]],
      ["a2 01 02 03 04", { 1: 2, 3: 4 }],
      ["a2 61 61 01 61 62 82 02 03", { a: 1, b: [2, 3] }],
      ["9f 01 82 02 03 9f 04 05 ff ff", [1, [2, 3], [4, 5]]],
      ["bf 61 61 01 61 62 9f 02 03 ff ff", { a: 1, b: [2, 3] }],
    ];
    for (const [digits, value] of examples) assert.deepEqual(itemOf(digits), value, digits);
  });

  it("reads decimal fractions and bigfloats as what they mean", () => {
    assert.equal(itemOf("c4 82 21 19 6ab3"), 273.15);
    assert.equal(itemOf("c5 82 20 03"), 1.5);
  });

  it("takes an array of maps as several readings, and a frame that says that it is CBOR", () => {
    assert.deepEqual(decode("82 a1 61 61 01 a1 61 61 02"), { kind: "reading", payload: [{ a: 1 }, { a: 2 }] });
    assert.deepEqual(decode("d9 d9f7 a1 61 61 01"), { kind: "reading", payload: { a: 1 } });
  });

  it("refuses what is cut, has something behind it, is no map, or says the same key twice", () => {
    assert.match(refusal("a1 61 61"), /^not CBOR: /);
    assert.match(refusal("a1 61 61 01 00"), /^not CBOR: /);
    assert.match(refusal(""), /^not CBOR: /);
    assert.match(refusal("a2 61 61 01 61 61 02"), /^not CBOR: .*repeat map key/);
    assert.match(refusal("a2 01 01 61 31 02"), /^not what JSON can say/, "1 and the text 1");
    assert.match(refusal("a1 81 01 02"), /^not what JSON can say/, "a key that is an array");
    assert.match(refusal("bf 61 61 ff"), /^not/, "a break where a value should stand");
    assert.match(refusal("a1 61 61 d9 0104 01"), /^not CBOR: tag not supported \(260\)/);
    assert.equal(refusal("05"), "neither a CBOR map nor an array");
  });

  it("refuses nesting without end, and lengths that nothing follows, at once", () => {
    assert.match(refusal("81".repeat(100_000)), /^not CBOR: /);
    assert.match(refusal(`${"81".repeat(40)}01`), /^not what JSON can say/);
    assert.match(refusal("9b 00000000ffffffff"), /^not CBOR: /);
    assert.match(refusal("5b 00000000ffffffff 00"), /^not CBOR: /);
    assert.match(refusal("bb 001fffffffffffff"), /^not CBOR: /);
  });

  it("keeps a key __proto__ as data", () => {
    const decoded = decode("a1 69 5f5f70726f746f5f5f 01");
    assert.equal(decoded.kind === "reading" && JSON.stringify(decoded.payload), '{"__proto__":1}');
  });

  it("reads back what JSON can say and was written as CBOR", () => {
    fc.assert(
      fc.property(fc.dictionary(fc.string(), fc.jsonValue({ maxDepth: 4 })), (object) => {
        const wanted = JSON.parse(JSON.stringify(object));
        const decoded = decoder.decode(encode(wanted));
        assert.deepEqual(decoded.kind === "reading" && JSON.parse(JSON.stringify(decoded.payload)), wanted);
      }),
    );
  });
});
