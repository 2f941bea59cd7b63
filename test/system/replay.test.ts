/**
 * A past range sent again (contract, section 2): by the command and over the API, with the same ids, marked, at its rate, behind live
 * readings; the books stay as they are.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { Collector, type ReceivedBatch } from "../support/collector.ts";
import { projectRoot, summitEdge } from "../support/command.ts";
import { Daemon } from "../support/daemon.ts";
import { device } from "../support/device.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { until } from "../support/until.ts";

const NOON = Date.UTC(2026, 6, 1, 12);
const at = (second: number): string => new Date(NOON + second * 1000).toISOString();

interface Progress {
  readonly state: string;
  readonly total: number | null;
  readonly sent: number;
  readonly refused: number;
}

interface World {
  readonly fusion: Collector;
  readonly daemon: Daemon;
  readonly publish: (from: number, to: number, reading?: object) => Promise<void>;
  readonly replayed: () => ReceivedBatch[];
}

async function world(t: TestContext, outbox: object = { keepDelivered: "1h" }): Promise<World> {
  const fusion = await Collector.start();
  t.after(() => fusion.stop());
  const uplink = { url: fusion.url, reachability: "100ms", batch: { linger: "0ms" } };
  const started = Daemon.start({ folder: temporaryFolder(t), changes: { uplink, outbox } });
  t.after(async () => (await started).stop("SIGKILL"));
  const daemon = await started;
  const client = await device(t, daemon.ports.mqtt);
  const publish = async (from: number, to: number, reading: object = {}): Promise<void> => {
    const readings = Array.from({ length: to - from }, (_, n) => ({ n: from + n, ts: at(from + n), ...reading }));
    await client.publishAsync("observations/smoke", JSON.stringify(readings), { qos: 1 });
  };
  // What fusion had when the gateway started counts as held back: only what comes later shows what a replay is.
  await publish(0, 1);
  await daemon.until(({ delivered }) => delivered === 1);
  return { fusion, daemon, publish, replayed: () => fusion.batches.filter((batch) => batch.replayed) };
}

const configOf = (daemon: Daemon): string[] => ["--config", join(daemon.folder, "gateway.yaml")];
const idsOf = (batches: readonly ReceivedBatch[]): string[] =>
  batches.flatMap(({ observations }) => observations.map(({ id }) => id));

async function call(daemon: Daemon, method: string, body?: object, headers: Record<string, string> = {}) {
  const answer = await fetch(`http://127.0.0.1:${daemon.ports.http}/api/v1/outbox/replay`, {
    method,
    headers: { ...(body && { "content-type": "application/json" }), ...headers },
    ...(body && { body: JSON.stringify(body) }),
  });
  return { status: answer.status, json: (await answer.json()) as Progress & { code?: string } };
}

test("the command sends a range again with the same ids and the same keys, marked, and the books stay as they are", async (t) => {
  const { fusion, daemon, publish, replayed } = await world(t);
  await publish(1, 201);
  await publish(201, 301, { source: "mast-9" });
  await daemon.until(({ delivered }) => delivered === 301);
  const before = (await daemon.status()).ledger;
  const live = [...fusion.batches];

  const done = await summitEdge(["outbox", "replay", ...configOf(daemon), "--from", at(0), "--to", at(1000), "--json"]);
  assert.equal(done.status, 0, done.stderr);
  const { state, total, sent, refused } = JSON.parse(done.stdout) as Progress;
  assert.deepEqual({ state, total, sent, refused }, { state: "done", total: 301, sent: 301, refused: 0 });
  assert.deepEqual(idsOf(replayed()).sort(), idsOf(live).sort());
  const textOf = new Map(live.flatMap(({ observations }) => observations.map((one) => [one.id, JSON.stringify(one)])));
  for (const one of replayed().flatMap(({ observations }) => observations)) {
    assert.equal(JSON.stringify(one), textOf.get(one.id), "as it was sent before");
  }
  assert.deepEqual((await daemon.status()).ledger, before);

  const part = await summitEdge([
    ...["outbox", "replay", ...configOf(daemon), "--from", at(150), "--to", at(250), "--source", "mast-9"],
    ...["--class", "smoke"],
  ]);
  assert.equal(part.status, 0, part.stderr);
  assert.match(part.stdout, /^50 of 50 readings sent again\.$/m);
  const again = await summitEdge(["outbox", "replay", ...configOf(daemon), "--from", at(0), "--to", at(1000)]);
  assert.equal(again.status, 0, again.stderr);
  const keysOf = (batches: ReceivedBatch[]) => batches.map(({ headers }) => headers["idempotency-key"]);
  const batches = replayed();
  const first = batches.slice(0, batches.findIndex((_, n) => idsOf(batches.slice(0, n + 1)).length === 301) + 1);
  assert.deepEqual(keysOf(batches.slice(-first.length)), keysOf(first), "the same set has the same key");
  assert.deepEqual((await daemon.status()).ledger, before);
  const none = await summitEdge(["outbox", "replay", ...configOf(daemon), "--from", at(5000), "--to", at(6000)]);
  assert.equal(none.status, 0, none.stderr);
  assert.match(none.stdout, /nothing was sent/);
});

test("a replay keeps to its rate, lets live readings go first, and ends when it is asked to", async (t) => {
  const { fusion, daemon, publish, replayed } = await world(t);
  for (let n = 0; n < 10; n++) await publish(1 + n * 100, 101 + n * 100);
  await daemon.until(({ delivered }) => delivered === 1001);
  const range = { from: at(0), to: at(5000) };
  const began = performance.now();
  assert.equal((await call(daemon, "POST", { ...range, rate: 20 })).status, 200);
  assert.equal((await call(daemon, "POST", range)).json.code, "REPLAY_RUNNING");
  await until("some were sent again", () => idsOf(replayed()).length >= 40);
  const seconds = (performance.now() - began) / 1000;
  assert.ok(idsOf(replayed()).length <= (seconds + 1) * 20 + 20, "no faster than asked for");

  fusion.answer = ({ replayed }) => (replayed ? "hang" : { status: 204 });
  const asked = replayed().length;
  await until("a replayed request hangs", () => replayed().length > asked);
  await publish(5000, 5100);
  await daemon.until(({ delivered }) => delivered === 1101);

  const stopped = await summitEdge(["outbox", "replay", ...configOf(daemon), "--stop", "--json"]);
  assert.equal(stopped.status, 0, stopped.stderr);
  const { state, total, sent } = JSON.parse(stopped.stdout) as Progress;
  assert.equal(state, "stopped");
  assert.equal(total, 1001);
  assert.ok(sent >= 40 && sent < 1001);
  const after = replayed().length;
  fusion.answer = () => ({ status: 204 });
  await publish(6000, 6001);
  await daemon.until(({ delivered }) => delivered === 1102);
  assert.equal(replayed().length, after);
  assert.equal((await call(daemon, "GET")).json.state, "stopped");
  const twice = await summitEdge(["outbox", "replay", ...configOf(daemon), "--stop"]);
  assert.equal(twice.status, 1);
  assert.match(twice.stderr, /no replay is under way/);
});

test("Ctrl-C of the command ends the replay", async (t) => {
  const { daemon, publish, replayed } = await world(t);
  await publish(1, 500);
  await daemon.until(({ delivered }) => delivered === 500);
  const options = ["--from", at(0), "--to", at(5000), "--rate", "10"];
  const args = [join(projectRoot, "dist/main.js"), "outbox", "replay", ...configOf(daemon), ...options];
  const command = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "pipe"] });
  let said = "";
  for (const stream of [command.stdout, command.stderr]) stream.on("data", (chunk) => (said += String(chunk)));
  await until("the replay is under way", () => replayed().length > 0);
  const ended = new Promise((resolve) => command.once("close", resolve));
  command.kill("SIGINT");
  assert.equal(await ended, 1);
  assert.match(said, /of 500 readings sent again/);
  assert.match(said, /the replay was stopped/);
  assert.equal((await call(daemon, "GET")).json.state, "stopped");
});

test("readings that fusion refuses in a replay are counted there, and nowhere else", async (t) => {
  const { fusion, daemon, publish } = await world(t);
  await publish(1, 101);
  await daemon.until(({ delivered }) => delivered === 101);
  const before = (await daemon.status()).ledger;
  const bad = (n: unknown): boolean => Number(n) % 50 === 7;
  fusion.answer = ({ observations }) =>
    observations.some(({ attributes }) => bad(attributes.n))
      ? { status: 422, body: { code: "nope" } }
      : { status: 204 };
  const done = await summitEdge(["outbox", "replay", ...configOf(daemon), "--from", at(0), "--to", at(1000), "--json"]);
  assert.equal(done.status, 1);
  assert.match(done.stderr, /refused some of the readings/);
  const { state, sent, refused } = JSON.parse(done.stdout) as Progress;
  assert.deepEqual({ state, sent, refused }, { state: "done", sent: 99, refused: 2 });
  const { ledger, outbox, uplink } = await daemon.status();
  assert.deepEqual(ledger, before);
  assert.equal(outbox.deadLetters, 0);
  assert.equal(uplink.breaker, "closed");
});

test("a replay waits for a fusion that is away, without an effect on live readings, and goes on when it is back", async (t) => {
  const { fusion, daemon, publish } = await world(t);
  await publish(1, 101);
  await daemon.until(({ delivered }) => delivered === 101);
  fusion.answer = ({ replayed }) => ({ status: replayed ? 503 : 204 });
  await call(daemon, "POST", { from: at(0), to: at(1000) });
  for (let waits = false; !waits; ) waits = (await call(daemon, "GET")).json.state === "waiting";
  assert.equal((await daemon.status()).uplink.breaker, "closed");
  await publish(200, 210);
  await daemon.until(({ delivered }) => delivered === 111);
  fusion.answer = () => ({ status: 204 });
  for (let done = false; !done; ) done = (await call(daemon, "GET")).json.state === "done";
  assert.equal((await call(daemon, "GET")).json.sent, 101, "what was delivered after its beginning is not part of it");
});

test("without a daemon, without anything kept, and from another site, a replay is refused with what to do next", async (t) => {
  const { daemon, publish } = await world(t, { keepDelivered: "0s" });
  await publish(1, 11);
  await daemon.until(({ delivered }) => delivered === 11);
  const range = ["--from", at(0), "--to", at(1000)];
  const nothing = await summitEdge(["outbox", "replay", ...configOf(daemon), ...range]);
  assert.equal(nothing.status, 1);
  assert.match(nothing.stderr, /outbox\.keepDelivered/);
  const body = { from: at(0), to: at(1000) };
  for (const method of ["POST", "DELETE"]) {
    const other = await call(daemon, method, body, { origin: "http://evil.example" });
    assert.deepEqual([other.status, other.json.code], [403, "FORBIDDEN_ORIGIN"]);
  }
  const usage = await summitEdge(["outbox", "replay", ...configOf(daemon), "--from", at(0)]);
  assert.equal(usage.status, 2);
  await daemon.stop();
  const alone = await summitEdge(["outbox", "replay", ...configOf(daemon), ...range]);
  assert.equal(alone.status, 1);
  assert.match(alone.stderr, /running daemon/);
});

test("kept readings survive a restart, the replay does not, and after keepDelivered they are gone", async (t) => {
  const { fusion, daemon, publish, replayed } = await world(t, { keepDelivered: "1h" });
  await publish(1, 301);
  await daemon.until(({ delivered }) => delivered === 301);
  await call(daemon, "POST", { from: at(0), to: at(1000), rate: 10 });
  await until("the replay is under way", () => replayed().length > 0);
  assert.equal(await daemon.stop(), 0);
  const uplink = { url: fusion.url };
  const next = await Daemon.start({ folder: daemon.folder, changes: { uplink, outbox: { keepDelivered: "1h" } } });
  t.after(() => next.stop("SIGKILL"));
  assert.equal((await call(next, "GET")).json.state, "none");
  const done = await summitEdge(["outbox", "replay", ...configOf(next), "--from", at(0), "--to", at(1000), "--json"]);
  assert.equal((JSON.parse(done.stdout) as Progress).sent, 301, done.stderr);
  await next.stop();
  const short = await Daemon.start({ folder: daemon.folder, changes: { uplink, outbox: { keepDelivered: "1s" } } });
  t.after(() => short.stop("SIGKILL"));
  for (let total: number | null = 1; total !== 0; ) {
    const again = await summitEdge([
      "outbox",
      "replay",
      ...configOf(short),
      "--from",
      at(0),
      "--to",
      at(1000),
      "--json",
    ]);
    total = (JSON.parse(again.stdout) as Progress).total;
  }
});
