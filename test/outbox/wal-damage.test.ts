/** A damaged write-ahead log: SQLite would replay it up to the damage and drop acknowledged commits behind it without a word. */
import assert from "node:assert/strict";
import { existsSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { backup } from "#src/outbox/backup.js";
import { imbalance } from "#src/outbox/ledger.js";
import { openOffline } from "#src/outbox/offline.js";
import { readWal } from "#src/outbox/wal-file.js";
import { seededRandom } from "#src/simulator/random.js";
import {
  closeEngine,
  copyOutbox,
  drain,
  drainRestarting,
  flip,
  openEngine,
  settle,
  store,
  totals,
} from "../support/damage.ts";
import { observation } from "../support/observations.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

const ROUNDS = Number(process.env.FLIP_ROUNDS ?? 100);
const SEED = Number(process.env.FLIP_SEED ?? Math.floor(Math.random() * 2 ** 31));
const HEADER_BYTES = 32;
const FRAME_BYTES = 24 + 4096;

/** An outbox as SIGKILL leaves it: commits in the log that no checkpoint has brought into the file. */
async function killed(t: TestContext): Promise<{ folder: string; waiting: Set<string>; settled: number }> {
  const living = temporaryFolder(t);
  const folder = temporaryFolder(t);
  const first = await openEngine(living);
  for (let n = 0; n < 20; n++)
    store(
      first.engine,
      2,
      Array.from({ length: 30 }, () => observation()),
    );
  closeEngine(first);
  const opened = await openEngine(living);
  const waiting = new Set<string>();
  for (let n = 0; n < 40; n++)
    store(
      opened.engine,
      n % 4,
      Array.from({ length: 1 + (n % 50) }, () => observation()),
    );
  const batch = opened.engine.lease({ maxReadings: 100, maxBytes: 1e6, compression: "none", heldBackThrough: 0 });
  assert.ok(batch);
  settle(opened.engine, batch, { delivered: [{ from: 0, to: batch.count }], deadLettered: [] });
  copyOutbox(living, folder);
  for (const id of drain(opened.engine)) waiting.add(id);
  closeEngine(opened);
  return { folder, waiting, settled: batch.count };
}

test(`one flipped bit anywhere in the log, ${ROUNDS} times (seed ${SEED}): no acknowledged reading is lost without being counted`, async (t) => {
  const { folder: original, waiting, settled } = await killed(t);
  const wal = join(original, "outbox.db-wal");
  const random = seededRandom(SEED);
  let repairs = 0;
  let damaged = 0;
  for (let round = 0; round < ROUNDS; round++) {
    // Every eighth in the header, every eighth in the last commit's frames.
    const { size } = statSync(wal);
    const [from, to] =
      round % 8 === 0 ? [0, HEADER_BYTES] : round % 8 === 1 ? [size - 3 * FRAME_BYTES, size] : [0, size];
    const bit = Math.floor((from + random() * (to - from)) * 8);
    const folder = temporaryFolder(t);
    copyOutbox(original, folder);
    flip(join(folder, "outbox.db-wal"), bit);
    const { ids, opened } = await drainRestarting(folder);
    const label = `bit ${bit} of the log`;
    const lost = [...waiting].filter((id) => !ids.includes(id));
    assert.ok(lost.length <= 50, `${label}: no more is lost than shares a page with the bit`);
    assert.equal(ids.length, waiting.size - lost.length, `${label}: nothing goes out twice, nor what was delivered`);
    const books = totals(opened.engine);
    assert.equal(imbalance(books), 0, label);
    if (opened.repair === undefined || opened.repair.report.ledger === "read") {
      assert.deepEqual([books.damaged, books.delivered], [lost.length, settled + ids.length], label);
    }
    assert.equal(lost.length > 0 && opened.repair === undefined, false, `${label}: nothing is lost without a word`);
    damaged += lost.length;
    if (opened.repair?.now === true) repairs++;
    closeEngine(opened);
    rmSync(folder, { recursive: true, force: true });
  }
  t.diagnostic(
    `${repairs} of ${ROUNDS} were repaired, ${damaged} readings of ${ROUNDS * waiting.size} counted as damaged`,
  );
});

test("a log whose last commit is torn is no damage: a power cut does that", async (t) => {
  const { folder, waiting } = await killed(t);
  const wal = join(folder, "outbox.db-wal");
  const { size } = statSync(wal);
  // The last commit's first page never reached the card: there the older content still stands.
  const bytes = readFileSync(wal);
  const torn = Buffer.concat([
    bytes.subarray(0, size - 2 * FRAME_BYTES + 200),
    Buffer.alloc(FRAME_BYTES - 200),
    bytes.subarray(size - FRAME_BYTES),
  ]);
  assert.equal(torn.length, size);
  writeFileSync(wal, torn);
  assert.equal(readWal(wal)?.fault, undefined);
  const { ids, opened } = await drainRestarting(folder);
  assert.equal(opened.repair, undefined);
  for (const id of waiting) assert.ok(ids.includes(id));
  closeEngine(opened);
});

test("a log that was cut off gives what was committed before", async (t) => {
  const { folder } = await killed(t);
  const wal = join(folder, "outbox.db-wal");
  truncateSync(wal, Math.floor(statSync(wal).size / 2));
  const { opened } = await drainRestarting(folder);
  assert.equal(imbalance(totals(opened.engine)), 0);
  closeEngine(opened);
});

test("a command meets a damaged log before the daemon does: it refuses, touches nothing, and the repair loses no more", async (t) => {
  const { folder, waiting } = await killed(t);
  const [file, wal] = [join(folder, "outbox.db"), join(folder, "outbox.db-wal")];
  flip(wal, Math.floor(statSync(wal).size / 2) * 8);
  const before = [readFileSync(file), readFileSync(wal)];
  const outbox = { file: "outbox.db", maxBytes: 2 ** 30, maxAge: 1e9, whenFull: "refuse", reserveFreeDisk: 0 } as const;
  const config = {
    gateway: { id: "sierra-014", dataDir: folder },
    outbox: { ...outbox, maxDeadLetters: 10, keepDelivered: 0 },
  };
  await assert.rejects(openOffline(config as Parameters<typeof openOffline>[0]), { code: "OUTBOX_DAMAGED" });
  const copy = join(temporaryFolder(t), "copy.db");
  assert.throws(() => backup(file, copy, { overwrite: false, inUse: false }), { code: "OUTBOX_DAMAGED" });
  assert.equal(existsSync(copy), false);
  assert.deepEqual([readFileSync(file), readFileSync(wal)], before);
  const { ids, opened } = await drainRestarting(folder);
  assert.ok(opened.repair?.now, "the daemon finds what the commands left");
  assert.equal(totals(opened.engine).damaged, waiting.size - ids.length);
  assert.ok(waiting.size - ids.length <= 50);
  closeEngine(opened);
});
