/**
 * The real daemon on a machine whose wall clock is wrong or jumps: sending never stops, nothing expires that should not, and
 * readings that the gateway stamped wrongly arrive with the right time.
 * `CLOCK_JUMPS` sets the number of jumps from anywhere to anywhere, `CLOCK_SEED` repeats a run's choices.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { type TestContext, test } from "node:test";
import type { MqttClient } from "mqtt";
import { pino } from "pino";
import { systemClock } from "#src/kernel/clock.js";
import { BATCH_PATH, FusionService } from "#src/simulator/fusion.js";
import { chance, seedFrom } from "../support/chance.ts";
import { Collector, type Received } from "../support/collector.ts";
import { Daemon, type DaemonOptions } from "../support/daemon.ts";
import { device } from "../support/device.ts";
import { MachineClock, secondsSince1980, skipWithoutFaketime } from "../support/machine-clock.ts";
import { mutant } from "../support/mutant.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { until } from "../support/until.ts";

const ROUNDS = Number(process.env.CLOCK_JUMPS ?? 2);
const SEED = seedFrom("CLOCK_SEED");
const DAY_S = 86_400;
const options = { skip: skipWithoutFaketime };

function start(t: TestContext, uplink: object, outbox: object, changes: Partial<DaemonOptions>): Promise<Daemon> {
  const commitDelay = { critical: "0ms", high: "0ms", normal: "0ms", low: "0ms" };
  const started = Daemon.start({
    folder: temporaryFolder(t),
    changes: { uplink: { reachability: "100ms", ...uplink }, outbox: { commitDelay, ...outbox } },
    ...changes,
  });
  t.after(async () => (await started).stop("SIGKILL"));
  return started;
}

/** Half of the readings bring their own time. */
async function publish(client: MqttClient, from: number, to: number): Promise<void> {
  for (let n = from; n < to; n++) {
    const own = n % 2 === 0 ? { ts: 1_780_000_000 + n } : {};
    await client.publishAsync("observations/smoke", JSON.stringify({ n, ...own }), { qos: 1 });
  }
}

const numbersOf = (readings: readonly Received[]) => readings.map(({ attributes }) => Number(attributes.n));
const range = (to: number) => Array.from({ length: to }, (_, index) => index);

test(
  "libfaketime moves the wall clock of a running Node.js, and leaves its monotonic clocks alone",
  options,
  async (t) => {
    const clock = new MachineClock(temporaryFolder(t));
    const program = `
    const look = () => [Date.now(), Number(process.hrtime.bigint()) / 1e6, performance.now()];
    const first = look();
    process.stdout.write("started\\n");
    process.stdin.once("data", () => process.stdout.write(JSON.stringify(look().map((now, which) => now - first[which])), () => process.exit()));`;
    const [command = "", ...args] = [...clock.under, process.execPath, "-e", program];
    const child = spawn(command, args, { stdio: ["pipe", "pipe", "inherit"] });
    const from = performance.now();
    await once(child.stdout, "data");
    clock.set(2 * DAY_S);
    child.stdin.write("look\n");
    const [answer] = await once(child.stdout, "data");
    const passed = performance.now() - from;
    const [wall = 0, hrtime = 0, perf = 0] = JSON.parse(String(answer)) as number[];
    assert.ok(Math.abs(wall - 2 * DAY_S * 1000) <= passed + 1000, `the wall clock moved by ${wall} ms`);
    for (const ms of [hrtime, perf])
      assert.ok(ms >= 0 && ms <= passed, `a monotonic clock moved by ${ms} of ${passed} ms`);
  },
);

interface Outage {
  readonly clock: MachineClock;
  readonly fusion: Collector;
  readonly daemon: Daemon;
  readonly client: MqttClient;
}

/** Fusion does not cope, 20 readings wait, the breaker is open, and the clock is off by `seconds`. */
async function outage(t: TestContext, seconds: number, changes: Partial<DaemonOptions> = {}): Promise<Outage> {
  const folder = temporaryFolder(t);
  const clock = new MachineClock(folder);
  clock.set(seconds);
  const fusion = await Collector.start();
  t.after(() => fusion.stop());
  fusion.answer = () => ({ status: 503 });
  const uplink = {
    url: fusion.url,
    retry: { initial: "500ms", max: "500ms" },
    breaker: { consecutiveFailures: 2, recovery: "500ms" },
  };
  const outbox = { maxAge: "5m", waitForClock: "0s" };
  const daemon = await start(t, uplink, outbox, { folder, under: clock.under, ...changes });
  const client = await device(t, daemon.ports.mqtt, { keepalive: 2 });
  await publish(client, 0, 20);
  await daemon.untilStatus(({ uplink }) => uplink.breaker === "open");
  return { clock, fusion, daemon, client };
}

const JUMPS: readonly [what: string, before: number, after: number][] = [
  ["jumps back by thirty days", 0, -30 * DAY_S],
  ["jumps ahead by two days", 0, 2 * DAY_S],
  ["says 1980 at the start, and is then set right", -Math.trunc(secondsSince1980()), 0],
];

/** The clock is off by `before` seconds, and jumps within an outage, so that it is off by `after`. */
async function goesOnAfterJump(t: TestContext, before: number, after: number): Promise<void> {
  const { clock, fusion, daemon, client } = await outage(t, before);
  clock.set(after);
  const said = (await daemon.untilStatus(({ clock }) => clock.steps > 0)).clock;
  assert.deepEqual([said.quality, said.steps], ["stepped", 1]);
  assert.ok(Math.abs((said.lastStep?.seconds ?? 0) - (after - before)) < 2, `a step of ${said.lastStep?.seconds} s`);
  await publish(client, 20, 40);
  const back = performance.now();
  fusion.answer = () => ({ status: 204 });
  await until("the backlog arrives", () => fusion.received.length >= 40);
  const ms = performance.now() - back;
  assert.ok(ms < 10_000, `it took ${ms} ms`);
  await publish(client, 40, 50);
  await until("live readings arrive", () => fusion.received.length >= 50);
  assert.deepEqual(numbersOf(fusion.received), range(50), "each once, in order");
  assert.equal(client.connected, true, "and no device was cut off");
  const { ledger } = await daemon.untilStatus(({ ledger }) => ledger.pending === 0);
  assert.deepEqual([ledger.accepted, ledger.delivered, ledger.expired], [50, 50, 0]);
  assert.equal(await daemon.stop(), 0);
}

for (const [what, before, after] of JUMPS) {
  test(`sending goes on and nothing expires when the clock ${what}`, options, (t) => goesOnAfterJump(t, before, after));
}

const MOST_DAYS = 30;

/** From days off either way, or from 1980, by an hour at least. */
function anyJump(random: () => number): readonly [before: number, after: number] {
  const off = () => Math.trunc((2 * random() - 1) * MOST_DAYS * DAY_S);
  const before = random() < 1 / 3 ? -Math.trunc(secondsSince1980()) : off();
  const by = off();
  return [before, before + by + 3600 * Math.sign(by)];
}

test(
  `sending goes on and nothing expires when the clock jumps from anywhere to anywhere, ${ROUNDS} times (seed ${SEED})`,
  options,
  async (t) => {
    const random = chance(SEED);
    for (let round = 0; round < ROUNDS; round++) {
      const [before, after] = anyJump(random);
      await t.test(`from ${before} s off to ${after} s`, (t) => goesOnAfterJump(t, before, after));
    }
  },
);

test(
  "control: a program that times its waits by wall time stops sending when the clock jumps back",
  options,
  async (t) => {
    const dist = mutant(t, "kernel/clock.js", "MONOTONIC_OFFSET_MS + performance.now()", "Date.now()");
    const { clock, fusion } = await outage(t, 0, { dist });
    clock.set(-30 * DAY_S);
    fusion.answer = () => ({ status: 204 });
    await new Promise((resolve) => setTimeout(resolve, 10_000));
    assert.equal(fusion.received.length, 0);
  },
);

interface Fresh {
  readonly clock: MachineClock;
  readonly daemon: Daemon;
  readonly fusion: FusionService;
  readonly client: MqttClient;
  readonly restart: () => Promise<Daemon>;
}

/** A board that has just started, in 1980, before the reference fusion. */
async function freshBoard(t: TestContext, waitForClock: string, changes: Partial<DaemonOptions> = {}): Promise<Fresh> {
  const folder = temporaryFolder(t);
  const clock = new MachineClock(folder);
  clock.set(-secondsSince1980());
  const fusion = new FusionService({ clock: systemClock, log: pino({ level: "silent" }) });
  t.after(() => fusion.dispose());
  const { url } = await fusion.listen(0);
  const ports = await Daemon.freePorts();
  const restart = () =>
    start(
      t,
      { url: `${url}${BATCH_PATH}` },
      { maxAge: "5m", waitForClock },
      { folder, ports, under: clock.under, ...changes },
    );
  const daemon = await restart();
  return { clock, daemon, fusion, client: await device(t, ports.mqtt), restart };
}

/** What fusion has, by the number that the device gave. */
function arrived(fusion: FusionService): Map<number, Received> {
  const readings = fusion.find({ limit: 1000 }) as Received[];
  return new Map(readings.map((reading) => [Number(reading.attributes.n), reading]));
}

async function send(client: MqttClient, topic: string, reading: object): Promise<void> {
  await client.publishAsync(topic, JSON.stringify(reading), { qos: 1 });
}

async function peeked(daemon: Daemon): Promise<Received[]> {
  const answer = await daemon.get("/api/v1/outbox/peek?limit=100");
  return ((await answer.json()) as { readings: Received[] }).readings;
}

const OWN_TIME = "2026-06-01T12:00:00.000Z";

test(
  "readings stamped in 1980 wait for the clock, through a crash, and arrive with the right time and the same ids",
  options,
  async (t) => {
    const { clock, daemon, fusion, client, restart } = await freshBoard(t, "1h");
    const from = Date.now();
    await send(client, "observations/smoke", { n: 1 });
    await send(client, "observations/smoke", { n: 2, ts_iso: OWN_TIME });
    await send(client, "health/mast-3/heartbeat", { n: 3, ts_iso: OWN_TIME });
    await send(client, "alerts/mast-3", { n: 4 });
    const to = Date.now();
    await until("what need not wait arrives", () => arrived(fusion).size === 2);
    assert.deepEqual(
      [...arrived(fusion).keys()].sort(),
      [3, 4],
      "an alarm, and a reading of another lane with its own time",
    );
    const alarm = arrived(fusion).get(4);
    assert.match(alarm?.ts_iso ?? "", /^1980-01-06T/);
    assert.equal(alarm?.gateway.clock, "unsynchronised");

    await daemon.until(({ delivered }) => delivered === 2);
    const waiting = await peeked(daemon);
    assert.equal(waiting.length, 2);
    await daemon.stop("SIGKILL");
    const again = await restart();
    const late = await device(t, again.ports.mqtt);
    await send(late, "observations/smoke", { n: 5 });
    assert.equal((await again.status()).ledger.pending, 3);

    clock.set(0);
    clock.synchronised = true;
    await until("the rest arrives", () => arrived(fusion).size === 5);
    const readings = arrived(fusion);
    const first = readings.get(1);
    const at = Date.parse(first?.ts_iso ?? "");
    assert.ok(
      at >= from - 1000 && at <= to + 1000,
      `stamped ${first?.ts_iso}, sent at ${new Date(from).toISOString()}`,
    );
    assert.equal(first?.gateway.received_at, first?.ts_iso);
    assert.equal(first?.gateway.clock, "synchronised");
    assert.match(first?.gateway.restamped_from ?? "", /^1980-01-06T/);
    assert.equal(readings.get(2)?.ts_iso, OWN_TIME, "a device's own time stays as it is");
    assert.equal(readings.get(2)?.gateway.restamped_from, undefined);
    assert.match(readings.get(5)?.gateway.restamped_from ?? "", /^1980-01-06T/);
    assert.deepEqual(
      waiting.map(({ id }) => id),
      [1, 2].map((n) => readings.get(n)?.id),
    );

    const { ledger, clock: said } = await again.untilStatus(({ ledger }) => ledger.pending === 0);
    assert.deepEqual([ledger.accepted, ledger.delivered, ledger.expired], [5, 5, 0]);
    assert.deepEqual([said.quality, said.source, said.steps], ["synchronised", "timedatectl", 1]);
    await send(late, "observations/smoke", { n: 6 });
    await until("a later reading arrives at once", () => arrived(fusion).has(6));
    assert.equal(arrived(fusion).get(6)?.gateway.restamped_from, undefined);
    assert.match(await (await again.get("/metrics")).text(), /^summit_edge_clock_synchronised 1$/m);
  },
);

test("control: without the wait they arrive with the wrong time", options, async (t) => {
  const dist = mutant(t, "outbox/clock-hold.js", "lane !== CRITICAL_LANE && this.active", "false");
  const { fusion, client } = await freshBoard(t, "1h", { dist });
  await send(client, "observations/smoke", { n: 1 });
  await until("it arrives", () => arrived(fusion).size === 1);
  assert.match(arrived(fusion).get(1)?.ts_iso ?? "", /^1980/);
});

test(
  "where the clock is not set in time readings go out as they are, by themselves, and say so",
  options,
  async (t) => {
    const { daemon, fusion, client } = await freshBoard(t, "3s");
    await send(client, "observations/smoke", { n: 1 });
    await until("it arrives", () => arrived(fusion).size === 1);
    const reading = arrived(fusion).get(1);
    assert.match(reading?.ts_iso ?? "", /^1980-01-06T/);
    assert.equal(reading?.gateway.clock, "unsynchronised");
    assert.ok(
      (reading?.gateway.uptime_ms ?? 0) > 0 && (reading?.gateway.boot ?? "").length === 36,
      "by which it can still be put right",
    );
    const { ledger } = await daemon.untilStatus(({ ledger }) => ledger.pending === 0);
    assert.equal(ledger.expired, 0);
  },
);

test("an impossible time of a device is kept, and marked", options, async (t) => {
  const { clock, daemon, fusion, client } = await freshBoard(t, "0s");
  clock.set(0);
  clock.synchronised = true;
  await daemon.untilStatus(({ clock }) => clock.quality === "synchronised");
  const ahead = new Date(Date.now() + 2 * DAY_S * 1000).toISOString();
  await send(client, "observations/smoke", { n: 1, ts_iso: "2006-04-09T00:00:00.000Z" });
  await send(client, "observations/smoke", { n: 2, ts_iso: ahead });
  await send(client, "observations/smoke", { n: 3, ts_iso: OWN_TIME });
  await until("all arrive", () => arrived(fusion).size === 3);
  const [old, future, plausible] = [1, 2, 3].map((n) => arrived(fusion).get(n));
  assert.deepEqual([old?.ts_iso, old?.gateway.time], ["2006-04-09T00:00:00.000Z", "suspect"]);
  assert.deepEqual([future?.ts_iso, future?.gateway.time], [ahead, "suspect"]);
  assert.equal(plausible?.gateway.time, undefined);
});
