/**
 * A card that fails: an fsync or a write that gives an error, the daemon killed at an fsync. What was not synced is gone
 * each time; whatever was acknowledged reaches fusion all the same. `FAULTS=30` tries each of the first 30 fsyncs instead
 * of a choice of them, `FAULTS_SEED` repeats a run's choices.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { chance, seedFrom } from "../support/chance.ts";
import { Daemon, type DaemonOptions } from "../support/daemon.ts";
import { noDiskFaults } from "../support/disk-fault.ts";
import { assertBalanced, Load, type Verdict } from "../support/load.ts";
import { mutant, mutantWith } from "../support/mutant.ts";
import { forgetUnsynced, recorded, recording, recordSoFar } from "../support/recorded-writes.ts";
import { assertSound } from "../support/sound.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { until } from "../support/until.ts";

const skip = noDiskFaults();
/** The first eighteen or so make the files; from then on each commit has one. */
const SYNCS = process.env.FAULTS === undefined ? [1, 4, 13, 40] : upTo(Number(process.env.FAULTS));
/** Small, so that there is a checkpoint after some dozens of commits. */
const SMALL = { maxBytes: "8MiB", commitDelay: { critical: "0ms", high: "0ms", normal: "0ms", low: "0ms" } };

function upTo(last: number): number[] {
  return Array.from({ length: last }, (_, index) => index + 1);
}

/** What only a daemon reaches that goes on; under strace everything takes longer. */
const DEADLINE_MS = 120_000;

interface Fault {
  /** As strace writes it. */
  readonly inject: string;
  /** The file of the dataDir that it strikes; every one where none is named. */
  readonly file?: string;
  /** Ends a life that the fault does not end, by what strace has recorded. */
  readonly survived?: (record: string) => boolean;
  /** How much of what was not synced is on the card all the same, 0 to 1; by chance where it is not said. */
  readonly kept?: number;
}

interface Outcome extends Verdict {
  /** Exit status of the life that met the fault; `null` where it was killed. */
  readonly status: number | null;
  readonly record: string;
}

/** One life that meets the fault, under load; the card forgets what was not synced; one more life brings everything home. */
async function after(t: TestContext, fault: Fault, options: Partial<DaemonOptions> = {}): Promise<Outcome> {
  const seed = seedFrom("FAULTS_SEED");
  const random = chance(seed);
  const folder = temporaryFolder(t);
  const dataDir = join(folder, "data");
  const log = join(folder, "strace.log");
  const load = await Load.begin(t);
  const common = { folder, ports: load.ports, uplinkUrl: load.fusion.url, changes: { outbox: SMALL }, ...options };
  const path = fault.file === undefined ? undefined : join(dataDir, fault.file);
  const first = await Daemon.launch({ ...common, under: recording(log, fault.inject, path) });
  t.after(() => first.stop("SIGKILL"));
  const ended = () => first.child.exitCode !== null || first.child.signalCode !== null;
  const { survived } = fault;
  const met = () => ended() || (survived?.(recordSoFar(log)) ?? false);
  await until(`the fault ${fault.inject} ends the daemon`, met, undefined, DEADLINE_MS);
  const status = await first.stop("SIGKILL");
  const record = await recorded(log, first.child);
  const { kept = random() } = fault;
  const { forgotten, unsynced } = forgetUnsynced(record, () => random() < kept);
  load.life++;
  assertSound(t, dataDir, `after ${fault.inject}`);
  const second = await Daemon.start(common);
  t.after(() => second.stop("SIGKILL"));
  await assertBalanced(second, `after ${fault.inject}`);
  const verdict = await load.end(second);
  t.diagnostic(
    `${fault.inject}: ${verdict.summary}; ${forgotten} of ${unsynced} unsynced pieces lost; FAULTS_SEED=${seed}`,
  );
  return { ...verdict, status, record };
}

for (const n of SYNCS) {
  test(`killed at fsync ${n}: no acknowledged reading is lost, the books balance`, { skip }, async (t) => {
    const { status, lost } = await after(t, { inject: `syncs:signal=KILL:when=${n}` });
    assert.equal(status, null, "it was killed");
    assert.deepEqual(lost, []);
  });

  test(`fsync ${n} fails: status 74, and no acknowledged reading is lost`, { skip }, async (t) => {
    // SQLite takes no notice of a folder whose fsync fails, as some file systems have none.
    const folderFailed = (record: string) =>
      /fsync\(\d+<[^>]*\/data>\) += -1 EIO[\s\S]*(fsync[\s\S]*){20}/.test(record);
    const { status, lost, record } = await after(t, {
      inject: `syncs:error=EIO:when=${n}`,
      survived: folderFailed,
    });
    if (!folderFailed(record)) assert.equal(status, 74);
    assert.deepEqual(lost, []);
  });
}

for (const n of [2, 300]) {
  test(`write ${n} to the write-ahead log fails: status 74, and no acknowledged reading is lost`, {
    skip,
  }, async (t) => {
    const { status, lost } = await after(t, { inject: `pwrite64:error=EIO:when=${n}`, file: "outbox.db-wal" });
    assert.equal(status, 74);
    assert.deepEqual(lost, []);
  });
}

const SYNCED = /fsync\(\d+<[^>]*outbox\.db>\) += 0/g;

test("a checkpoint whose fsync fails once is made again: no acknowledged reading is lost", { skip }, async (t) => {
  const madeAgain = (record: string) => (record.split("EIO")[1]?.match(SYNCED)?.length ?? 0) >= 2;
  const { lost } = await after(t, { inject: "syncs:error=EIO:when=2", file: "outbox.db", survived: madeAgain });
  assert.deepEqual(lost, []);
});

test("checkpoints whose fsync fails every time end the daemon with status 74", { skip }, async (t) => {
  const { status, lost } = await after(t, { inject: "syncs:error=EIO:when=2+", file: "outbox.db" });
  assert.equal(status, 74);
  assert.deepEqual(lost, []);
});

test("control: with synchronous=NORMAL a kill at an fsync loses acknowledged readings", { skip }, async (t) => {
  const dist = mutantWith(t, "outbox/store-setup.js", [
    ['db.pragma("synchronous = FULL");', 'db.pragma("synchronous = NORMAL");'],
    ["const SYNCHRONOUS_FULL = 2;", "const SYNCHRONOUS_FULL = 1;"],
  ]);
  // By then the log is synced by checkpoints alone: whatever came since the last one is lost.
  const fault = { inject: "syncs:signal=KILL:when=12", file: "outbox.db-wal", kept: 0 };
  assert.notEqual((await after(t, fault, { dist })).lost.length, 0);
});

test("control: a gateway that goes on after a failed commit loses acknowledged readings", { skip }, async (t) => {
  const dist = mutant(
    t,
    "outbox/commit-writer.js",
    'if (fault === "disk-full")\n                return "disk-full";',
    'if (fault === "io-error") return { stored: blocks.length, diskFull: false, seconds: 0 };',
  );
  const wentOn = (record: string) => /EIO[\s\S]*(fsync[\s\S]*){20}/.test(record);
  const fault = { inject: "syncs:error=EIO:when=40", survived: wentOn };
  assert.notEqual((await after(t, fault, { dist })).lost.length, 0);
});
