/**
 * Days of traffic with outages, in seconds: on a real file with a simulated clock. Limits hold at every moment, space is used
 * again, and nothing grows. `TRAFFIC_DAYS` sets how many.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { imbalance } from "#src/outbox/ledger.js";
import { EngineRig } from "../support/engine-rig.ts";
import { mutant } from "../support/mutant.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

const DAYS = Number(process.env.TRAFFIC_DAYS ?? 6);
const STEP_MS = 5 * 60_000;
const STEPS_A_DAY = 86_400_000 / STEP_MS;
const MAX_BYTES = 1024 * 1024;
const MAX_AGE_MS = 20 * 3_600_000;

/** Three days: the link is there, then away for 30 hours with little traffic, then flaps, then away with much traffic. */
function weather(step: number): { linked: boolean; bytes: number } {
  const hour = ((step / STEPS_A_DAY) * 24) % 72;
  if (hour < 12) return { linked: true, bytes: 200 };
  if (hour < 42) return { linked: false, bytes: 20 };
  if (hour < 54) return { linked: step % 7 === 0, bytes: 200 };
  return { linked: false, bytes: 900 };
}

test(`${DAYS} days of traffic and outages stay within every limit`, (t) => {
  const outbox = new EngineRig(t, join(temporaryFolder(t), "outbox.db"), { maxBytes: MAX_BYTES, maxAge: MAX_AGE_MS });
  const most = { files: 0, bytes: 0, ageMs: 0 };
  const pagesByCycle: number[] = [];
  let offered = 0;
  for (let step = 0; step < DAYS * STEPS_A_DAY; step++) {
    const { linked, bytes } = weather(step);
    outbox.pass(STEP_MS);
    for (const [lane, count] of [[3, 4], [2, 6], [1, 1], ...(step % 12 === 0 ? [[0, 1]] : [])] as [number, number][]) {
      assert.deepEqual(outbox.commit(lane, count, bytes), { stored: 1, full: false });
      offered += count;
    }
    outbox.tend();
    if (linked) outbox.deliver(20);
    if (step % 500 === 499) outbox.powerCut(60_000);
    const { file, wal } = outbox.store.fileBytes();
    const books = outbox.engine.books();
    most.files = Math.max(most.files, file + wal);
    most.bytes = Math.max(most.bytes, books.bytes);
    most.ageMs = Math.max(most.ageMs, outbox.monotonic - (books.oldestSince ?? outbox.monotonic));
    assert.equal(imbalance(outbox.ledger), 0);
    if (step % (3 * STEPS_A_DAY) === 3 * STEPS_A_DAY - 1) pagesByCycle.push(outbox.store.pages().count);
  }
  const { accepted, delivered, expired, evicted, pending } = outbox.ledger;
  t.diagnostic(JSON.stringify({ accepted, delivered, expired, evicted, pending, ...most, pagesByCycle }));
  assert.equal(accepted, offered);
  for (const [fate, count] of Object.entries({ delivered, expired, evicted }))
    assert.ok(count > 0, `none were ${fate}`);
  assert.equal(outbox.ledgers[0]?.evicted, 0, "critical readings had room throughout");
  assert.ok(most.files <= MAX_BYTES, `the files came to ${most.files} bytes`);
  assert.ok(most.bytes <= MAX_BYTES, `in use were ${most.bytes} bytes`);
  assert.ok(most.ageMs < MAX_AGE_MS + STEP_MS, `a reading waited for ${most.ageMs} ms`);
  assert.equal(pagesByCycle.at(-1), pagesByCycle[0], "a file that was full once does not grow any more");
});

test("control: an outbox that makes no room outgrows its limit", async (t) => {
  const dist = mutant(t, "outbox/retention.js", "used + need > goal", "false");
  const modules = {
    ...(await import(join(dist, "outbox/store.js"))),
    ...(await import(join(dist, "outbox/engine.js"))),
  };
  const outbox = new EngineRig(t, join(temporaryFolder(t), "outbox.db"), { maxBytes: MAX_BYTES }, modules);
  for (let n = 0; n < 600; n++) outbox.commit(2, 4, 900);
  const { file, wal } = outbox.store.fileBytes();
  assert.ok(file + wal > MAX_BYTES);
});
