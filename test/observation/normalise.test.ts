import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { TimeOrderedIds } from "#src/observation/identity.js";
import {
  type DecodedReading,
  MAX_ATTRIBUTES,
  MAX_DEPTH,
  normalise,
  type ReadingDefaults,
} from "#src/observation/normalise.js";
import type { Observation } from "#src/observation/observation.js";

const RECEIVED_AT = Date.UTC(2026, 6, 1, 12);
const defaults: ReadingDefaults = { class: "telemetry", source: "node-7", receivedAt: RECEIVED_AT };
const ids = new TimeOrderedIds();

function accepted(reading: DecodedReading, given: ReadingDefaults = defaults): Observation {
  const result = normalise(reading, given, ids);
  assert.equal(result.kind, "observation", result.kind === "refused" ? result.detail : "");
  return (result as { observation: Observation }).observation;
}

function refusal(reading: DecodedReading, given: ReadingDefaults = defaults): string {
  const result = normalise(reading, given, ids);
  assert.equal(result.kind, "refused");
  return (result as { detail: string }).detail;
}

describe("normalise", () => {
  it("keeps an Observation as it was sent", () => {
    const sent = {
      id: "0198C0DE-0000-7000-8000-000000000001",
      class: "smoke",
      ts_iso: "2026-07-01T12:00:00.000Z",
      confidence: 0.87,
      lat: 38.94,
      lon: -120.05,
      source: "mast-3",
      priority: "critical",
      attributes: { pm2_5_ug_m3: 81, temperature_c: 41.2 },
      traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    };
    assert.deepEqual(accepted(sent), { ...sent, id: sent.id.toLowerCase() });
  });

  it("gives a flat object of measurements its defaults, names and values as sent", () => {
    const { id, ...rest } = accepted({ temperature: 21.5, "Wind (m/s)": "3", door: true, nested: { a: [1, null] } });
    assert.match(id, /^[0-9a-f]{8}-[0-9a-f]{4}-7/);
    assert.deepEqual(rest, {
      class: "telemetry",
      ts_iso: "2026-07-01T12:00:00.000Z",
      confidence: 1,
      source: "node-7",
      priority: "normal",
      attributes: { temperature: 21.5, "Wind (m/s)": "3", door: true, nested: { a: [1, null] } },
      timedByGateway: true,
    });
  });

  it("takes class, source and priority from the reading, else from the route", () => {
    const route = { ...defaults, class: "alert", priority: "critical" as const };
    assert.equal(accepted({}, route).priority, "critical");
    assert.equal(accepted({ priority: "low" }, route).priority, "low");
    assert.equal(accepted({ class: "smoke" }, route).class, "smoke");
    assert.equal(accepted({ source: "mast-3" }, route).source, "mast-3");
    assert.match(refusal({}, { source: "x", receivedAt: 0 }), /no class/);
  });

  it("moves extra top-level keys into attributes; the explicit object keeps its names on a clash", () => {
    const { attributes } = accepted({ a: 1, b: 2, attributes: { b: 3, b_outer: 4, c: 5 } });
    assert.deepEqual(attributes, { a: 1, b: 3, b_outer: 4, b_outer_outer: 2, c: 5 });
  });

  it("keeps an id that is no UUID, nil and max UUID included, in attributes", () => {
    for (const id of [
      17,
      "lightning-4",
      "00000000-0000-0000-0000-000000000000",
      "ffffffff-ffff-ffff-ffff-ffffffffffff",
    ]) {
      const observation = accepted({ id, ts: 1 });
      assert.equal(observation.attributes.id, id);
      assert.match(observation.id, /^[0-9a-f]{8}-[0-9a-f]{4}-5/);
    }
    assert.notEqual(accepted({ id: 1, ts: 1 }).id, accepted({ id: 2, ts: 1 }).id);
  });

  it("treats a known key that is null as absent", () => {
    const observation = accepted({
      id: null,
      class: null,
      lat: null,
      ts: null,
      timestamp: 0,
      attributes: null,
      x: null,
    });
    assert.equal(observation.ts_iso, "1970-01-01T00:00:00.000Z");
    assert.equal("lat" in observation, false);
    assert.deepEqual(observation.attributes, { x: null });
  });

  const times: [DecodedReading, string][] = [
    [{ ts_iso: "2026-07-01T12:00:00Z" }, "2026-07-01T12:00:00.000Z"],
    [{ ts_iso: "2026-07-01t14:00:00.5+02:00" }, "2026-07-01T12:00:00.500Z"],
    [{ ts: "2026-07-01 00:30:00-12:30" }, "2026-07-01T13:00:00.000Z"],
    [{ time: "2026-07-01T12:00:00.123456789Z" }, "2026-07-01T12:00:00.123Z"],
    [{ ts: 1782907200 }, "2026-07-01T12:00:00.000Z"],
    [{ ts: 1782907200.25 }, "2026-07-01T12:00:00.250Z"],
    [{ ts: 1782907200123 }, "2026-07-01T12:00:00.123Z"],
    [{ timestamp: "1782907200" }, "2026-07-01T12:00:00.000Z"],
    [{ ts: 0 }, "1970-01-01T00:00:00.000Z"],
    [{ ts: -86400 }, "1969-12-31T00:00:00.000Z"],
    [{ ts_iso: "0001-01-01T00:00:00Z" }, "0001-01-01T00:00:00.000Z"],
    [{ ts_iso: "9999-12-31T23:59:59.999Z" }, "9999-12-31T23:59:59.999Z"],
    [{ ts_iso: "2024-02-29T00:00:00Z" }, "2024-02-29T00:00:00.000Z"],
    [{ ts_iso: "2016-12-31T23:59:60Z" }, "2017-01-01T00:00:00.000Z"],
    [{ ts: 1782907200, ts_iso: "2020-01-01T00:00:00Z" }, "2020-01-01T00:00:00.000Z"],
  ];
  for (const [reading, expected] of times) {
    it(`reads ${JSON.stringify(reading)} as ${expected}`, () => assert.equal(accepted(reading).ts_iso, expected));
  }

  it("keeps the times that did not decide as attributes", () => {
    assert.deepEqual(accepted({ ts_iso: "2020-01-01T00:00:00Z", time: 12.5 }).attributes, { time: 12.5 });
  });

  const bad: [string, DecodedReading][] = [
    ["a local time without an offset", { ts_iso: "2026-07-01T12:00:00" }],
    ["a number as ts_iso", { ts_iso: 1782907200 }],
    ["30 February", { ts: "2026-02-30T00:00:00.000Z" }],
    ["29 February of a common year", { ts: "2026-02-29T00:00:00Z" }],
    ["hour 24", { ts: "2026-07-01T24:00:00.000Z" }],
    ["an offset of 24 hours", { ts: "2026-07-01T12:00:00+24:00" }],
    ["a time that its offset takes before year 0", { ts: "0000-01-01T00:00:00+01:00" }],
    ["Unix microseconds", { ts: 1782907200123456 }],
    ["a time that is an object", { time: {} }],
    ["a time that is a boolean", { timestamp: true }],
    ["an empty time", { ts: "" }],
    ["a bad first time before a good second", { ts_iso: "yesterday", ts: 1782907200 }],
    ["confidence above 1", { confidence: 1.01 }],
    ["confidence as text", { confidence: "0.9" }],
    ["confidence NaN", { confidence: Number.NaN }],
    ["lat beyond the pole", { lat: 90.001 }],
    ["lon beyond the date line", { lon: -180.5 }],
    ["lat as text", { lat: "38" }],
    ["an unknown priority", { priority: "urgent" }],
    ["a priority in capitals", { priority: "HIGH" }],
    ["an empty class", { class: "" }],
    ["a class that is no text", { class: 5 }],
    ["an endless source", { source: "x".repeat(257) }],
    ["attributes that are an array", { attributes: [] }],
    ["NaN from a codec", { t: Number.NaN }],
    ["an infinity deep inside", { attributes: { a: { b: [Number.POSITIVE_INFINITY] } } }],
    ["undefined from a codec", { t: undefined }],
    ["a bigint from a codec", { t: 1n }],
  ];
  for (const [what, reading] of bad) it(`refuses ${what}`, () => assert.notEqual(refusal(reading), ""));

  it("bounds the depth and the number of attributes", () => {
    const nest = (depth: number): unknown => (depth === 1 ? 1 : { a: nest(depth - 1) });
    accepted({ deep: nest(MAX_DEPTH) });
    assert.match(refusal({ deep: nest(MAX_DEPTH + 1) }), /nested/);
    const many = (count: number) => Object.fromEntries(Array.from({ length: count }, (_, index) => [`m${index}`, 1]));
    accepted(many(MAX_ATTRIBUTES));
    assert.match(refusal(many(MAX_ATTRIBUTES + 1)), /attributes/);
    assert.match(refusal({ one: 1, attributes: many(MAX_ATTRIBUTES) }), /attributes/);
  });

  it("keeps __proto__ and constructor as data, and pollutes nothing", () => {
    const text = '{"__proto__":{"polluted":1},"constructor":{"prototype":2},"attributes":{"__proto__":3,"toString":4}}';
    const { attributes } = accepted(JSON.parse(text));
    assert.equal(Object.getPrototypeOf(attributes), Object.prototype);
    assert.equal(
      JSON.stringify(attributes),
      '{"__proto__":3,"toString":4,"__proto___outer":{"polluted":1},"constructor":{"prototype":2}}',
    );
    assert.equal(({} as { polluted?: unknown }).polluted, undefined);
    assert.deepEqual(JSON.stringify(accepted(JSON.parse('{"__proto__":7}')).attributes), '{"__proto__":7}');
  });

  it("leaves a malformed traceparent among the attributes", () => {
    for (const traceparent of ["00-abc", `00-${"0".repeat(32)}-b7ad6b7169203331-01`, 5]) {
      const observation = accepted({ traceparent });
      assert.equal("traceparent" in observation, false);
      assert.deepEqual(observation.attributes, { traceparent });
    }
  });

  it("never throws, and never lets anything invalid through", () => {
    const key = fc.oneof(
      fc.constantFrom("id", "class", "ts_iso", "ts", "time", "confidence", "lat", "lon", "source", "priority"),
      fc.constantFrom("attributes", "traceparent", "__proto__", "constructor"),
      fc.string(),
    );
    fc.assert(
      fc.property(fc.dictionary(key, fc.oneof(fc.jsonValue(), fc.double(), fc.constant("critical"))), (reading) => {
        const result = normalise(reading, defaults, ids);
        if (result.kind === "refused") return;
        const { observation } = result;
        assert.deepEqual(JSON.parse(JSON.stringify(observation)).id, observation.id);
        assert.match(observation.id, /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/);
        assert.match(observation.ts_iso, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
        assert.ok(observation.confidence >= 0 && observation.confidence <= 1);
        assert.doesNotMatch(JSON.stringify(observation.attributes), /NaN|Infinity/);
      }),
    );
  });
});
