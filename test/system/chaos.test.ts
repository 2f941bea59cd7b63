/**
 * Everything at once: a fusion that fails in every way it can, poisoned readings, and kills. In the end each accepted reading
 * is delivered, or is a dead letter for its own fault, and the books agree with both. `CHAOS_SEED` repeats a run.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { MqttClient } from "mqtt";
import { chance, seedFrom } from "../support/chance.ts";
import { type Answer, Collector, type ReceivedBatch } from "../support/collector.ts";
import { Daemon } from "../support/daemon.ts";
import { device } from "../support/device.ts";
import { sumOfFates } from "../support/ledger.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

const ROUNDS = 6;
const MESSAGES_PER_ROUND = 40;
const READINGS_PER_MESSAGE = 20;
/** One reading in so many is poisoned. */
const POISONED_EVERY = 97;
const LONGEST_LIFE_MS = 800;

const isPoisoned = (n: number): boolean => n % POISONED_EVERY === 0;

const poisonedIn = ({ observations }: ReceivedBatch) =>
  observations.filter(({ attributes }) => isPoisoned(Number(attributes.n)));

/** A fusion that refuses poisoned readings, sometimes the whole batch and sometimes by name. */
function verdictOn(batch: ReceivedBatch, byName: boolean): Answer {
  const poisoned = poisonedIn(batch);
  if (poisoned.length === 0) return { status: 200, body: { rejected: [] } };
  if (!byName) return { status: 422, body: { title: "poisoned", status: 422, code: "poisoned" } };
  return {
    status: 207,
    body: { rejected: poisoned.map(({ id }) => ({ id, code: "poisoned", detail: "", retriable: false })) },
  };
}

/** What a fusion in distress says. */
function distress(batch: ReceivedBatch, random: () => number): Answer | "hang" {
  const [some] = batch.observations;
  const faults: (Answer | "hang")[] = [
    { status: 503 },
    { status: 429 },
    { status: 500, body: "broken" },
    { status: 200, body: "no object" },
    { status: 413 },
    { status: 404 },
    "hang",
    { status: 207, body: { rejected: [{ id: some?.id, code: "busy", detail: "", retriable: true }] } },
  ];
  const fault = faults[Math.floor(random() * faults.length)] ?? "hang";
  // By itself a poisoned reading is never accepted, and a good one never refused for its size.
  const single = batch.observations.length === 1;
  const takes = fault !== "hang" && fault.status === 207 && poisonedIn(batch).length > 0;
  return takes || (single && fault !== "hang" && fault.status === 413) ? { status: 503 } : fault;
}

async function publishRound(client: MqttClient, round: number): Promise<void> {
  for (let message = 0; message < MESSAGES_PER_ROUND; message++) {
    const first = (round * MESSAGES_PER_ROUND + message) * READINGS_PER_MESSAGE;
    const readings = Array.from({ length: READINGS_PER_MESSAGE }, (_, index) => {
      const n = first + index;
      return { n, ts: 1_780_000_000 + n, source: "mast-1", priority: ["high", "normal", "low"][n % 3] };
    });
    const payload = JSON.stringify(readings);
    // The client gives up what it had not handed to a connection when that went.
    while (
      !(await client.publishAsync("observations/smoke", payload, { qos: 1 }).then(
        () => true,
        () => false,
      ))
    )
      await new Promise((resolve) => setTimeout(resolve, 20));
  }
  client.end(true);
}

test("through failures of every kind and kills, each reading is delivered or is a dead letter for its own fault", async (t) => {
  const seed = seedFrom("CHAOS_SEED");
  t.diagnostic(`CHAOS_SEED=${seed}`);
  const random = chance(seed);
  const fusion = await Collector.start();
  t.after(() => fusion.stop());
  let well = false;
  fusion.answer = (batch) => (well || random() < 0.5 ? verdictOn(batch, random() < 0.5) : distress(batch, random));
  const folder = temporaryFolder(t);
  const ports = await Daemon.freePorts();
  const uplink = {
    url: fusion.url,
    reachability: "50ms",
    batch: { maxReadings: 60, linger: "10ms" },
    timeouts: { read: "200ms" },
    retry: { initial: "5ms", max: "20ms" },
    breaker: { consecutiveFailures: 4, recovery: "20ms" },
  };
  const start = () => Daemon.start({ folder, ports, changes: { uplink } });
  let daemon = await start();
  t.after(() => daemon.stop("SIGKILL"));
  for (let round = 0; round < ROUNDS; round++) {
    const client = await device(t, ports.mqtt, { clientId: `round-${round}`, clean: false, reconnectPeriod: 50 });
    const published = publishRound(client, round);
    await new Promise((resolve) => setTimeout(resolve, random() * LONGEST_LIFE_MS));
    await daemon.stop("SIGKILL");
    daemon = await start();
    await published;
    const { ledger } = await daemon.status();
    assert.equal(ledger.accepted, sumOfFates(ledger), `the books balance in round ${round}`);
  }
  well = true;
  await daemon.until(({ pending }) => pending === 0);

  const { ledger } = await daemon.status();
  assert.equal(ledger.accepted, sumOfFates(ledger));
  const total = ROUNDS * MESSAGES_PER_ROUND * READINGS_PER_MESSAGE;
  const numbers = fusion.received.map(({ attributes }) => Number(attributes.n));
  const delivered = new Set(numbers.filter((n) => !isPoisoned(n)));
  const poisoned = Array.from({ length: total }, (_, n) => n).filter(isPoisoned);
  assert.equal(delivered.size, total - poisoned.length, "every good reading is delivered");
  const page = (await (await daemon.get("/api/v1/dead-letters?limit=1000")).json()) as {
    deadLetters: { id: string; ts_iso: string; code: string }[];
  };
  const buried = new Set(page.deadLetters.map(({ ts_iso }) => Date.parse(ts_iso) / 1000 - 1_780_000_000));
  assert.deepEqual(
    [...buried].sort((a, b) => a - b),
    poisoned,
    "every poisoned reading, and no other, is a dead letter",
  );
  assert.ok(page.deadLetters.every(({ code }) => code === "poisoned"));
  t.diagnostic(`${total} readings, ${fusion.requests} requests, ${fusion.received.length} received`);
});
