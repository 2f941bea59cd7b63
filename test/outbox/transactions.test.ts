/** What memory knows of a transaction: it follows what was committed, and the log is emptied whoever wrote it. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import type { Notice } from "#src/outbox/books.js";
import { EngineRig, type EngineRigOptions, LEASE_ALL } from "../support/engine-rig.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

const NORMAL = 2;
const SMALL = 2 ** 21;

const rigIn = (t: TestContext, options: EngineRigOptions = {}): EngineRig =>
  new EngineRig(t, join(temporaryFolder(t), "outbox.db"), { maxBytes: SMALL }, undefined, options);

/** Settles one lease: all of it is refused for good. */
function refuse(rig: EngineRig): void {
  const batch = rig.engine.lease({ ...LEASE_ALL, maxBytes: 2 ** 20 });
  assert.ok(batch);
  const deadLettered = Array.from({ length: batch.count }, (_, index) => ({ index, code: "bad", detail: "" }));
  const settlements = [{ lease: batch.lease, settlement: { delivered: [], deadLettered } }];
  rig.engine.commit({ blocks: [], settlements, duplicates: 0 });
}

function assertLogWithinLimit(rig: EngineRig): void {
  const { wal } = rig.store.fileBytes();
  assert.ok(wal <= rig.store.sizes.walBytes, `the log came to ${wal} of ${rig.store.sizes.walBytes} bytes`);
}

/** The next transaction fails where it adds to the books. */
function failNext(rig: EngineRig): void {
  const add = rig.store.addToLedger.bind(rig.store);
  rig.store.addToLedger = () => {
    rig.store.addToLedger = add;
    throw Object.assign(new Error("database or disk is full"), { code: "SQLITE_FULL" });
  };
}

test("the log keeps to its limit while kept readings go", (t) => {
  const rig = rigIn(t, { keepDelivered: 1000 });
  for (let n = 0; n < 1000; n++) {
    rig.commit(NORMAL, 1);
    rig.deliver();
  }
  rig.pass(2000);
  while (rig.engine.purgeKept("synchronised")) assertLogWithinLimit(rig);
  assert.equal(rig.engine.kept().any, false);
});

test("the log keeps to its limit while dead letters are requeued and dropped", (t) => {
  const rig = rigIn(t, { maxDeadLetters: 10_000 });
  for (let n = 0; n < 4; n++) {
    rig.commit(NORMAL, 400, 300);
    refuse(rig);
  }
  for (const change of ["requeue", "drop"] as const) {
    assert.equal(rig.engine[change]("all").changed, 1600);
    assertLogWithinLimit(rig);
    if (change === "requeue") while (rig.engine.books().ledgers[NORMAL]?.pending !== 0) refuse(rig);
  }
});

test("a transaction that was rolled back leaves every number as it was, and nothing was said of it", (t) => {
  const notices: Notice[] = [];
  const rig = rigIn(t, { maxDeadLetters: 1, keepDelivered: 1000, onNotice: (notice) => notices.push(notice) });
  rig.commit(NORMAL, 3);
  refuse(rig);
  assert.equal(notices.length, 1);
  rig.commit(NORMAL, 5, 400);
  rig.deliver();
  const { kept } = rig.engine.books();
  assert.equal(kept.readings, 5);
  rig.commit(NORMAL, 3);
  const batch = rig.engine.lease(LEASE_ALL);
  assert.ok(batch);
  const deadLettered = [0, 1, 2].map((index) => ({ index, code: "bad", detail: "" }));
  const settlements = [{ lease: batch.lease, settlement: { delivered: [], deadLettered } }];
  // What is counted at such a time would be counted anew each second on a full disk.
  rig.store.countDeadLetters = () => assert.fail("dead letters are counted");
  rig.store.kept.totals = () => assert.fail("kept readings are counted");
  failNext(rig);
  assert.throws(() => rig.engine.commit({ blocks: [], settlements, duplicates: 0 }), /full/);
  assert.equal(notices.length, 1);
  assert.equal(rig.engine.books().deadLetters, 1);
  failNext(rig);
  assert.throws(() => rig.engine.requeue("all"), /full/);
  assert.equal(rig.engine.books().deadLetters, 1);
  rig.engine.commit({ blocks: [], settlements, duplicates: 0 });
  assert.equal(notices.length, 2);
  assert.equal(rig.engine.requeue("all").changed, 1);
  assert.equal(rig.engine.books().deadLetters, 0);
  // After a full disk nothing is kept for a while.
  rig.pass(60_000);
  failNext(rig);
  assert.throws(() => rig.deliver(), /full/);
  assert.deepEqual(rig.engine.books().kept, kept);
});

test("figures that were measured in a transaction that was rolled back are measured again", (t) => {
  const rig = rigIn(t);
  while (rig.engine.books().room.fill < 0.97) rig.commit(NORMAL, 10, 2000);
  rig.commit(NORMAL, 1);
  const batch = rig.engine.lease(LEASE_ALL);
  assert.ok(batch);
  rig.commit(NORMAL, 1);
  const settlement = { delivered: [{ from: 0, to: batch.count }], deadLettered: [] };
  // For which room has to be looked for, and which then find none on the disk.
  const blocks = rig.blocks(NORMAL, 100, 2000);
  const { insertBlock } = rig.store;
  rig.store.insertBlock = () => {
    throw Object.assign(new Error("database or disk is full"), { code: "SQLITE_FULL" });
  };
  const commit = { blocks, settlements: [{ lease: batch.lease, settlement }], duplicates: 0 };
  assert.throws(() => rig.engine.commit(commit), /full/);
  rig.store.insertBlock = insertBlock;
  const books = rig.engine.books();
  rig.engine.look();
  assert.deepEqual(books, rig.engine.books());
});

test("a stop right after the first commit notes the time, for its reading's age", (t) => {
  const rig = rigIn(t);
  rig.engine.look();
  rig.commit(NORMAL, 1);
  rig.engine.noteTime("synchronised");
  assert.equal(rig.store.boots().length, 1);
});
