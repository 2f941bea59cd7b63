import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { test } from "node:test";
import { crc32 } from "node:zlib";
import fc from "fast-check";
import { RecentIds } from "#src/outbox/recent-ids.js";
import { combineCrc32 } from "#src/outbox/segment.js";
import { collapse, expand, merge, slice } from "#src/outbox/sequence.js";

test("the CRC-32 of two texts combines to that of their concatenation", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), fc.uint8Array({ maxLength: 300 }), (a, b) => {
      assert.equal(combineCrc32(crc32(a), crc32(b), b.length), crc32(Buffer.concat([a, b])));
    }),
  );
  const long = Buffer.alloc(3_000_001, 7);
  assert.equal(combineCrc32(crc32("x"), crc32(long), long.length), crc32(Buffer.concat([Buffer.from("x"), long])));
});

test("the newest ids are remembered, older ones forgotten, as a plain list would", () => {
  const pool = Array.from({ length: 40 }, () => randomUUID());
  fc.assert(
    fc.property(fc.array(fc.nat(39), { maxLength: 300 }), (picks) => {
      const recent = new RecentIds(10);
      const model: string[] = [];
      for (const pick of picks) {
        const id = pool[pick] ?? "";
        assert.equal(recent.add(id), !model.includes(id));
        if (!model.includes(id)) model.push(id);
        if (model.length > 10) model.shift();
      }
      assert.equal(recent.size, model.length);
    }),
  );
});

test("sequence numbers survive being written as runs, cut and merged", () => {
  const numbers = fc.uniqueArray(fc.integer({ min: 1, max: 60 })).map((list) => list.sort((a, b) => a - b));
  fc.assert(
    fc.property(numbers, fc.nat(60), fc.nat(60), (list, from, to) => {
      const runs = collapse(list);
      assert.deepEqual(expand(runs), list);
      assert.deepEqual(expand(slice(runs, from, to)), list.slice(from, to));
      assert.deepEqual(merge([...slice(runs, from, 99), ...slice(runs, 0, from)]), runs);
    }),
  );
});
