import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import type { Values } from "#src/codec/binary.js";
import { SCALARS } from "#src/codec/binary-scalars.js";
import {
  AnswerSearch,
  answerLength,
  encodeAnswer,
  encodeRequest,
  exceptionName,
  type ModbusAnswer,
  type ReadRequest,
} from "#src/codec/modbus.js";
import { planReads, readBlock } from "#src/codec/modbus-plan.js";
import {
  addressesOf,
  type ModbusMap,
  type ModbusRegister,
  type ModbusType,
  type ReadFunction,
} from "#src/codec/modbus-registers.js";

const hex = (text: string): Uint8Array => Uint8Array.from(Buffer.from(text.replaceAll(" ", ""), "hex"));
const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");

/** The examples of MODBUS Application Protocol V1.1b3, 6.1 to 6.4 and 7, with the CRCs of a server 17 (10 for the exception). */
const EXAMPLES: readonly (readonly [what: string, request: ReadRequest, sent: string, answer: string, data: string])[] =
  [
    [
      "6.1, coils 20 to 38",
      { address: 17, function: 1, at: 19, count: 19 },
      "11 01 0013 0013",
      "11 01 03 cd6b05",
      "cd6b05",
    ],
    [
      "6.2, inputs 197 to 218",
      { address: 17, function: 2, at: 196, count: 22 },
      "11 02 00c4 0016 baa9",
      "11 02 03 acdb35",
      "acdb35",
    ],
    [
      "6.3, holding registers 108 to 110",
      { address: 17, function: 3, at: 107, count: 3 },
      "11 03 006b 0003 7687",
      "11 03 06 022b00000064",
      "022b00000064",
    ],
    [
      "6.4, input register 9",
      { address: 17, function: 4, at: 8, count: 1 },
      "11 04 0008 0001 b298",
      "11 04 02 000a f8f4",
      "000a",
    ],
  ];

/** With the CRC where the example has none. */
function whole(written: string, length: number): Uint8Array {
  const bytes = hex(written);
  if (bytes.length === length) return bytes;
  assert.equal(bytes.length, length - 2);
  let crc = 0xffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >> 1) ^ 0xa001 : crc >> 1;
  }
  return Uint8Array.of(...bytes, crc & 0xff, crc >> 8);
}

const anyRequest: fc.Arbitrary<ReadRequest> = fc.record({
  address: fc.integer({ min: 1, max: 247 }),
  function: fc.constantFrom<ReadFunction[]>(1, 2, 3, 4),
  at: fc.integer({ min: 0, max: 60_000 }),
  count: fc.integer({ min: 1, max: 125 }),
});

const anyAnswer = (request: ReadRequest): fc.Arbitrary<ModbusAnswer> => {
  const length = answerLength(request) - 5;
  return fc.oneof(
    fc.uint8Array({ minLength: length, maxLength: length }).map((data) => ({ kind: "data", data }) as const),
    fc.integer({ min: 1, max: 255 }).map((code) => ({ kind: "exception", code }) as const),
  );
};

describe("Modbus RTU requests and answers", () => {
  for (const [what, request, sent, answer, data] of EXAMPLES)
    test(what, () => {
      assert.equal(text(encodeRequest(request)), text(whole(sent, 8)));
      const received = whole(answer, answerLength(request));
      assert.deepEqual(new AnswerSearch(request).push(received), { kind: "data", data: hex(data) });
    });

  test("7, an exception: illegal data address", () => {
    const request: ReadRequest = { address: 10, function: 1, at: 0x4a1, count: 1 };
    assert.equal(text(encodeRequest(request)), "0a0104a10001ac63");
    assert.deepEqual(new AnswerSearch(request).push(hex("0a8102b053")), { kind: "exception", code: 2 });
    assert.equal(exceptionName(2), "illegal data address (2)");
    assert.equal(exceptionName(99), "unknown exception (99)");
  });

  test("an answer is found whatever its pieces, behind noise and the request's own echo", () => {
    const sample = anyRequest.chain((request) => fc.tuple(fc.constant(request), anyAnswer(request)));
    fc.assert(
      fc.property(
        sample,
        fc.uint8Array({ maxLength: 20 }),
        fc.boolean(),
        fc.integer({ min: 1, max: 300 }),
        (pair, noise, echo, cut) => {
          const [request, answer] = pair;
          const bytes = Uint8Array.of(
            ...noise,
            ...(echo ? encodeRequest(request) : []),
            ...encodeAnswer(request, answer),
          );
          const search = new AnswerSearch(request);
          const found = [bytes.subarray(0, cut), bytes.subarray(cut)].map((piece) => search.push(piece)).find(Boolean);
          assert.deepEqual(found, answer);
        },
      ),
    );
  });

  test("no answer with a bit of it wrong is taken, and it is known why", () => {
    fc.assert(
      fc.property(
        anyRequest.chain((request) => fc.tuple(fc.constant(request), anyAnswer(request))),
        fc.nat(),
        ([request, answer], bit) => {
          const bytes = encodeAnswer(request, answer);
          const at = bit % (8 * bytes.length);
          bytes[at >> 3] = (bytes[at >> 3] ?? 0) ^ (1 << (at & 7));
          const search = new AnswerSearch(request);
          assert.equal(search.push(bytes), undefined);
          assert.notEqual(search.fault(), "timeout");
        },
      ),
    );
  });

  test("any bytes whatever: nothing is thrown, nothing is kept for ever", () => {
    fc.assert(
      fc.property(anyRequest, fc.array(fc.uint8Array({ maxLength: 700 }), { maxLength: 8 }), (request, chunks) => {
        const search = new AnswerSearch(request);
        for (const chunk of chunks) search.push(chunk);
        search.fault();
      }),
    );
  });

  test("another server's answer, and another function's, are passed over", () => {
    const request: ReadRequest = { address: 1, function: 3, at: 0, count: 1 };
    const data = hex("0007");
    const search = new AnswerSearch(request);
    assert.equal(search.push(encodeAnswer({ ...request, address: 2 }, { kind: "data", data })), undefined);
    assert.equal(search.push(encodeAnswer({ ...request, function: 4 }, { kind: "data", data })), undefined);
    assert.equal(
      search.push(encodeAnswer({ ...request, count: 2 }, { kind: "data", data: hex("00070008") })),
      undefined,
    );
    assert.equal(search.fault(), "bad-answer");
    assert.deepEqual(search.push(encodeAnswer(request, { kind: "data", data })), { kind: "data", data });
  });

  test("silence, an echo alone and a wrong CRC are told apart", () => {
    const request: ReadRequest = { address: 1, function: 3, at: 0, count: 1 };
    const faultAfter = (bytes: Uint8Array): string => {
      const search = new AnswerSearch(request);
      assert.equal(search.push(bytes), undefined);
      return search.fault();
    };
    assert.equal(new AnswerSearch(request).fault(), "timeout");
    assert.equal(faultAfter(encodeRequest(request)), "timeout");
    assert.equal(faultAfter(hex("0103020007 0000")), "bad-crc");
    assert.equal(faultAfter(hex("018302 0000")), "bad-crc");
    assert.equal(faultAfter(hex("010302")), "bad-answer");
  });
});

const SERVER = { words: "big", endian: "big", gap: 0, maxRegisters: 125 } as const;

function mapOf(registers: readonly Partial<ModbusRegister>[], over: Partial<ModbusMap> = {}): ModbusMap {
  return {
    ...SERVER,
    registers: registers.map((one, index) => ({ name: `r${index}`, function: 3, at: 0, ...one })),
    ...over,
  };
}

/** Function, address and count of each request. */
function asked(map: ModbusMap): string[] {
  return planReads(map).map(({ function: code, at, count }) => `${code}:${at}+${count}`);
}

function read(registers: readonly Partial<ModbusRegister>[], data: string, over: Partial<ModbusMap> = {}): Values {
  const blocks = planReads(mapOf(registers, over));
  assert.equal(blocks.length, 1);
  const values: Values = {};
  for (const block of blocks) readBlock(block, hex(data), values);
  return values;
}

describe("a server's registers", () => {
  test("neighbours are read at once, and others not", () => {
    assert.deepEqual(asked(mapOf([{ at: 4 }, { at: 0, type: "f32" }, { at: 2, type: "u32" }, { at: 6 }])), [
      "3:0+5",
      "3:6+1",
    ]);
    assert.deepEqual(asked(mapOf([{ at: 0 }, { at: 1, function: 4 }, { at: 1 }])), ["3:0+2", "4:1+1"]);
    assert.deepEqual(asked(mapOf([{ at: 0, type: "u64" }, { at: 1 }])), ["3:0+4"]);
  });

  test("a gap is read along where that is allowed", () => {
    assert.deepEqual(asked(mapOf([{ at: 0 }, { at: 6 }], { gap: 4 })), ["3:0+1", "3:6+1"]);
    assert.deepEqual(asked(mapOf([{ at: 0 }, { at: 6 }], { gap: 5 })), ["3:0+7"]);
  });

  test("no request asks for more than an answer holds, whatever is wanted", () => {
    const registers = fc.array(
      fc.record({
        function: fc.constantFrom<ReadFunction[]>(1, 2, 3, 4),
        at: fc.integer({ min: 0, max: 3000 }),
        wide: fc.boolean(),
      }),
      { minLength: 1, maxLength: 200 },
    );
    fc.assert(
      fc.property(
        registers,
        fc.integer({ min: 0, max: 100 }),
        fc.integer({ min: 4, max: 125 }),
        (wanted, gap, most) => {
          const map = mapOf(
            wanted.map(({ function: code, at, wide }) => ({
              function: code,
              at,
              ...(wide && code > 2 ? { type: "f64" } : {}),
            })),
            { gap, maxRegisters: most },
          );
          const blocks = planReads(map);
          for (const { function: code, count } of blocks)
            assert.ok(count <= (code <= 2 ? 16 * most : most), `${count}`);
          for (const register of map.registers)
            assert.ok(
              blocks.some(
                ({ function: code, at, count }) =>
                  code === register.function && at <= register.at && register.at + addressesOf(register) <= at + count,
              ),
            );
          assert.equal(blocks.flatMap(({ places }) => places).length, wanted.length);
        },
      ),
    );
  });

  test("a number is read back in each order of its words and bytes", () => {
    const types: readonly Exclude<ModbusType, "bit">[] = ["u16", "i16", "u32", "i32", "u64", "i64", "f64"];
    for (const type of types)
      for (const words of ["big", "little"] as const)
        for (const endian of ["big", "little"] as const) {
          const bytes = Buffer.alloc(SCALARS[type].bytes);
          const value = type.startsWith("u") ? 0xabcd : -1234;
          SCALARS[type].set(new DataView(bytes.buffer, bytes.byteOffset), 0, value, false);
          const registers = bytes.toString("hex").match(/..../g) ?? [];
          const ordered = words === "big" ? registers : registers.toReversed();
          const swapped = ordered.map((one) => (endian === "big" ? one : one.slice(2) + one.slice(0, 2)));
          assert.deepEqual(
            read([{ type }], swapped.join(""), { words, endian }),
            { r0: value },
            `${type} ${words} ${endian}`,
          );
        }
  });

  test("a float's words the other way round, as many meters send them", () => {
    assert.deepEqual(read([{ type: "f32", words: "little" }], "cccd 41b8"), { r0: 23.1 });
  });

  test("scale, offset, words, sentinels and bits mean what they do in a frame's layout", () => {
    const values = read(
      [
        { at: 0, scale: 0.1, offset: -40 },
        { at: 1, none: [65535] },
        { at: 2, values: { 1: "measuring" } },
        {
          at: 3,
          name: "status",
          bits: [
            { name: "heating", at: 0 },
            { name: "state", at: 4, width: 2 },
          ],
        },
      ],
      "0267 ffff 0001 0021",
    );
    assert.deepEqual(values, { r0: 21.5, r2: "measuring", status: 33, heating: true, state: 2 });
  });

  test("coils and inputs are true or false, or words", () => {
    const values = read(
      [
        { function: 1, at: 19 },
        { function: 1, at: 20 },
        { function: 1, at: 37, values: { 0: "closed", 1: "open" } },
      ],
      "cd6b05",
      { gap: 16 },
    );
    // 0xcd: 20 is on, 21 is off; 0x05: 36 is on, 37 is off, 38 is on, counted from 1.
    assert.deepEqual(values, { r0: true, r1: false, r2: "open" });
  });
});
