import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { editDistance, nearest, suggestion } from "#src/config/nearest.js";

describe("nearest", () => {
  test("counts insertions, deletions, substitutions and swaps of neighbours", () => {
    assert.equal(editDistance("maxReading", "maxReadings"), 1);
    assert.equal(editDistance("url", "ulr"), 1);
    assert.equal(editDistance("LEVEL", "level"), 0);
    assert.equal(editDistance("", "abc"), 3);
    assert.equal(editDistance("kitten", "sitting"), 3);
  });

  test("distance is symmetric, and zero for the same text", () => {
    const word = fc.string({ maxLength: 12 });
    fc.assert(fc.property(word, word, (a, b) => editDistance(a, b) === editDistance(b, a)));
    fc.assert(fc.property(word, (a) => editDistance(a, a) === 0));
  });

  test("names the nearest, and nothing where all are far", () => {
    assert.equal(nearest("uplnk", ["gateway", "uplink"]), "uplink");
    assert.equal(nearest("colour", ["gateway", "uplink"]), undefined);
    assert.equal(nearest("x".repeat(100_000), ["gateway"]), undefined);
  });

  test("lists what is known where nothing is near", () => {
    assert.equal(suggestion("uplnk", ["gateway", "uplink"]), "did you mean `uplink`?");
    assert.equal(suggestion("colour", ["gateway", "uplink"]), "known here: gateway, uplink");
  });
});
