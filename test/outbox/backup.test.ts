import assert from "node:assert/strict";
import { chmodSync, existsSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { type TestContext, test } from "node:test";
import Database from "better-sqlite3";
import { backup, restore } from "#src/outbox/backup.js";
import { verify } from "#src/outbox/verify.js";
import { closeEngine, drain, type Filled, fill, flip, openEngine, store, totals } from "../support/damage.ts";
import { observation } from "../support/observations.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

const OPTIONS = { maxBytes: 2 ** 30, bootId: "boot" };
const IDLE = { inUse: false };
const NEW = { ...IDLE, overwrite: false };
const OVER = { ...IDLE, overwrite: true };

async function filled(t: TestContext): Promise<Filled & { readonly file: string; readonly copy: string }> {
  const outbox = await fill(temporaryFolder(t), 60);
  return { ...outbox, file: join(outbox.folder, "outbox.db"), copy: join(temporaryFolder(t), "copy.db") };
}

test("a whole outbox verifies, at rest and in use, and is not changed by it", async (t) => {
  const { folder, file, waiting, deadLetters } = await filled(t);
  const bytes = readFileSync(file);
  let told = 0;
  const onProgress = (done: number): void => {
    told = done;
  };
  const report = verify(file, { ...IDLE, onProgress });
  assert.deepEqual([report.ok, report.readings, report.deadLetters], [true, waiting.size, deadLetters.size]);
  assert.equal(told, report.blocks);
  assert.deepEqual(readFileSync(file), bytes);
  const opened = await openEngine(folder);
  store(opened.engine, 0, [observation()]);
  assert.equal(verify(file, { inUse: true }).readings, waiting.size + 1);
  closeEngine(opened);
});

test("verify names what is wrong: a payload, the structure, the books, a dead letter", async (t) => {
  const damages: [RegExp, (file: string) => void][] = [
    [
      /checksum does not match/,
      (file) => run(file, "UPDATE block SET body = zeroblob(length(body)) WHERE key = (SELECT MIN(key) FROM block)"),
    ],
    [
      /lane 2: the ledger says/,
      (file) => run(file, "UPDATE ledger SET accepted = accepted + 1, pending = pending + 1 WHERE lane = 2"),
    ],
    [/do not balance/, (file) => run(file, "UPDATE ledger SET delivered = delivered + 1 WHERE lane = 1")],
    [
      /dead letter .* cannot be read/,
      (file) => run(file, "UPDATE dead_letter SET reading = 'x' WHERE seq = (SELECT MIN(seq) FROM dead_letter)"),
    ],
    [/quick_check|malformed/, (file) => flip(file, 4096 * 8 * 5 + 1)],
    [/header/, (file) => flip(file, 3)],
    [/cut off/, (file) => writeFileSync(file, "")],
  ];
  for (const [expected, damage] of damages) {
    const { file } = await filled(t);
    damage(file);
    const report = verify(file, IDLE);
    assert.equal(report.ok, false, String(expected));
    assert.match(report.problems.join("\n"), expected);
  }
});

function run(file: string, sql: string): void {
  const db = new Database(file);
  db.exec(sql);
  db.close();
}

test("a file that is not there, or of another version, is a clear error", async (t) => {
  const { file, copy } = await filled(t);
  assert.throws(() => verify(`${file}.not`, IDLE), { code: "OUTBOX_MISSING" });
  assert.throws(() => backup(`${file}.not`, copy, NEW), { code: "OUTBOX_MISSING", hint: /gateway\.dataDir/ });
  assert.throws(() => restore(`${file}.not`, { ...OPTIONS, file }), {
    code: "OUTBOX_MISSING",
    hint: /backup FILE/,
  });
  run(file, "PRAGMA user_version = 99");
  assert.throws(() => verify(file, IDLE), { code: "OUTBOX_TOO_NEW" });
});

test("a folder, or what another user keeps to himself, is a clear error, and no fault in the program", async (t) => {
  const { file, copy, folder } = await filled(t);
  const locked = join(temporaryFolder(t), "locked.db");
  writeFileSync(locked, readFileSync(file), { mode: 0o000 });
  // Root may read everything.
  for (const named of process.getuid?.() === 0 ? [folder] : [folder, locked]) {
    const fault = { name: "GatewayError", code: "OUTBOX_UNREADABLE" };
    assert.throws(() => verify(named, IDLE), fault);
    assert.throws(() => backup(named, copy, NEW), fault);
    assert.throws(() => restore(named, { ...OPTIONS, file }), fault);
  }
});

test("a copy that is made while the outbox is in use is whole, of one moment, and one file", async (t) => {
  const { folder, file, copy, waiting } = await filled(t);
  const opened = await openEngine(folder);
  store(opened.engine, 0, [observation()]);
  const report = backup(file, copy, { ...NEW, inUse: true });
  store(opened.engine, 0, [observation()]);
  assert.deepEqual([report.ok, report.readings], [true, waiting.size + 1]);
  assert.deepEqual([existsSync(`${copy}-wal`), existsSync(`${copy}.partial`)], [false, false]);
  assert.throws(() => backup(file, copy, NEW), { code: "BACKUP_EXISTS" });
  assert.throws(() => backup(file, file, OVER), { code: "BACKUP_EXISTS" });
  assert.equal(backup(file, copy, { ...OVER, inUse: true }).readings, waiting.size + 2);
  closeEngine(opened);
});

test("a copy is its owner's alone, also in a folder that is everybody's and in the place of one that was not", async (t) => {
  const { file, copy } = await filled(t);
  chmodSync(dirname(copy), 0o755);
  const umask = process.umask(0);
  t.after(() => process.umask(umask));
  assert.equal(backup(file, copy, NEW).ok, true);
  assert.equal(statSync(copy).mode & 0o777, 0o600);
  chmodSync(copy, 0o644);
  backup(file, copy, OVER);
  assert.equal(statSync(copy).mode & 0o777, 0o600);
});

test("a restored copy delivers what it holds, as an outbox of its own whose numbers go on above both", async (t) => {
  const { folder, file, copy, waiting, outboxId } = await filled(t);
  backup(file, copy, NEW);
  const opened = await openEngine(folder);
  drain(opened.engine);
  store(opened.engine, 0, [observation(), observation()]);
  const { lastSeq } = opened.engine.books();
  closeEngine(opened);

  const restored = restore(copy, { ...OPTIONS, file });
  assert.equal(restored.pending, waiting.size);
  assert.equal(restored.nextSeq, lastSeq + 1);
  assert.equal(restored.setAside, `${file}.replaced-1`);
  assert.equal(verify(`${file}.replaced-1`, IDLE).readings, 2, "what was there is kept");
  const again = await openEngine(folder);
  assert.equal(again.repair, undefined);
  assert.notEqual(again.store.outboxId, outboxId);
  assert.deepEqual(new Set(drain(again.engine)), waiting);
  assert.equal(totals(again.engine).pending, 0);
  closeEngine(again);
});

test("what an outbox still held that a copy has replaced is told, and comes back from the file that is kept", async (t) => {
  const { folder, file, copy, waiting, deadLetters } = await filled(t);
  backup(file, copy, NEW);
  const put = () => restore(copy, { ...OPTIONS, file });
  assert.deepEqual(put().left, { pending: waiting.size, deadLetters: deadLetters.size });

  const opened = await openEngine(folder);
  drain(opened.engine);
  opened.engine.drop("all");
  closeEngine(opened);
  const back = restore(`${file}.replaced-1`, { ...OPTIONS, file });
  assert.deepEqual([back.left, back.pending], [{ pending: 0, deadLetters: 0 }, waiting.size]);

  writeFileSync(file, "garbage");
  assert.deepEqual(put().left, { pending: null, deadLetters: null });
});

test("a copy takes a damaged outbox's place, and where there is none", async (t) => {
  const { folder, file, copy, waiting, lastSeq } = await filled(t);
  backup(file, copy, NEW);
  writeFileSync(file, "garbage");
  assert.ok(restore(copy, { ...OPTIONS, file }).nextSeq > lastSeq + 1);
  const opened = await openEngine(folder);
  assert.equal(drain(opened.engine).length, waiting.size);
  closeEngine(opened);
  const elsewhere = temporaryFolder(t);
  assert.equal(restore(copy, { ...OPTIONS, file: join(elsewhere, "outbox.db") }).setAside, null);
  const other = await openEngine(elsewhere);
  assert.equal(drain(other.engine).length, waiting.size);
  closeEngine(other);
});

test("a damaged copy, or a file of another kind, is not put in place, and nothing is changed", async (t) => {
  const { file, copy } = await filled(t);
  backup(file, copy, NEW);
  run(copy, "UPDATE block SET body = zeroblob(length(body)) WHERE key = (SELECT MIN(key) FROM block)");
  const bytes = readFileSync(file);
  assert.throws(() => restore(copy, { ...OPTIONS, file }), { code: "BACKUP_DAMAGED" });
  flip(copy, 3);
  assert.throws(() => restore(copy, { ...OPTIONS, file }), { code: "BACKUP_DAMAGED", message: /header/ });
  for (const content of ["gateway: { id: a }\n", "a page of text\n".repeat(1000)]) {
    writeFileSync(copy, content);
    assert.throws(() => restore(copy, { ...OPTIONS, file }), { code: "NOT_AN_OUTBOX", hint: /Name a copy/ });
  }
  assert.deepEqual(readFileSync(file), bytes);
  assert.equal(existsSync(`${file}.fresh`), false);
});

test("a copy that is not whole does not take a good one's place", async (t) => {
  const { file, copy, waiting } = await filled(t);
  assert.equal(backup(file, copy, NEW).ok, true);
  run(file, "UPDATE block SET body = zeroblob(length(body)) WHERE key = (SELECT MIN(key) FROM block)");
  const report = backup(file, copy, OVER);
  assert.deepEqual([report.ok, report.file], [false, `${copy}.partial`]);
  const { ok, readings } = verify(copy, IDLE);
  assert.deepEqual([ok, readings], [true, waiting.size]);
});

test("a kept block that is damaged is named", async (t) => {
  const { file } = await filled(t);
  const keep = `INSERT INTO kept_block SELECT 1, 1, 1, 1, clock, 0, key, last_seq, count, sequence, observed_from, observed_to, raw_bytes, raw_crc, body
    FROM block WHERE key < 281474976710656 ORDER BY key LIMIT 1`;
  run(file, keep);
  const whole = verify(file, IDLE);
  assert.equal(whole.ok, true);
  assert.ok(whole.kept > 0);
  run(file, "UPDATE kept_block SET body = zeroblob(length(body))");
  const report = verify(file, IDLE);
  assert.deepEqual([report.problemCount, report.kept], [1, 0]);
  assert.match(report.problems.join(), /the kept block/);
});
