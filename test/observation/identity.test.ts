import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { canonicalJson, contentId, type ReadingContent, TimeOrderedIds } from "#src/observation/identity.js";
import { normalise } from "#src/observation/normalise.js";
import type { JsonValue } from "#src/observation/observation.js";

const ids = new TimeOrderedIds();
const defaults = { class: "telemetry", source: "node-7", receivedAt: 0 };

function idOf(reading: Record<string, unknown>, given: Parameters<typeof normalise>[1] = defaults): string {
  const result = normalise(reading, given, ids);
  assert.equal(result.kind, "observation");
  return result.kind === "observation" ? result.observation.id : "";
}

/** The same value with the keys of every object in another order. */
function reordered(value: JsonValue): JsonValue {
  if (typeof value !== "object" || value === null) return value;
  if (Array.isArray(value)) return value.map(reordered);
  return Object.fromEntries(
    Object.entries(value)
      .reverse()
      .map(([key, item]) => [key, reordered(item)]),
  );
}

const smoke: ReadingContent = {
  source: "mast-3",
  class: "smoke",
  time: "2026-07-01T12:00:00.000Z",
  confidence: 0.87,
  lat: 38.94,
  lon: -120.05,
  priority: "critical",
  attributes: { temperature_c: 41.2, pm2_5_ug_m3: 81.0 },
};

describe("the id of a reading with a time of its own", () => {
  // Both vectors were computed with Python's uuid.uuid5 over the documented name.
  it("is the version 5 UUID of its canonical form", () => {
    assert.equal(contentId(smoke), "9b9705fe-3f90-5908-af97-95ef02afcb02");
    const attributes = { z: -0.5, a: { ü: "€", b: [1, "x", null, true] } };
    const other = { ...smoke, source: "Föhn", class: "telemetry", confidence: 1, attributes };
    assert.equal(
      contentId({ ...other, lat: undefined, lon: undefined, priority: undefined }),
      "9d5a4ea9-d6fd-59b4-8bcd-ff02532bd737",
    );
  });

  it("is the same whatever the order of the keys", () => {
    fc.assert(
      fc.property(fc.dictionary(fc.string(), fc.jsonValue({ maxDepth: 4 })), (measurements) => {
        const reading = { time: 1782907200, attributes: measurements as Record<string, JsonValue> };
        assert.equal(idOf(reading), idOf(reordered(reading) as Record<string, unknown>));
      }),
    );
  });

  it("differs where anything in the content differs", () => {
    const variants: ReadingContent[] = [
      smoke,
      { ...smoke, source: "mast-4" },
      { ...smoke, class: "fire" },
      { ...smoke, time: "2026-07-01T12:00:00.001Z" },
      { ...smoke, confidence: 0.88 },
      { ...smoke, lat: 38.95 },
      { ...smoke, lat: undefined },
      { ...smoke, lon: -120.06 },
      { ...smoke, priority: undefined },
      { ...smoke, attributes: { ...smoke.attributes, pm2_5_ug_m3: "81" } },
      { ...smoke, attributes: { temperature_c: 41.2 } },
      { ...smoke, attributes: { ...smoke.attributes, more: null } },
    ];
    assert.equal(new Set(variants.map(contentId)).size, variants.length);
  });

  it("loses nothing of a value on the way to its canonical form", () => {
    fc.assert(
      fc.property(fc.jsonValue(), (value) => {
        assert.deepEqual(JSON.parse(canonicalJson(value as JsonValue)), JSON.parse(JSON.stringify(value)));
      }),
    );
  });

  it("does not depend on what the route or port adds as priority, nor on when it arrived", () => {
    const reading = { ts: 1782907200, temperature: 20 };
    const later = { ...defaults, priority: "critical" as const, receivedAt: 99 };
    assert.equal(idOf(reading), idOf(reading, later));
  });

  it("does not depend on how the same moment was written, but on every digit of it", () => {
    assert.equal(idOf({ ts: 1782907200 }), idOf({ ts_iso: "2026-07-01T14:00:00.000+02:00" }));
    assert.equal(idOf({ ts: 1782907200.123 }), idOf({ ts: 1782907200123 }));
    assert.notEqual(idOf({ ts_iso: "2026-07-01T12:00:00.0001Z" }), idOf({ ts_iso: "2026-07-01T12:00:00.0002Z" }));
  });

  it("holds for a reading longer than the usual buffer", () => {
    const long = { ts: 1, text: "€".repeat(30_000) };
    assert.equal(idOf(long), idOf({ ...long }));
    assert.notEqual(idOf(long), idOf({ ...long, text: `${long.text}.` }));
  });
});

describe("the id of a reading without a time", () => {
  it("is a version 7 UUID that sorts by time and is never the same", () => {
    const made = Array.from({ length: 5000 }, (_, index) => ids.next(1_782_907_200_000 + index));
    assert.equal(new Set(made).size, made.length);
    assert.deepEqual([...made].sort(), made);
    for (const id of made) assert.match(id, /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
    assert.notEqual(idOf({ temperature: 20 }), idOf({ temperature: 20 }));
  });

  it("holds the 48-bit time of RFC 9562, appendix A.6", () => {
    const fixed = new TimeOrderedIds((bytes) => Buffer.from("0cc318c4dc0c0c07398f", "hex").copy(bytes));
    assert.equal(fixed.next(0x017f22e279b0), "017f22e2-79b0-7cc3-98c4-dc0c0c07398f");
  });
});
