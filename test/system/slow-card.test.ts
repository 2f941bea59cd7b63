/**
 * A card whose every fsync takes its time delays acknowledgements, and nothing else: the event loop does not wait for it.
 * `SLOW_CARD_LAG_MS=20` asks for the bound of a machine that has nothing else to do, instead of one against the fsync.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { Daemon, type DaemonOptions } from "../support/daemon.ts";
import { noDiskFaults } from "../support/disk-fault.ts";
import { Load } from "../support/load.ts";
import { mutant } from "../support/mutant.ts";
import { recording } from "../support/recorded-writes.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

const SYNC_MS = 200;
/** The daemon measures its own lag four times a second. */
const MEASUREMENTS = 24;
const skip = noDiskFaults();

/** How many of the event loop's measurements were at most so late, by milliseconds, from the metrics. */
async function lags(daemon: Daemon): Promise<ReadonlyMap<number, number>> {
  const text = await (await daemon.get("/metrics")).text();
  const buckets = text.matchAll(/^summit_edge_event_loop_lag_seconds_bucket\{le="([^"]+)"\} (\d+)$/gm);
  return new Map(
    [...buckets].map(([, le, count]) => [le === "+Inf" ? Number.POSITIVE_INFINITY : Number(le) * 1000, Number(count)]),
  );
}

/** The lag, in ms, that this share of the measurements made under load stays at or below, as the buckets tell. */
async function lagUnderLoad(t: TestContext, options: Partial<DaemonOptions> = {}): Promise<(share: number) => number> {
  const folder = temporaryFolder(t);
  const load = await Load.begin(t);
  const under = recording(join(folder, "strace.log"), `syncs:delay_enter=${SYNC_MS * 1000}`);
  const common = { folder, ports: load.ports, uplinkUrl: load.fusion.url };
  const daemon = await Daemon.start({ ...common, under, ...options });
  t.after(() => daemon.stop("SIGKILL"));
  await daemon.until(({ accepted = 0 }) => accepted > 0);
  const before = await lags(daemon);
  const since = async () => {
    const now = await lags(daemon);
    return [...now].map(([ms, count]) => [ms, count - (before.get(ms) ?? 0)] as const);
  };
  const total = (buckets: readonly (readonly [number, number])[]) => buckets.at(-1)?.[1] ?? 0;
  const accepted = (await daemon.status()).ledger.accepted ?? 0;
  let buckets = await since();
  while (total(buckets) < MEASUREMENTS) {
    await new Promise((resolve) => setTimeout(resolve, 100));
    buckets = await since();
  }
  assert.ok(((await daemon.status()).ledger.accepted ?? 0) > accepted, "commits were made meanwhile");
  const lag = (share: number) => buckets.find(([, count]) => count >= share * total(buckets))?.[0] ?? 0;
  t.diagnostic(
    `${SYNC_MS} ms for an fsync; the event loop's lag: p50 ≤ ${lag(0.5)} ms, p90 ≤ ${lag(0.9)} ms, p99 ≤ ${lag(0.99)} ms`,
  );
  return lag;
}

test("an fsync that takes its time does not hold up the event loop", { skip }, async (t) => {
  const lag = await lagUnderLoad(t);
  const bound = process.env.SLOW_CARD_LAG_MS;
  if (bound === undefined) assert.ok(lag(0.9) <= SYNC_MS / 2);
  else assert.ok(lag(0.99) <= Number(bound), `p99 of the lag is at most ${bound} ms`);
});

test("control: a gateway whose main thread waits for the fsync is held up", { skip }, async (t) => {
  const commit = 'await this.#parts.worker().call("commit", {';
  // Whatever file it is: strace delays each fsync.
  const sync =
    'const fs = process.getBuiltinModule("fs"), fd = fs.openSync(process.argv[1]); fs.fsyncSync(fd); fs.closeSync(fd);';
  const dist = mutant(t, "outbox/commit-writer.js", `const outcome = ${commit}`, `${sync}\nconst outcome = ${commit}`);
  const lag = await lagUnderLoad(t, { dist });
  assert.ok(lag(0.9) > SYNC_MS / 2);
});
