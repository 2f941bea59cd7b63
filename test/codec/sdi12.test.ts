import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import {
  LineSearch,
  nameValues,
  parseData,
  parsePromise,
  SDI12_MEASUREMENTS,
  type Sdi12Measurement,
  sdi12Crc,
} from "#src/codec/sdi12.js";

const bytes = (text: string): Uint8Array => Buffer.from(text, "latin1");

describe("SDI-12", () => {
  test("the CRC is the specification's (4.4.12.2), and that of a sensor's manual", () => {
    assert.equal(sdi12Crc("0+3.14"), "OqZ");
    // Vaisala, WMT700 user guide M211095EN-H.
    assert.equal(sdi12Crc("1+2.7+85.2-0.2-2.7+770.5"), "CAH");
  });

  test("what the answer to a measurement command promises", () => {
    assert.deepEqual(parsePromise("00011", "0", "M"), { seconds: 1, values: 1 });
    assert.deepEqual(parsePromise("a9999", "a", "MC3"), { seconds: 999, values: 9 });
    assert.deepEqual(parsePromise("000320", "0", "C"), { seconds: 3, values: 20 });
    for (const [line, measure] of [
      ["10011", "M"],
      ["0001", "M"],
      ["000111", "M"],
      ["00011", "C"],
      ["0", "M"],
      ["", "M"],
    ] as const)
      assert.equal(parsePromise(line, "0", measure), undefined, line);
  });

  test("data: signs, points, and nothing at all", () => {
    const values = (line: string) => parseData(line, "0", "M");
    assert.deepEqual(values("0+3.14-12+.5-7."), { kind: "values", values: ["+3.14", "-12", "+.5", "-7."] });
    assert.deepEqual(values("0"), { kind: "values", values: [] });
    for (const line of ["0 +3", "03", "0+", "0+3.1.4", "0+12345678", "1+3", "", "0+3x"])
      assert.deepEqual(values(line), { kind: "bad-answer" }, line);
  });

  test("data with a CRC: one that does not fit is known as that", () => {
    assert.deepEqual(parseData("0+3.14OqZ", "0", "MC"), { kind: "values", values: ["+3.14"] });
    assert.deepEqual(parseData("0+3.15OqZ", "0", "MC"), { kind: "bad-crc" });
    assert.deepEqual(parseData("0+3.14", "0", "CC1"), { kind: "bad-crc" });
    assert.deepEqual(parseData(`0${sdi12Crc("0")}`, "0", "CC"), { kind: "values", values: [] });
  });

  test("what was written is what is read, with and without a CRC", () => {
    const number = fc.tuple(
      fc.constantFrom("+", "-"),
      fc.integer({ min: 0, max: 9999 }),
      fc.option(fc.integer({ min: 0, max: 999 })),
    );
    const values = fc.array(
      number.map(([sign, whole, part]) => `${sign}${whole}${part === null ? "" : `.${part}`}`),
      { maxLength: 9 },
    );
    fc.assert(
      fc.property(
        values,
        fc.constantFrom(..."09azAZ"),
        fc.constantFrom(...SDI12_MEASUREMENTS),
        (written, address, measure) => {
          const data = address + written.join("");
          const line = /.C/.test(measure) ? data + sdi12Crc(data) : data;
          assert.deepEqual(parseData(line, address, measure), { kind: "values", values: written });
        },
      ),
    );
  });

  test("any bytes whatever: nothing is thrown", () => {
    const measure = fc.constantFrom<Sdi12Measurement[]>("M", "MC", "C", "CC");
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 400 }), { maxLength: 6 }), measure, (chunks, command) => {
        const search = new LineSearch("0");
        for (const line of chunks.flatMap((chunk) => search.push(chunk))) {
          parsePromise(line, "0", command);
          parseData(line, "0", command);
        }
        search.hasMore;
      }),
    );
  });

  test("an answer is found at every split, behind the command's echo and another sensor's late answer", () => {
    const said = bytes("\0\x001+7.5\r\n0M!00011\r\n");
    for (let cut = 0; cut <= said.length; cut++) {
      const search = new LineSearch("0");
      assert.deepEqual([...search.push(said.subarray(0, cut)), ...search.push(said.subarray(cut))], ["00011"]);
      assert.ok(search.hasMore);
    }
    const quiet = new LineSearch("0");
    assert.deepEqual(quiet.push(bytes("0M!")), []);
    assert.equal(quiet.hasMore, false, "a command alone is nobody's answer");
  });

  test("values get their names, scaled without rounding noise; those not wanted and those that are none are left out", () => {
    const names = [
      "water_percent",
      null,
      { name: "t_c", scale: 0.1, offset: -40, none: [-9999] },
      { name: "x", none: [-9999] },
    ];
    assert.deepEqual(nameValues(["+12.34", "+7", "+615.3", "-9999", "+1"], names), {
      water_percent: 12.34,
      t_c: 21.53,
    });
    assert.deepEqual(nameValues(["+3"], names), { water_percent: 3 });
  });
});
