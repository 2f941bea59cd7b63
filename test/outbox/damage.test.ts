/**
 * Damaged files: what can be read goes on, what cannot is counted, and no start is like the one before it for ever.
 * `FLIP_ROUNDS` sets the number of rounds, `FLIP_SEED` the seed.
 */
import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, rmSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, type TestContext, test } from "node:test";
import Database from "better-sqlite3";
import { imbalance } from "#src/outbox/ledger.js";
import { seededRandom } from "#src/simulator/random.js";
import {
  closeEngine,
  copyOutbox,
  drain,
  drainRestarting,
  type Filled,
  fill,
  flip,
  openEngine,
  store,
  totals,
} from "../support/damage.ts";
import { observation } from "../support/observations.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

const ROUNDS = Number(process.env.FLIP_ROUNDS ?? 100);
const SEED = Number(process.env.FLIP_SEED ?? Math.floor(Math.random() * 2 ** 31));
const BLOCKS = 300;

let original: Filled;
before(async () => {
  original = await fill(mkdtempSync(join(tmpdir(), "summit-edge-test-")), BLOCKS);
});
after(() => rmSync(original.folder, { recursive: true, force: true }));

/** A copy of the filled outbox, damaged by `damage`. */
function damaged(t: Pick<TestContext, "after">, damage: (file: string, folder: string) => void): string {
  const folder = temporaryFolder(t);
  copyOutbox(original.folder, folder);
  damage(join(folder, "outbox.db"), folder);
  return folder;
}

interface Outcome {
  readonly delivered: number;
  readonly damaged: number;
  readonly repaired: boolean;
  readonly starts: number;
}

/** Starts on a damaged file until everything that can be had is out, and checks what must hold whatever was damaged. */
async function recovered(folder: string, label: string): Promise<Outcome> {
  const { ids, opened, starts } = await drainRestarting(folder);
  const { engine } = opened;
  const books = totals(engine);
  assert.equal(imbalance(books), 0, `${label}: the books balance`);
  assert.equal(books.pending, 0, `${label}: nothing is stuck`);
  assert.equal(new Set(ids).size, ids.length, `${label}: no reading goes out twice`);
  for (const id of ids) assert.ok(original.waiting.has(id), `${label}: only what waited goes out`);
  assert.equal(books.accepted, original.ledger.accepted, `${label}: the books go on`);
  assert.equal(books.delivered, original.ledger.delivered + ids.length, `${label}: what went out is delivered`);
  assert.equal(books.damaged, original.waiting.size - ids.length, `${label}: what did not is damaged`);
  assert.ok(engine.books().lastSeq >= original.lastSeq, `${label}: no sequence number is given twice`);
  const repaired = existingSets(folder).length > 0;
  if (repaired)
    assert.notEqual(opened.store.outboxId, original.outboxId, `${label}: a fresh file is an outbox of its own`);

  const [fresh = ""] = store(engine, 2, [observation()]);
  assert.deepEqual(drain(engine), [fresh], `${label}: it works`);
  closeEngine(opened);
  const again = await openEngine(folder);
  assert.ok(again.repair?.now !== true, `${label}: the next start repairs nothing`);
  assert.equal(totals(again.engine).delivered, original.ledger.delivered + ids.length + 1);
  closeEngine(again);
  return { delivered: ids.length, damaged: books.damaged, repaired, starts };
}

const existingSets = (folder: string): string[] =>
  readdirSync(folder).filter((name) => /^outbox\.db\.damaged-\d+$/.test(name));

test(`one flipped bit at a random place, ${ROUNDS} times (seed ${SEED}): the rest is delivered, and the books balance`, async (t) => {
  const random = seededRandom(SEED);
  const bits = statSync(join(original.folder, "outbox.db")).size * 8;
  const seen = { harmless: 0, setAsideBlock: 0, repaired: 0, lost: 0, restarts: 0 };
  for (let round = 0; round < ROUNDS; round++) {
    const bit = Math.floor(random() * bits);
    const folder = damaged(t, (file) => flip(file, bit));
    const page = Math.floor(bit / 8 / 4096) + 1;
    const outcome = await recovered(folder, `bit ${bit} (page ${page})`);
    assert.ok(outcome.damaged <= 500 * 4, `bit ${bit}: one bit costs no more than what shares its page`);
    seen.lost += outcome.damaged;
    seen.restarts += outcome.starts - 1;
    if (outcome.repaired) seen.repaired++;
    else if (outcome.damaged > 0) seen.setAsideBlock++;
    else seen.harmless++;
    rmSync(folder, { recursive: true, force: true });
  }
  t.diagnostic(JSON.stringify(seen));
});

test(`a hundred flipped bits at once (seed ${SEED}): found, set aside, the rest delivered`, async (t) => {
  const random = seededRandom(SEED);
  const bits = statSync(join(original.folder, "outbox.db")).size * 8;
  const folder = damaged(t, (file) => {
    for (let n = 0; n < 100; n++) flip(file, Math.floor(random() * bits));
  });
  const outcome = await recovered(folder, "a hundred bits");
  assert.ok(outcome.delivered > original.waiting.size / 4, "most blocks are whole");
  t.diagnostic(JSON.stringify(outcome));
});

test("a lane of the ledger that has got another number is a lost one: it is mended from what was noted at the last stop", async (t) => {
  const folder = damaged(t, (file) => {
    const db = new Database(file);
    db.exec("UPDATE ledger SET lane = 35 WHERE lane = 3");
    db.close();
  });
  const outcome = await recovered(folder, "lane 35");
  assert.ok(outcome.repaired);
  assert.equal(outcome.damaged, 0);
});

test("bits all over the file's header flipped: nothing is lost", async (t) => {
  for (let bit = 0; bit < 100 * 8; bit += 5) {
    // The schema's version: one that a newer program may have written is refused, not repaired.
    if (bit >= 60 * 8 && bit < 64 * 8) continue;
    const folder = damaged(t, (file) => flip(file, bit));
    const { damaged: lost } = await recovered(folder, `bit ${bit} of the header`);
    assert.equal(lost, 0, `bit ${bit} of the header`);
    rmSync(folder, { recursive: true, force: true });
  }
});

test("bits flipped in every b-tree page: the pages around it are not lost", async (t) => {
  const random = seededRandom(SEED);
  const { size } = statSync(join(original.folder, "outbox.db"));
  for (let page = 1; page <= Math.min(size / 4096, 40); page++) {
    const start = (page - 1) * 4096 + (page === 1 ? 100 : 0);
    const bit = (start + Math.floor(random() * 12)) * 8 + Math.floor(random() * 8);
    const folder = damaged(t, (file) => flip(file, bit));
    await recovered(folder, `page ${page}, bit ${bit}`);
    rmSync(folder, { recursive: true, force: true });
  }
});

test("a file that was cut off gives what is left of it", async (t) => {
  const { size } = statSync(join(original.folder, "outbox.db"));
  for (const share of [0.9, 0.5, 0.1]) {
    const folder = damaged(t, (file) => truncateSync(file, Math.floor(size * share)));
    const outcome = await recovered(folder, `cut to ${share * 100} %`);
    assert.equal(outcome.repaired, true);
    if (share > 0.8) assert.ok(outcome.delivered > 0);
  }
});

for (const [what, damage] of [
  ["an empty file", (file: string) => truncateSync(file, 0)],
  ["garbage", (file: string) => writeFileSync(file, Buffer.alloc(100_000, "garbage"))],
  ["a file that is gone", (file: string) => rmSync(file)],
] as const) {
  test(`${what} in the outbox's place: the books go on, and all that waited is damaged`, async (t) => {
    const folder = damaged(t, damage);
    const outcome = await recovered(folder, what);
    assert.deepEqual([outcome.delivered, outcome.damaged], [0, original.waiting.size]);
  });
}
