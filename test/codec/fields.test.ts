import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { encodeFields, type FieldsConfig, FieldsDecoder } from "#src/codec/fields.js";
import { pipelineFaults } from "#src/codec/pipeline-config.js";

const CHARGER: FieldsConfig = {
  known: [
    { label: "V", name: "battery_v", scale: 0.001 },
    { label: "T", name: "temperature_c", type: "number", none: ["---"] },
    { label: "CS", name: "state", values: { 3: "bulk" } },
    { label: "SER#", name: "serial", type: "text" },
  ],
};
const decode = (text: string, config: FieldsConfig = CHARGER): unknown => {
  const decoded = new FieldsDecoder(config).decode(Buffer.from(text));
  return decoded.kind === "reading" ? decoded.payload : decoded;
};

describe("codec fields", () => {
  it("gives declared labels their names, units and words, and keeps the others", () => {
    assert.deepEqual(decode("V\t12801\r\nCS\t3\nSER#\t0012\r\n\r\nH19\t-7\r\nLOAD\tON"), {
      battery_v: 12.801,
      state: "bulk",
      serial: "0012",
      H19: -7,
      LOAD: "ON",
    });
    assert.deepEqual(decode("CS\t99"), { state: 99 }, "a value without a word stays itself");
    assert.deepEqual(decode("V\t1.5"), { battery_v: 0.0015 });
  });

  it("leaves out what is empty or says that there is no reading, and what is not known where that is wanted", () => {
    assert.deepEqual(decode("T\t---\r\nV\t\r\nCS\t3"), { state: "bulk" });
    assert.deepEqual(decode("V\t1000\r\nX\t1", { ...CHARGER, others: "drop" }), { battery_v: 1 });
    assert.deepEqual(decode("T\t---"), { kind: "refused", detail: "no value in any field" });
  });

  it("reads any separators", () => {
    const config: FieldsConfig = {
      separator: "=",
      between: ",",
      known: [{ label: "Dn", name: "wind_direction_min_deg" }],
    };
    assert.deepEqual(decode("Dn=236, Sn=0.8", config), { wind_direction_min_deg: 236, Sn: 0.8 });
  });

  it("refuses a whole frame in which something is not what it is declared to be", () => {
    assert.deepEqual(decode("V\tabc\r\nCS\t3"), { kind: "refused", detail: "field V is not a number" });
    assert.deepEqual(decode("V 12"), {
      kind: "refused",
      detail: "a field without the separator between label and value",
    });
    const many = Array.from({ length: 1025 }, (_, n) => `F${n}\t${n}`);
    assert.deepEqual(decode(many.join("\n")), { kind: "refused", detail: "more than 1024 fields" });
    assert.equal(Object.keys(decode(many.slice(1).join("\n")) as object).length, 1024);
    const bytes = new FieldsDecoder(CHARGER).decode(Uint8Array.of(0x56, 0x09, 0xff));
    assert.deepEqual(bytes, { kind: "refused", detail: "not UTF-8" });
  });

  it("writes what it reads", () => {
    const reading = { battery_v: 12.801, temperature_c: -3, state: "bulk", serial: "0012", LOAD: "ON" };
    assert.deepEqual(decode(Buffer.from(encodeFields(CHARGER, reading)).toString()), reading);
  });

  it("is told apart from a declaration that does not fit together", () => {
    const known = [{ label: "V", scale: 0 }, { label: "V" }];
    assert.deepEqual(
      pipelineFaults({ framing: "ve-direct", maxFrameBytes: 1024, codec: "fields", fields: { known } }).map(
        ({ path }) => path,
      ),
      [
        ["fields", "known", 0, "scale"],
        ["fields", "known", 1, "label"],
      ],
    );
    const checksum = { type: "sum8", from: 0, endian: "big", complement: "none", encoding: "bytes" } as const;
    const [fault] = pipelineFaults({ framing: "ve-direct", maxFrameBytes: 1024, codec: "json", fields: {}, checksum });
    assert.match(fault?.message ?? "", /fields/);
  });
});
