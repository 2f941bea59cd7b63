import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { randomUUID } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { gunzipSync } from "node:zlib";
import Database from "better-sqlite3";
import type { Observation } from "#src/observation/observation.js";
import type { Batch, BatchLimits } from "#src/outbox/batch.js";
import { imbalance } from "#src/outbox/ledger.js";
import { MIGRATIONS } from "#src/outbox/migrations.js";
import type { Outbox } from "#src/outbox/outbox.js";
import { observation } from "../support/observations.ts";
import { openOutbox } from "../support/outbox.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { TestClock } from "../support/test-clock.ts";

const LIMITS: BatchLimits = { maxReadings: 500, maxBytes: 512 * 1024, compression: "gzip", heldBackThrough: 0 };

function committed(outbox: Outbox, observations: readonly Observation[]): Promise<void> {
  return new Promise((resolve) => {
    outbox.append(observations, 1_780_000_000_000, resolve);
  });
}

async function leased(outbox: Outbox, limits: Partial<BatchLimits> = {}): Promise<Batch> {
  const batch = await outbox.lease({ ...LIMITS, ...limits });
  assert.ok(batch, "nothing was waiting");
  return batch;
}

function sent(batch: Batch): { replayed: boolean; observations: (Observation & { gateway: { seq: number } })[] } {
  return JSON.parse(gunzipSync(batch.body).toString());
}

const whole = (batch: Batch) => ({ delivered: [{ from: 0, to: batch.count }], deadLettered: [] });

test("a committed reading is on disk, whole, before its acknowledgement, and goes out as the contract says", async (t) => {
  const folder = temporaryFolder(t);
  const outbox = await openOutbox(folder);
  const reading = observation({
    lat: 38.94,
    lon: -120.05,
    traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
  });
  await committed(outbox, [reading]);
  const beside = new Database(join(folder, "outbox.db"), { readonly: true });
  assert.deepEqual(beside.prepare("SELECT SUM(count) AS n FROM block").get(), { n: 1 });
  beside.close();

  const batch = await leased(outbox);
  assert.deepEqual(sent(batch), {
    schema: "summit.observations/1",
    gateway_id: "sierra-014",
    sent_at: (sent(batch) as unknown as { sent_at: string }).sent_at,
    replayed: false,
    observations: [
      {
        ...reading,
        gateway: {
          id: "sierra-014",
          seq: 1,
          received_at: new Date(1_780_000_000_000).toISOString(),
          clock: "synchronised",
        },
      },
    ],
  });
  await outbox.settle(batch, whole(batch));
  assert.equal(outbox.ledger().delivered, 1);
  assert.equal(imbalance(outbox.ledger()), 0);
  await outbox.close();
});

test("every body is one gzip member that other programs read, spliced or compressed again", async (t) => {
  const folder = temporaryFolder(t);
  const outbox = await openOutbox(folder);
  const texts = ["plain", "grüße 🔥", '\u2028 line\nfeed \\ " quote', "x".repeat(70_000)];
  for (const text of texts) await committed(outbox, [observation({ attributes: { text } })]);
  await committed(
    outbox,
    Array.from({ length: 400 }, () => observation()),
  );
  for (const maxReadings of [1, 3, 500]) {
    const batch = await leased(outbox, { maxReadings });
    const file = join(folder, "batch.gz");
    writeFileSync(file, batch.body);
    const other = spawnSync("python3", [
      "-c",
      "import sys,zlib,json; d=zlib.decompressobj(31); b=d.decompress(open(sys.argv[1],'rb').read())+d.flush(); assert d.eof and not d.unused_data; print(len(json.loads(b)['observations']))",
      file,
    ]);
    assert.equal(other.stderr.toString(), "");
    assert.equal(Number(other.stdout.toString()), batch.count);
    assert.equal(spawnSync("gzip", ["-t", file]).status, 0);
    await outbox.settle(batch, { delivered: [], deadLettered: [] });
  }
  const batch = await leased(outbox, { compression: "none" });
  assert.equal(batch.contentEncoding, undefined);
  assert.equal(JSON.parse(Buffer.from(batch.body).toString()).observations.length, batch.count);
  await outbox.settle(batch, whole(batch));
  await outbox.close();
});

test("critical goes first, and within a priority the order of acceptance holds", async (t) => {
  const outbox = await openOutbox(temporaryFolder(t));
  const low = observation({ priority: "low" });
  const normals = Array.from({ length: 5 }, () => observation());
  const critical = observation({ priority: "critical" });
  await committed(outbox, [low]);
  for (const normal of normals) await committed(outbox, [normal]);
  await committed(outbox, [critical]);
  const batch = await leased(outbox);
  assert.deepEqual(
    sent(batch).observations.map(({ id }) => id),
    [critical, ...normals, low].map(({ id }) => id),
  );
  assert.equal(batch.priority, "critical");
  await outbox.close();
});

test("a copy is acknowledged and counted, not accepted again, before and after a restart", async (t) => {
  const folder = temporaryFolder(t);
  let outbox = await openOutbox(folder);
  const reading = observation();
  await committed(outbox, [reading]);
  await committed(outbox, [reading]);
  assert.equal(outbox.ledger().accepted, 1);
  assert.equal(outbox.ledger().duplicates, 1);
  await outbox.close();
  outbox = await openOutbox(folder);
  await committed(outbox, [reading, observation()]);
  assert.equal(outbox.ledger().accepted, 2);
  assert.equal(outbox.ledger().duplicates, 2);
  await outbox.close();
});

test("a copy of a reading that is not committed yet is acknowledged no earlier than the original", async (t) => {
  const clock = new TestClock();
  const delays = { critical: 1000, high: 1000, normal: 1000, low: 1000 };
  const outbox = await openOutbox(temporaryFolder(t), { commitDelay: delays }, clock);
  const reading = observation();
  const order: string[] = [];
  const original = new Promise<void>((resolve) =>
    outbox.append([reading], 0, () => resolve(void order.push("original"))),
  );
  const copy = new Promise<void>((resolve) => outbox.append([reading], 0, () => resolve(void order.push("copy"))));
  await clock.advance(400);
  assert.deepEqual(order, [], "nothing is acknowledged before the commit");
  await clock.advance(600);
  await Promise.all([original, copy]);
  assert.deepEqual(order, ["original", "copy"]);
  await outbox.close();
});

test("a commit waits for company as long as its priority allows, and a full group does not wait", async (t) => {
  const clock = new TestClock();
  const delays = { critical: 0, high: 0, normal: 250, low: 1000 };
  const outbox = await openOutbox(
    temporaryFolder(t),
    { commitDelay: delays, block: { maxReadings: 10, maxBytes: 65536 } },
    clock,
  );
  const low = committed(outbox, [observation({ priority: "low" })]);
  await clock.advance(240);
  assert.equal(outbox.ledger().accepted, 0);
  // A critical reading does not wait, and takes along what waits.
  await Promise.all([committed(outbox, [observation({ priority: "critical" })]), low]);
  assert.equal(outbox.ledger().accepted, 2);
  await committed(
    outbox,
    Array.from({ length: 25 }, () => observation()),
  );
  assert.equal(outbox.ledger().accepted, 27, "a full group is committed although no time has passed");
  await outbox.close();
});

test("what gathers while a commit is under way does not wait for company, and what comes after it does", async (t) => {
  const clock = new TestClock();
  const delays = { critical: 0, high: 0, normal: 1000, low: 1000 };
  const outbox = await openOutbox(temporaryFolder(t), { commitDelay: delays }, clock);
  const gathered: Promise<void>[] = [];
  const first = committed(outbox, [observation({ priority: "critical" })]);
  await new Promise<void>((resolve) => setImmediate(resolve));
  for (let n = 0; n < 3; n++) gathered.push(committed(outbox, [observation({ priority: "low" })]));
  await Promise.all([first, ...gathered]);
  assert.equal(outbox.ledger().accepted, 4, "although no time has passed");

  let acknowledged = false;
  const late = committed(outbox, [observation()]).then(() => {
    acknowledged = true;
  });
  await clock.advance(999);
  assert.equal(acknowledged, false, "nothing is under way: it waits for company as long as it may");
  await clock.advance(1);
  await late;
  await outbox.close();
});

test("what a lease did not settle waits again after a restart, with the same ids and the same key", async (t) => {
  const folder = temporaryFolder(t);
  let outbox = await openOutbox(folder);
  const readings = Array.from({ length: 30 }, () => observation());
  await committed(outbox, readings);
  const before = await leased(outbox);
  await outbox.close();
  outbox = await openOutbox(folder);
  const after = await leased(outbox);
  assert.deepEqual(sent(after).observations, sent(before).observations);
  assert.equal(after.idempotencyKey, before.idempotencyKey);
  await outbox.close();
});

test("the same set has the same key however it was cut, another set or another outbox never", async (t) => {
  const outbox = await openOutbox(temporaryFolder(t));
  const readings = Array.from({ length: 10 }, () => observation());
  await committed(outbox, readings);
  const first = await leased(outbox);
  const half = await outbox.part(first, { from: 5, to: 10 });
  assert.notEqual(half.idempotencyKey, first.idempotencyKey);
  await outbox.settle(first, { delivered: [{ from: 0, to: 5 }], deadLettered: [] });
  const rest = await leased(outbox);
  assert.deepEqual(
    sent(rest).observations.map(({ id }) => id),
    sent(half).observations.map(({ id }) => id),
  );
  assert.equal(rest.idempotencyKey, half.idempotencyKey);
  await outbox.close();

  const replaced = await openOutbox(temporaryFolder(t));
  await committed(replaced, readings);
  assert.notEqual((await leased(replaced)).idempotencyKey, first.idempotencyKey);
  await replaced.close();
});

test("a batch holds readings that were held back or later ones, never both", async (t) => {
  const outbox = await openOutbox(temporaryFolder(t));
  await committed(outbox, [observation(), observation()]);
  const heldBackThrough = outbox.lastSeq();
  await committed(outbox, [observation()]);
  const backlog = await leased(outbox, { heldBackThrough });
  const live = await leased(outbox, { heldBackThrough });
  assert.deepEqual([sent(backlog).replayed, backlog.count, sent(live).replayed, live.count], [true, 2, false, 1]);
  await outbox.close();
});

test("when it is their turn, readings that were held back go out past newer ones, in order, and newer ones where none are left", async (t) => {
  const outbox = await openOutbox(temporaryFolder(t));
  const old = [observation({ priority: "high" }), observation(), observation({ priority: "low" })];
  await committed(outbox, old);
  const limits = { heldBackThrough: outbox.lastSeq(), heldBackTurn: true };
  const newer = [observation({ priority: "high" }), observation()];
  await committed(outbox, newer);
  const ids = (batch: Batch): string[] => sent(batch).observations.map(({ id }) => id);
  const idsOf = (observations: readonly Observation[]): string[] => observations.map(({ id }) => id);
  const backlog = await leased(outbox, limits);
  assert.deepEqual(ids(backlog), idsOf(old));
  assert.deepEqual(ids(await leased(outbox, limits)), idsOf(newer));
  const critical = observation({ priority: "critical" });
  await committed(outbox, [critical]);
  await outbox.settle(backlog, { delivered: [], deadLettered: [] });
  assert.deepEqual(ids(await leased(outbox, limits)), [critical.id], "nothing goes before a critical reading");
  await outbox.close();
});

test("a refused reading is kept with its reason, comes back when requeued, and stays counted when dropped", async (t) => {
  const outbox = await openOutbox(temporaryFolder(t));
  const readings = [observation(), observation(), observation()];
  await committed(outbox, readings);
  const batch = await leased(outbox);
  await outbox.settle(batch, {
    delivered: [{ from: 0, to: 1 }],
    deadLettered: [1, 2].map((index) => ({
      index,
      code: "bad-units",
      detail: "no such unit",
      problem: { title: "t" },
    })),
  });
  const [letter] = await outbox.deadLettersOf(readings[1]?.id ?? "");
  assert.equal(letter?.code, "bad-units");
  assert.equal(letter?.problem, '{"title":"t"}');
  await committed(outbox, [observation()]);
  assert.deepEqual(await outbox.requeue([readings[1]?.id ?? "", "nobody"]), { changed: 1, unknown: ["nobody"] });
  assert.deepEqual([outbox.ledger().pending, outbox.ledger().deadLettered], [2, 1]);
  const again = await leased(outbox);
  assert.equal(sent(again).replayed, true);
  assert.equal(sent(again).observations[0]?.id, readings[1]?.id, "it keeps its place before what was accepted later");
  assert.deepEqual(await outbox.drop("all"), { changed: 1, unknown: [] });
  assert.deepEqual([outbox.ledger().deadLettered, outbox.books().deadLetters], [1, 0]);
  assert.equal(imbalance(outbox.ledger()), 0);
  await outbox.close();
});

test("a block is split where a request may hold less than when it was stored", async (t) => {
  const outbox = await openOutbox(temporaryFolder(t));
  await committed(
    outbox,
    Array.from({ length: 10 }, () => observation()),
  );
  const sizes: number[] = [];
  for (let batch = await outbox.lease({ ...LIMITS, maxReadings: 4 }); batch !== undefined; ) {
    sizes.push(batch.count);
    await outbox.settle(batch, whole(batch));
    batch = await outbox.lease({ ...LIMITS, maxReadings: 4 });
  }
  assert.deepEqual(sizes, [4, 4, 2]);
  assert.equal(outbox.ledger().delivered, 10);
  await outbox.close();
});

test("a flipped bit in a stored block is found, set aside and counted as damaged; the rest goes out", async (t) => {
  const folder = temporaryFolder(t);
  let outbox = await openOutbox(folder);
  for (let n = 0; n < 3; n++) await committed(outbox, [observation(), observation()]);
  await outbox.close();
  const file = new Database(join(folder, "outbox.db"));
  const row = file.prepare("SELECT key, body FROM block ORDER BY key LIMIT 1 OFFSET 1").get() as {
    key: number;
    body: Buffer;
  };
  row.body[40] = (row.body[40] ?? 0) ^ 1;
  file.prepare("UPDATE block SET body = @body WHERE key = @key").run(row);
  assert.equal(file.pragma("integrity_check", { simple: true }), "ok", "SQLite's own check does not see it");
  file.close();
  outbox = await openOutbox(folder);
  let delivered = 0;
  for (let batch = await outbox.lease(LIMITS); batch !== undefined; batch = await outbox.lease(LIMITS)) {
    delivered += batch.count;
    await outbox.settle(batch, whole(batch));
  }
  assert.equal(delivered, 4);
  assert.deepEqual([outbox.ledger().damaged, imbalance(outbox.ledger())], [2, 0]);
  await outbox.close();
});

test("one program at a time per dataDir", async (t) => {
  const folder = temporaryFolder(t);
  const outbox = await openOutbox(folder);
  await assert.rejects(openOutbox(folder), { code: "DATA_DIR_LOCKED" });
  await outbox.close();
  await (await openOutbox(folder)).close();
});

test("a file from a newer program is refused, not touched", async (t) => {
  const folder = temporaryFolder(t);
  await (await openOutbox(folder)).close();
  const file = new Database(join(folder, "outbox.db"));
  file.pragma(`user_version = ${MIGRATIONS.length + 1}`);
  file.close();
  await assert.rejects(openOutbox(folder), { code: "OUTBOX_TOO_NEW" });
});

test("a critical reading for which a larger low block was evicted wakes whoever sends", async (t) => {
  const outbox = await openOutbox(temporaryFolder(t), { maxBytes: 2 ** 21 });
  const incompressible = () => Buffer.from(Array.from({ length: 16 }, () => randomUUID()).join("")).toString("base64");
  const low = () => observation({ priority: "low", attributes: { text: incompressible() } });
  while (outbox.ledger().evicted === 0) await committed(outbox, Array.from({ length: 100 }, low));
  let woken = 0;
  outbox.onWaiting(() => woken++);
  let evicting = 0;
  for (let n = 1; n <= 50; n++) {
    const before = outbox.ledger().evicted;
    await committed(outbox, [observation({ priority: "critical", attributes: { text: incompressible() } })]);
    if (outbox.ledger().evicted > before) evicting++;
    assert.equal(woken, n, `for critical reading ${n}`);
  }
  assert.ok(evicting > 0, "some of them needed room");
  await outbox.close();
});
