/** What is promised while the disk is full, where the fault comes at an awkward moment. */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { pino } from "pino";
import { Registry } from "prom-client";
import { systemClock } from "#src/kernel/clock.js";
import { Conditions } from "#src/kernel/conditions.js";
import { FullDisk } from "#src/outbox/full-disk.js";
import { Outbox } from "#src/outbox/outbox.js";
import { Reserve } from "#src/outbox/reserve.js";
import { EngineRig, LEASE_ALL } from "../support/engine-rig.ts";
import { observation } from "../support/observations.ts";
import { outboxSettings } from "../support/outbox.ts";
import { noSmallDisk, SmallDisk } from "../support/small-disk.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { until } from "../support/until.ts";

const diskIsFull = (): never => {
  throw Object.assign(new Error("database or disk is full"), { code: "SQLITE_FULL" });
};

test("a disk that is found full after a commit undoes nothing of it: fates are settled once, blocks are stored", (t) => {
  const folder = temporaryFolder(t);
  const rig = new EngineRig(t, join(folder, "outbox.db"));
  rig.commit(2, 10);
  // A reserve that there is never time for, and kept blocks that cannot be dropped.
  const reserve = new Reserve(join(folder, "outbox.db"), 2 ** 40, () => 0);
  rig.engine.dropOldestKept = diskIsFull;
  const disk = new FullDisk(rig.engine, reserve, () => 0);
  const batch = rig.engine.lease(LEASE_ALL);
  assert.ok(batch);
  const settlement = { delivered: [{ from: 0, to: batch.count }], deadLettered: [] };
  const outcome = disk.commit({ blocks: [], settlements: [{ lease: batch.lease, settlement }], duplicates: 0 });
  assert.deepEqual(outcome, { stored: 0, diskFull: true });
  assert.deepEqual([rig.ledger.pending, rig.ledger.delivered], [0, 10]);
});

test("fates without readings hold nothing where the disk is full", (t) => {
  const folder = temporaryFolder(t);
  const rig = new EngineRig(t, join(folder, "outbox.db"));
  const commit = rig.engine.commit.bind(rig.engine);
  let tries = 0;
  rig.engine.commit = (fates) => (tries++ === 0 ? diskIsFull() : commit(fates));
  const disk = new FullDisk(rig.engine, new Reserve(join(folder, "outbox.db"), 2 ** 40, () => 0), () => 0);
  assert.deepEqual(disk.commit({ blocks: [], settlements: [], duplicates: 3 }), { stored: 0, diskFull: true });
  assert.equal(rig.ledger.duplicates, 3);
});

const READINGS = 400;
const BATCH = { ...LEASE_ALL, maxBytes: 512 * 1024 };

test("disk-full ends, and the reserve is made again, on a site where nothing comes and nothing waits any more", {
  skip: noSmallDisk("tmpfs"),
}, async (t) => {
  const disk = SmallDisk.mount(t, "tmpfs", 12);
  const log = pino({ level: "silent" });
  const conditions = new Conditions(systemClock, log);
  const outbox = await Outbox.open(outboxSettings(disk.folder, { maxBytes: 32 * 2 ** 20 }), {
    clock: systemClock,
    telemetry: { log, metrics: new Registry() },
    conditions,
    clockQuality: () => "synchronised",
    onFatal: (error) => assert.fail(error),
  });
  t.after(() => outbox.close());
  const saysFull = () => conditions.list().some(({ code }) => code === "disk-full");
  const noise = () => Array.from({ length: 60 }, () => Math.random().toString(36).slice(2)).join("");
  const readings = Array.from({ length: READINGS }, () => observation({ attributes: { noise: noise() } }));
  await new Promise<void>((committed) => outbox.append(readings, Date.now(), committed));
  const giveBack = disk.fill();
  const first = await outbox.lease(BATCH);
  assert.ok(first);
  const later = Array.from({ length: first.count - 1 }, (_, index) => index + 1);
  const retryLater = { indexes: later, delayMs: 0 };
  await outbox.settle(first, { delivered: [{ from: 0, to: 1 }], deadLettered: [], retryLater });
  for (;;) {
    const batch = await outbox.lease(BATCH);
    if (batch === undefined) break;
    await outbox.settle(batch, { delivered: [{ from: 0, to: batch.count }], deadLettered: [] });
  }
  assert.deepEqual([outbox.ledger().pending, outbox.ledger().delivered], [0, READINGS]);
  assert.ok(saysFull());
  giveBack();
  await until("it is well again", () => !saysFull());
  assert.ok(existsSync(join(disk.folder, "outbox.reserve")));
});
