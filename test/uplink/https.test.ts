import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { type AddressInfo, createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, before, describe, it } from "node:test";
import { systemClock } from "#src/kernel/clock.js";
import { GatewayError } from "#src/kernel/errors.js";
import { HttpsTransport, uplinkUrl } from "#src/uplink/https.js";
import type { Exchange, UplinkRequest } from "#src/uplink/transport.js";
import { silentReloads } from "../support/reloads.ts";
import { StandInFusion } from "./stand-in-fusion.ts";
import { uplinkConfig } from "./uplink-config.ts";

const REQUEST: UplinkRequest = {
  body: Buffer.from('{"observations":[]}'),
  contentEncoding: undefined,
  idempotencyKey: "key-1",
  traceparent: `00-${"a".repeat(32)}-${"b".repeat(16)}-01`,
};
const NEVER = new AbortController().signal;

const openings: { close(): unknown }[] = [];
const opened = <T extends { close(): unknown }>(part: T): T => {
  openings.push(part);
  return part;
};

afterEach(async () => {
  for (const part of openings.splice(0)) await part.close();
});

function transportTo(url: string, changes: Parameters<typeof uplinkConfig>[1] = {}): HttpsTransport {
  return opened(
    new HttpsTransport({
      config: uplinkConfig(url, changes),
      clock: systemClock,
      version: "1.2.3",
      reloads: silentReloads(),
    }),
  );
}

async function fusionThat(...args: ConstructorParameters<typeof StandInFusion>): Promise<StandInFusion> {
  return opened(await new StandInFusion(...args).open());
}

function faultOf(exchange: Exchange): [string, string] {
  assert.equal(exchange.kind, "no-answer");
  return [exchange.fault, exchange.code];
}

describe("the address of the uplink", () => {
  for (const url of [
    "https://fusion.example/api",
    "http://127.0.0.1:8490/api",
    "http://127.8.8.8/",
    "http://localhost/",
    "http://[::1]:80/",
  ]) {
    it(`may be ${url}`, () => assert.equal(uplinkUrl(url).href, new URL(url).href));
  }
  for (const url of [
    "http://fusion.example/api",
    "http://192.168.1.2/",
    "http://127.0.0.1.example/",
    "http://localhost.example/",
    "http://[::2]/",
    "ftp://127.0.0.1/",
    "https://user:secret@fusion.example/",
    "fusion.example",
    "",
  ]) {
    it(`is refused: ${url}`, () => {
      const refused = (error: unknown) =>
        error instanceof GatewayError && error.code === "UPLINK_URL_REFUSED" && !/secret/.test(error.message);
      assert.throws(() => uplinkUrl(url), refused);
      assert.throws(() => transportTo(url), refused);
    });
  }
});

describe("a request", () => {
  it("carries the contract's headers", async () => {
    const fusion = await fusionThat();
    const transport = transportTo(fusion.url);
    const exchange = await transport.post({ ...REQUEST }, NEVER);
    assert.equal(exchange.kind === "answer" && exchange.status, 200);
    const [received] = fusion.received;
    assert.deepEqual([received?.method, received?.path], ["POST", "/api/v1/observations/batch"]);
    const { headers } = received ?? {};
    assert.equal(headers?.["content-type"], "application/json");
    assert.equal(headers?.["content-encoding"], undefined);
    assert.equal(headers?.["idempotency-key"], "key-1");
    assert.equal(headers?.traceparent, REQUEST.traceparent);
    assert.equal(headers?.authorization, undefined);
    assert.equal(headers?.["user-agent"], "summit-edge/1.2.3");
    assert.equal(headers?.["content-length"], String(REQUEST.body.length));
  });

  it("uses a connection again", async () => {
    const fusion = await fusionThat();
    const transport = transportTo(fusion.url);
    for (let n = 0; n < 5; n++) assert.equal((await transport.post(REQUEST, NEVER)).kind, "answer");
    assert.equal(fusion.connections, 1);
  });

  it("arrives whole where it takes many writes", async () => {
    const fusion = await fusionThat();
    const value = randomBytes(500_000).toString("hex");
    const body = Buffer.from(JSON.stringify({ observations: [{ id: "1", priority: "low", value }] }));
    assert.equal((await transportTo(fusion.url).post({ ...REQUEST, body }, NEVER)).kind, "answer");
    assert.equal(fusion.received[0]?.observations[0]?.value, value);
  });

  it("goes out again at once on a fresh connection where it met one that the server had closed", async () => {
    const fusion = await fusionThat();
    const transport = transportTo(fusion.url);
    await transport.post(REQUEST, NEVER);
    fusion.dropConnections();
    assert.equal((await transport.post(REQUEST, NEVER)).kind, "answer");
    assert.equal(fusion.connections, 2);
  });

  it("does so once only", async () => {
    const fusion = await fusionThat();
    const transport = transportTo(fusion.url);
    await transport.post(REQUEST, NEVER);
    fusion.reply = () => "reset";
    assert.deepEqual(faultOf(await transport.post(REQUEST, NEVER)), ["failing", "ECONNRESET"]);
    assert.equal(fusion.received.length, 3);
  });

  it("is not repeated by the transport where a fresh connection was reset", async () => {
    const fusion = await fusionThat(() => "reset");
    assert.deepEqual(faultOf(await transportTo(fusion.url).post(REQUEST, NEVER)), ["failing", "ECONNRESET"]);
    assert.equal(fusion.received.length, 1);
  });

  it("ends when its caller says so, and leaves nothing behind", async () => {
    const fusion = await fusionThat(() => "hang");
    const transport = transportTo(fusion.url);
    const abort = new AbortController();
    const posted = transport.post(REQUEST, abort.signal);
    while (fusion.received.length === 0) await new Promise((resolve) => setTimeout(resolve, 5));
    abort.abort();
    assert.deepEqual(await posted, { kind: "aborted" });
    assert.deepEqual(await transport.post(REQUEST, abort.signal), { kind: "aborted" });
    assert.equal(fusion.received.length, 1);
  });
});

describe("without an answer", () => {
  const silent = async (onConnection: (socket: Socket) => void): Promise<number> => {
    const sockets = new Set<Socket>();
    const server: Server = createServer((socket) => {
      sockets.add(socket.on("error", () => {}));
      onConnection(socket);
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    opened({
      close: () => {
        for (const socket of sockets) socket.destroy();
        server.close();
      },
    });
    return (server.address() as AddressInfo).port;
  };
  const timeouts = { connect: 150, write: 150, read: 150 };

  it("fusion is unreachable where the connection is refused", async () => {
    const fusion = await fusionThat();
    await fusion.close();
    assert.deepEqual(faultOf(await transportTo(fusion.url).post(REQUEST, NEVER)), ["unreachable", "ECONNREFUSED"]);
  });

  it("fusion is unreachable where its name is not known", async () => {
    const [fault] = faultOf(await transportTo("https://fusion.invalid/").post(REQUEST, NEVER));
    assert.equal(fault, "unreachable");
  });

  it("fusion is unreachable where connecting takes too long", async () => {
    const port = await silent(() => {});
    const impatient = {
      after: (_: number, action: () => void) => {
        queueMicrotask(action);
        return () => {};
      },
    };
    const config = uplinkConfig(`http://127.0.0.1:${port}/`);
    const transport = opened(new HttpsTransport({ config, clock: impatient, version: "0", reloads: silentReloads() }));
    assert.deepEqual(faultOf(await transport.post(REQUEST, NEVER)), ["unreachable", "connect-timeout"]);
  });

  it("fusion is failing where the TLS handshake hangs", async () => {
    const port = await silent(() => {});
    const exchange = await transportTo(`https://127.0.0.1:${port}/`, { timeouts }).post(REQUEST, NEVER);
    assert.deepEqual(faultOf(exchange), ["failing", "connect-timeout"]);
  });

  it("fusion is failing where it is no TLS server", async () => {
    const port = await silent((socket) => socket.end("HTTP/1.1 400 Bad Request\r\n\r\n"));
    const exchange = await transportTo(`https://127.0.0.1:${port}/`).post(REQUEST, NEVER);
    assert.equal(faultOf(exchange)[0], "failing");
    const detail = exchange.kind === "no-answer" ? exchange.detail : "";
    assert.match(detail, /^TLS handshake: (\w+ \w+ )?wrong version number$/, "the reason, without OpenSSL's own files");
  });

  it("fusion is failing where it takes the connection and reads nothing", async () => {
    const port = await silent((socket) => socket.pause());
    const body = randomBytes(32 * 1024 * 1024);
    const exchange = await transportTo(`http://127.0.0.1:${port}/`, { timeouts }).post({ ...REQUEST, body }, NEVER);
    assert.deepEqual(faultOf(exchange), ["failing", "write-timeout"]);
  });

  it("fusion is failing where it reads and does not answer", async () => {
    const fusion = await fusionThat(() => "hang");
    const exchange = await transportTo(fusion.url, { timeouts }).post(REQUEST, NEVER);
    assert.deepEqual(faultOf(exchange), ["failing", "read-timeout"]);
  });

  it("fusion is failing where its answer trickles without an end", async () => {
    const port = await silent((socket) => {
      socket.write("HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n");
      const drip = setInterval(() => socket.write(" "), 20);
      socket.on("close", () => clearInterval(drip));
    });
    const exchange = await transportTo(`http://127.0.0.1:${port}/`, { timeouts }).post(REQUEST, NEVER);
    assert.deepEqual(faultOf(exchange), ["failing", "read-timeout"]);
  });

  it("fusion is failing where its answer is cut short", async () => {
    const fusion = await fusionThat(() => "cut");
    const [fault] = faultOf(await transportTo(fusion.url).post(REQUEST, NEVER));
    assert.equal(fault, "failing");
  });

  it("fusion is failing where it speaks something else than HTTP", async () => {
    const port = await silent((socket) => socket.end("220 smtp.example ESMTP\r\n"));
    const [fault] = faultOf(await transportTo(`http://127.0.0.1:${port}/`).post(REQUEST, NEVER));
    assert.equal(fault, "failing");
  });
});

describe("an answer", () => {
  it("is taken where it comes before the request has been read, and the connection not used again", async () => {
    const server = createServer((socket) => {
      socket.on("error", () => {}).pause();
      socket.write("HTTP/1.1 413 Too Large\r\ncontent-length: 3\r\n\r\nbig");
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    opened(server);
    const transport = transportTo(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`);
    const exchange = await transport.post({ ...REQUEST, body: randomBytes(32 * 1024 * 1024) }, NEVER);
    assert.equal(exchange.kind, "answer");
    assert.deepEqual([exchange.status, exchange.body], [413, "big"]);
  });

  it("is read up to a bound", async () => {
    const fusion = await fusionThat(() => ({ status: 200, body: " ".repeat(3_000_000) }));
    const transport = transportTo(fusion.url);
    const exchange = await transport.post(REQUEST, NEVER);
    assert.ok(exchange.kind === "answer" && exchange.truncated);
    assert.ok(exchange.body.length < 1_500_000);
    fusion.reply = () => ({ status: 204 });
    assert.equal((await transport.post(REQUEST, NEVER)).kind, "answer");
  });
});

describe("credentials", () => {
  let folder: string;
  before(() => {
    folder = mkdtempSync(join(tmpdir(), "uplink-"));
  });
  after(() => rmSync(folder, { recursive: true }));

  it("are read at the start, and again once they were refused", async () => {
    const fusion = await fusionThat();
    const tokenFile = join(folder, "token");
    writeFileSync(tokenFile, "first\n");
    const transport = transportTo(fusion.url, { tokenFile });
    assert.equal(await transport.prepare(), undefined);
    writeFileSync(tokenFile, "second\n");
    await transport.post(REQUEST, NEVER);
    transport.forgetCredentials();
    await transport.post(REQUEST, NEVER);
    const seen = fusion.received.map(({ headers }) => headers.authorization);
    assert.deepEqual(seen, ["Bearer first", "Bearer second"]);
  });

  it("that cannot be read are a fault, until they can", async () => {
    const fusion = await fusionThat();
    const tokenFile = join(folder, "missing");
    const transport = transportTo(fusion.url, { tokenFile });
    assert.deepEqual(faultOf(await transport.post(REQUEST, NEVER)), ["credentials", "ENOENT"]);
    writeFileSync(tokenFile, "two lines\nof text");
    const exchange = await transport.post(REQUEST, NEVER);
    assert.ok(exchange.kind === "no-answer" && exchange.fault === "credentials" && !/of text/.test(exchange.detail));
    writeFileSync(tokenFile, "token");
    assert.equal((await transport.post(REQUEST, NEVER)).kind, "answer");
  });

  it("for TLS are used, and the server's are verified", async () => {
    const file = (name: string): string => join(folder, name);
    const openssl = (...args: string[]): void => void execFileSync("openssl", args, { cwd: folder, stdio: "pipe" });
    const issue = (name: string, ...extra: string[]): void => {
      const key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", `${name}.key`];
      openssl("req", "-x509", ...key, "-out", `${name}.crt`, "-subj", `/CN=${name}`, "-days", "2", ...extra);
    };
    issue("authority", "-addext", "keyUsage=critical,keyCertSign");
    const signed = ["-CA", "authority.crt", "-CAkey", "authority.key", "-addext", "basicConstraints=critical,CA:FALSE"];
    issue("fusion", ...signed, "-addext", "subjectAltName=IP:127.0.0.1");
    issue("gateway", ...signed);
    const fusion = await fusionThat(undefined, {
      cert: readFileSync(file("fusion.crt")),
      key: readFileSync(file("fusion.key")),
      ca: readFileSync(file("authority.crt")),
      requestCert: true,
      rejectUnauthorized: true,
    });

    const [fault] = faultOf(await transportTo(fusion.url).post(REQUEST, NEVER));
    assert.equal(fault, "failing", "an authority that is not trusted");

    const tls = { caFile: file("authority.crt"), certFile: file("gateway.crt"), keyFile: file("gateway.key") };
    const transport = transportTo(fusion.url, { tls });
    for (let n = 0; n < 2; n++) assert.equal((await transport.post(REQUEST, NEVER)).kind, "answer");
    assert.equal(fusion.received.length, 2);

    const missing = transportTo(fusion.url, { tls: { ...tls, certFile: file("no.crt") } });
    assert.deepEqual(faultOf(await missing.post(REQUEST, NEVER)), ["misconfigured", "ENOENT"]);
    writeFileSync(file("garbage.crt"), "garbage");
    const garbage = transportTo(fusion.url, { tls: { ...tls, certFile: file("garbage.crt") } });
    assert.equal(faultOf(await garbage.post(REQUEST, NEVER))[0], "misconfigured");
  });
});
