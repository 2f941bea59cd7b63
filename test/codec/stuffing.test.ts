import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { decodeCobs, encodeCobs, HDLC, SLIP, stuff, unstuff } from "#src/codec/stuffing.js";

const hex = (digits: string): Uint8Array => Uint8Array.from(Buffer.from(digits.replaceAll(" ", ""), "hex"));
const range = (from: number, to: number): number[] => Array.from({ length: to - from + 1 }, (_, at) => from + at);

/** The published examples (Wikipedia, after Cheshire and Baker): a payload, and what it becomes between its zeros. */
const COBS: readonly [Uint8Array, Uint8Array][] = [
  [hex("00"), hex("01 01")],
  [hex("00 00"), hex("01 01 01")],
  [hex("00 11 00"), hex("01 02 11 01")],
  [hex("11 22 00 33"), hex("03 11 22 02 33")],
  [hex("11 22 33 44"), hex("05 11 22 33 44")],
  [hex("11 00 00 00"), hex("02 11 01 01 01")],
  [Uint8Array.from(range(1, 0xfe)), Uint8Array.from([0xff, ...range(1, 0xfe)])],
  [Uint8Array.from(range(0, 0xfe)), Uint8Array.from([0x01, 0xff, ...range(1, 0xfe)])],
  [Uint8Array.from(range(1, 0xff)), Uint8Array.from([0xff, ...range(1, 0xfe), 0x02, 0xff])],
  [Uint8Array.from([...range(2, 0xff), 0]), Uint8Array.from([0xff, ...range(2, 0xff), 0x01, 0x01])],
  [Uint8Array.from([...range(3, 0xff), 0, 1]), Uint8Array.from([0xfe, ...range(3, 0xff), 0x02, 0x01])],
];

describe("COBS", () => {
  it("writes and reads the published examples", () => {
    for (const [payload, between] of COBS) {
      assert.deepEqual(encodeCobs(payload), Uint8Array.from([0, ...between, 0]));
      assert.deepEqual(decodeCobs(between), payload);
    }
  });

  it("reads back whatever was written, and writes no zero between the zeros", () => {
    const long = fc.uint8Array({ maxLength: 1200 });
    const few = fc.array(fc.constantFrom(0, 1, 0xff), { maxLength: 900 }).map((values) => Uint8Array.from(values));
    fc.assert(
      fc.property(fc.oneof(long, few), (payload) => {
        const between = encodeCobs(payload).slice(1, -1);
        assert.ok(!between.includes(0));
        assert.deepEqual(decodeCobs(between), payload);
      }),
    );
  });

  it("takes a last block of 254 bytes with an empty one behind it, as some encoders write it", () => {
    const payload = Uint8Array.from(range(1, 0xfe));
    assert.deepEqual(decodeCobs(Uint8Array.from([0xff, ...payload, 0x01])), payload);
  });

  it("refuses a block that goes beyond the end, and a zero", () => {
    assert.equal(decodeCobs(hex("05 11 22")), "bad-encoding");
    assert.equal(decodeCobs(hex("02 11 00 11")), "bad-encoding");
  });
});

describe("SLIP", () => {
  it("writes END as DB DC and ESC as DB DD, as RFC 1055 has it", () => {
    assert.deepEqual(stuff(hex("01 c0 02 db 03"), SLIP), hex("c0 01 db dc 02 db dd 03 c0"));
    assert.deepEqual(unstuff(hex("01 db dc 02 db dd 03"), SLIP), hex("01 c0 02 db 03"));
  });

  it("refuses an escape that RFC 1055 does not know, and one that the frame ends with", () => {
    assert.equal(unstuff(hex("01 db 01"), SLIP), "bad-encoding");
    assert.equal(unstuff(hex("01 db"), SLIP), "bad-encoding");
  });
});

describe("HDLC escapes", () => {
  it("write 7E, 7D, 11 and 13 as Sensirion's SHDLC does", () => {
    assert.deepEqual(stuff(hex("7e 7d 11 13 20"), HDLC), hex("7e 7d 5e 7d 5d 7d 31 7d 33 20 7e"));
    assert.deepEqual(unstuff(hex("7d 5e 7d 5d 7d 31 7d 33 20"), HDLC), hex("7e 7d 11 13 20"));
  });
});

for (const [name, stuffing] of [
  ["SLIP", SLIP],
  ["HDLC", HDLC],
] as const) {
  it(`${name} reads back whatever was written`, () => {
    const special = fc.constantFrom(0xc0, 0xdb, 0xdc, 0xdd, 0x7e, 0x7d, 0x5e, 0x5d, 0x11, 0x13, 0x41);
    fc.assert(
      fc.property(
        fc.oneof(
          fc.uint8Array(),
          fc.array(special).map((values) => Uint8Array.from(values)),
        ),
        (payload) => {
          const wire = stuff(payload, stuffing);
          assert.ok(!wire.slice(1, -1).includes(stuffing.delimiter));
          assert.deepEqual(unstuff(wire.slice(1, -1), stuffing), payload);
        },
      ),
    );
  });
}
