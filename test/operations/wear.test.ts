import assert from "node:assert/strict";
import { closeSync, existsSync, fsyncSync, openSync, statfsSync, writeSync } from "node:fs";
import { join } from "node:path";
import { beforeEach, test } from "node:test";
import { WearMeter, type WearTotals, writtenBytes } from "#src/operations/wear.js";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { TestClock } from "../support/test-clock.ts";

/** `TMPFS_MAGIC` of statfs(2). */
const TMPFS = 0x01021994;
const HOUR = 3_600_000;
const YEAR_SECONDS = 365.25 * 86_400;
let clock: TestClock;
let totals: WearTotals;
let meter: WearMeter;

beforeEach(() => {
  clock = new TestClock();
  totals = { writtenBytes: 1_000_000, accepted: 5000, commits: 40 };
  meter = new WearMeter({ clock, enduranceBytes: 1e12, read: () => totals });
});

/** An hour in which so much is written. */
async function hour(writtenBytes: number, accepted: number, commits: number): Promise<void> {
  totals = {
    writtenBytes: (totals.writtenBytes ?? 0) + writtenBytes,
    accepted: totals.accepted + accepted,
    commits: totals.commits + commits,
  };
  await clock.advance(HOUR);
}

test("only what was written since the measuring began counts, and a year is told of from the first minute on", async () => {
  meter.start();
  assert.equal(meter.view()?.bytesPerReading, undefined);
  await clock.advance(59_000);
  assert.equal(meter.view()?.bytesPerYear, undefined);
  await hour(3_600_000, 7200, 1800);
  const view = meter.view();
  assert.equal(view?.writtenBytes, 4_600_000);
  assert.equal(view?.bytesPerReading, 500);
  const seconds = 3659;
  assert.equal(view?.measuredSeconds, seconds);
  assert.equal(view?.commitsPerSecond, 1800 / seconds);
  assert.equal(view?.bytesPerYear, (3_600_000 / seconds) * YEAR_SECONDS);
});

test("the rates are those of the last day: a storm a week ago does not count", async () => {
  meter.start();
  await hour(1e12, 1000, 1000);
  for (let n = 0; n < 48; n++) await hour(7200, 36, 36);
  const view = meter.view();
  assert.equal(view?.bytesPerReading, 200);
  assert.ok((view?.measuredSeconds ?? 0) <= 24 * 3600);
  assert.equal(Math.round((view?.bytesPerYear ?? 0) / YEAR_SECONDS), 2);
});

test("where the kernel accounts for nothing, nothing is claimed", () => {
  totals = { ...totals, writtenBytes: undefined };
  meter.start();
  assert.equal(meter.view(), undefined);
});

test("no timer is left once it is stopped", () => {
  meter.start();
  meter.stop();
  assert.equal(clock.waiting, 0);
});

test("what the kernel charges this process with grows by what is written", (t) => {
  const before = writtenBytes();
  if (before === undefined) {
    assert.ok(!existsSync("/proc/self/io"), "this kernel accounts for what is written");
    return;
  }
  const folder = temporaryFolder(t);
  const file = openSync(join(folder, "written"), "w");
  writeSync(file, Buffer.alloc(1024 * 1024, 1));
  fsyncSync(file);
  closeSync(file);
  const grown = (writtenBytes() ?? 0) - before;
  if (statfsSync(folder).type === TMPFS) assert.equal(grown, 0, "what stays in memory is not charged");
  else assert.ok(grown >= 1024 * 1024, String(grown));
});
