/**
 * An outage is normal (contract, section 1.5): while fusion is away the gateway is degraded, goes on accepting, and when
 * fusion is back it drains at once, without new traffic and without sleeping out a back-off or the breaker's recovery.
 */
import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import type { MqttClient } from "mqtt";
import { type Answer, Collector } from "../support/collector.ts";
import { Daemon, type DaemonOptions } from "../support/daemon.ts";
import { device } from "../support/device.ts";
import { freePort } from "../support/free-port.ts";
import { mutant } from "../support/mutant.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { until } from "../support/until.ts";

/** The contract's bound on the wait after a link has returned. */
const DRAINS_WITHIN_MS = 2000;
/** Waits that no test could sleep out. */
const PATIENT = { retry: { initial: "1h", max: "1h" }, breaker: { consecutiveFailures: 1, recovery: "1h" } };

function start(t: TestContext, port: number, uplink: object, options: Partial<DaemonOptions> = {}): Promise<Daemon> {
  const url = `http://127.0.0.1:${port}/api/v1/observations/batch`;
  const started = Daemon.start({ folder: temporaryFolder(t), changes: { uplink: { url, ...uplink } }, ...options });
  t.after(async () => (await started).stop("SIGKILL"));
  return started;
}

async function publish(client: MqttClient, from: number, to: number): Promise<void> {
  for (let n = from; n < to; n++) {
    await client.publishAsync("observations/smoke", JSON.stringify({ n, ts: 1_780_000_000 + n }), { qos: 1 });
  }
}

const numbersOf = (readings: readonly { attributes: Record<string, unknown> }[]) =>
  readings.map(({ attributes }) => Number(attributes.n));
const range = (from: number, to: number) => Array.from({ length: to - from }, (_, index) => from + index);

async function codeOf(daemon: Daemon, path: string): Promise<number> {
  return (await daemon.get(path)).status;
}

/** What the daemon says of itself while fusion is away. */
async function assertDegraded(daemon: Daemon, pending: number): Promise<void> {
  assert.equal(await codeOf(daemon, "/healthz"), 200);
  assert.equal(await codeOf(daemon, "/readyz"), 200);
  const health = (await (await daemon.get("/health")).json()) as {
    state: string;
    components: { component: string; state: string; why: string | null; since: string | null; score: number }[];
  };
  assert.equal(health.state, "degraded");
  const uplink = health.components.find(({ component }) => component === "uplink");
  assert.equal(uplink?.state, "degraded");
  assert.ok((uplink?.why?.length ?? 0) > 0 && !Number.isNaN(Date.parse(uplink?.since ?? "")));
  assert.ok((uplink?.score ?? 100) < 100);
  const { ledger, outbox } = await daemon.status();
  assert.equal(ledger.pending, pending);
  assert.equal(outbox.pending, pending);
}

interface Outage {
  readonly fusion: Collector;
  readonly daemon: Daemon;
}

/** Fusion refuses connections: 3 readings have arrived, 47 wait, and their device is gone. */
async function outage(t: TestContext, options: Partial<DaemonOptions> = {}): Promise<Outage> {
  const fusion = await Collector.start();
  t.after(() => fusion.stop());
  const daemon = await start(t, fusion.port, PATIENT, options);
  const client = await device(t, daemon.ports.mqtt);
  await publish(client, 0, 3);
  await until("fusion has the first readings", () => fusion.received.length === 3);
  await daemon.until(({ delivered }) => delivered === 3);
  await fusion.stop();
  await publish(client, 3, 50);
  await daemon.untilStatus(({ uplink }) => uplink.breaker === "open");
  client.end(true);
  return { fusion, daemon };
}

/** Lets fusion return, and sees to it that everything comes, as replayed and in order. Returns when the first request came, ms. */
async function drained({ fusion, daemon }: Outage): Promise<number> {
  const first = fusion.batches.length;
  const back = await fusion.listen();
  await until("fusion has all readings", () => fusion.received.length >= 50);
  assert.deepEqual(numbersOf(fusion.received), range(0, 50), "each once, in order");
  assert.ok(
    fusion.batches.slice(first).every(({ replayed }) => replayed),
    "what was held back says so",
  );
  const { uplink } = await daemon.untilStatus(({ ledger }) => ledger.delivered === 50 && ledger.pending === 0);
  assert.equal(uplink.breaker, "closed");
  return (fusion.batches[first]?.at ?? Number.POSITIVE_INFINITY) - back;
}

test("after refused connections the drain starts within two seconds of fusion's return, without new traffic", async (t) => {
  const { fusion, daemon } = await outage(t);
  await assertDegraded(daemon, 47);
  const { looksEverySeconds } = (await daemon.status()).uplink;
  assert.equal(looksEverySeconds, 1, "an hour's wait is not all that the operator is told");
  const ms = await drained({ fusion, daemon });
  assert.ok(ms <= DRAINS_WITHIN_MS, `the first request came ${ms} ms after fusion's return`);

  const before = fusion.batches.length;
  await publish(await device(t, daemon.ports.mqtt), 50, 52);
  await until("live readings come", () => fusion.received.length === 52);
  assert.ok(
    fusion.batches.slice(before).every(({ replayed }) => !replayed),
    "what is live says so",
  );
  const health = (await (await daemon.get("/health")).json()) as { components: { component: string; state: string }[] };
  assert.equal(health.components.find(({ component }) => component === "uplink")?.state, "ok");
});

test("control: a gateway that does not look whether fusion is back sleeps on", async (t) => {
  const dist = mutant(t, "uplink/line.js", "this.#reachability.start(true);", ";");
  const { fusion } = await outage(t, { dist });
  await fusion.listen();
  await new Promise((resolve) => setTimeout(resolve, 2 * DRAINS_WITHIN_MS));
  assert.equal(fusion.received.length, 3);
});

test("a daemon that is restarted in the middle of an outage drains when fusion is back", async (t) => {
  const folder = temporaryFolder(t);
  const ports = await Daemon.freePorts();
  const { fusion, daemon } = await outage(t, { folder, ports });
  assert.equal(await daemon.stop(), 0, "a clean stop does not wait for fusion");
  const again = await start(t, fusion.port, PATIENT, { folder, ports });
  await again.untilStatus(({ uplink }) => uplink.breaker === "open");
  await assertDegraded(again, 47);
  const ms = await drained({ fusion, daemon: again });
  assert.ok(ms <= DRAINS_WITHIN_MS, `the first request came ${ms} ms after fusion's return`);
});

test("a daemon that is killed in the middle of an outage drains when fusion is back", async (t) => {
  const folder = temporaryFolder(t);
  const ports = await Daemon.freePorts();
  const { fusion, daemon } = await outage(t, { folder, ports });
  await daemon.stop("SIGKILL");
  const again = await start(t, fusion.port, PATIENT, { folder, ports });
  await again.untilStatus(({ uplink }) => uplink.breaker === "open");
  const ms = await drained({ fusion, daemon: again });
  assert.ok(ms <= DRAINS_WITHIN_MS, `the first request came ${ms} ms after fusion's return`);
});

test("fusion that has never been there is no obstacle to starting, and gets everything when it comes", async (t) => {
  const port = await freePort();
  const daemon = await start(t, port, PATIENT);
  await publish(await device(t, daemon.ports.mqtt), 0, 50);
  await daemon.untilStatus(({ uplink }) => uplink.breaker === "open");
  await assertDegraded(daemon, 50);
  const fusion = await Collector.start(port);
  t.after(() => fusion.stop());
  await until("fusion has all readings", () => fusion.received.length >= 50);
  assert.deepEqual(numbersOf(fusion.received), range(0, 50));
});

test("a request that was under way when fusion went does not sleep out a back-off either", async (t) => {
  const fusion = await Collector.start();
  t.after(() => fusion.stop());
  fusion.answer = () => "hang";
  const daemon = await start(t, fusion.port, PATIENT);
  await publish(await device(t, daemon.ports.mqtt), 0, 50);
  await until("a request is under way", () => fusion.requests === 1);
  await fusion.stop();
  await daemon.untilStatus(({ uplink }) => uplink.state === "waiting");
  fusion.answer = () => ({ status: 204 });
  // Long enough away to be seen so: fusion that is back at once was reset, and that is the breaker's matter.
  await new Promise((resolve) => setTimeout(resolve, DRAINS_WITHIN_MS));
  const back = await fusion.listen();
  await until("fusion has all readings", () => fusion.received.length >= 50);
  const ms = (fusion.batches[1]?.at ?? Number.POSITIVE_INFINITY) - back;
  assert.ok(ms <= DRAINS_WITHIN_MS, `the first request came ${ms} ms after fusion's return`);
});

const RECOVERY_MS = 2000;
const FAILURES: Record<string, { readonly answer: Answer | "hang"; readonly uplink?: object }> = {
  "503": { answer: { status: 503, body: { title: "later" } } },
  "500 without a body": { answer: { status: 500 } },
  hangs: { answer: "hang", uplink: { timeouts: { read: "300ms" } } },
};

for (const [name, { answer, uplink }] of Object.entries(FAILURES)) {
  test(`after ${name} the drain starts within the breaker's recovery`, async (t) => {
    const fusion = await Collector.start();
    t.after(() => fusion.stop());
    fusion.answer = () => answer;
    const daemon = await start(t, fusion.port, {
      retry: { initial: "10ms", max: "10ms" },
      breaker: { consecutiveFailures: 3, recovery: `${RECOVERY_MS}ms` },
      ...uplink,
    });
    await publish(await device(t, daemon.ports.mqtt), 0, 50);
    await daemon.untilStatus(({ uplink }) => uplink.breaker === "open");
    await assertDegraded(daemon, 50);
    // From half-open a probe goes at once: a return in the middle of a wait is the longest way.
    fusion.answer = () => ({ status: 204 });
    const back = performance.now();
    await until("fusion has all readings", () => fusion.received.length >= 50);
    const first = fusion.batches.find(({ at }) => at > back);
    const ms = (first?.at ?? Number.POSITIVE_INFINITY) - back;
    // One more second for a busy machine.
    assert.ok(ms <= RECOVERY_MS + 1000, `the first request came ${ms} ms after fusion was well`);
    assert.deepEqual(numbersOf(fusion.received), range(0, 50));
    assert.ok(fusion.batches.every(({ replayed, at }) => replayed || at < back));
    await daemon.untilStatus(({ uplink }) => uplink.breaker === "closed");
  });
}

test("Retry-After is kept to, in seconds and as a date, beyond the longest back-off and the breaker's recovery", async (t) => {
  for (const wait of [() => "3", () => new Date(Date.now() + 4000).toUTCString()]) {
    const fusion = await Collector.start();
    t.after(() => fusion.stop());
    fusion.answer = () =>
      fusion.requests === 1 ? { status: 503, headers: { "retry-after": wait() } } : { status: 204 };
    const daemon = await start(t, fusion.port, {
      retry: { initial: "10ms", max: "10ms" },
      breaker: { recovery: "10ms" },
    });
    await publish(await device(t, daemon.ports.mqtt), 0, 1);
    await until("the reading is delivered", () => fusion.received.length === 1);
    const ms = (fusion.batches[1]?.at ?? 0) - (fusion.batches[0]?.at ?? 0);
    assert.ok(ms >= 2900, `tried again after ${ms} ms`);
  }
});
