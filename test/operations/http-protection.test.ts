import assert from "node:assert/strict";
import { lookup } from "node:dns/promises";
import { EventEmitter, once } from "node:events";
import { readFileSync } from "node:fs";
import { type IncomingMessage, request } from "node:http";
import { connect, type Socket } from "node:net";
import { text } from "node:stream/consumers";
import { afterEach, beforeEach, test } from "node:test";
import { pino } from "pino";
import type { HttpConfig } from "#src/config/schema.js";
import { ApiKeys, type Scope } from "#src/identity/api-keys.js";
import type { AuditEvent } from "#src/kernel/audit.js";
import { ERROR_CODES, type ErrorCode } from "#src/operations/error-codes.js";
import { HttpServer } from "#src/operations/http.js";
import { Connections } from "#src/operations/http-listener.js";
import { httpConfig } from "../support/http-config.ts";
import { MemoryPort } from "../support/memory-port.ts";
import { deadLetter, MemoryGatewayView } from "../support/memory-view.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { TestClock } from "../support/test-clock.ts";
import { until } from "../support/until.ts";

let clock: TestClock;
let view: MemoryGatewayView;
let server: HttpServer | undefined;
let audited: AuditEvent[];
let logged: string[];
let keys: ApiKeys;

beforeEach((t) => {
  clock = new TestClock();
  view = new MemoryGatewayView();
  audited = [];
  logged = [];
  keys = new ApiKeys(temporaryFolder(t as Parameters<typeof temporaryFolder>[0]), clock);
});
afterEach(async () => {
  await server?.close();
  server = undefined;
});

async function open(config: Partial<HttpConfig> = {}): Promise<void> {
  const log = pino({ level: "debug" }, { write: (line: string) => void logged.push(line) });
  const audit = (event: AuditEvent) => void audited.push(event);
  server = new HttpServer({ view, config: httpConfig(config), clock, log, audit, keys });
  await server.open();
}

const port = () => server?.port ?? 0;
const keyOf = async (name: string, scope: Scope, expiresAt?: number): Promise<string> =>
  (await keys.create({ name, scope, ...(expiresAt !== undefined && { expiresAt }) })).text;
const bearer = (key: string) => ({ authorization: `Bearer ${key}` });

interface Answer {
  readonly status: number;
  readonly headers: NodeJS.Dict<string | string[]>;
  readonly text: string;
}

interface Call {
  readonly method?: string;
  readonly headers?: Record<string, string> | string[];
  readonly body?: string;
}

function call(path: string, { method = "GET", headers = {}, body }: Call = {}): Promise<Answer> {
  const typed =
    body === undefined || Array.isArray(headers) ? headers : { "content-type": "application/json", ...headers };
  return new Promise((resolve, reject) => {
    const outgoing = request({ port: port(), method, path, headers: typed }, async (incoming) => {
      resolve({ status: incoming.statusCode ?? 0, headers: incoming.headers, text: await text(incoming) });
    });
    outgoing.on("error", reject);
    outgoing.end(body);
  });
}

/** What comes back for raw bytes, until the gateway closes the connection. */
async function raw(bytes: string): Promise<Answer> {
  const socket = connect(port(), "127.0.0.1");
  socket.write(bytes);
  const [head = "", body = ""] = (await text(socket)).split("\r\n\r\n");
  const [status = "", ...lines] = head.split("\r\n");
  const headers = Object.fromEntries(lines.map((line) => line.toLowerCase().split(": ") as [string, string]));
  return { status: Number(status.split(" ")[1]), headers, text: body };
}

/** It is that problem, in every way in which all problems are alike. */
function assertProblem(answer: Answer, code: ErrorCode): Record<string, unknown> {
  const { status } = ERROR_CODES[code];
  assert.equal(answer.status, status, answer.text);
  assert.equal(answer.headers["content-type"], "application/problem+json");
  assert.equal(answer.headers["x-content-type-options"], "nosniff");
  assert.match(String(answer.headers["content-security-policy"]), /default-src 'none'/);
  const problem = JSON.parse(answer.text) as Record<string, unknown>;
  assert.equal(problem.code, code);
  assert.equal(problem.status, status);
  assert.equal(typeof problem.title, "string");
  assert.equal(typeof problem.detail, "string");
  assert.doesNotMatch(answer.text, /\bat .*\.js:|node_modules/);
  return problem;
}

const REQUEUE = "/api/v1/dead-letters/requeue";
const ALL = JSON.stringify({ all: true });

test("on loopback nobody needs a key, and who shows one is held to it", async () => {
  await open();
  const read = await keyOf("reader", "read");
  assert.equal((await call("/api/v1/status")).status, 200);
  assert.equal((await call(REQUEUE, { method: "POST", body: ALL })).status, 200);
  assertProblem(await call(REQUEUE, { method: "POST", body: ALL, headers: bearer(read) }), "SCOPE_INSUFFICIENT");
  assertProblem(await call("/api/v1/status", { headers: bearer("se_00000000_ff") }), "KEY_INVALID");
});

test("a call that goes on ends when its key is revoked or expires, and not before", async () => {
  await open({ auth: "always" });
  view.serialPorts.push(new MemoryPort("mast"));
  for (const lifetime of [undefined, 25_000]) {
    const expiresAt = lifetime === undefined ? undefined : clock.now() + lifetime;
    const key = await keyOf(`tail-${lifetime}`, "read", expiresAt);
    const outgoing = request({ port: port(), path: "/api/v1/serial/mast/tail", headers: bearer(key) });
    outgoing.end();
    const [incoming] = (await once(outgoing, "response")) as [IncomingMessage];
    assert.equal(incoming.statusCode, 200);
    let text = "";
    incoming.on("data", (chunk) => (text += String(chunk)));
    const cutOff = new Promise((resolve) => incoming.once("close", resolve));
    incoming.on("error", () => {});
    const lines = (): number => text.split("\n").length - 1;
    await clock.advance(20_000);
    // It said that it is there twice: its key was looked at, and was good.
    await until("it goes on", () => lines() >= 3);
    if (expiresAt === undefined) await keys.revoke(`tail-${lifetime}`);
    await clock.advance(10_000);
    await until(
      "it has looked",
      () => incoming.destroyed,
      () => clock.advance(10),
    );
    await cutOff;
  }
});

test("where keys are asked for, each route wants its scope, and probes and pages want none", async () => {
  await open({ auth: "always" });
  const [read, write, admin] = await Promise.all([keyOf("r", "read"), keyOf("w", "write"), keyOf("a", "admin")]);
  for (const path of ["/healthz", "/readyz", "/", "/docs"]) assert.equal((await call(path)).status, 200, path);
  const readable = ["/health", "/metrics", "/openapi.json", "/api/v1/status", "/api/v1/outbox", "/api/v1/outbox/peek"];
  for (const path of [...readable, "/api/v1/dead-letters", "/api/v1/quarantine", "/api/v1/outbox/replay"]) {
    const refused = await call(path);
    assertProblem(refused, "KEY_REQUIRED");
    assert.equal(refused.headers["www-authenticate"], 'Bearer realm="summit-edge"');
    for (const key of [read, write, admin])
      assert.equal((await call(path, { headers: bearer(key) })).status, 200, path);
  }
  for (const [method, path] of [
    ["POST", REQUEUE],
    ["POST", "/api/v1/dead-letters/drop"],
    ["DELETE", "/api/v1/outbox/replay"],
  ] as const) {
    const asked = { method, ...(method === "POST" && { body: ALL }) };
    assertProblem(await call(path, asked), "KEY_REQUIRED");
    assertProblem(await call(path, { ...asked, headers: bearer(read) }), "SCOPE_INSUFFICIENT");
    for (const key of [write, admin]) assert.equal((await call(path, { ...asked, headers: bearer(key) })).status, 200);
  }
  assertProblem(await call("/api/v1/nothing"), "KEY_REQUIRED");
});

test("a key that is unknown, altered, expired, revoked or of another scheme lets nobody in, from that call on", async () => {
  await open({ auth: "always" });
  const good = await keyOf("good", "read");
  const short = await keyOf("short", "read", clock.now() + 60_000);
  const status = (headers: Record<string, string>) => call("/api/v1/status", { headers });
  assert.equal((await status(bearer(good))).status, 200);
  assert.equal((await status({ authorization: `bearer   ${good} ` })).status, 200);
  const altered = good.slice(0, -1) + (good.endsWith("0") ? "1" : "0");
  const wrong = [altered, `${good}0`, good.toUpperCase(), good.replace("se_", "xx_"), "", "../../../etc/passwd", "se_"];
  for (const text of wrong) assertProblem(await status(bearer(text)), "KEY_INVALID");
  for (const authorization of ["Basic dXNlcjpwYXNz", good, `Bearer ${good} ${good}`])
    assertProblem(await status({ authorization }), "KEY_INVALID");
  assert.equal((await status(bearer(short))).status, 200);
  await clock.advance(60_000);
  clock.setWall(clock.now() + 60_000);
  const expired = await status(bearer(short));
  assertProblem(expired, "KEY_EXPIRED");
  assert.match(String(expired.headers["www-authenticate"]), /error="invalid_token"/);
  await keys.revoke("good");
  assertProblem(await status(bearer(good)), "KEY_INVALID");
});

test("a key that is refused is told to log and trail by its id, which keys list and revocations show, never as a whole", async () => {
  await open({ auth: "always" });
  const short = await keyOf("short", "read", clock.now() + 60_000);
  const gone = await keyOf("gone", "read");
  const [shortId, goneId] = [short, gone].map((text) => text.slice(3, 11));
  await keys.revoke("gone");
  clock.setWall(clock.now() + 60_000);
  for (const text of [short, gone, gone.slice(0, 20), "hunter2hunter2"])
    await call("/api/v1/status", { headers: bearer(text) });
  assert.deepEqual(
    audited.map(({ detail }) => [detail?.code, detail?.keyId]),
    [
      ["KEY_EXPIRED", shortId],
      ["KEY_INVALID", goneId],
      ["KEY_INVALID", goneId],
      ["KEY_INVALID", undefined],
    ],
  );
  const lines = logged.filter((line) => line.includes("a call was refused"));
  assert.deepEqual(
    lines.map((line) => JSON.parse(line).keyId),
    [shortId, goneId, goneId, undefined],
  );
  for (const text of [short.slice(12), gone.slice(12, 20), "hunter2"])
    assert.ok(!JSON.stringify([audited, logged]).includes(text));
});

test("refusals of somebody who tries are audited and logged, bounded, and never with the key", async () => {
  await open({ auth: "always", limits: { ...httpConfig().limits, requestRate: 0 } });
  const read = await keyOf("reader", "read");
  await call(REQUEUE, { method: "POST", body: ALL, headers: bearer(read) });
  await call("/api/v1/status", { headers: { host: "evil.example" } });
  await call("/api/v1/status");
  const [scope, host, ...others] = audited;
  assert.deepEqual(scope, {
    action: "api.refused",
    actor: "key:reader",
    subject: `POST ${REQUEUE}`,
    detail: { code: "SCOPE_INSUFFICIENT", address: "127.0.0.1", heldBack: 0 },
  });
  assert.deepEqual([host?.actor, host?.detail?.code], ["address:127.0.0.1", "FORBIDDEN_HOST"]);
  assert.equal(others.length, 0, "a call without a key is no attempt");
  const guess = `se_${"ab".repeat(4)}_${"cd".repeat(32)}`;
  for (let attempt = 0; attempt < 50; attempt++) await call("/api/v1/status", { headers: bearer(guess) });
  assert.equal(audited.length, 20);
  await clock.advance(60_000);
  await call("/api/v1/status", { headers: bearer(guess) });
  assert.equal(audited.at(-1)?.detail?.heldBack, 32);
  for (const secret of [read, guess]) {
    assert.doesNotMatch(JSON.stringify(audited), new RegExp(secret));
    assert.doesNotMatch(logged.join(""), new RegExp(secret));
  }
});

test("a caller that asks too often gets 429 and when to go on; another key, and the probes, are not held up", async () => {
  await open({ limits: { ...httpConfig().limits, requestRate: 2 } });
  const key = await keyOf("ops", "read");
  for (let request = 0; request < 6; request++) assert.equal((await call("/health")).status, 200);
  const refused = await call("/health");
  assertProblem(refused, "RATE_LIMIT_EXCEEDED");
  assert.equal(refused.headers["retry-after"], "1");
  assertProblem(await call("/api/v1/status", { headers: bearer("se_guess") }), "RATE_LIMIT_EXCEEDED");
  assert.equal((await call("/healthz")).status, 200);
  assert.equal((await call("/health", { headers: bearer(key) })).status, 200);
  await clock.advance(1_000);
  assert.equal((await call("/health")).status, 200);
});

test("control: without the rate nobody is held up", async () => {
  await open({ limits: { ...httpConfig().limits, requestRate: 0 } });
  for (let request = 0; request < 400; request++) assert.equal((await call("/health")).status, 200);
});

test("a name that is not the gateway's is refused on every call, reading ones included", async () => {
  await open({ hosts: ["sierra.example"] });
  for (const path of ["/", "/healthz", "/api/v1/status", "/nothing"])
    assertProblem(await call(path, { headers: { host: "evil.example:8480" } }), "FORBIDDEN_HOST");
  assert.equal((await call("/api/v1/status", { headers: { host: "sierra.example" } })).status, 200);
  const twice = `GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\nConnection: close\r\n\r\n`;
  assertProblem(await raw(twice), "BAD_REQUEST");
  assertProblem(await raw("GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n"), "BAD_REQUEST");
  assertProblem(
    await raw("GET http://evil.example/ HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n"),
    "FORBIDDEN_HOST",
  );
});

test("no page of another origin may read, unless it is configured; then its preflight needs no key, and its call does", async () => {
  const origin = "https://console.example";
  await open({ auth: "always", cors: [origin] });
  const key = await keyOf("console", "write");
  const preflight = (from: string) =>
    call(REQUEUE, { method: "OPTIONS", headers: { origin: from, "access-control-request-method": "POST" } });
  const asked = await preflight(origin);
  assert.equal(asked.status, 204);
  assert.equal(asked.headers["access-control-allow-origin"], origin);
  assert.match(String(asked.headers["access-control-allow-headers"]), /Authorization/);
  const done = await call(REQUEUE, { method: "POST", body: ALL, headers: { origin, ...bearer(key) } });
  assert.equal(done.status, 200);
  assert.equal(done.headers["access-control-allow-origin"], origin);
  assert.match(String(done.headers.vary), /Origin/);
  assertProblem(await call(REQUEUE, { method: "POST", body: ALL, headers: { origin } }), "KEY_REQUIRED");
  const evil = await call("/api/v1/status", { headers: { origin: "https://evil.example", ...bearer(key) } });
  assert.equal(evil.headers["access-control-allow-origin"], undefined);
  assertProblem(await preflight("https://evil.example"), "KEY_REQUIRED");
});

test("without http.cors no answer has anything of it", async () => {
  await open();
  const headers = { origin: "https://console.example", "access-control-request-method": "GET" };
  for (const method of ["GET", "OPTIONS"]) {
    const answer = await call("/api/v1/status", { method, headers });
    assert.deepEqual(
      Object.keys(answer.headers).filter((name) => name.startsWith("access-control")),
      [],
      method,
    );
  }
});

test("an address that knows other methods answers 405 and lists them; one that there is not, 404", async () => {
  await open();
  const put = await call("/healthz", { method: "PUT" });
  assertProblem(put, "METHOD_NOT_ALLOWED");
  assert.equal(put.headers.allow, "GET, HEAD");
  assert.equal((await call("/api/v1/outbox/replay", { method: "PATCH" })).headers.allow, "POST, GET, HEAD, DELETE");
  assert.equal((await call("/api/v1/dead-letters/some-id", { method: "DELETE" })).headers.allow, "GET, HEAD");
  assert.equal((await call("/api/v1/quarantine", { method: "DELETE" })).headers.allow, "GET, HEAD");
  assert.equal((await call(REQUEUE, { method: "PROPFIND" })).status, 405);
  assertProblem(await call("/api/v2/status"), "RESOURCE_NOT_FOUND");
  assertProblem(await call("/healthzz", { method: "POST" }), "RESOURCE_NOT_FOUND");
});

test("what is too large is refused by its own name: body, address, one of its parts, header fields", async () => {
  await open({ limits: { ...httpConfig().limits, maxBodyBytes: 2048 } });
  const large = JSON.stringify({ ids: ["x".repeat(3000)] });
  assertProblem(await call(REQUEUE, { method: "POST", body: large }), "BODY_TOO_LARGE");
  const chunked = `POST ${REQUEUE} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n`;
  assertProblem(await raw(`${chunked}c00\r\n${"x".repeat(0xc00)}\r\n0\r\n\r\n`), "BODY_TOO_LARGE");
  assertProblem(await call(`/${"a".repeat(2048)}`), "URL_TOO_LONG");
  assertProblem(await call(`/api/v1/dead-letters/${"a".repeat(129)}`), "URL_TOO_LONG");
  assertProblem(await call("/healthz", { headers: { "x-large": "a".repeat(9000) } }), "HEADERS_TOO_LARGE");
  assert.equal((await call(REQUEUE, { method: "POST", body: JSON.stringify({ ids: ["x".repeat(100)] }) })).status, 200);
});

test("a body that is not JSON by name or by nature, and what is not HTTP, are problems too", async () => {
  await open();
  const form = { "content-type": "application/x-www-form-urlencoded" };
  assertProblem(await call(REQUEUE, { method: "POST", body: "all=true", headers: form }), "UNSUPPORTED_MEDIA_TYPE");
  assertProblem(await call(REQUEUE, { method: "POST", body: "{" }), "INVALID_JSON");
  assertProblem(await call(REQUEUE, { method: "POST", body: '{"all":"yes"}' }), "VALIDATION_FAILED");
  for (const bytes of ["\x16\x03\x01\r\n\r\n", "GET\r\n\r\n", "BREW / HTTP/1.1\r\n\r\n", "GET / HTTP/9.9\r\n\r\n"])
    assertProblem(await raw(bytes), "BAD_REQUEST");
  const smuggling = "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
  assertProblem(await raw(`POST ${REQUEUE} HTTP/1.1\r\nHost: localhost\r\n${smuggling}`), "BAD_REQUEST");
  assertProblem(await raw("CONNECT example.com:443 HTTP/1.1\r\nHost: localhost\r\n\r\n"), "BAD_REQUEST");
  assertProblem(await raw("GET / HTTP/1.1\r\nHost: localhost\r\nExpect: cake\r\n\r\n"), "EXPECTATION_FAILED");
});

test("what is not answered in time is said to be what is behind the API, and logged", async () => {
  await open();
  view.fault = Object.assign(new Error("timed out after 60000 ms"), { code: "FST_ERR_HANDLER_TIMEOUT" });
  assertProblem(await call("/api/v1/outbox"), "UPSTREAM_TIMEOUT");
  assert.match(logged.join(""), /not answered in time/);
});

test("a request that comes in too slowly is answered 408, and its connection closed", async () => {
  await open();
  const answer = raw("GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Slow: ");
  assertProblem(await answer, "REQUEST_TIMEOUT");
});

test("a request that never ends does not hold up the end of the daemon", async () => {
  await open();
  const socket = connect(port(), "127.0.0.1");
  const head = `POST ${REQUEUE} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n`;
  socket.write(`${head}Content-Length: 10\r\nExpect: 100-continue\r\n\r\n{`);
  await once(socket, "data");
  const gone = once(socket, "close");
  const closing = server?.close();
  await clock.advance(10_000);
  await closing;
  await gone;
});

test("what there is for GET there is for HEAD, with the same need", async () => {
  await open({ auth: "always" });
  assert.equal((await call("/healthz", { method: "HEAD" })).status, 200);
  assert.equal((await call("/", { method: "HEAD" })).status, 200);
  assert.equal((await call("/metrics", { method: "HEAD" })).status, 401);
  const key = await keyOf("r", "read");
  assert.equal((await call("/metrics", { method: "HEAD", headers: bearer(key) })).status, 200);
});

test("a probe that shows an old key is answered as one that shows none", async () => {
  await open({ auth: "always" });
  assert.equal((await call("/healthz", { headers: bearer("se_old") })).status, 200);
});

test("localhost is reached at each of its addresses", async () => {
  await open({ bind: "localhost" });
  for (const { address } of await lookup("localhost", { all: true })) {
    const answer = await fetch(`http://${address.includes(":") ? `[${address}]` : address}:${port()}/healthz`);
    assert.equal(answer.status, 200, address);
  }
});

test("connections beyond the limit are closed, and there is room again when one goes", async () => {
  await open({ limits: { ...httpConfig().limits, maxConnections: 2 } });
  const held: Socket[] = [];
  for (let at = 0; at < 2; at++) {
    const socket = connect(port(), "127.0.0.1");
    held.push(socket);
    socket.write("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
    await once(socket, "data");
  }
  await assert.rejects(call("/healthz"));
  assert.match(logged.join(""), /a connection was turned away/);
  held[0]?.destroy();
  let status = 0;
  while (status !== 200)
    status = await call("/healthz").then(
      (answer) => answer.status,
      () => 0,
    );
  for (const socket of held) socket.destroy();
});

test("one address that is not loopback may hold half of the connections", () => {
  const turnedAway: (string | undefined)[] = [];
  const connections = new Connections(4, (address) => turnedAway.push(address));
  const from = (remoteAddress: string) => {
    const socket = Object.assign(new EventEmitter(), { remoteAddress, destroy: () => socket });
    connections.admit(socket as unknown as Socket);
    return socket;
  };
  const [first] = [from("10.0.0.7"), from("10.0.0.7")];
  from("10.0.0.7");
  assert.deepEqual(turnedAway, ["10.0.0.7"]);
  from("127.0.0.1");
  first?.emit("close");
  from("10.0.0.7");
  assert.deepEqual(turnedAway, ["10.0.0.7"]);
  from("10.0.0.9");
  from("127.0.0.1");
  assert.deepEqual(turnedAway, ["10.0.0.7", "127.0.0.1"]);
});

test("the description names every code with its status, and which calls need which scope", async () => {
  await open();
  const document = JSON.parse((await call("/openapi.json")).text);
  const { code } = document.components.schemas.Problem.properties;
  assert.deepEqual(code.anyOf[0].enum, Object.keys(ERROR_CODES));
  for (const [name, { status }] of Object.entries(ERROR_CODES))
    assert.ok(code.description.includes(`${name} (${status}): `));
  assert.deepEqual(document.paths["/healthz"].get.security, []);
  assert.deepEqual(document.paths["/metrics"].get.security, [{}, { key: ["read"] }]);
  assert.deepEqual(document.paths[REQUEUE].post.security, [{}, { key: ["write"] }]);
});

test("the documentation lists every code with its status and its meaning", () => {
  const page = readFileSync(new URL("../../../docs/http-api.md", import.meta.url), "utf8");
  const rows = page.matchAll(/^\| `([A-Z_]+)` +\| (\d{3}) +\| (.*?) +\|$/gm);
  const listed = Object.fromEntries(
    [...rows].map(([, name = "", status, means]) => [name, { status: Number(status), means }]),
  );
  assert.deepEqual(listed, ERROR_CODES);
});

test("no answer says what the gateway is made of", async () => {
  await open();
  view.deadLetters = [deadLetter(1)];
  for (const path of ["/", "/healthz", "/nothing", "/api/v1/dead-letters"]) {
    const { headers } = await call(path);
    assert.equal(headers.server, undefined);
    assert.equal(headers["x-powered-by"], undefined);
    assert.equal(headers["strict-transport-security"], undefined, "without TLS it would mean nothing");
  }
});
