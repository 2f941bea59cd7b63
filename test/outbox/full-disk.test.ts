/** What is promised while the disk is full, where the fault comes at an awkward moment. */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import Database from "better-sqlite3";
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

interface World {
  readonly outbox: Outbox;
  readonly saysFull: () => boolean;
}

async function open(folder: string, bootId = "boot"): Promise<World> {
  const log = pino({ level: "silent" });
  const conditions = new Conditions(systemClock, log);
  const outbox = await Outbox.open(outboxSettings(folder, { maxBytes: 32 * 2 ** 20, bootId }), {
    clock: systemClock,
    telemetry: { log, metrics: new Registry() },
    conditions,
    clockQuality: () => "synchronised",
    onFatal: (error) => assert.fail(error),
  });
  return { outbox, saysFull: () => conditions.list().some(({ code }) => code === "disk-full") };
}

async function accept(outbox: Outbox): Promise<void> {
  const noise = () => Array.from({ length: 60 }, () => Math.random().toString(36).slice(2)).join("");
  const readings = Array.from({ length: READINGS }, () => observation({ attributes: { noise: noise() } }));
  await new Promise<void>((committed) => outbox.append(readings, Date.now(), committed));
}

/** One reading, and the others are to come later: that takes the space of the reserve. */
async function deliverOne(outbox: Outbox): Promise<void> {
  const batch = await outbox.lease(BATCH);
  assert.ok(batch);
  const later = Array.from({ length: batch.count - 1 }, (_, index) => index + 1);
  const retryLater = { indexes: later, delayMs: 0 };
  await outbox.settle(batch, { delivered: [{ from: 0, to: 1 }], deadLettered: [], retryLater });
}

async function deliver(outbox: Outbox): Promise<void> {
  for (;;) {
    const batch = await outbox.lease(BATCH);
    if (batch === undefined) return;
    await outbox.settle(batch, { delivered: [{ from: 0, to: batch.count }], deadLettered: [] });
  }
}

for (const kind of ["tmpfs", "ext4"] as const) {
  const skip = noSmallDisk(kind);

  test(`disk-full ends, and the reserve is made again, where nothing comes and nothing waits any more (${kind})`, {
    skip,
  }, async (t) => {
    const disk = SmallDisk.mount(t, kind, 16);
    const { outbox, saysFull } = await open(disk.folder);
    t.after(() => outbox.close());
    await accept(outbox);
    const giveBack = disk.fill();
    await deliverOne(outbox);
    await deliver(outbox);
    assert.deepEqual([outbox.ledger().pending, outbox.ledger().delivered], [0, READINGS]);
    assert.ok(saysFull());
    giveBack();
    await until("it is well again", () => !saysFull());
    assert.ok(existsSync(join(disk.folder, "outbox.reserve")));
  });

  test(`after a reboot with a full disk and no reserve left it starts, says so, and delivers what waits (${kind})`, {
    skip,
  }, async (t) => {
    const disk = SmallDisk.mount(t, kind, 16);
    const before = await open(disk.folder);
    await accept(before.outbox);
    const giveBack = disk.fill();
    await deliverOne(before.outbox);
    assert.ok(before.saysFull());
    disk.fill();
    await before.outbox.close();
    disk.fill();
    const { outbox, saysFull } = await open(disk.folder, "after the reboot");
    t.after(() => outbox.close());
    await until("it says that the disk is full", saysFull);
    await deliver(outbox);
    assert.deepEqual([outbox.ledger().pending, outbox.ledger().delivered], [0, READINGS]);
    giveBack();
    await until("it is well again", () => !saysFull());
    await accept(outbox);
    const file = new Database(join(disk.folder, "outbox.db"), { readonly: true });
    t.after(() => file.close());
    const boots = file.prepare("SELECT boot_id FROM boot ORDER BY id").pluck();
    assert.deepEqual(boots.all(), ["boot", "after the reboot"]);
    assert.deepEqual(file.prepare("SELECT DISTINCT boot FROM block").pluck().all(), [2]);
  });
}
