/** A repair that is interrupted, one that is needed again and again, and damage that shows only in use. */
import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import Database from "better-sqlite3";
import { quickCheckApart } from "#src/outbox/file-check.js";
import { type FileState, noteClosed, readState, writeState } from "#src/outbox/file-state.js";
import { imbalance } from "#src/outbox/ledger.js";
import { openChecked } from "#src/outbox/opening.js";
import { seededRandom } from "#src/simulator/random.js";
import {
  breakLeaf,
  closeEngine,
  drain,
  drainRestarting,
  type Filled,
  fill,
  flip,
  middleKey,
  openEngine,
  totals,
} from "../support/damage.ts";
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
