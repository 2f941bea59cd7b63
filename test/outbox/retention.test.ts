import assert from "node:assert/strict";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { imbalance } from "#src/outbox/ledger.js";
import { pageLimit, pagesFor } from "#src/outbox/retention.js";
import { PAGE_BYTES } from "#src/outbox/sizes.js";
import { type EngineModules, EngineRig, LEASE_ALL } from "../support/engine-rig.ts";
import { mutant } from "../support/mutant.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

const HOUR = 3_600_000;
const [CRITICAL, HIGH, NORMAL, LOW] = [0, 1, 2, 3];

const rig = (t: TestContext, settings: ConstructorParameters<typeof EngineRig>[2] = {}, modules?: EngineModules) =>
  new EngineRig(t, join(temporaryFolder(t), "outbox.db"), settings, modules);

/** Commits readings of a lane until some of any lane has been evicted. */
function fillWith(outbox: EngineRig, lane: number): void {
  const before = outbox.ledger.evicted;
  for (let n = 0; outbox.ledger.evicted === before; n++) {
    assert.ok(n < 1000, "nothing was ever evicted");
    outbox.commit(lane, 5, 400);
  }
}

test("the lowest lane's oldest block goes first, and critical only when nothing else is left", (t) => {
  const outbox = rig(t, { maxBytes: 512 * 1024 });
  const evicted = () => outbox.ledgers.map((ledger) => ledger.evicted);
  for (const lane of [LOW, NORMAL, HIGH, CRITICAL]) {
    for (let n = 0; outbox.ledgers[lane]?.evicted === 0; n++) {
      assert.ok(n < 1000, "nothing was ever evicted");
      outbox.commit(lane, 5, 400);
    }
    const [critical, high, normal, low] = evicted();
    if ((normal ?? 0) > 0) assert.equal(outbox.ledgers[LOW]?.pending, 0);
    if ((high ?? 0) > 0) assert.equal(outbox.ledgers[NORMAL]?.pending, 0);
    if ((critical ?? 0) > 0) assert.equal(outbox.ledgers[HIGH]?.pending, 0);
    assert.ok((low ?? 0) > 0);
  }
  assert.equal(imbalance(outbox.ledger), 0);
});

test("what arrives never displaces what is more important: it is accepted, and evicted by name", (t) => {
  const outbox = rig(t, { maxBytes: 512 * 1024 });
  while (outbox.ledgers[CRITICAL]?.evicted === 0) outbox.commit(CRITICAL, 5, 400);
  const { evicted, pending } = outbox.ledgers[CRITICAL] ?? outbox.ledger;
  for (let n = 0; n < 20; n++) assert.deepEqual(outbox.commit(LOW, 5, 400), { stored: 1, full: false });
  assert.deepEqual([outbox.ledgers[CRITICAL]?.evicted, outbox.ledgers[CRITICAL]?.pending], [evicted, pending]);
  assert.equal(outbox.ledgers[LOW]?.accepted, 100);
  assert.ok((outbox.ledgers[LOW]?.evicted ?? 0) >= 95, "at most what fits into the room that an eviction left");
  assert.equal(imbalance(outbox.ledger), 0);
  const { lastSeq } = outbox.engine.books();
  outbox.powerCut(0);
  assert.equal(outbox.engine.books().lastSeq, lastSeq, "their sequence numbers are not given away again");
});

test("what is evicted is the oldest of its lane", (t) => {
  const outbox = rig(t, { maxBytes: 512 * 1024 });
  fillWith(outbox, NORMAL);
  const batch = outbox.engine.lease(LEASE_ALL);
  assert.equal(batch?.firstSeq, outbox.ledger.evicted + 1);
});

test("a block on lease is not evicted, and what has no room then waits", (t) => {
  const outbox = rig(t, { maxBytes: 512 * 1024 });
  const first = outbox.engine;
  outbox.commit(LOW, 5, 400);
  const batch = first.lease(LEASE_ALL);
  assert.ok(batch);
  fillWith(outbox, LOW);
  assert.equal(first.ids(batch.lease).length, 5, "it is still there");
  while (first.lease(LEASE_ALL) !== undefined);
  let committed = outbox.commit(LOW, 5, 400);
  for (let n = 0; n < 100 && !committed.full; n++) committed = outbox.commit(LOW, 5, 400);
  while (first.lease(LEASE_ALL) !== undefined);
  assert.equal(imbalance(outbox.ledger), 0);
});

test("under refuse nothing is evicted: what has no room is not stored, and is once there is some", (t) => {
  const outbox = rig(t, { maxBytes: 512 * 1024, whenFull: "refuse" });
  while (!outbox.commit(NORMAL, 5, 400).full);
  while (!outbox.commit(CRITICAL, 5, 400).full);
  const { accepted } = outbox.ledger;
  assert.deepEqual(outbox.commit(CRITICAL, 5, 400), { stored: 0, full: true });
  assert.equal(outbox.ledger.accepted, accepted);
  outbox.deliver(2);
  assert.deepEqual(outbox.commit(CRITICAL, 5, 400), { stored: 1, full: false });
  assert.deepEqual([outbox.ledger.evicted, imbalance(outbox.ledger)], [0, 0]);
});

test("under refuse the last of the room is left to critical readings", (t) => {
  const outbox = rig(t, { maxBytes: 512 * 1024, whenFull: "refuse" });
  for (const lane of [NORMAL, LOW, HIGH]) while (!outbox.commit(lane, 5, 400).full);
  for (let n = 0; n < 20; n++) assert.equal(outbox.commit(CRITICAL, 1).stored, 1);
  while (!outbox.commit(CRITICAL, 5, 400).full);
  assert.ok(outbox.engine.books().bytes <= 512 * 1024);
  assert.equal(imbalance(outbox.ledger), 0);
});

test("an empty outbox takes a block that is larger than it should hold", (t) => {
  const outbox = rig(t, { maxBytes: 256 * 1024, whenFull: "refuse" });
  assert.equal(outbox.commit(NORMAL, 1, 300 * 1024).stored, 1);
  assert.equal(outbox.commit(NORMAL, 1).full, true);
  outbox.deliver();
  assert.equal(outbox.commit(NORMAL, 1).full, false);
});

test("with less free disk than is to be reserved the file stops growing, and only what arrives makes others go", (t) => {
  const outbox = rig(t, { reserveFreeDisk: 100 * 2 ** 20 });
  for (let n = 0; n < 800; n++) outbox.commit(NORMAL, 5, 400);
  const { pending } = outbox.ledger;
  const { count } = outbox.store.pages();
  outbox.freeDisk = 50 * 2 ** 20;
  outbox.tend();
  assert.equal(outbox.ledger.pending, pending, "nothing goes for the sake of the disk");
  for (let n = 0; n < 800; n++) outbox.commit(NORMAL, 5, 400);
  assert.ok(outbox.ledger.evicted > 0);
  assert.equal(outbox.store.pages().count, count, "the file does not grow");
  outbox.freeDisk = Number.POSITIVE_INFINITY;
  const { evicted } = outbox.ledger;
  for (let n = 0; n < 100; n++) outbox.commit(NORMAL, 5, 400);
  assert.equal(outbox.ledger.evicted, evicted);
  assert.ok(outbox.store.pages().count > count, "with the disk free again it grows");
});

test("an outbox that finds its limit lowered comes down to it, some blocks at a time", (t) => {
  const file = join(temporaryFolder(t), "outbox.db");
  const before = new EngineRig(t, file, { maxBytes: 8 * 2 ** 20 });
  for (let n = 0; n < 1500; n++) before.commit(n % 4, 5, 400);
  before.store.close();
  const outbox = new EngineRig(t, file, { maxBytes: 2 ** 20 });
  assert.ok(outbox.engine.books().room.fill > 1);
  outbox.tend();
  assert.ok(outbox.engine.books().room.fill <= 1);
  assert.ok(outbox.engine.books().bytes <= 2 ** 20);
  assert.deepEqual([outbox.ledgers[CRITICAL]?.evicted, imbalance(outbox.ledger)], [0, 0]);
});

test("a reading expires when it has waited for maxAge, the oldest first, and not when it is on lease", (t) => {
  const outbox = rig(t, { maxAge: 3000 });
  outbox.commit(NORMAL, 3);
  outbox.pass(2000);
  outbox.commit(LOW, 2);
  assert.equal(outbox.engine.books().expiresIn, 1000);
  outbox.pass(999);
  outbox.tend();
  assert.equal(outbox.ledger.expired, 0);
  outbox.pass(1);
  outbox.tend();
  assert.deepEqual([outbox.ledger.expired, outbox.ledger.pending], [3, 2]);
  assert.ok(outbox.engine.lease(LEASE_ALL));
  outbox.pass(HOUR);
  outbox.tend();
  assert.deepEqual([outbox.ledger.expired, outbox.ledger.pending], [3, 2]);
  assert.equal(imbalance(outbox.ledger), 0);
});

test("a wrong clock that is set right expires nothing, in the same boot or at the next start", (t) => {
  const outbox = rig(t, { maxAge: 24 * HOUR });
  outbox.wall = Date.UTC(1980, 0, 1);
  outbox.quality = "unsynchronised";
  outbox.tend();
  outbox.commit(NORMAL, 3);
  outbox.pass(HOUR);
  outbox.wall = Date.UTC(2026, 6, 1);
  outbox.quality = "stepped";
  outbox.tend();
  outbox.quality = "synchronised";
  outbox.tend();
  outbox.pass(22 * HOUR);
  outbox.tend();
  assert.equal(outbox.ledger.expired, 0);
  outbox.wall += 400 * 24 * HOUR;
  outbox.tend();
  assert.equal(outbox.ledger.expired, 0, "a synchronised clock that jumps expires nothing either");
  outbox.pass(HOUR);
  outbox.tend();
  assert.equal(outbox.ledger.expired, 3, "elapsed time does");
});

for (const [before, after, expires] of [
  ["synchronised", "synchronised", true],
  ["unsynchronised", "synchronised", false],
  ["synchronised", "unsynchronised", false],
  ["stepped", "stepped", false],
] as const) {
  test(`time switched off, ${before} before and ${after} after, counts: ${expires}`, (t) => {
    const outbox = rig(t, { maxAge: 24 * HOUR });
    outbox.quality = before;
    outbox.tend();
    outbox.commit(NORMAL, 3);
    outbox.pass(HOUR);
    outbox.tend();
    outbox.powerCut(30 * HOUR, after);
    outbox.tend();
    assert.equal(outbox.ledger.expired, expires ? 3 : 0);
    outbox.pass(23 * HOUR);
    outbox.tend();
    assert.equal(outbox.ledger.expired, 3, "the time that it was on counts, in both boots");
  });
}

test("a clock that was set before a power cut is no time switched off", (t) => {
  const outbox = rig(t, { maxAge: 24 * HOUR });
  outbox.tend();
  outbox.commit(NORMAL, 3);
  outbox.wall += 400 * 24 * HOUR;
  outbox.tend();
  outbox.powerCut(0);
  outbox.tend();
  assert.equal(outbox.ledger.expired, 0);
});

test("time switched off counts from when the clock is synchronised after the start", (t) => {
  const outbox = rig(t, { maxAge: 24 * HOUR });
  outbox.tend();
  outbox.commit(NORMAL, 3);
  outbox.powerCut(23 * HOUR, "unsynchronised");
  outbox.wall = Date.UTC(1970, 0, 1);
  outbox.pass(60_000);
  outbox.tend();
  assert.equal(outbox.engine.books().expiresIn, 24 * HOUR - 61_000);
  outbox.wall = Date.UTC(2026, 6, 1) + 23 * HOUR + 60_000;
  outbox.quality = "synchronised";
  outbox.tend();
  assert.equal(outbox.engine.books().expiresIn, HOUR - 60_000);
});

test("control: an age clock that believes every clock expires what a wrong one said", async (t) => {
  const dist = mutant(t, "outbox/age-clock.js", "!this.#previous.seenSynchronised", "false");
  const modules = {
    ...(await import(join(dist, "outbox/store.js"))),
    ...(await import(join(dist, "outbox/engine.js"))),
  };
  const outbox = rig(t, { maxAge: 24 * HOUR }, modules);
  outbox.wall = Date.UTC(1980, 0, 1);
  outbox.quality = "unsynchronised";
  outbox.tend();
  outbox.commit(NORMAL, 3);
  outbox.wall = Date.UTC(2026, 6, 1);
  outbox.powerCut(0);
  outbox.tend();
  assert.equal(outbox.ledger.expired, 3);
});

test("a dead letter that is requeued waits anew", (t) => {
  const outbox = rig(t, { maxAge: HOUR });
  outbox.commit(NORMAL, 1);
  const batch = outbox.engine.lease(LEASE_ALL);
  assert.ok(batch);
  const settlement = { delivered: [], deadLettered: [{ index: 0, code: "c", detail: "d" }] };
  outbox.engine.commit({ blocks: [], settlements: [{ lease: batch.lease, settlement }], duplicates: 0 });
  outbox.pass(40 * HOUR);
  outbox.engine.requeue("all");
  outbox.tend();
  assert.deepEqual([outbox.ledger.pending, outbox.ledger.expired], [1, 0]);
  outbox.pass(HOUR);
  outbox.tend();
  assert.deepEqual([outbox.ledger.pending, outbox.ledger.expired], [0, 1]);
});

test("what was put off expires in time although a requeued dead letter, which waits anew, lies before it", (t) => {
  const outbox = rig(t, { maxAge: HOUR });
  outbox.commit(NORMAL, 51);
  const batch = outbox.engine.lease(LEASE_ALL);
  assert.ok(batch);
  const settlement = {
    delivered: [],
    deadLettered: [{ index: 0, code: "c", detail: "d" }],
    retryLater: { indexes: Array.from({ length: 50 }, (_, index) => index + 1), delayMs: 5 * HOUR },
  };
  outbox.engine.commit({ blocks: [], settlements: [{ lease: batch.lease, settlement }], duplicates: 0 });
  outbox.pass(HOUR - 1000);
  outbox.engine.requeue("all");
  outbox.tend();
  const { oldestSince, expiresIn } = outbox.engine.books();
  assert.deepEqual([outbox.monotonic - (oldestSince ?? 0), expiresIn], [HOUR - 1000, 1000]);
  outbox.pass(1000);
  outbox.tend();
  assert.deepEqual([outbox.ledger.pending, outbox.ledger.expired], [1, 50]);
  assert.equal(outbox.monotonic - (outbox.engine.books().oldestSince ?? 0), 1000);
});

test("what is due at once goes in parts, each a short transaction", (t) => {
  const outbox = rig(t, { maxAge: HOUR });
  for (let n = 0; n < 450; n++) outbox.commit(NORMAL, 1);
  outbox.pass(HOUR);
  assert.equal(outbox.engine.tend("synchronised"), true);
  assert.equal(outbox.ledger.expired, 200);
  outbox.tend();
  assert.equal(outbox.ledger.expired, 450);
});

test("a block has room in the pages that are counted for it", (t) => {
  const outbox = rig(t);
  for (const bytes of [10, 400, 3900, 4000, 4100, 8000, 50_000, 400_000]) {
    const before = outbox.store.pages().count;
    outbox.store.transaction(() => {
      const body = Buffer.alloc(bytes);
      const key = outbox.store.lastSeq() + bytes;
      const head = { key, lastSeq: key, count: 1, sequence: null, observedFrom: 0, observedTo: 0, acceptedAt: 0 };
      const rest = { acceptedMonotonic: 0, boot: 1, clock: "synchronised" as const, rawBytes: bytes, rawCrc: 0 };
      outbox.store.insertBlock({ ...head, ...rest, body });
    });
    assert.ok(outbox.store.pages().count - before <= pagesFor(bytes), `${bytes} bytes`);
  }
});

test("the limit in pages leaves room for the write-ahead log, and follows the disk where that is shorter", () => {
  const sizes = { walBytes: 100 * PAGE_BYTES };
  const settings = { maxBytes: 1000 * PAGE_BYTES, reserveFreeDisk: 500 * PAGE_BYTES };
  const now = { pages: 300, fileBytes: 300 * PAGE_BYTES, walBytes: 50 * PAGE_BYTES, freeDisk: 10_000 * PAGE_BYTES };
  const limit = (changes: Partial<typeof now>) => pageLimit(settings, sizes, { ...now, ...changes });
  assert.deepEqual(limit({}), { pages: 900, limitedBy: "maxBytes" });
  assert.deepEqual(limit({ walBytes: 200 * PAGE_BYTES }), { pages: 800, limitedBy: "maxBytes" });
  assert.deepEqual(limit({ freeDisk: 650 * PAGE_BYTES }), { pages: 400, limitedBy: "reserveFreeDisk" });
  assert.deepEqual(limit({ freeDisk: 0 }), { pages: 300, limitedBy: "reserveFreeDisk" });
});
