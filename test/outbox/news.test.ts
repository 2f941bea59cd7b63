/** What has changed, and what is told by it: whoever hears all news knows all. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { deserialize, serialize } from "node:v8";
import fc from "fast-check";
import { newsOf, withNews } from "#src/outbox/news.js";

const NUMBER = fc.oneof(fc.integer({ min: 0, max: 2 }), fc.constant(undefined), fc.constant(Number.POSITIVE_INFINITY));
const PLAIN = { noNullPrototype: true };
const LEDGER = fc.record({ accepted: NUMBER, pending: NUMBER }, PLAIN);
const BOOKS = fc.record(
  {
    ledgers: fc.array(LEDGER, { minLength: 4, maxLength: 4 }),
    available: fc.array(NUMBER, { minLength: 4, maxLength: 4 }),
    deferredDueIn: NUMBER,
    room: fc.record({ fill: NUMBER, limitedBy: fc.constantFrom("maxBytes", "disk") }, PLAIN),
    clockKnown: fc.boolean(),
  },
  PLAIN,
);

test("whoever hears the news of each change, as it comes through between threads, knows how things are", () => {
  fc.assert(
    fc.property(fc.array(BOOKS, { minLength: 2, maxLength: 6 }), ([first, ...later]) => {
      assert.ok(first);
      let [told, known] = [first, first];
      for (const now of later) {
        const before = structuredClone(known);
        const heard = deserialize(serialize(newsOf(now, told)));
        const next = withNews(known, heard);
        assert.deepEqual(next, now);
        assert.deepEqual(known, before, "what was known before stays as it was, for whoever holds it");
        [told, known] = [now, next];
      }
    }),
  );
});

test("only what has changed is told", () => {
  const books = {
    ledgers: [
      { accepted: 1, pending: 1 },
      { accepted: 5, pending: 0 },
    ],
    lastSeq: 6,
    room: { fill: 0.5 },
  };
  const now = {
    ledgers: [
      { accepted: 1, pending: 1 },
      { accepted: 7, pending: 2 },
    ],
    lastSeq: 8,
    room: { fill: 0.5 },
  };
  assert.deepEqual({ ...newsOf(now, books) }, { ledgers: { 1: { accepted: 7, pending: 2 } }, lastSeq: 8 });
  assert.deepEqual(newsOf(books, structuredClone(books)), {});
});
