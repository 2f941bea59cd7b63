/** A repair that is interrupted, one that is needed again and again, and damage that shows only in use. */
import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import Database from "better-sqlite3";
import { quickCheckApart } from "#src/outbox/file-check.js";
import { type FileState, noteClosed, readState, writeState } from "#src/outbox/file-state.js";
import { imbalance } from "#src/outbox/ledger.js";
import { noteDamage, openChecked } from "#src/outbox/opening.js";
import { repairText } from "#src/outbox/repair.js";
import { seededRandom } from "#src/simulator/random.js";
import {
  breakLeaf,
  closeEngine,
  copyOutbox,
  drain,
  drainRestarting,
  type Filled,
  fill,
  flip,
  middleKey,
  openEngine,
  store,
  totals,
} from "../support/damage.ts";
import { observation } from "../support/observations.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

const BLOCKS = 60;

async function filled(t: TestContext): Promise<Filled & { readonly file: string }> {
  const outbox = await fill(temporaryFolder(t), BLOCKS);
  return { ...outbox, file: join(outbox.folder, "outbox.db") };
}

const setsIn = (folder: string): string[] => readdirSync(folder).filter((name) => /\.damaged-\d+$/.test(name));

test("a clean stop is noted, and undone by whatever touches the file", async (t) => {
  const { file } = await filled(t);
  assert.equal(readState(file)?.state, "closed");
  const before = statSync(file);
  flip(file, 4096 * 8 * 3 + 2);
  const state = readState(file);
  assert.ok(state?.state === "closed");
  assert.equal(state.size, before.size);
  const opened = await openEngine(join(file, ".."));
  assert.equal(readState(file)?.state, "open");
  closeEngine(opened);
});

test("bits that flip while nothing writes show in use: the process ends, and the next start repairs", async (t) => {
  const { folder, file, waiting, ledger } = await filled(t);
  const known = readState(file)?.known;
  assert.ok(known);
  breakLeaf(file, middleKey(file, 2));
  noteClosed(file, known); // As if the card alone had done it: no time of change tells.
  const { ids, opened, starts } = await drainRestarting(folder);
  const books = totals(opened.engine);
  assert.equal(starts, 2);
  assert.equal(setsIn(folder).length, 1);
  assert.deepEqual([imbalance(books), books.accepted], [0, ledger.accepted]);
  assert.equal(books.damaged, waiting.size - ids.length);
  closeEngine(opened);
});

test("a check that takes longer than a start may wait goes on, and what it finds is told", async (t) => {
  const { file } = await filled(t);
  breakLeaf(file, 0);
  const check = await quickCheckApart(file, 0);
  const fault = check.done ? check.fault : await check.later;
  assert.match(fault ?? "", /quick_check/);
});

test("a power cut at any moment of the replacement: the start after it finishes it", async (t) => {
  for (const renamed of [0, 1, 2, 3]) {
    const { folder, file, waiting } = await filled(t);
    breakLeaf(file, 0);
    const cut = `${file}.damaged-1`;
    // What the repair leaves when it is cut short here: a whole fresh file, and some names changed.
    const other = await fill(temporaryFolder(t), 3);
    const fresh = `${file}.fresh`;
    renameSync(join(other.folder, "outbox.db"), fresh);
    for (const part of ["-wal", "-shm"]) writeFileSync(file + part, "old");
    for (const part of ["", "-wal", "-shm"].slice(0, renamed)) renameSync(file + part, cut + part);
    writeState(file, { state: "replacing", fresh, aside: cut });
    const opened = await openEngine(folder);
    assert.notEqual(waiting.size, other.waiting.size);
    assert.equal(totals(opened.engine).pending, other.waiting.size);
    assert.deepEqual(setsIn(folder), ["outbox.db.damaged-1"]);
    assert.equal(readFileSync(`${cut}-wal`, "utf8"), "old", "the old log does not become the new file's");
    closeEngine(opened);
    assert.equal(existsSync(fresh), false);
  }
});

test("a repair that was interrupted begins again; one that ended the program twice is given up, and that is the end of it", async (t) => {
  for (const attempts of [1, 2]) {
    const { folder, file, waiting, ledger } = await filled(t);
    const known = readState(file)?.known;
    assert.ok(known);
    writeFileSync(`${file}.fresh`, "half-made");
    writeState(file, { state: "damaged", reason: "tried before", attempts, known });
    const opened = await openEngine(folder);
    const books = totals(opened.engine);
    assert.equal(opened.repair?.report.givenUp, attempts === 2);
    assert.equal(books.damaged, attempts === 2 ? waiting.size : 0);
    assert.deepEqual([imbalance(books), books.accepted], [0, ledger.accepted]);
    closeEngine(opened);
    const again = await openEngine(folder);
    assert.equal(again.repair?.now, false);
    closeEngine(again);
  }
});

test("of damaged files the two newest are kept; numbers go on, and readings are never lost twice", async (t) => {
  const { folder, file, waiting } = await filled(t);
  let lost = 0;
  for (let n = 1; n <= 4; n++) {
    breakLeaf(file, 0);
    const opened = await openEngine(folder);
    assert.equal(opened.repair?.now, true);
    assert.ok(opened.repair.report.setAside?.endsWith(`.damaged-${n}`));
    lost += opened.repair.report.damaged;
    closeEngine(opened);
  }
  assert.deepEqual(setsIn(folder), ["outbox.db.damaged-3", "outbox.db.damaged-4"]);
  const opened = await openEngine(folder);
  assert.equal(drain(opened.engine).length, waiting.size - lost);
  closeEngine(opened);
});

test("the loss stays in sight until the damaged file is removed", async (t) => {
  const { folder, file } = await filled(t);
  breakLeaf(file, 0);
  closeEngine(await openEngine(folder));
  const second = await openEngine(folder);
  assert.deepEqual([second.repair?.now, second.repair?.report.reason.startsWith("quick_check")], [false, true]);
  closeEngine(second);
  rmSync(`${file}.damaged-1`);
  const third = await openEngine(folder);
  assert.equal(third.repair, undefined);
  closeEngine(third);
});

test("what is left of a damaged set that was removed in part is never taken for another file's log", async (t) => {
  const { folder, file } = await filled(t);
  const opened = await openEngine(folder);
  for (let n = 0; n < 20; n++) store(opened.engine, 2, [observation()]);
  const crashed = temporaryFolder(t);
  copyOutbox(folder, crashed);
  closeEngine(opened);
  const log = readFileSync(join(crashed, "outbox.db-wal"));
  for (const end of ["clean", "interrupted"]) {
    const folderNow = temporaryFolder(t);
    const fileNow = join(folderNow, "outbox.db");
    copyOutbox(crashed, folderNow);
    flip(`${fileNow}-wal`, Math.floor(log.length / 2) * 8);
    writeFileSync(`${fileNow}.damaged-1-wal`, "an older one");
    if (end === "interrupted") {
      const other = await fill(temporaryFolder(t), 3);
      renameSync(join(other.folder, "outbox.db"), `${fileNow}.fresh`);
      writeState(fileNow, { state: "replacing", fresh: `${fileNow}.fresh`, aside: `${fileNow}.damaged-1` });
    }
    const again = await openEngine(folderNow);
    const aside = again.repair?.report.setAside ?? `${fileNow}.damaged-1`;
    assert.equal(readFileSync(`${aside}-wal`).length, log.length, `${end}: the log stays with its file`);
    assert.equal(again.repair?.now, end === "clean" ? true : undefined);
    assert.equal(imbalance(totals(again.engine)), 0);
    closeEngine(again);
    const third = await openEngine(folderNow);
    assert.notEqual(third.repair?.now, true, `${end}: once is enough`);
    closeEngine(third);
  }
  assert.ok(existsSync(file));
});

test("a repair says which files to remove, and a later one clears away what was left of them", async (t) => {
  const { folder, file } = await filled(t);
  breakLeaf(file, 0);
  const opened = await openEngine(folder);
  const told = opened.repair === undefined ? "" : repairText(opened.repair.report);
  for (const part of ["", "-wal", "-shm", ".report"]) assert.ok(told.includes(`outbox.db.damaged-1${part}`));
  closeEngine(opened);
  rmSync(`${file}.damaged-1`);
  writeFileSync(`${file}.damaged-1-wal`, "left behind");
  breakLeaf(file, 0);
  const again = await openEngine(folder);
  assert.equal(again.repair?.now, true);
  const left = readdirSync(folder).filter((name) => name.endsWith("-wal") && name.includes("damaged"));
  for (const name of left) assert.notEqual(readFileSync(join(folder, name), "utf8"), "left behind");
  closeEngine(again);
});

test("a stop before the check has come to its end does not pass for a clean one: the next start checks", async (t) => {
  const { file } = await filled(t);
  const known = readState(file)?.known;
  assert.ok(known);
  writeState(file, { state: "open", known });
  const options = { file, maxBytes: 2 ** 30, bootId: "boot" };
  const early = await openChecked(options, () => undefined, 0);
  early.close();
  assert.equal(readState(file)?.state, "open");
  const patient = await openChecked(options, () => undefined, 600_000);
  patient.close();
  assert.equal(readState(file)?.state, "closed");
});

test("damage that was noted in use outlives a proper stop", async (t) => {
  const { folder, file } = await filled(t);
  const opened = await openEngine(folder);
  noteDamage(file, "found by the check");
  closeEngine(opened);
  assert.equal(readState(file)?.state, "damaged");
});

test("a state that cannot be read is no fault: the file is checked", async (t) => {
  const random = seededRandom(7);
  const { folder, file, waiting } = await filled(t);
  writeFileSync(`${file}.state`, Buffer.from(Array.from({ length: 100 }, () => Math.floor(random() * 256))));
  const opened = await openEngine(folder);
  assert.equal(opened.repair, undefined);
  assert.equal(drain(opened.engine).length, waiting.size);
  closeEngine(opened);
});

test("a number of the ledger that cannot be right is found, and the books go on from the last stop", async (t) => {
  for (const change of ["delivered = delivered + 1024", "pending = pending + 8", "last_seq = 5"]) {
    const { folder, file, waiting, ledger, lastSeq } = await filled(t);
    const db = new Database(file);
    db.exec(`UPDATE ledger SET ${change}`);
    db.close();
    const opened = await openEngine(folder);
    assert.equal(opened.repair?.now, true, change);
    assert.deepEqual({ ...totals(opened.engine) }, { ...ledger }, change);
    assert.ok(opened.engine.books().lastSeq > lastSeq, change);
    assert.equal(drain(opened.engine).length, waiting.size, change);
    closeEngine(opened);
  }
});

test("a state of an interrupted replacement whose fresh file is gone changes nothing", async (t) => {
  const { folder, file, waiting } = await filled(t);
  const state: FileState = { state: "replacing", fresh: `${file}.fresh`, aside: `${file}.damaged-1` };
  writeState(file, state);
  const opened = await openEngine(folder);
  assert.equal(drain(opened.engine).length, waiting.size);
  closeEngine(opened);
});

test("a file that cannot be opened even after a repair is a clear error, and is not copied again at each start", async (t) => {
  const { folder, file } = await filled(t);
  const options = { file, maxBytes: 2 ** 30, bootId: "boot" };
  const broken = (): never => {
    throw Object.assign(new Error("database disk image is malformed"), { code: "SQLITE_CORRUPT" });
  };
  for (let start = 1; start <= 3; start++)
    await assert.rejects(openChecked(options, broken), { code: "OUTBOX_BEYOND_REPAIR" });
  assert.equal(setsIn(folder).length, 1);
  const opened = await openEngine(folder);
  assert.equal(readState(file)?.state, "open", "what can be opened again is used again");
  closeEngine(opened);
});
