/** What a salvage copies where the disk has no room for all, whose numbers it keeps, and what becomes of dead letters. */
import assert from "node:assert/strict";
import { readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import Database from "better-sqlite3";
import { AgeClock } from "#src/outbox/age-clock.js";
import { audit } from "#src/outbox/audit.js";
import { noteClosed, readState } from "#src/outbox/file-state.js";
import { addLedgers, imbalance } from "#src/outbox/ledger.js";
import { Pages } from "#src/outbox/pages.js";
import { salvage } from "#src/outbox/salvage.js";
import { Store } from "#src/outbox/store.js";
import { closeEngine, type Filled, fill, openEngine, totals } from "../support/damage.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

const KEPT_BYTES = 100_000;

/** An outbox in which much waits, and more has been delivered and is kept. */
async function filled(t: TestContext): Promise<Filled & { readonly file: string }> {
  const outbox = await fill(temporaryFolder(t), 200);
  const file = join(outbox.folder, "outbox.db");
  run(
    file,
    `WITH RECURSIVE n(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n WHERE id < 60)
     INSERT INTO kept_block SELECT id, 1, 1, 1, 'synchronised', 2, id, id, 1, NULL, 1, 1, 1, 1, randomblob(${KEPT_BYTES}) FROM n`,
  );
  return { ...outbox, file };
}

function run(file: string, sql: string): void {
  const db = new Database(file);
  db.exec(sql);
  db.close();
}

function rowsIn(file: string): Record<string, number> {
  const db = new Database(file, { readonly: true });
  const count = (table: string) => db.prepare(`SELECT COUNT(*) FROM ${table}`).pluck().get() as number;
  const rows = Object.fromEntries(["block", "dead_letter", "kept_block", "boot"].map((name) => [name, count(name)]));
  db.close();
  return rows;
}

/** A salvage onto a disk that has room for `bytes`. */
function salvagedInto(file: string, bytes: number) {
  const fresh = `${file}.fresh`;
  const pages = new Pages(file);
  const sizes: number[] = [];
  const isNearlyFull = (): boolean => {
    sizes.push(statSync(fresh).size);
    return statSync(fresh).size >= bytes;
  };
  try {
    return { fresh, sizes, salvaged: salvage(pages, fresh, isNearlyFull) };
  } finally {
    pages.close();
  }
}

test("a disk with room for what waits: nothing of it is lost, and what was delivered already is left out", async (t) => {
  const { file } = await filled(t);
  const before = rowsIn(file);
  const { fresh, salvaged } = salvagedInto(file, 3 * 2 ** 20);
  const after = rowsIn(fresh);
  assert.ok(salvaged.cutShort);
  assert.deepEqual([after.block, after.dead_letter], [before.block, before.dead_letter]);
  assert.ok((after.kept_block ?? 0) < (before.kept_block ?? 0));
});

test("a disk with room for nothing: the books go on from the ledger, and all that waited is counted as damaged", async (t) => {
  const { file, waiting, ledger } = await filled(t);
  const { fresh, salvaged } = salvagedInto(file, 0);
  const store = new Store({ file: fresh, maxBytes: 2 ** 30, bootId: "boot" });
  const report = audit(store, salvaged, readState(file)?.known);
  const books = store.ledgers().reduce(addLedgers);
  store.close();
  assert.deepEqual([salvaged.cutShort, report.ledger, report.damaged], [true, "read", waiting.size]);
  assert.deepEqual([books.accepted, books.damaged, imbalance(books)], [ledger.accepted, waiting.size, 0]);
  assert.equal(rowsIn(fresh).boot, 1);
});

test("large rows do not run past the room that is left: the disk is looked at by bytes", async (t) => {
  const { file } = await filled(t);
  const room = 4 * 2 ** 20;
  const { fresh, sizes } = salvagedInto(file, room);
  assert.ok(sizes.length > 4);
  assert.ok(statSync(fresh).size < room + 2 ** 20, `${statSync(fresh).size} bytes were written`);
});

test("a boot whose row is lost keeps its number: the readings of then are not taken for ones of now", async (t) => {
  const { folder, file } = await filled(t);
  run(file, "UPDATE kept_block SET delivered_boot = 7");
  const db = new Database(file);
  const root = db.prepare("SELECT rootpage FROM sqlite_schema WHERE name = 'boot'").pluck().get() as number;
  db.close();
  writeFileSync(file, readFileSync(file).fill(0x5a, (root - 1) * 4096, root * 4096));
  const opened = await openEngine(folder);
  assert.equal(opened.repair?.now, true);
  assert.equal(opened.store.boot, 8);
  closeEngine(opened);
});

test("dead letters that the books do not know of can be put back after a repair: the books stay above zero", async (t) => {
  const { folder, file, deadLetters } = await filled(t);
  const state = readState(file);
  assert.ok(deadLetters.size > 0 && state?.known);
  // The books as of a stop before anything was refused, and a ledger that cannot be read.
  const ledgers = state.known.ledgers.map((ledger) => ({
    ...ledger,
    deadLettered: 0,
    accepted: ledger.accepted - ledger.deadLettered,
  }));
  noteClosed(file, { ...state.known, ledgers });
  run(file, "UPDATE ledger SET delivered = delivered + 1024");
  const opened = await openEngine(folder);
  assert.deepEqual([opened.repair?.now, opened.repair?.report.ledger], [true, "remembered"]);
  assert.equal(totals(opened.engine).deadLettered, deadLetters.size);
  assert.equal(opened.engine.requeue("all").changed, deadLetters.size);
  const { ledgers: after } = opened.engine.books();
  assert.ok(after.every((ledger) => imbalance(ledger) === 0 && Object.values(ledger).every((count) => count >= 0)));
  closeEngine(opened);
  const again = await openEngine(folder);
  assert.equal(again.repair?.now, false);
  closeEngine(again);
});

test("a dead letter that is nonsense, or whose reading waits, does not come out of a repair", async (t) => {
  const { folder, file, deadLetters } = await filled(t);
  run(
    file,
    `INSERT INTO dead_letter SELECT (SELECT last_seq FROM block ORDER BY key DESC LIMIT 1), id, lane, code, detail, problem, refused_at, reading
       FROM dead_letter ORDER BY seq LIMIT 1;
     UPDATE dead_letter SET reading = replace(reading, '"ts_iso":"2', '"ts_iso":"x') WHERE seq = (SELECT MIN(seq) FROM dead_letter);
     UPDATE ledger SET delivered = delivered + 1024`,
  );
  const opened = await openEngine(folder);
  assert.deepEqual([opened.repair?.now, opened.repair?.report.deadLetters], [true, deadLetters.size - 1]);
  assert.equal(opened.engine.requeue("all").changed, deadLetters.size - 1);
  closeEngine(opened);
});

test("readings of a boot that a repair has lost do not expire for the time that this one has been up", async (t) => {
  const store = new Store({ file: join(temporaryFolder(t), "outbox.db"), maxBytes: 2 ** 30, bootId: "boot" });
  const day = 86_400_000;
  let monotonic = 31 * day;
  const clock = new AgeClock(store, { monotonic: () => monotonic, now: () => 0 });
  const lost = { boot: store.boot + 1, acceptedMonotonic: 60_000 };
  assert.equal(clock.ageOf(lost), 0);
  monotonic += day;
  assert.equal(clock.ageOf(lost), day);
  store.close();
});
