import assert from "node:assert/strict";
import { request } from "node:http";
import { connect } from "node:net";
import { text } from "node:stream/consumers";
import { afterEach, beforeEach, test } from "node:test";
import { Ajv } from "ajv";
import { pino } from "pino";
import { GatewayError } from "#src/kernel/errors.js";
import { HttpServer } from "#src/operations/http.js";
import { MAX_QUARANTINE } from "#src/operations/schemas.js";
import { QUARANTINE_CAPACITY, type QuarantineEntry } from "#src/sources/quarantine.js";
import { httpConfig } from "../support/http-config.ts";
import { MemoryPort } from "../support/memory-port.ts";
import { deadLetter, MemoryGatewayView, storedReading } from "../support/memory-view.ts";
import { TestClock } from "../support/test-clock.ts";

let view: MemoryGatewayView;
let clock: TestClock;
let server: HttpServer;
let logged: Record<string, unknown>[];

const log = () =>
  pino({ level: "info" }, { write: (line: string) => void logged.push(JSON.parse(line) as Record<string, unknown>) });

beforeEach(async () => {
  logged = [];
  view = new MemoryGatewayView();
  clock = new TestClock();
  view.startedAt = clock.monotonic();
  server = new HttpServer({ view, config: httpConfig(), clock, log: log() });
  await server.open();
});
afterEach(() => server.close());

interface Answer {
  status: number;
  headers: NodeJS.Dict<string | string[]>;
  text: string;
  // biome-ignore lint/suspicious/noExplicitAny: a test reads whatever the answer holds
  json: any;
}

/** One request, with headers that `fetch` would not let a test set. */
async function call(
  method: string,
  path: string,
  body?: string,
  headers: Record<string, string> = {},
): Promise<Answer> {
  const sent = body === undefined ? headers : { "content-type": "application/json", ...headers };
  return new Promise((resolve, reject) => {
    const outgoing = request({ port: server.port, method, path, headers: sent }, async (incoming) => {
      const received = await text(incoming);
      const json = /[/+]json/.test(incoming.headers["content-type"] ?? "") ? JSON.parse(received) : undefined;
      resolve({ status: incoming.statusCode ?? 0, headers: incoming.headers, text: received, json });
    });
    outgoing.on("error", reject);
    outgoing.end(body);
  });
}
const get = (path: string) => call("GET", path);
const post = (path: string, body: unknown, headers?: Record<string, string>) =>
  call("POST", path, JSON.stringify(body), headers);

function assertProblem(answer: Answer, status: number, code: string): void {
  assert.equal(answer.status, status, answer.text);
  assert.equal(answer.headers["content-type"], "application/problem+json");
  assert.equal(answer.json.code, code);
  assert.equal(answer.json.status, status);
  assert.doesNotMatch(answer.text, /\bat .*\.js:|node_modules/, "no stack trace leaves the gateway");
}

test("liveness is 200 while the daemon can work, degraded included, and 503 with the reason when it cannot", async () => {
  assert.deepEqual((await get("/healthz")).json, { status: "ok" });
  view.facts.uplink = { ...view.facts.uplink, breaker: "open" };
  assert.deepEqual((await get("/healthz")).json, { status: "degraded" });
  view.facts.alive = { ok: false, reason: "the outbox worker has ended" };
  const answer = await get("/healthz");
  assertProblem(answer, 503, "NOT_ALIVE");
  assert.equal(answer.json.detail, "the outbox worker has ended");
});

test("readiness follows the outbox and the listeners", async () => {
  assert.equal((await get("/readyz")).status, 200);
  view.facts.ready = false;
  assertProblem(await get("/readyz"), 503, "NOT_READY");
});

test("health names every component with its state, why, since when and a score", async () => {
  const since = clock.now() - 60_000;
  const detail = "fusion does not answer";
  view.facts.conditions = [{ component: "uplink", code: "unreachable", severity: "degraded", detail, since }];
  const { status, json } = await get("/health");
  assert.equal(status, 200);
  assert.equal(json.state, "degraded");
  const uplink = json.components.find(({ component }: { component: string }) => component === "uplink");
  assert.deepEqual(
    { state: uplink.state, score: uplink.score, why: uplink.why, since: uplink.since },
    { state: "degraded", score: 70, why: detail, since: new Date(since).toISOString() },
  );
});

test("since tells when something went wrong, not when somebody first asked", async () => {
  view.facts.clock = { quality: "unsynchronised", forSeconds: 3600, steps: 0 };
  await clock.advance(5_000);
  const noticed = new Date(clock.now()).toISOString();
  await clock.advance(60_000);
  const { json } = await get("/api/v1/status");
  assert.equal(json.conditions[0].since, noticed);
});

test("the status has the contract's members, times in RFC 3339", async () => {
  await clock.advance(90_500);
  const { json, headers } = await get("/api/v1/status");
  assert.match(String(headers["content-type"]), /^application\/json/);
  assert.equal(json.gateway, "sierra-014");
  assert.equal(json.uptimeSeconds, 90);
  assert.deepEqual(json.ledger, view.facts.ledger);
  assert.deepEqual(json.refused, { invalid: 5 });
  assert.deepEqual([json.outbox.pending, json.outbox.bytes, json.outbox.oldestAgeSeconds], [15, 81920, 61.5]);
  assert.deepEqual([json.uplink.state, json.uplink.breaker], ["idle", "closed"]);
  assert.deepEqual(json.sources[0], {
    name: "mqtt",
    kind: "mqtt",
    state: "listening",
    accepted: 100,
    refused: 5,
    lastReadingAt: "2026-07-01T12:00:00.000Z",
  });
  assert.equal(json.sources[1].lastReadingAt, null);
  const since = new Date(clock.now() - 60_000).toISOString();
  assert.deepEqual(json.clock, { quality: "synchronised", source: "timedatectl", since, steps: 0, lastStep: null });
});

test("peek answers at most so many readings, of one priority where asked", async () => {
  view.readings = [storedReading(1), storedReading(2, { priority: "critical" }), storedReading(3)];
  assert.equal((await get("/api/v1/outbox/peek")).json.readings.length, 3);
  assert.equal((await get("/api/v1/outbox/peek?limit=2")).json.readings.length, 2);
  assert.deepEqual((await get("/api/v1/outbox/peek?priority=critical")).json.readings, [view.readings[1]]);
});

test("dead letters are listed page by page, shown, requeued and dropped", async () => {
  view.deadLetters = [1, 2, 3].map(deadLetter);
  const [first, second, third] = view.deadLetters.map(({ id }) => id);
  const page = (await get("/api/v1/dead-letters?limit=2")).json;
  assert.deepEqual([page.deadLetters.length, page.next], [2, second]);
  const rest = (await get(`/api/v1/dead-letters?limit=2&after=${page.next}`)).json;
  assert.deepEqual([rest.deadLetters[0].id, rest.next], [third, null]);
  assertProblem(await get("/api/v1/dead-letters?after=bogus"), 404, "RESOURCE_NOT_FOUND");

  const shown = (await get(`/api/v1/dead-letters/${first}`)).json;
  assert.deepEqual([shown.code, shown.reading.attributes], ["class-unknown", { pm2_5_ug_m3: 81 }]);
  assertProblem(await get("/api/v1/dead-letters/none"), 404, "RESOURCE_NOT_FOUND");

  const requeued = await post("/api/v1/dead-letters/requeue", { ids: [first, "none"] });
  assert.deepEqual(requeued.json, { count: 1, unknown: ["none"] });
  assert.equal(view.readings[0]?.id, first);
  assert.deepEqual((await post("/api/v1/dead-letters/drop", { all: true })).json, { count: 2, unknown: [] });
  assert.equal(view.deadLetters.length, 0);
});

const refusal = (at: number, changes: Partial<QuarantineEntry> = {}): QuarantineEntry => ({
  at,
  reason: "invalid",
  detail: "not UTF-8",
  source: "mqtt",
  via: "telemetry/mast-3",
  device: "mast-3",
  head: "\u0001\ufffd",
  hex: "01ff",
  ...changes,
});

test("what was refused last is listed, newest first and bounded, with its bytes where it is no text", async () => {
  assert.deepEqual((await get("/api/v1/quarantine")).json, { kept: 0, quarantine: [] });
  const { hex: _, ...text } = refusal(1_000, { detail: "not JSON: …", head: "{" });
  view.quarantined = [text, refusal(2_000), ...Array.from({ length: 98 }, () => refusal(3_000))];
  assert.equal((await get("/api/v1/quarantine")).json.quarantine.length, 20);
  const { kept, quarantine } = (await get("/api/v1/quarantine?limit=100")).json;
  assert.deepEqual([kept, quarantine.length], [100, 100]);
  assert.deepEqual(quarantine.slice(-2), [
    { ...refusal(0), at: "1970-01-01T00:00:02.000Z" },
    { ...text, at: "1970-01-01T00:00:01.000Z", hex: null },
  ]);
  for (const limit of [0, 101, "x"])
    assertProblem(await get(`/api/v1/quarantine?limit=${limit}`), 400, "VALIDATION_FAILED");
  assert.equal(MAX_QUARANTINE, QUARANTINE_CAPACITY, "all that is kept can be asked for");
});

test("what every route answers is what the OpenAPI document says", async () => {
  view.readings = [storedReading(1)];
  view.deadLetters = [deadLetter(1)];
  view.quarantined = [refusal(0)];
  view.facts.conditions = [{ component: "mqtt", code: "c", severity: "degraded", detail: "d", since: 0 }];
  view.facts.uplink = { ...view.facts.uplink, lastFailure: { at: 0, code: "timeout", detail: "d" } };
  const port = new MemoryPort("mast");
  view.serialPorts.push(port);
  port.traffic.end();
  const { state, ...portView } = port.status();
  view.facts.sources.push({ name: "mast", kind: "serial", accepted: 0, refused: 0, state, port: portView });
  const document = (await get("/openapi.json")).json;
  const ajv = new Ajv({ strict: false, validateFormats: false });
  const paths = Object.entries<
    Record<string, { responses: Record<string, { content: Record<string, { schema?: object }> }> }>
  >(document.paths);
  assert.ok(paths.length >= 10);
  for (const [path, operations] of paths) {
    for (const [method, operation] of Object.entries(operations)) {
      const [type, media] = Object.entries(operation.responses["200"]?.content ?? {})[0] ?? [];
      const url = path.replace("{id}", deadLetter(1).id).replace("{name}", "mast");
      const body = url.endsWith("/replay")
        ? { from: "2026-07-01T12:00:00Z", to: "2026-07-01T13:00:00Z" }
        : { ids: ["x"] };
      const answer = method === "post" ? await post(url, body) : await call(method.toUpperCase(), url);
      assert.equal(answer.status, 200, `${method} ${path}`);
      if (type !== "application/json") continue;
      const valid = ajv.compile(media?.schema ?? false);
      assert.ok(valid(answer.json), `${method} ${path}: ${ajv.errorsText(valid.errors)}`);
    }
  }
});

test("a request that is not valid is refused with what is wrong with it", async () => {
  const query = await get("/api/v1/outbox/peek?limit=0");
  assertProblem(query, 400, "VALIDATION_FAILED");
  assert.equal(query.json.detail, "limit in the query must be a whole number from 1 to 1000");
  const wanted = "must be a whole number from 1 to 1000";
  assert.deepEqual(query.json.errors, [{ pointer: "/querystring/limit", detail: wanted }]);
  for (const body of [{}, { ids: [] }, { all: false }, { all: "true" }, { ids: ["a"], all: true }, { ids: [7] }, null])
    assertProblem(await post("/api/v1/dead-letters/drop", body), 400, "VALIDATION_FAILED");
  assertProblem(await call("POST", "/api/v1/dead-letters/drop", "{"), 400, "INVALID_JSON");
  const plain = { "content-type": "text/plain" };
  assertProblem(await post("/api/v1/dead-letters/drop", { all: true }, plain), 415, "UNSUPPORTED_MEDIA_TYPE");
  assertProblem(await post("/api/v1/dead-letters/drop", { ids: ["x".repeat(70_000)] }), 413, "BODY_TOO_LARGE");
  assertProblem(await get("/api/v1/nothing"), 404, "RESOURCE_NOT_FOUND");
  assertProblem(await get("/%zz"), 400, "BAD_REQUEST");
});

test("a refusal says in words which field is meant, and what is wanted there", async () => {
  const peek = "/api/v1/outbox/peek";
  const drop = "/api/v1/dead-letters/drop";
  const time = "a time in RFC 3339, such as 2026-07-01T12:00:00Z";
  for (const [asked, detail] of [
    [get(`${peek}?limit=many`), "limit in the query must be a whole number from 1 to 1000"],
    [get(`${peek}?priority=urgent`), "priority in the query must be one of critical, high, normal, low"],
    [get(`${peek}?limt=1`), "limt in the query is not known: did you mean `limit`?"],
    [get(`${peek}?colour=red`), "colour in the query is not known: known here: limit, priority"],
    [post(drop, null), "the body must be an object with either ids or all"],
    [post(drop, {}), "the body must be an object with either ids or all"],
    [post(drop, { ids: ["a"], all: true }), "the body must be an object with either ids or all"],
    [post(drop, { ids: [] }), "ids in the body must be a list of 1 to 1000 members"],
    [post(drop, { ids: ["a", 7] }), "ids.1 in the body must be text of 1 to 128 characters"],
    [post(drop, { all: "true" }), "all in the body must be true"],
    [post("/api/v1/outbox/replay", {}), `from in the body is missing: ${time}`],
    [post("/api/v1/outbox/replay", { from: "yesterday", to: "today" }), `from in the body must be ${time}`],
  ] as const) {
    const answer = await asked;
    assertProblem(answer, 400, "VALIDATION_FAILED");
    assert.equal(answer.json.detail, detail);
  }
});

test("a page of another site cannot write, neither by rebinding its name nor by calling across", async () => {
  view.deadLetters = [deadLetter(1)];
  const drop = (headers: Record<string, string>) => post("/api/v1/dead-letters/drop", { all: true }, headers);
  assertProblem(await drop({ host: "evil.example:8480" }), 403, "FORBIDDEN_HOST");
  assertProblem(await drop({ origin: "http://evil.example" }), 403, "FORBIDDEN_ORIGIN");
  assert.equal(view.deadLetters.length, 1);
  assert.equal((await drop({ origin: `http://localhost:${server.port}` })).status, 200);
});

test("a replay is asked for by range, tells how it fares in RFC 3339, and is ended", async () => {
  assert.deepEqual((await get("/api/v1/outbox/replay")).json.state, "none");
  const body = { from: "2026-07-01T12:00:00Z", to: "2026-07-01T15:00:00+02:00", class: "smoke" };
  const { status, json } = await post("/api/v1/outbox/replay", body);
  assert.equal(status, 200);
  const { from, to, rate, state, total, sent } = json;
  assert.deepEqual([from, to], ["2026-07-01T12:00:00.000Z", "2026-07-01T13:00:00.000Z"]);
  assert.deepEqual({ rate, state, total, sent }, { rate: 500, state: "counting", total: null, sent: 0 });
  const asked = { from: Date.UTC(2026, 6, 1, 12), to: Date.UTC(2026, 6, 1, 13), class: "smoke", rate: 500 };
  assert.deepEqual(view.replays, [asked]);
  assert.equal((await call("DELETE", "/api/v1/outbox/replay")).json.state, "stopped");
  for (const wrong of [
    {},
    { from: "yesterday", to: "today" },
    { from: "2026-13-01T00:00:00Z", to: "2026-13-02T00:00:00Z" },
    { from: body.to, to: body.from },
    { ...body, rate: 0 },
    { ...body, rate: "fast" },
    { ...body, colour: "red" },
  ])
    assertProblem(await post("/api/v1/outbox/replay", wrong), 400, "VALIDATION_FAILED");
  view.replayRefusal = "nothing-kept";
  const refused = await post("/api/v1/outbox/replay", body);
  assertProblem(refused, 409, "REPLAY_NOTHING_KEPT");
  assert.match(refused.json.hint, /outbox\.keepDelivered/);
  assert.equal(view.replays.length, 1);
});

test("a page of another site can neither begin a replay nor end one", async () => {
  const body = JSON.stringify({ from: "2026-07-01T12:00:00Z", to: "2026-07-01T13:00:00Z" });
  for (const method of ["POST", "DELETE"]) {
    const sent = method === "POST" ? body : undefined;
    const from = (headers: Record<string, string>) => call(method, "/api/v1/outbox/replay", sent, headers);
    assertProblem(await from({ host: "evil.example:8480" }), 403, "FORBIDDEN_HOST");
    assertProblem(await from({ origin: "http://evil.example" }), 403, "FORBIDDEN_ORIGIN");
  }
  assert.equal(view.replays.length, 0);
});

test("an operating fault of the outbox answers 503 with its own code and hint", async () => {
  const hint = "Free some disk.";
  view.fault = new GatewayError({ code: "OUTBOX_BUSY", op: "outbox.peek", message: "the outbox is busy", hint });
  const answer = await get("/api/v1/outbox/peek");
  assertProblem(answer, 503, "OUTBOX_BUSY");
  assert.equal(answer.json.hint, hint);
});

test("a programming error answers 500, tells nothing of its inside, and stands in the log", async () => {
  view.fault = new TypeError("secret inside");
  const answer = await get("/api/v1/outbox");
  assertProblem(answer, 500, "INTERNAL_ERROR");
  assert.doesNotMatch(answer.text, /secret inside/);
  const errors = logged.filter(({ level }) => level === 50);
  assert.equal(errors.length, 1);
  assert.match(JSON.stringify(errors[0]), /secret inside/);
});

test("bytes that are not HTTP are answered with a problem and the connection is closed", async () => {
  const socket = connect(server.port ?? 0, "127.0.0.1");
  socket.end("\x16\x03\x01 not http\r\n\r\n");
  const answer = await text(socket);
  assert.match(answer, /^HTTP\/1\.1 400 .*application\/problem\+json.*"code":"BAD_REQUEST"/s);
});

test("every answer forbids sniffing, framing and keeping; the page runs only its own script", async () => {
  for (const path of ["/", "/api/v1/status", "/nothing", "/%zz"]) {
    const { headers } = await get(path);
    assert.equal(headers["x-content-type-options"], "nosniff", path);
    assert.equal(headers["cache-control"], "no-store", path);
    assert.match(String(headers["content-security-policy"]), /default-src 'none'/, path);
    assert.match(String(headers["content-security-policy"]), /frame-ancestors 'none'/, path);
  }
  for (const path of ["/", "/docs"]) {
    const page = await get(path);
    assert.match(String(page.headers["content-type"]), /^text\/html/);
    assert.doesNotMatch(String(page.headers["content-security-policy"]), /unsafe/);
  }
});

test("a port that is taken is named, with the key that changes it", async () => {
  const config = httpConfig({ port: server.port ?? 0 });
  const second = new HttpServer({ view, config, clock, log: log() });
  await assert.rejects(second.open(), (error: GatewayError) => {
    assert.equal(error.code, "PORT_TAKEN");
    assert.match(error.message, new RegExp(`port ${config.port} on 127.0.0.1`));
    assert.match(error.hint, /http\.port/);
    return true;
  });
});

test("once closed nothing listens and no timer is left", async () => {
  const { port } = server;
  await server.close();
  assert.equal(clock.waiting, 0);
  assert.equal(server.port, undefined);
  await assert.rejects(fetch(`http://127.0.0.1:${port}/healthz`));
});
