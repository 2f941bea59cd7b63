/** From what a device says to what fusion receives, to the letter of the contract (sections 4 and 5). */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import type { MqttClient } from "mqtt";
import { Collector, type Received, type ReceivedBatch } from "../support/collector.ts";
import { missing } from "../support/commands.ts";
import { Daemon, type DaemonOptions } from "../support/daemon.ts";
import { device } from "../support/device.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { until } from "../support/until.ts";

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;
const RFC_3339 = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;

interface Road {
  readonly fusion: Collector;
  readonly daemon: Daemon;
  readonly client: MqttClient;
  /** Publishes with QoS 1, a text as it is and anything else as JSON. */
  readonly say: (topic: string, payload: unknown, qos?: 0 | 1 | 2) => Promise<unknown>;
}

async function road(t: TestContext, uplink: object = {}, options: Partial<DaemonOptions> = {}): Promise<Road> {
  const fusion = await Collector.start();
  t.after(() => fusion.stop());
  const settings = { url: fusion.url, retry: { initial: "50ms", max: "50ms" }, ...uplink };
  const daemon = await Daemon.start({ folder: temporaryFolder(t), changes: { uplink: settings }, ...options });
  t.after(() => daemon.stop("SIGKILL"));
  const client = await device(t, daemon.ports.mqtt, { clientId: "station-7" });
  const say = (topic: string, payload: unknown, qos: 0 | 1 | 2 = 1) => {
    const raw = typeof payload === "string" || Buffer.isBuffer(payload) ? payload : JSON.stringify(payload);
    return client.publishAsync(topic, raw, { qos });
  };
  return { fusion, daemon, client, say };
}

const readings = (count: number, from = 0) => Array.from({ length: count }, (_, index) => ({ n: from + index }));
const numbersOf = (batches: readonly ReceivedBatch[]) =>
  batches.flatMap(({ observations }) => observations.map(({ attributes }) => Number(attributes.n)));

/** The text that Python's zlib, which stops after the first member, makes of a body. */
function decodedByPython(raw: Buffer): string {
  const program =
    "import sys,zlib; d=zlib.decompressobj(31); t=d.decompress(sys.stdin.buffer.read())+d.flush(); " +
    "assert d.eof and d.unused_data == b''; sys.stdout.buffer.write(t)";
  const { status, stdout, stderr } = spawnSync("python3", ["-c", program], { input: raw });
  assert.equal(status, 0, String(stderr));
  return stdout.toString();
}

test("a request has the contract's headers and envelope", async (t) => {
  const { fusion, daemon, say } = await road(t);
  await say("observations/smoke", {
    n: 1,
    lat: 38.94,
    lon: -120.05,
    confidence: 0.87,
    source: "mast-3",
    priority: "high",
  });
  await until("it is delivered", () => fusion.received.length === 1);
  const [batch] = fusion.batches;
  const { method, path, headers, text, sent_at } = batch as ReceivedBatch;
  assert.deepEqual([method, path], ["POST", "/api/v1/observations/batch"]);
  assert.equal(headers["content-type"], "application/json");
  assert.equal(headers["content-encoding"], "gzip");
  assert.match(headers["idempotency-key"] as string, /^\S+$/);
  assert.match(headers.traceparent as string, /^00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}$/);
  assert.equal(headers.authorization, undefined);
  const envelope = JSON.parse(text) as Record<string, unknown>;
  assert.deepEqual(Object.keys(envelope).sort(), ["gateway_id", "observations", "replayed", "schema", "sent_at"]);
  assert.equal(envelope.schema, "summit.observations/1");
  assert.equal(envelope.gateway_id, "sierra-014");
  assert.equal(envelope.replayed, false);
  assert.match(sent_at, RFC_3339);
  const [observation] = fusion.received;
  const { id, ts_iso, gateway, ...rest } = observation as Received;
  assert.deepEqual(rest, {
    class: "smoke",
    confidence: 0.87,
    lat: 38.94,
    lon: -120.05,
    source: "mast-3",
    priority: "high",
    attributes: { n: 1 },
  });
  assert.match(id, UUID);
  assert.match(ts_iso, RFC_3339);
  assert.deepEqual(Object.keys(gateway).sort(), ["clock", "id", "received_at", "seq"]);
  assert.deepEqual([gateway.id, gateway.seq], ["sierra-014", 1]);
  assert.match(gateway.received_at, RFC_3339);
  assert.match(gateway.clock, /^(synchronised|unsynchronised|stepped)$/);
  await daemon.until(({ delivered }) => delivered === 1);
});

test("a body is one gzip member, however its readings were committed", { skip: missing("python3") }, async (t) => {
  const { fusion, daemon, say } = await road(t, { reachability: "100ms" });
  await fusion.stop();
  // Large blocks are spliced as they lie on the disk; many small ones are compressed again.
  for (let block = 0; block < 4; block++) await say("observations/smoke", readings(100, block * 100));
  await fusion.listen();
  await daemon.until(({ pending }) => pending === 0);
  await fusion.stop();
  for (const reading of readings(60, 400)) await say("observations/smoke", reading);
  await say("alerts/tower", { n: 460, text: "Rauch über dem Grat 🔥" });
  await fusion.listen();
  await daemon.until(({ pending }) => pending === 0);
  assert.ok(fusion.batches.some(({ observations }) => observations.length === 400));
  assert.ok(fusion.batches.some(({ observations }) => observations.length === 61));
  for (const { raw, text } of fusion.batches) assert.equal(decodedByPython(raw), text);
});

test("without compression a body is plain JSON", async (t) => {
  const { fusion, say } = await road(t, { batch: { compression: "none" } });
  await say("observations/smoke", readings(10));
  await until("they are delivered", () => fusion.received.length === 10);
  assert.equal(fusion.batches[0]?.headers["content-encoding"], undefined);
  assert.equal(fusion.batches[0]?.raw.toString(), fusion.batches[0]?.text);
});

test("the idempotency key belongs to the set of readings: through retries and restarts, and to no other", async (t) => {
  const folder = temporaryFolder(t);
  const ports = await Daemon.freePorts();
  const { fusion, daemon, say } = await road(t, {}, { folder, ports });
  const keysOf = (from: number) => new Set(fusion.keys.slice(from));
  fusion.answer = () => ({ status: 503 });
  await say("observations/smoke", readings(20));
  await until("it was tried a few times", () => fusion.requests >= 3);
  assert.equal(await daemon.stop(), 0);
  const restarted = fusion.requests;
  const uplink = { url: fusion.url, retry: { initial: "50ms", max: "50ms" } };
  const second = await Daemon.start({ folder, ports, changes: { uplink } });
  t.after(() => second.stop("SIGKILL"));
  await until("it was tried again", () => fusion.requests > restarted);
  const [key] = keysOf(0);
  assert.deepEqual(keysOf(0), new Set([key]));
  fusion.answer = () => ({ status: 204 });
  await second.until(({ delivered }) => delivered === 20);

  const client = await device(t, ports.mqtt);
  const before = fusion.requests;
  await client.publishAsync("observations/smoke", JSON.stringify(readings(20)), { qos: 1 });
  await second.until(({ delivered }) => delivered === 40);
  assert.equal(keysOf(before).has(key ?? ""), false, "others have another key");
  assert.equal(await second.stop(), 0);

  for (const suffix of ["", "-wal", "-shm"]) rmSync(join(folder, "data", `outbox.db${suffix}`), { force: true });
  const replaced = fusion.requests;
  const third = await Daemon.start({ folder, ports, changes: { uplink } });
  t.after(() => third.stop("SIGKILL"));
  const again = await device(t, ports.mqtt);
  await again.publishAsync("observations/smoke", JSON.stringify(readings(20)), { qos: 1 });
  await third.until(({ delivered }) => delivered === 20);
  assert.equal(fusion.batches.at(-1)?.observations[0]?.gateway.seq, 1, "numbers begin again");
  assert.equal(keysOf(replaced).has(key ?? ""), false, "and yet the key is another one");
});

test("the token comes from its file, which is read again when fusion refuses it", async (t) => {
  const tokenFile = join(temporaryFolder(t), "token");
  writeFileSync(tokenFile, "first-token\n");
  const { fusion, daemon, say } = await road(t, { tokenFile });
  fusion.answer = ({ headers }) => ({ status: headers.authorization === "Bearer second-token" ? 204 : 401 });
  await say("observations/smoke", { n: 1 });
  await until("the first token was refused", () => fusion.requests >= 2);
  assert.equal(fusion.batches[0]?.headers.authorization, "Bearer first-token");
  await daemon.untilStatus(({ conditions }) => conditions.some(({ code }) => code === "credentials"));
  writeFileSync(tokenFile, "second-token");
  await daemon.until(({ delivered }) => delivered === 1);
});

test("no request holds more readings or bytes than configured, after the limits have shrunk as well", async (t) => {
  const folder = temporaryFolder(t);
  const ports = await Daemon.freePorts();
  const { fusion, daemon, say } = await road(t, { reachability: "100ms" }, { folder, ports });
  await fusion.stop();
  for (let block = 0; block < 2; block++) await say("observations/smoke", readings(300, block * 300));
  assert.equal(await daemon.stop(), 0);
  await fusion.listen();
  const batch = { maxReadings: 7, maxBytes: "2KiB" };
  const second = await Daemon.start({ folder, ports, changes: { uplink: { url: fusion.url, batch } } });
  t.after(() => second.stop("SIGKILL"));
  const client = await device(t, ports.mqtt);
  const publish = (payload: unknown) => client.publishAsync("observations/smoke", JSON.stringify(payload), { qos: 1 });
  await publish(readings(50, 600));
  await publish({ n: 650, text: "x".repeat(4000) });
  await publish(readings(5, 651));
  await second.until(({ delivered }) => delivered === 656);
  assert.deepEqual(
    numbersOf(fusion.batches),
    Array.from({ length: 656 }, (_, n) => n),
    "each once, in order",
  );
  for (const { observations, text } of fusion.batches) {
    assert.ok(observations.length <= 7, `${observations.length} readings`);
    const bytes = Buffer.byteLength(text);
    assert.ok(bytes <= 2048 || observations.length === 1, `${bytes} bytes with ${observations.length} readings`);
  }
});

test("readings of every QoS, alone and in arrays, go the same way; copies are counted and go no further", async (t) => {
  const { fusion, daemon, say } = await road(t);
  for (const qos of [0, 1, 2] as const) await say("observations/smoke", { n: qos }, qos);
  await say("observations/smoke", readings(3, 3), 2);
  const timed = { ts: 1_780_000_000, source: "mast-1", n: 6 };
  for (const qos of [0, 1, 2] as const) await say("observations/smoke", timed, qos);
  const named = { id: "018F0000-0000-7000-8000-0000000000AB", n: 7 };
  await say("observations/smoke", [named, named]);
  await daemon.until(({ delivered, duplicates }) => delivered === 8 && duplicates === 3);
  assert.deepEqual(numbersOf(fusion.batches), [0, 1, 2, 3, 4, 5, 6, 7]);
  assert.equal(fusion.received[7]?.id, named.id.toLowerCase());
  assert.equal((await daemon.status()).ledger.accepted, 8);
});

test("a topic gives class, source and priority where the payload does not", async (t) => {
  const { fusion, daemon, say } = await road(t);
  const cases: [string, object, Partial<Received>][] = [
    ["observations/smoke", {}, { class: "smoke", source: "station-7", priority: "normal" }],
    ["observations/smoke", { class: "heat", source: "mast-3" }, { class: "heat", source: "mast-3" }],
    ["telemetry/mast-4", {}, { class: "telemetry", source: "mast-4", priority: "normal" }],
    ["telemetry/mast-4", { source: "mast-5" }, { class: "telemetry", source: "mast-5" }],
    ["alerts/tower", {}, { class: "alert", source: "tower", priority: "critical" }],
    ["alerts/tower", { priority: "low", class: "test" }, { class: "test", priority: "low" }],
    ["health/node-1/heartbeat", {}, { class: "heartbeat", source: "node-1", priority: "low" }],
  ];
  for (const [n, [topic, payload]] of cases.entries()) await say(topic, { n, ...payload });
  await daemon.until(({ delivered }) => delivered === cases.length);
  for (const [n, [topic, , expected]] of cases.entries()) {
    const found = fusion.received.find(({ attributes }) => attributes.n === n);
    const actual = Object.fromEntries(Object.keys(expected).map((key) => [key, found?.[key as keyof Received]]));
    assert.deepEqual(actual, expected, topic);
  }
});

test("names and values arrive as they were sent", async (t) => {
  const { fusion, daemon, say } = await road(t);
  const payloads = [
    '{"näme":"日本 🔥 \\u2028 \\u0000 \\"quoted\\" \\\\","\\ud83d\\udd25":1,"":"empty","a b":2}',
    '{"nested":{"a":[1,[2,{"b":null}]],"":{}},"null":null,"yes":true,"no":false,"list":[]}',
    '{"__proto__":{"polluted":1},"constructor":2,"toString":"x","hasOwnProperty":3,"prototype":[]}',
    '{"attributes":{"__proto__":1,"lat":5,"n":1},"n":2,"extra":3}',
    '{"big":1e308,"small":5e-324,"int":9007199254740991,"neg":-0.1,"exp":1.5e-7,"e21":1e21}',
    '{"id":"sensor-4","ts":1780000000,"timestamp":5,"type":"x","gateway":{"id":"mine"},"seq":1,"traceparent":"none"}',
  ];
  for (const payload of payloads) await say("observations/smoke", payload);
  await daemon.until(({ delivered }) => delivered === payloads.length);
  const attributes = fusion.received.map((reading) => JSON.stringify(reading.attributes));
  const plain = (text: string) => JSON.stringify(JSON.parse(text));
  assert.equal(attributes[0], plain(payloads[0] ?? ""));
  assert.equal(attributes[1], plain(payloads[1] ?? ""));
  assert.equal(attributes[2], plain(payloads[2] ?? ""));
  assert.equal(attributes[3], '{"__proto__":1,"lat":5,"n":1,"n_outer":2,"extra":3}');
  assert.equal(attributes[4], plain(payloads[4] ?? ""));
  assert.equal(
    attributes[5],
    '{"id":"sensor-4","timestamp":5,"type":"x","gateway":{"id":"mine"},"seq":1,"traceparent":"none"}',
  );
});

test("a time in any of its forms becomes ts_iso", async (t) => {
  const { fusion, daemon, say } = await road(t);
  const AT = "2026-07-01T12:00:00.000Z";
  const seconds = Date.parse(AT) / 1000;
  const forms: [object, string][] = [
    [{ ts: seconds }, AT],
    [{ ts: seconds * 1000 }, AT],
    [{ ts: seconds + 0.25 }, "2026-07-01T12:00:00.250Z"],
    [{ ts: AT }, AT],
    [{ ts_iso: "2026-07-01T05:00:00-07:00" }, AT],
    [{ ts_iso: "2026-07-01T12:00:00.123456Z" }, "2026-07-01T12:00:00.123Z"],
    [{ time: seconds }, AT],
    [{ timestamp: seconds * 1000 }, AT],
    [{ timestamp: "2026-07-01T12:00:00Z" }, AT],
    [{ ts_iso: AT, ts: 5 }, AT],
    [{ ts: 0 }, "1970-01-01T00:00:00.000Z"],
  ];
  for (const [n, [form]] of forms.entries()) await say("observations/smoke", { n, ...form });
  const from = Date.now();
  await say("observations/smoke", { n: forms.length });
  await daemon.until(({ delivered }) => delivered === forms.length + 1);
  for (const [n, [form, expected]] of forms.entries()) {
    assert.equal(fusion.received[n]?.ts_iso, expected, JSON.stringify(form));
  }
  const own = fusion.received.at(-1);
  assert.ok(Math.abs(Date.parse(own?.ts_iso ?? "") - from) < 60_000, "without one, the gateway's clock");
});

const INVALID: readonly (string | Buffer)[] = [
  "",
  "not JSON",
  "5",
  "null",
  '"text"',
  '{"a":1',
  '{"a":NaN}',
  '{"a":1e400}',
  '{"a":-1e400}',
  '{"a":{"b":[1e999]}}',
  '{"lat":90.0001}',
  '{"lat":-91}',
  '{"lon":180.5}',
  '{"lon":-181}',
  '{"lat":"38.9"}',
  '{"confidence":1.01}',
  '{"confidence":-0.1}',
  '{"confidence":"high"}',
  '{"priority":"urgent"}',
  '{"priority":5}',
  '{"ts":"yesterday"}',
  '{"ts":true}',
  '{"ts_iso":"2026-13-01T00:00:00Z"}',
  '{"ts_iso":"2026-07-01T12:00:00"}',
  '{"time":"25:00"}',
  Buffer.from([0x7b, 0x22, 0xff, 0xfe, 0x22, 0x3a, 0x31, 0x7d]),
];

test("a payload that cannot be read is acknowledged, counted as invalid, and goes no further", async (t) => {
  const { fusion, daemon, say } = await road(t);
  for (const [index, payload] of INVALID.entries()) {
    await say("observations/smoke", payload, ((index % 2) + 1) as 1 | 2);
    assert.equal((await daemon.status()).refused.invalid, index + 1, String(payload));
  }
  const mixed = [{ n: 0 }, { lat: 91 }, 5, null, [], { n: 1, lat: -90, lon: 180, confidence: 0 }];
  await say("observations/smoke", mixed);
  await daemon.until(({ delivered }) => delivered === 2);
  const { ledger, refused, sources } = await daemon.status();
  assert.deepEqual([ledger.accepted, refused.invalid], [2, INVALID.length + 4]);
  assert.equal(sources[0]?.refused, INVALID.length + 4);
  assert.deepEqual(numbersOf(fusion.batches), [0, 1]);
});

test("what no route matches is forwarded and not stored; a retained reading is forwarded and not kept", async (t) => {
  const { fusion, daemon, client, say } = await road(t);
  const heard: string[] = [];
  const listener = await device(t, daemon.ports.mqtt);
  listener.on("message", (topic, payload, { retain }) => heard.push(`${topic} ${payload} ${retain}`));
  await listener.subscribeAsync("#", { qos: 1 });
  await say("site/lamp", "on");
  await say("observations/a/b", "{}");
  await say("health/node-1", "{}");
  await client.publishAsync("observations/smoke", '{"n":1}', { qos: 1, retain: true });
  await until("the subscriber has heard all", () => heard.length === 4);
  assert.deepEqual(heard, [
    "site/lamp on false",
    "observations/a/b {} false",
    "health/node-1 {} false",
    'observations/smoke {"n":1} false',
  ]);
  await daemon.until(({ delivered }) => delivered === 1);
  assert.equal((await daemon.status()).ledger.accepted, 1);
  assert.equal(fusion.received.length, 1);
  const late: string[] = [];
  const latecomer = await device(t, daemon.ports.mqtt);
  latecomer.on("message", (topic) => late.push(topic));
  await latecomer.subscribeAsync("#", { qos: 1 });
  await say("site/lamp", "off");
  await until("the latecomer hears something", () => late.length > 0);
  assert.deepEqual(late, ["site/lamp"]);
});
