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

  test("always names one where any is known, and says whether it is close", () => {
    assert.deepEqual(nearest("uplnk", ["gateway", "uplink"]), { name: "uplink", close: true });
    assert.equal(nearest("colour", ["gateway", "uplink"])?.close, false);
    assert.deepEqual(nearest("x".repeat(100_000), ["gateway"]), { name: "gateway", close: false });
    assert.equal(nearest("x", []), undefined);
    fc.assert(
      fc.property(fc.string(), fc.array(fc.string(), { minLength: 1 }), (name, known) =>
        known.includes(nearest(name, known)?.name ?? "\0"),
      ),
    );
  });

  test("prefers a name that begins with it, then one that holds it, to one with fewer changes", () => {
    assert.deepEqual(nearest("token", ["type", "tokenFile", "broken"]), { name: "tokenFile", close: true });
    assert.deepEqual(nearest("Bytes", ["types", "maxBytes"]), { name: "maxBytes", close: true });
    assert.deepEqual(nearest("portNumber", ["bind", "port"]), { name: "port", close: true });
    assert.equal(nearest("widht", ["id", "width"])?.name, "width");
  });

  test("lists what is known where nothing is near", () => {
    assert.equal(suggestion("uplnk", ["gateway", "uplink"]), "did you mean `uplink`?");
    assert.match(suggestion("colour", ["gateway", "uplink"]), /^known here: gateway, uplink$/);
    assert.equal(suggestion("colour", []), "nothing may stand here");
  });
});
