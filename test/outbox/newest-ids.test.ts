import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { newestIds } from "#src/outbox/newest-ids.js";
import { parseId } from "#src/outbox/recent-ids.js";
import { Band, bandStart } from "#src/outbox/rows.js";
import { encodeSegment, SEPARATOR } from "#src/outbox/segment.js";
import { Store } from "#src/outbox/store.js";
import { observation } from "../support/observations.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

test("the ids of the newest readings are found whatever their lanes, the newest last, and no more than asked for", (t) => {
  const store = new Store({ file: join(temporaryFolder(t), "outbox.db"), maxBytes: 2 ** 30, bootId: "boot" });
  t.after(() => store.close());
  const all: string[] = [];
  for (let block = 0; block < 12; block++) {
    const ids = Array.from({ length: 1 + ((block * 7) % 10) }, () => observation().id);
    const text = ids.map((id) => JSON.stringify({ id, text: "grüße, \n\u2028" })).join(SEPARATOR);
    const firstSeq = all.length + 1;
    store.insertBlock({
      ...encodeSegment(Buffer.from(text), ids.length),
      key: bandStart(block % 5 === 0 ? Band.deferred(1) : Band.waiting(block % 4)) + firstSeq,
      lastSeq: firstSeq + ids.length - 1,
      ...{ sequence: null, observedFrom: 1, observedTo: 2, acceptedAt: 3, acceptedMonotonic: 4, boot: 1 },
      clock: "synchronised",
    });
    all.push(...ids);
  }
  for (const limit of [1, 5, 17, all.length, 1000]) {
    const expected = all.slice(-limit).map((id) => [...parseId(id)]);
    assert.deepEqual([...newestIds(store, limit)], expected.flat(), `${limit} of ${all.length}`);
  }
});

test("so are those of readings that were delivered and are kept, but for what is damaged of them", (t) => {
  const store = new Store({ file: join(temporaryFolder(t), "outbox.db"), maxBytes: 2 ** 30, bootId: "boot" });
  t.after(() => store.close());
  const when = { at: 1, monotonic: 2, boot: 1, clock: "synchronised" } as const;
  const all: string[] = [];
  for (let block = 0; block < 9; block++) {
    const ids = [observation().id, observation().id];
    const text = ids.map((id) => JSON.stringify({ id })).join(SEPARATOR);
    const encoded = encodeSegment(Buffer.from(text), ids.length);
    const firstSeq = block * 2 + 1;
    const place = { lastSeq: firstSeq + 1, sequence: null, observedFrom: 1, observedTo: 2 };
    const times = { acceptedAt: 3, acceptedMonotonic: 4, boot: 1, clock: "synchronised" } as const;
    const damaged = block === 4;
    if (block % 3 === 0)
      store.insertBlock({ ...encoded, ...place, ...times, key: bandStart(Band.waiting(1)) + firstSeq });
    else {
      const body = damaged ? encoded.body.map((byte, at) => (at === 9 ? byte ^ 1 : byte)) : encoded.body;
      store.kept.insert({ ...encoded, ...place, body, id: block + 1, lane: 1, firstSeq }, when);
    }
    if (!damaged) all.push(...ids);
  }
  for (const limit of [1, 3, all.length, 1000]) {
    const expected = all.slice(-limit).map((id) => [...parseId(id)]);
    assert.deepEqual([...newestIds(store, limit)], expected.flat(), `${limit} of ${all.length}`);
  }
});
