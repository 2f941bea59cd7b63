import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import { registerMetrics } from "#src/operations/metrics.js";
import { MemoryGatewayView } from "../support/memory-view.ts";
import { run, skipWithout } from "../support/programs.ts";
import { TestClock } from "../support/test-clock.ts";

let view: MemoryGatewayView;
let clock: TestClock;
let stop: () => void;

beforeEach(() => {
  view = new MemoryGatewayView();
  clock = new TestClock();
  view.startedAt = clock.monotonic();
  stop = registerMetrics(view, clock);
});
afterEach(() => stop());

/** The samples of a scrape, by name and labels as they are written. */
async function scrape(): Promise<Map<string, number>> {
  const lines = (await view.metrics.metrics()).split("\n").filter((line) => line !== "" && !line.startsWith("#"));
  return new Map(
    lines.map((line) => [line.slice(0, line.lastIndexOf(" ")), Number(line.slice(line.lastIndexOf(" ")))]),
  );
}

test("the contract's metrics say what the gateway says", async () => {
  const samples = await scrape();
  const expected = {
    summit_edge_readings_expired_total: 4,
    'summit_edge_readings_evicted_total{priority="low"}': 2,
    'summit_edge_readings_evicted_total{priority="critical"}': 0,
    summit_edge_readings_thinned_total: 0,
    summit_edge_readings_damaged_total: 1,
    summit_edge_readings_duplicates_total: 7,
    'summit_edge_outbox_pending_readings{priority="high"}': 2,
    summit_edge_outbox_bytes: 81920,
    summit_edge_outbox_oldest_age_seconds: 61.5,
    summit_edge_outbox_wal_bytes: 4096,
    summit_edge_outbox_kept_readings: 4200,
    summit_edge_outbox_kept_bytes: 123_904,
    summit_edge_outbox_written_bytes_total: 5_000_000,
    summit_edge_outbox_written_bytes_per_reading: 558.2,
    summit_edge_outbox_wear_bytes_per_year: 60 * 2 ** 30,
    'summit_edge_ledger_readings{fate="dead_lettered"}': 2,
    'summit_edge_ledger_readings{fate="accepted"}': 120,
  };
  for (const [name, value] of Object.entries(expected)) assert.equal(samples.get(name), value, name);
  assert.ok((samples.get("summit_edge_process_resident_memory_bytes") ?? 0) > 1e6);
});

test("a second scrape follows the ledger and does not add to the first", async () => {
  await scrape();
  view.facts.ledger = { ...view.facts.ledger, expired: 6 };
  const samples = await scrape();
  assert.equal(samples.get("summit_edge_readings_expired_total"), 6);
  assert.equal(samples.get('summit_edge_readings_evicted_total{priority="low"}'), 2);
});

test("the lag of the event loop is how late a timer fires", async () => {
  await clock.advance(500);
  const punctual = await scrape();
  assert.equal(punctual.get("summit_edge_event_loop_lag_seconds_count"), 2);
  assert.equal(punctual.get("summit_edge_event_loop_lag_seconds_sum"), 0);
  clock.stall(300);
  await clock.advance(0);
  const late = await scrape();
  assert.equal(late.get("summit_edge_event_loop_lag_seconds_sum"), 0.05);
});

test("measuring the event loop ends when it is told to", () => {
  stop();
  assert.equal(clock.waiting, 0);
});

test("promtool finds nothing wrong with the metrics", { skip: skipWithout("promtool") }, async () => {
  const input = await view.metrics.metrics();
  const { status, output } = run("promtool", ["check", "metrics"], { input });
  assert.equal(output, "");
  assert.equal(status, 0);
});
