/** The daemon's life as its supervisor, its operator and Prometheus see it (contract, sections 2, 3 and 6). */
import assert from "node:assert/strict";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { parse, stringify } from "yaml";
import { Collector } from "../support/collector.ts";
import { summitEdge } from "../support/command.ts";
import { Daemon, type DaemonOptions, type Ports, type Status, writeConfig } from "../support/daemon.ts";
import { device } from "../support/device.ts";
import { delaySyncs, failSyncs, noDiskFaults } from "../support/disk-fault.ts";
import { freePort } from "../support/free-port.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { until } from "../support/until.ts";

async function started(t: TestContext, options: Partial<DaemonOptions> = {}): Promise<Daemon> {
  const daemon = await Daemon.start({ folder: temporaryFolder(t), ...options });
  t.after(() => daemon.stop("SIGKILL"));
  return daemon;
}

async function holdPort(t: TestContext): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => server.close());
  const address = server.address();
  return typeof address === "object" ? (address?.port ?? 0) : 0;
}

const accepted = (ledger: Record<string, number>) => ledger.accepted;
const sumOfFates = ({
  pending = 0,
  delivered = 0,
  expired = 0,
  evicted = 0,
  thinned = 0,
  deadLettered = 0,
  damaged = 0,
}) => pending + delivered + expired + evicted + thinned + deadLettered + damaged;

test("a second daemon on the same dataDir refuses, and says which one", async (t) => {
  const first = await started(t);
  const dataDir = join(first.folder, "data");
  const second = writeConfig({
    folder: temporaryFolder(t),
    ports: await Daemon.freePorts(),
    changes: { gateway: { id: "sierra-015", dataDir } },
  });
  const { status, stderr } = await summitEdge(["run", "--config", second]);
  assert.equal(status, 1);
  assert.ok(stderr.includes(dataDir), stderr);
  assert.match(stderr, /^hint: \S/m);
  assert.equal((await first.get("/readyz")).status, 200, "the first one is not disturbed");
  const client = await device(t, first.ports.mqtt);
  await client.publishAsync("observations/smoke", "{}", { qos: 1 });
  assert.equal(accepted((await first.status()).ledger), 1);

  await first.stop("SIGKILL");
  const third = await started(t, { folder: first.folder });
  assert.equal(accepted((await third.status()).ledger), 1, "a daemon that was killed leaves no lock behind");
});

for (const signal of ["SIGTERM", "SIGINT"] as const) {
  test(`${signal} ends the daemon with status 0 and everything committed`, async (t) => {
    const slow = { commitDelay: { critical: "1h", high: "1h", normal: "1h", low: "1h" } };
    const daemon = await started(t, { changes: { outbox: slow } });
    const client = await device(t, daemon.ports.mqtt);
    // QoS 0, and a commit that is not due for an hour: only the stop commits them.
    for (let n = 0; n < 10; n++) await client.publishAsync("observations/smoke", JSON.stringify({ n }));
    const acknowledged = client.publishAsync("observations/smoke", '{"n":10}', { qos: 1 });
    // The broker takes what one client sends in order: the answer to this says that all were taken.
    await client.subscribeAsync("elsewhere");
    assert.equal(await daemon.stop(signal), 0);
    await acknowledged;
    const again = await started(t, { folder: daemon.folder });
    assert.equal(accepted((await again.status()).ledger), 11);
  });
}

test("a second SIGTERM within the second is an echo; a later one ends the daemon at once", async (t) => {
  const fusion = await Collector.start();
  t.after(() => fusion.stop());
  fusion.answer = () => "hang";
  const daemon = await started(t, { uplinkUrl: fusion.url });
  const client = await device(t, daemon.ports.mqtt);
  await client.publishAsync("observations/smoke", "{}", { qos: 1 });
  // A clean stop waits five seconds for the answer to a request that is under way.
  await until("a request is under way", () => fusion.requests === 1);
  const from = performance.now();
  daemon.child.kill("SIGTERM");
  daemon.child.kill("SIGTERM");
  await until("the echo's second is over", () => performance.now() - from > 1500);
  assert.equal(daemon.child.exitCode, null, "the echo did not end it");
  assert.notEqual(await daemon.stop("SIGTERM"), 0);
  assert.ok(performance.now() - from < 5000, "it did not wait for fusion");
});

test("without a configuration, run refuses with status 2 and says how to get one", async (t) => {
  const absent = await summitEdge(["run", "--config", join(temporaryFolder(t), "none.yaml")]);
  assert.equal(absent.status, 2);
  assert.match(absent.stderr, /none\.yaml/);
  assert.match(absent.stderr, /^hint: \S/m);
  if (existsSync("/etc/summit-edge/gateway.yaml")) return;
  const unnamed = await summitEdge(["run"]);
  assert.equal(unnamed.status, 2);
  assert.match(unnamed.stderr, /gateway\.yaml/);
});

test("a configuration that is wrong ends run with status 2, names the key, and leaves nothing behind", async (t) => {
  const folder = temporaryFolder(t);
  const file = writeConfig({ folder, ports: await Daemon.freePorts(), changes: { outbx: { maxBytes: "1GiB" } } });
  const { status, stderr } = await summitEdge(["run", "--config", file]);
  assert.equal(status, 2);
  assert.match(stderr, /outbx[\s\S]*outbox/, "an unknown key names the nearest known one");
  assert.equal(existsSync(join(folder, "data")), false);
});

test("a taken port is named with its key, and nothing stays bound or locked", async (t) => {
  const cases: [keyof Ports, RegExp][] = [
    ["http", /http\.port/],
    ["mqtt", /mqtt\.listeners\[0\]/],
    ["mqtts", /mqtt\.listeners\[1\]/],
  ];
  for (const [which, key] of cases) {
    const free = await Daemon.freePorts();
    const folder = temporaryFolder(t);
    const taken = await holdPort(t);
    const file = writeConfig({ folder, ports: { ...free, [which]: taken } });
    const { status, stderr } = await summitEdge(["run", "--config", file]);
    assert.equal(status, 1, stderr);
    assert.match(stderr, key);
    assert.ok(stderr.includes(String(taken)), stderr);
    // The same folder and the other ports are free again.
    const daemon = await started(t, { folder, ports: free });
    assert.equal(await daemon.stop(), 0);
  }
});

test("healthz, readyz, problems and the pages answer as the contract says", async (t) => {
  const daemon = await started(t);
  assert.equal((await daemon.get("/healthz")).status, 200);
  assert.equal((await daemon.get("/readyz")).status, 200);
  for (const [method, path, status] of [
    ["GET", "/nowhere", 404],
    ["GET", "/api/v1/nowhere", 404],
    ["POST", "/api/v1/status", 405],
    ["DELETE", "/api/v1/quarantine", 405],
    ["GET", "/api/v1/dead-letters/018f0000-0000-7000-8000-000000000000", 404],
    ["GET", "/api/v1/outbox/peek?limit=0", 400],
    ["GET", "/api/v1/dead-letters?limit=x", 400],
  ] as const) {
    const answer = await fetch(`http://127.0.0.1:${daemon.ports.http}${path}`, { method });
    assert.equal(answer.status, status, `${method} ${path}`);
    assert.equal(answer.headers.get("content-type"), "application/problem+json");
    const problem = (await answer.json()) as Record<string, unknown>;
    assert.equal(problem.status, status);
    for (const member of ["type", "title", "detail", "code"]) assert.equal(typeof problem[member], "string", member);
  }
  const page = await daemon.get("/");
  assert.equal(page.status, 200);
  assert.match(page.headers.get("content-type") ?? "", /^text\/html/);
  const api = (await (await daemon.get("/openapi.json")).json()) as { openapi: string; paths: Record<string, object> };
  assert.match(api.openapi, /^3\./);
  for (const path of [
    "/healthz",
    "/readyz",
    "/health",
    "/metrics",
    "/api/v1/status",
    "/api/v1/outbox",
    "/api/v1/dead-letters",
    "/api/v1/quarantine",
  ])
    assert.ok(api.paths[path], path);
});

test("readyz is 503 while the daemon starts and stops, and healthz 200", { skip: noDiskFaults() }, async (t) => {
  const daemon = await started(t);
  await delaySyncs(t, daemon.child.pid, 500);
  const client = await device(t, daemon.ports.mqtt);
  client.publish("observations/smoke", "{}", { qos: 1 });
  await client.subscribeAsync("elsewhere");
  const ended = daemon.stop();
  let ready = 200;
  while (ready === 200) ready = (await daemon.get("/readyz")).status;
  assert.equal(ready, 503);
  assert.equal((await daemon.get("/healthz")).status, 200);
  assert.equal(await ended, 0);
});

test("writing calls from elsewhere are refused", async (t) => {
  const daemon = await started(t);
  const drop = (headers: Record<string, string>) =>
    fetch(`http://127.0.0.1:${daemon.ports.http}/api/v1/dead-letters/drop`, {
      method: "POST",
      headers: { "content-type": "application/json", ...headers },
      body: '{"all":true}',
    });
  assert.equal((await drop({ origin: "https://elsewhere.example" })).status, 403);
  assert.equal((await drop({ origin: "null" })).status, 403);
  assert.equal((await drop({ origin: `http://127.0.0.1:${daemon.ports.http}` })).status, 200);
  assert.equal((await drop({})).status, 200);
});

const METRICS: Record<string, "counter" | "gauge" | "histogram"> = {
  "readings_accepted_total{source=": "counter",
  "readings_refused_total{reason=": "counter",
  "readings_delivered_total{uplink=": "counter",
  readings_expired_total: "counter",
  "readings_evicted_total{priority=": "counter",
  readings_thinned_total: "counter",
  readings_damaged_total: "counter",
  readings_duplicates_total: "counter",
  "readings_dead_lettered_total{code=": "counter",
  "outbox_pending_readings{priority=": "gauge",
  outbox_bytes: "gauge",
  outbox_oldest_age_seconds: "gauge",
  outbox_commit_seconds_bucket: "histogram",
  "uplink_requests_total{uplink=": "counter",
  uplink_request_seconds_bucket: "histogram",
  "uplink_breaker_open{uplink=": "gauge",
  outbox_written_bytes_total: "counter",
  event_loop_lag_seconds_bucket: "histogram",
};

/** Some of everything: 8 delivered, 1 dead-lettered, 1 copy, 2 refused. */
async function someTraffic(t: TestContext): Promise<Daemon> {
  const fusion = await Collector.start();
  t.after(() => fusion.stop());
  fusion.answer = ({ observations }) => {
    const found = observations.find(({ attributes }) => attributes.bad === true);
    const rejected = found === undefined ? [] : [{ id: found.id, code: "bad", detail: "bad", retriable: false }];
    return { status: 200, body: { rejected } };
  };
  const daemon = await started(t, { uplinkUrl: fusion.url });
  const client = await device(t, daemon.ports.mqtt);
  const publish = (topic: string, payload: string) => client.publishAsync(topic, payload, { qos: 1 });
  for (let n = 0; n < 5; n++) await publish("observations/smoke", JSON.stringify({ n }));
  await publish("alerts/tower", '{"flame":true}');
  await publish("health/node-1/heartbeat", '{"up":1}');
  await publish("telemetry/mast-1", '{"ts":1780000000,"bad":true}');
  await publish("telemetry/mast-2", '{"ts":1780000000,"bad":false}');
  await publish("telemetry/mast-2", '{"ts":1780000000,"bad":false}');
  await publish("telemetry/mast-3", "no JSON");
  await publish("telemetry/mast-3", '{"confidence":2}');
  await publish("observation/smoke", '{"confidence":0.123}');
  await daemon.until(
    ({ delivered, deadLettered, duplicates }) => delivered === 8 && deadLettered === 1 && duplicates === 1,
  );
  return daemon;
}

test("the metrics have every name of the contract and agree with the status", async (t) => {
  const daemon = await someTraffic(t);
  const answer = await daemon.get("/metrics");
  assert.match(answer.headers.get("content-type") ?? "", /^text\/plain; version=0\.0\.4/);
  const text = await answer.text();
  for (const [name, type] of Object.entries(METRICS)) {
    assert.ok(text.includes(`\nsummit_edge_${name}`), name);
    const family = name.replace(/\{.*|_bucket$/g, "");
    assert.match(text, new RegExp(`^# TYPE summit_edge_${family} ${type}$`, "m"));
    assert.match(text, new RegExp(`^# HELP summit_edge_${family} \\S`, "m"));
  }
  const value = (series: string) => {
    const at = text.indexOf(`\nsummit_edge_${series} `);
    assert.ok(at >= 0, series);
    return Number(/ (\S+)$/m.exec(text.slice(at + 1))?.[1]);
  };
  const { ledger, refused, outbox } = await daemon.status();
  assert.equal(value('readings_accepted_total{source="mqtt"}'), ledger.accepted);
  assert.equal(value('readings_refused_total{reason="invalid"}'), refused.invalid);
  assert.equal(value('readings_delivered_total{uplink="https"}'), ledger.delivered);
  assert.equal(value("readings_duplicates_total"), ledger.duplicates);
  assert.equal(value('readings_dead_lettered_total{code="bad"}'), ledger.deadLettered);
  assert.equal(value('outbox_pending_readings{priority="normal"}'), outbox.pending);
  for (const priority of ["critical", "high", "normal", "low"]) {
    assert.equal(value(`readings_evicted_total{priority="${priority}"}`), 0);
  }
  assert.equal(value('uplink_breaker_open{uplink="https"}'), 0);
  assert.ok(value("outbox_commit_seconds_count") > 0 && value('uplink_request_seconds_count{uplink="https"}') > 0);
  assert.ok(value("outbox_bytes") > 0);
});

test("the status has every member of the contract, of the right type", async (t) => {
  const daemon = await someTraffic(t);
  const status = (await (await daemon.get("/api/v1/status")).json()) as Status & Record<string, unknown>;
  assert.equal(status.gateway, "sierra-014");
  assert.equal(
    status.version,
    JSON.parse(readFileSync(new URL("../../../package.json", import.meta.url), "utf8")).version,
  );
  assert.ok(Number.isInteger(status.uptimeSeconds) && Number(status.uptimeSeconds) >= 0);
  assert.deepEqual(status.ledger, {
    accepted: 9,
    pending: 0,
    delivered: 8,
    expired: 0,
    evicted: 0,
    thinned: 0,
    deadLettered: 1,
    damaged: 0,
    duplicates: 1,
  });
  assert.equal(accepted(status.ledger), sumOfFates(status.ledger));
  assert.equal(status.refused.invalid, 2);
  for (const member of ["pending", "bytes", "oldestAgeSeconds"]) assert.equal(typeof status.outbox[member], "number");
  assert.equal(status.uplink.breaker, "closed");
  assert.equal(typeof status.uplink.state, "string");
  const [mqtt] = status.sources;
  assert.deepEqual(
    { ...mqtt, lastReadingAt: undefined },
    { name: "mqtt", kind: "mqtt", state: "listening", accepted: 9, refused: 2, unrouted: 1, lastReadingAt: undefined },
  );
  assert.ok(Math.abs(Date.parse(mqtt?.lastReadingAt ?? "") - Date.now()) < 60_000);
  assert.equal(typeof status.clock, "object");
});

test("SIGHUP reads the configuration again, a wrong one too, and the daemon runs on", async (t) => {
  const daemon = await started(t, { log: "pipe" });
  let log = "";
  daemon.child.stdout?.on("data", (chunk) => {
    log += String(chunk);
  });
  const file = join(daemon.folder, "gateway.yaml");
  const good = readFileSync(file, "utf8");
  const client = await device(t, daemon.ports.mqtt);
  const publish = () => client.publishAsync("observations/smoke", "{}", { qos: 1 });
  await publish();
  writeFileSync(file, stringify({ ...parse(good), log: { level: "debug" } }));
  daemon.child.kill("SIGHUP");
  await until("the level is in force", () => /"level":"(info|debug)"/.test(log));
  await publish();
  writeFileSync(file, "nonsense: [");
  daemon.child.kill("SIGHUP");
  await until("the fault is told", () => /"level":"error".*configuration/.test(log));
  await publish();
  assert.equal(accepted((await daemon.status()).ledger), 3);
  assert.equal((await daemon.get("/readyz")).status, 200);
  assert.equal(await daemon.stop(), 0);
});

test("an I/O error ends the daemon with status 74, without an acknowledgement; nothing acknowledged is missing after the restart", {
  skip: noDiskFaults(),
}, async (t) => {
  const port = await freePort();
  const uplinkUrl = `http://127.0.0.1:${port}/api/v1/observations/batch`;
  const daemon = await started(t, { uplinkUrl });
  const client = await device(t, daemon.ports.mqtt);
  const acknowledged = new Set<number>();
  const reading = (n: number) => ({ source: "mast-1", ts: 1_780_000_000 + n, n });
  const publish = async (n: number) => {
    await client.publishAsync("observations/smoke", JSON.stringify(reading(n)), { qos: 1 });
    acknowledged.add(n);
  };
  for (let n = 0; n < 20; n++) await publish(n);
  await failSyncs(t, daemon.child.pid);
  const ended = daemon.ended();
  // Nobody answers these any more; the client gives them up when the connection goes.
  const unanswered = Promise.allSettled([20, 21, 22].map(publish));
  assert.equal(await ended, 74);
  client.end(true);
  assert.deepEqual(
    acknowledged,
    new Set(Array.from({ length: 20 }, (_, n) => n)),
    "nothing was acknowledged after the fault",
  );
  void unanswered;

  const fusion = await Collector.start(port);
  t.after(() => fusion.stop());
  const again = await started(t, { folder: daemon.folder, ports: daemon.ports, uplinkUrl });
  const retry = await device(t, again.ports.mqtt);
  for (const n of [20, 21, 22]) {
    await retry.publishAsync("observations/smoke", JSON.stringify(reading(n)), { qos: 1 });
  }
  await again.until(({ pending }) => pending === 0);
  const { ledger } = await again.status();
  assert.equal(ledger.accepted, sumOfFates(ledger));
  const ids = new Set(fusion.received.map(({ id }) => id));
  const numbers = new Set(fusion.received.map(({ attributes }) => Number(attributes.n)));
  assert.equal(numbers.size, 23);
  assert.equal(ids.size, 23, "what is sent again has the id it had");
});
