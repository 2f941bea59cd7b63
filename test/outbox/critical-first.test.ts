/** A full outbox that refuses: critical readings go past those that wait for room, and nobody is told of what is not stored. */
import assert from "node:assert/strict";
import { randomBytes, randomUUID } from "node:crypto";
import { test } from "node:test";
import { imbalance } from "#src/outbox/ledger.js";
import type { Outbox } from "#src/outbox/outbox.js";
import { observation } from "../support/observations.ts";
import { openOutbox } from "../support/outbox.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { until } from "../support/until.ts";

const MAX_BYTES = 512 * 1024;
const LIMITS = { maxReadings: 500, maxBytes: 64 * 1024, compression: "gzip", heldBackThrough: 0 } as const;

const normal = () => observation({ attributes: { noise: randomBytes(3000).toString("base64") } });
const critical = (id = randomUUID()) => observation({ id, priority: "critical" });

/** Hands readings over; `acknowledged` comes true once they are stored. */
function append(outbox: Outbox, ...readings: ReturnType<typeof observation>[]): { acknowledged: boolean } {
  const handed = { acknowledged: false };
  outbox.append(readings, Date.now(), () => {
    assert.ok(!handed.acknowledged, "once");
    handed.acknowledged = true;
  });
  return handed;
}

/** Normal readings are handed over until one waits for room: that one. */
async function fill(
  outbox: Outbox,
): Promise<{ held: { acknowledged: boolean }; reading: ReturnType<typeof observation> }> {
  for (;;) {
    const reading = normal();
    const held = append(outbox, reading);
    await until("it is stored, or there is no room", () => held.acknowledged || outbox.refuses("normal"));
    if (!held.acknowledged) return { held, reading };
  }
}

/** One commit more, which tries all that waits. */
async function commitOnce(outbox: Outbox): Promise<void> {
  const batch = await outbox.lease(LIMITS);
  assert.ok(batch);
  await outbox.settle(batch, { delivered: [], deadLettered: [] });
}

test("critical readings are stored and acknowledged on their own, in order, while others wait for room", async (t) => {
  const folder = temporaryFolder(t);
  const settings = { maxBytes: MAX_BYTES, whenFull: "refuse" as const };
  const outbox = await openOutbox(folder, settings);
  const { held, reading } = await fill(outbox);
  assert.ok(!outbox.refuses("critical"));

  const first = critical();
  const alone = [append(outbox, first), append(outbox, critical())];
  await until("critical readings are acknowledged", () => alone.every(({ acknowledged }) => acknowledged));
  const copy = append(outbox, first);
  await until("a copy of what is stored is acknowledged", () => copy.acknowledged);

  const mixed = append(outbox, critical(), normal());
  const copyOfHeld = append(outbox, reading, critical());
  await until("the critical ones are stored", () => outbox.ledgerOf("critical").pending === 4);
  await commitOnce(outbox);
  assert.deepEqual(
    [held, mixed, copyOfHeld].map(({ acknowledged }) => acknowledged),
    [false, false, false],
  );

  const batch = await outbox.lease(LIMITS);
  assert.ok(batch);
  assert.equal((await outbox.ids(batch))[0], first.id);
  await outbox.settle(batch, { delivered: [{ from: 0, to: batch.count }], deadLettered: [] });
  for (;;) {
    const next = await outbox.lease(LIMITS);
    if (next === undefined) break;
    await outbox.settle(next, { delivered: [{ from: 0, to: next.count }], deadLettered: [] });
  }
  await until("all are acknowledged", () => held.acknowledged && mixed.acknowledged && copyOfHeld.acknowledged);
  assert.equal(imbalance(outbox.ledger()), 0);
  assert.equal(outbox.ledger().duplicates, 2);
  await outbox.close();
});

test("critical readings are refused once there is no room even for them, and come first when there is some", async (t) => {
  const outbox = await openOutbox(temporaryFolder(t), { maxBytes: MAX_BYTES, whenFull: "refuse" });
  const { held } = await fill(outbox);
  const handed: { acknowledged: boolean }[] = [];
  while (!outbox.refuses("critical")) {
    handed.push(append(outbox, { ...normal(), priority: "critical" }));
    await until(
      "it is stored, or there is no room",
      () => outbox.refuses("critical") || handed.at(-1)?.acknowledged === true,
    );
  }
  let relieved = false;
  outbox.onceRelieved(() => {
    relieved = !outbox.refuses("critical");
  });
  const batch = await outbox.lease({ ...LIMITS, lanes: "critical", maxReadings: 1 });
  assert.ok(batch);
  await outbox.settle(batch, { delivered: [{ from: 0, to: batch.count }], deadLettered: [] });
  await until("the critical ones are stored", () => handed.every(({ acknowledged }) => acknowledged));
  assert.deepEqual([held.acknowledged, relieved], [false, true]);
  await outbox.close();
  assert.ok(!held.acknowledged, "what was given up is not acknowledged");
});

test("what was stored past the others is there after a crash of the daemon, and recognised", async (t) => {
  const folder = temporaryFolder(t);
  const settings = { maxBytes: MAX_BYTES, whenFull: "refuse" as const };
  const outbox = await openOutbox(folder, settings);
  await fill(outbox);
  const reading = critical();
  const handed = append(outbox, reading);
  await until("it is acknowledged", () => handed.acknowledged);
  await outbox.close();
  const again = await openOutbox(folder, settings);
  assert.equal(again.ledgerOf("critical").pending, 1);
  const copy = append(again, reading);
  await until("its copy is acknowledged", () => copy.acknowledged);
  assert.equal(again.ledger().duplicates, 1);
  await again.close();
});
