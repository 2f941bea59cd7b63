/** A commit is answered as soon as it is durable, before the checkpoint that it may bring; what goes wrong then is not lost. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { pino } from "pino";
import { Registry } from "prom-client";
import { systemClock } from "#src/kernel/clock.js";
import { Conditions } from "#src/kernel/conditions.js";
import { FullDisk } from "#src/outbox/full-disk.js";
import type { Outbox } from "#src/outbox/outbox.js";
import { Reserve } from "#src/outbox/reserve.js";
import { Store } from "#src/outbox/store.js";
import { EngineRig } from "../support/engine-rig.ts";
import { mutant } from "../support/mutant.ts";
import { observation } from "../support/observations.ts";
import { outboxSettings } from "../support/outbox.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

const NORMAL = 2;

/** Copies that are in the books after a commit of 3 whose checkpoint found the disk full. */
function copiesAfterFailedCheckpoint(t: TestContext, Disk: typeof FullDisk): number {
  const folder = temporaryFolder(t);
  const rig = new EngineRig(t, join(folder, "outbox.db"));
  const reserve = new Reserve(join(folder, "outbox.db"), 2 ** 20, () => 0);
  assert.ok(reserve.make());
  const { checkpointIfDue } = rig.store;
  rig.store.checkpointIfDue = () => {
    rig.store.checkpointIfDue = checkpointIfDue;
    throw Object.assign(new Error("database or disk is full"), { code: "SQLITE_FULL" });
  };
  const disk = new Disk(rig.engine, reserve, () => 0);
  const told: unknown[] = [];
  try {
    disk.commit({ blocks: [], settlements: [], duplicates: 3 }, (outcome) => told.push(outcome));
  } catch {
    // Whoever was told of it hears of the fault as well.
  }
  assert.deepEqual(told, [{ stored: 0, diskFull: false }]);
  return rig.store.ledgers().reduce((sum, { duplicates }) => sum + duplicates, 0);
}

test("a commit that was answered is not made again, whatever its checkpoint meets", async (t) => {
  assert.equal(copiesAfterFailedCheckpoint(t, FullDisk), 3);
  const dist = mutant(t, "outbox/full-disk.js", "if (isDurable || ", "if (");
  const control = (await import(`${dist}/outbox/full-disk.js`)) as { FullDisk: typeof FullDisk };
  assert.equal(copiesAfterFailedCheckpoint(t, control.FullDisk), 6);
});

/** What the books in memory say after a transaction that failed when they had been changed. */
function acceptedAfterFailure(t: TestContext, Kind: typeof Store): readonly (number | undefined)[] {
  const store = new Kind({ file: join(temporaryFolder(t), "outbox.db"), maxBytes: 2 ** 30, bootId: "boot" });
  t.after(() => store.close());
  store.transaction(() => store.addToLedger(NORMAL, { accepted: 2, pending: 2 }));
  const failing = (): never => {
    store.addToLedger(NORMAL, { accepted: 5, pending: 5 });
    store.setLastSeq(NORMAL, 7);
    throw new Error("a fault");
  };
  assert.throws(() => store.transaction(failing), /a fault/);
  return [store.ledgers()[NORMAL]?.accepted, store.lastSeq()];
}

test("the books in memory are the file's after a transaction that failed", async (t) => {
  assert.deepEqual(acceptedAfterFailure(t, Store), [2, 0]);
  const dist = mutant(
    t,
    "outbox/store.js",
    "catch (fault) {\n            this.#counted = undefined;",
    "catch (fault) {",
  );
  const control = (await import(`${dist}/outbox/store.js`)) as { Store: typeof Store };
  assert.deepEqual(acceptedAfterFailure(t, control.Store), [7, 7]);
});

const DISK_ERROR = 'throw Object.assign(new Error("disk I/O error"), { code: "SQLITE_IOERR_READ" });';
/** Where a disk may fail behind the answer to a first commit, by what is done there. */
const BEHIND_THE_ANSWER: Record<string, readonly [file: string, method: string, failing: string]> = {
  "in its checkpoint": [
    "outbox/store.js",
    "checkpointIfDue() {",
    `if (!this.failed && this.ledgers().some(({ accepted }) => accepted > 0)) {
       this.failed = true;
       ${DISK_ERROR}
     }`,
  ],
  "in numbers that nobody asked for": [
    "outbox/engine.js",
    "books() {",
    `if (this.#ledgers.some(({ accepted }) => accepted > 0) && (this.looks = (this.looks ?? 0) + 1) === 1) {
       ${DISK_ERROR}
     }`,
  ],
};

for (const [where, [file, method, failing]] of Object.entries(BEHIND_THE_ANSWER)) {
  test(`an I/O error after the answer ends the process, and what was acknowledged is in the file: ${where}`, async (t) => {
    const dist = mutant(t, file, method, `${method}\n${failing}`);
    const faulty = (await import(`${dist}/outbox/outbox.js`)) as { Outbox: typeof Outbox };
    const folder = temporaryFolder(t);
    const log = pino({ level: "silent" });
    let acknowledged = 0;
    let outbox: Outbox | undefined;
    t.after(() => outbox?.close());
    const ended = new Promise<boolean>((resolve, reject) => {
      const conditions = new Conditions(systemClock, log);
      const telemetry = { log, metrics: new Registry() };
      const context = { clock: systemClock, telemetry, conditions, clockQuality: () => "synchronised" as const };
      faulty.Outbox.open(outboxSettings(folder), { ...context, onFatal: (_, ioError) => resolve(ioError) })
        .then((opened) => {
          outbox = opened;
          outbox.append([observation()], Date.now(), () => acknowledged++);
        })
        .catch(reject);
    });
    assert.equal(await ended, true);
    assert.equal(acknowledged, 1);
  });
}
