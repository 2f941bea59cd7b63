import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import {
  CHECKSUM_TYPES,
  type ChecksumRule,
  type ChecksumType,
  checksumCut,
  checksumFits,
  checksumOf,
  hasChecksum,
  withChecksum,
} from "#src/codec/checksum.js";

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
const hex = (digits: string): Uint8Array => Uint8Array.from(Buffer.from(digits.replaceAll(" ", ""), "hex"));
const rule = (type: ChecksumType, over: Partial<ChecksumRule> = {}): ChecksumRule => ({
  type,
  from: 0,
  endian: "big",
  complement: "none",
  encoding: "bytes",
  ...over,
});

/** The check values of the CRC catalogue (reveng.sourceforge.io), and of the sums by hand: of the text 123456789. */
const CHECK: Readonly<Record<ChecksumType, number>> = {
  sum8: 0xdd,
  xor8: 0x31,
  sum16: 0x01dd,
  "fletcher-16": 0x1ede,
  "crc-8": 0xf4,
  "crc-16/modbus": 0x4b37,
  "crc-16/ccitt-false": 0x29b1,
  "crc-16/xmodem": 0x31c3,
  "crc-32": 0xcbf43926,
};

const anyRule: fc.Arbitrary<ChecksumRule> = fc.record({
  type: fc.constantFrom(...CHECKSUM_TYPES),
  from: fc.integer({ min: 0, max: 3 }),
  endian: fc.constantFrom("big" as const, "little" as const),
  complement: fc.constantFrom("none" as const, "ones" as const, "twos" as const),
  encoding: fc.constantFrom("bytes" as const, "hex" as const),
});

describe("checksums", () => {
  it("have the catalogue's check values", () => {
    for (const type of CHECKSUM_TYPES) assert.equal(checksumOf(type, bytes("123456789")), CHECK[type], type);
  });

  it("Fletcher-16 has the published values of abcde, abcdef and abcdefgh", () => {
    assert.equal(checksumOf("fletcher-16", bytes("abcde")), 0xc8f0);
    assert.equal(checksumOf("fletcher-16", bytes("abcdef")), 0x2057);
    assert.equal(checksumOf("fletcher-16", bytes("abcdefgh")), 0x0627);
  });

  it("stand in the frames of data sheets as those say", () => {
    // Modbus over serial line: request of the specification's example; low byte first.
    assert.ok(hasChecksum(hex("01 03 00 00 00 0a c5 cd"), rule("crc-16/modbus", { endian: "little" })));
    // Winsen MH-Z19B, read CO2: the sum of bytes 1 to 7, inverted, plus 1.
    const winsen = rule("sum8", { from: 1, complement: "twos" });
    assert.ok(hasChecksum(hex("ff 01 86 00 00 00 00 00 79"), winsen));
    // Nova SDS011: the sum of the six data bytes, before the tail AB.
    assert.ok(hasChecksum(hex("aa c0 d4 04 3a 0a a1 60 1d ab"), rule("sum8", { at: 8, from: 2 })));
    // Sensirion SHDLC, start measurement: the inverted sum of what stands between the flags.
    assert.ok(hasChecksum(hex("00 00 02 01 03 f9"), rule("sum8", { complement: "ones" })));
    // Gill WindSonic: exclusive or between STX and ETX, as two hexadecimal digits.
    const gill = rule("xor8", { from: 1, to: -3, encoding: "hex" });
    assert.ok(hasChecksum(bytes("\u0002Q,229,002.74,M,00,\u000316"), gill));
  });

  it("are taken off where they end the frame, and left where they stand inside", () => {
    const behind = rule("sum8");
    assert.deepEqual(checksumCut(hex("01 02 03"), behind), hex("01 02"));
    const inside = rule("sum8", { at: 1, from: 2, to: 4 });
    assert.deepEqual(withChecksum(hex("aa 00 01 02 ab"), inside), hex("aa 03 01 02 ab"));
    assert.deepEqual(checksumCut(hex("aa 03 01 02 ab"), inside), hex("aa 03 01 02 ab"));
  });

  it("are right behind whatever was written with them, and wrong after any change of one byte that they cover", () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 4, maxLength: 40 }), anyRule, fc.nat(), (payload, chosen, place) => {
        const frame = withChecksum(payload, chosen);
        assert.ok(hasChecksum(frame, chosen));
        assert.deepEqual(checksumCut(frame, chosen), payload);
        // Fletcher-16 counts modulo 255: to it 00 and ff are one.
        const at = chosen.from + (place % (payload.length - chosen.from));
        frame[at] = (frame[at] ?? 0) ^ 0x01;
        assert.ok(!hasChecksum(frame, chosen));
      }),
    );
  });

  it("are missed, not thrown over, where a frame has no room for them", () => {
    const anywhere = fc.integer({ min: -50, max: 50 });
    fc.assert(
      fc.property(
        fc.uint8Array({ maxLength: 20 }),
        anyRule,
        anywhere,
        anywhere,
        anywhere,
        (frame, chosen, at, from, to) => {
          const odd = { ...chosen, at, from, to };
          if (!checksumFits(odd, frame.length) && from !== to) hasChecksum(frame, odd);
          assert.equal(typeof hasChecksum(frame, odd), "boolean");
        },
      ),
    );
    assert.equal(hasChecksum(new Uint8Array(1), rule("crc-32")), false);
  });

  it("take hexadecimal digits in either case", () => {
    const digits = rule("crc-16/xmodem", { encoding: "hex" });
    assert.ok(hasChecksum(bytes("12345678931C3"), digits));
    assert.ok(hasChecksum(bytes("12345678931c3"), digits));
  });
});
