import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { type CsvColumn, CsvDecoder, JsonDecoder } from "#src/codec/text.js";

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
const json = (text: string) => new JsonDecoder().decode(bytes(text));
const csv = (columns: CsvColumn[], row: string, separator?: string) =>
  new CsvDecoder(columns, separator).decode(bytes(row));

describe("codec json", () => {
  it("reads an object, and an array of them", () => {
    assert.deepEqual(json('{"t":21.5}'), { kind: "reading", payload: { t: 21.5 } });
    assert.deepEqual(json(' [{"t":1},{"t":2}] '), { kind: "reading", payload: [{ t: 1 }, { t: 2 }] });
    assert.deepEqual(json('\uFEFF{"t":1}'), { kind: "reading", payload: { t: 1 } });
  });

  it("keeps an integer that no double holds as its text, and every other value as it is", () => {
    const cases: [sent: string, kept: unknown][] = [
      ["9007199254740991", 9007199254740991],
      ["9007199254740993", "9007199254740993"],
      ["-9007199254740993", "-9007199254740993"],
      // An even one may be a double exactly.
      ["9007199254740994", 9007199254740994],
      ["1780000000000000000", 1780000000000000000],
      ["12345678901234567890", "12345678901234567890"],
      ["9".repeat(400), "9".repeat(400)],
      ["0.1234567890123456789", Number("0.1234567890123456789")],
      ["12345678901234567890.5", Number("12345678901234567890.5")],
      ["1e20", 1e20],
      ['"12345678901234567890"', "12345678901234567890"],
      ['"\\\\\\" 12345678901234567890"', '\\" 12345678901234567890'],
    ];
    for (const [sent, kept] of cases) {
      const rounded = '"rounded":12345678901234567891';
      const decoded = json(`{"v":${sent},"deep":[{"\\"v":[${sent}]}],${rounded}}`);
      const payload = { v: kept, deep: [{ '"v': [kept] }], rounded: "12345678901234567891" };
      assert.deepEqual(decoded, { kind: "reading", payload }, sent);
      assert.deepEqual(json(`{"v":${sent}}`), { kind: "reading", payload: { v: kept } }, sent);
    }
  });

  it("keeps every integer's value, whatever its size", () => {
    const values = fc.array(fc.bigInt({ min: -(2n ** 70n), max: 2n ** 70n }));
    fc.assert(
      fc.property(values, (integers) => {
        const decoded = json(`{"v":[${integers.join(",")}]}`) as { payload: { v: (number | string)[] } };
        assert.deepEqual(decoded.payload.v.map(BigInt), integers);
      }),
    );
  });

  it("refuses what is no object, no JSON, or no UTF-8, each with its reason", () => {
    assert.deepEqual(json("42"), { kind: "refused", detail: "neither a JSON object nor an array" });
    assert.deepEqual(json("null"), { kind: "refused", detail: "neither a JSON object nor an array" });
    assert.deepEqual(json('{"t":'), { kind: "refused", detail: "not JSON" });
    const broken = Uint8Array.of(0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d);
    assert.deepEqual(new JsonDecoder().decode(broken), { kind: "refused", detail: "not UTF-8" });
  });

  it("never throws", () => {
    fc.assert(fc.property(fc.uint8Array(), (frame) => new JsonDecoder().decode(frame).kind !== undefined));
    assert.equal(json("[".repeat(100_000)).kind, "refused");
  });
});

describe("codec csv", () => {
  it("reads a column without a type as a number where it is one, else as text", () => {
    assert.deepEqual(csv(["t", "rh", "state", "hex", "big"], "21.5,-3e2,ok,0x10,1e999"), {
      kind: "reading",
      payload: { t: 21.5, rh: -300, state: "ok", hex: "0x10", big: "1e999" },
    });
  });

  it("keeps an integer that no double holds as its text, declared or not", () => {
    assert.deepEqual(
      csv(["id", { name: "count", type: "number" }, "small"], "12345678901234567890,+9007199254740993,7"),
      {
        kind: "reading",
        payload: { id: "12345678901234567890", count: "+9007199254740993", small: 7 },
      },
    );
  });

  it("holds declared columns to their type", () => {
    const columns: CsvColumn[] = [
      { name: "t", type: "number" },
      { name: "serial", type: "text" },
      { name: "alarm", type: "boolean" },
    ];
    assert.deepEqual(csv(columns, " 7 ,007,TRUE"), { kind: "reading", payload: { t: 7, serial: "007", alarm: true } });
    assert.deepEqual(csv(columns, "7,007,0"), { kind: "reading", payload: { t: 7, serial: "007", alarm: false } });
    for (const value of ["warm", "NaN", "Infinity", "1e999", "0x1F", "1,5"]) {
      assert.deepEqual(csv(columns, `"${value}",a,1`), { kind: "refused", detail: "column t is not a number" });
    }
    assert.deepEqual(csv(columns, "7,a,maybe"), { kind: "refused", detail: "column alarm is not a boolean" });
  });

  it("leaves an empty field out, and refuses a row without any value", () => {
    assert.deepEqual(csv(["a", { name: "b", type: "number" }, "c"], "1,,"), { kind: "reading", payload: { a: 1 } });
    assert.deepEqual(csv(["a", "b"], ',""'), { kind: "refused", detail: "no value in any column" });
  });

  it("refuses another number of columns", () => {
    assert.deepEqual(csv(["a", "b"], "1"), { kind: "refused", detail: "1 columns where 2 are declared" });
    assert.deepEqual(csv(["a", "b"], "1,2,"), { kind: "refused", detail: "3 columns where 2 are declared" });
  });

  it("understands quotes as RFC 4180 does, and refuses what it forbids", () => {
    assert.deepEqual(csv(["a", "b", "c"], '"1,5","say ""hi""",x'), {
      kind: "reading",
      payload: { a: "1,5", b: 'say "hi"', c: "x" },
    });
    assert.deepEqual(csv(["a"], '""""'), { kind: "reading", payload: { a: '"' } });
    assert.deepEqual(csv(["a", "b"], '"1,2'), { kind: "refused", detail: "a quoted field that does not end" });
    assert.deepEqual(csv(["a", "b"], '"1"x,2'), { kind: "refused", detail: "text after a quoted field" });
    assert.deepEqual(csv(["a", "b"], '1"x,2'), { kind: "refused", detail: "a quote inside an unquoted field" });
  });

  it("splits at the configured separator", () => {
    assert.deepEqual(csv(["a", "b"], "1,5;2", ";"), { kind: "reading", payload: { a: "1,5", b: 2 } });
    assert.deepEqual(csv(["a", "b"], '"1\t5"\t2', "\t"), { kind: "reading", payload: { a: "1\t5", b: 2 } });
  });

  it("ignores a header", () => {
    assert.deepEqual(csv(["temp", "rh"], "temp,rh"), { kind: "ignored" });
  });

  it("takes any column name as a name", () => {
    const decoded = csv(["__proto__"], "1");
    assert.equal(decoded.kind === "reading" && JSON.stringify(decoded.payload), '{"__proto__":1}');
  });

  it("reads back whatever was written by the rules of RFC 4180", () => {
    const field = fc.string({ minLength: 1 }).filter((value) => !/[\r\n]/.test(value) && value !== "c");
    fc.assert(
      fc.property(fc.array(field, { minLength: 1, maxLength: 5 }), (fields) => {
        const columns = fields.map((_, index): CsvColumn => ({ name: `c${index}`, type: "text" }));
        const row = fields.map((value) => `"${value.replaceAll('"', '""')}"`).join(",");
        assert.deepEqual(csv(columns, row), {
          kind: "reading",
          payload: Object.fromEntries(fields.map((value, index) => [`c${index}`, value])),
        });
      }),
    );
  });

  it("never throws", () => {
    const decoder = new CsvDecoder(["a", { name: "b", type: "number" }]);
    fc.assert(fc.property(fc.uint8Array(), (frame) => decoder.decode(frame).kind !== undefined));
    const awkward = fc.string({ unit: fc.constantFrom('"', ",", "1", "x", " ") });
    fc.assert(fc.property(awkward, (row) => decoder.decode(bytes(row)).kind !== undefined));
  });
});

describe("codec csv with columns that are not all values", () => {
  const decoder = new CsvDecoder([
    { name: "node", type: "skip" },
    { name: "wind_speed_m_s", type: "number" },
    { name: "units", type: "skip", expect: "M" },
  ]);

  it("leaves out what is to be skipped", () => {
    assert.deepEqual(decoder.decode(Buffer.from("Q,002.74,M")), { kind: "reading", payload: { wind_speed_m_s: 2.74 } });
  });

  it("refuses a row with another text than is expected", () => {
    assert.deepEqual(decoder.decode(Buffer.from("Q,002.74,N")), { kind: "refused", detail: "column units is not M" });
  });
});
