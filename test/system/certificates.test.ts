import assert from "node:assert/strict";
import { createPrivateKey, createPublicKey } from "node:crypto";
import { once } from "node:events";
import { copyFileSync, readFileSync, writeFileSync } from "node:fs";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { describe, it, type TestContext } from "node:test";
import { type ConnectionOptions, connect, createServer, type TLSSocket } from "node:tls";
import { stringify } from "yaml";
import { certify, makeAuthority, newKey, revocationList } from "#src/identity/authority.js";
import { summitEdge } from "../support/command.ts";
import { run } from "../support/commands.ts";
import { Daemon, type DaemonOptions, type Ports } from "../support/daemon.ts";
import { MachineClock, skipWithoutFaketime } from "../support/machine-clock.ts";
import { skipWithout } from "../support/programs.ts";
import { connectPacket } from "../support/raw-mqtt.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

const DAY_MS = 86_400_000;

interface Issued {
  readonly certFile: string;
  readonly keyFile: string;
  readonly caFile: string;
}

/** An authority, made by the commands, in the dataDir of a daemon that is not running yet. */
async function site(t: TestContext) {
  const folder = temporaryFolder(t);
  const file = join(folder, "site.yaml");
  writeFileSync(file, stringify({ gateway: { id: "sierra-014", dataDir: join(folder, "data") } }));
  const certs = async (...args: readonly string[]): Promise<Issued> => {
    const { status, stdout, stderr } = await summitEdge(["certs", ...args, "--config", file, "--json"]);
    assert.equal(status, 0, stderr);
    return JSON.parse(stdout) as Issued;
  };
  await certs("init");
  return { folder, certs, crlFile: join(folder, "data", "certs", "ca.crl") };
}

const listeners = (ports: Ports, { certFile, keyFile, caFile }: Issued, clientCertificate = "required") => [
  { bind: "127.0.0.1", port: ports.mqtts, tls: { certFile, keyFile, caFile, clientCertificate } },
];

async function start(t: TestContext, options: Omit<DaemonOptions, "ports">, server: Issued, client?: string) {
  const ports = await Daemon.freePorts();
  const mqtt = { listeners: listeners(ports, server, client) };
  const daemon = await Daemon.start({ ...options, ports, changes: { ...options.changes, mqtt } });
  t.after(() => daemon.stop("SIGKILL"));
  return daemon;
}

describe("a daemon with certificates of the site's own authority", { skip: skipWithout("mosquitto_pub") }, () => {
  it("takes readings from a device that has one, under its own name, and from nobody else", async (t) => {
    const { folder, certs } = await site(t);
    const server = await certs("issue", "--server");
    const device = await certs("issue", "--device", "mast-3");
    const daemon = await start(t, { folder }, server);
    const publish = (id: string, ...credentials: readonly string[]) => {
      const to = ["-h", "localhost", "-p", String(daemon.ports.mqtts), "--cafile", server.caFile, "-i", id];
      return run("mosquitto_pub", [...to, "-q", "1", "-t", "telemetry/mast-3", "-m", '{"t":1}', ...credentials]);
    };
    const shows = ({ certFile, keyFile }: Issued) => ["--cert", certFile, "--key", keyFile];
    assert.deepEqual(await publish("mast-3", ...shows(device)), { status: 0, output: "" });
    assert.notEqual((await publish("mast-4", ...shows(device))).status, 0);
    assert.notEqual((await publish("mast-3")).status, 0);
    assert.notEqual((await publish("mast-3", ...shows(server))).status, 0);
    const other = await (await site(t)).certs("issue", "--device", "mast-3");
    assert.notEqual((await publish("mast-3", ...shows(other))).status, 0);
    assert.equal((await daemon.status()).ledger.accepted, 1);
    // The device has not got the new one yet.
    const kept = { ...device, certFile: join(folder, "kept.crt"), keyFile: join(folder, "kept.key") };
    copyFileSync(device.certFile, kept.certFile);
    copyFileSync(device.keyFile, kept.keyFile);
    await certs("renew", "--device", "mast-3");
    assert.notDeepEqual(readFileSync(device.certFile), readFileSync(kept.certFile));
    for (const shown of [kept, device]) assert.equal((await publish("mast-3", ...shows(shown))).status, 0);
  });

  it("resumes a device's TLS session, and still knows whose it is", async (t) => {
    const { folder, certs } = await site(t);
    const server = await certs("issue", "--server");
    const device = await certs("issue", "--device", "mast-3");
    const daemon = await start(t, { folder }, server);
    for (const maxVersion of ["TLSv1.2", "TLSv1.3"] as const) {
      const first = await connectOverTls(daemon.ports.mqtts, device, "mast-3", { maxVersion });
      assert.deepEqual([first.returnCode, first.resumed], [0, false]);
      const again = { maxVersion, session: first.session };
      const second = await connectOverTls(daemon.ports.mqtts, device, "mast-3", again);
      assert.deepEqual([second.returnCode, second.resumed], [0, true], maxVersion);
      const other = await connectOverTls(daemon.ports.mqtts, device, "mast-4", again);
      assert.notEqual(other.returnCode, 0);
    }
  });

  it("says in health that its certificate is to be renewed, or has ended, and goes on with it", async (t) => {
    for (const [fromDays, toDays, code] of [
      [-80, 10, "certificate-renewal-due"],
      [-80, -1, "certificate-expired"],
    ] as const) {
      const folder = temporaryFolder(t);
      const daemon = await start(t, { folder }, await serverCertificate(folder, fromDays, toDays), "none");
      const { conditions } = await daemon.status();
      assert.deepEqual(
        conditions.filter(({ component }) => component === "certificates").map((each) => each.code),
        [code],
      );
      assert.equal((await daemon.get("/healthz")).status, 200);
      assert.equal(await handshake(daemon.ports.mqtts), "TLSv1.3");
    }
  });

  it("serves with a clock that says 1980, and asks to look at the clock", { skip: skipWithoutFaketime }, async (t) => {
    const folder = temporaryFolder(t);
    const server = await serverCertificate(folder, -30, 335);
    const clock = new MachineClock(folder);
    clock.set(-(Date.now() - Date.UTC(1980, 0, 6)) / 1000);
    const daemon = await start(t, { folder, under: clock.under }, server, "none");
    const health = (await (await daemon.get("/health")).json()) as {
      components: { component: string; conditions: { code: string; detail: string }[] }[];
    };
    const [condition] = health.components.find(({ component }) => component === "certificates")?.conditions ?? [];
    assert.equal(condition?.code, "certificate-not-yet-valid");
    assert.match(condition?.detail ?? "", /timedatectl/);
    assert.equal(await handshake(daemon.ports.mqtts), "TLSv1.3");
  });
});

/** One MQTT connection: its CONNACK's return code (-1 where it is closed without), and whether its TLS session is one of before. */
async function connectOverTls(port: number, device: Issued, clientId: string, more: ConnectionOptions) {
  const { certFile, keyFile, caFile } = device;
  const [ca, cert, key] = [caFile, certFile, keyFile].map((file) => readFileSync(file, "utf8"));
  const socket = connect({ port, host: "localhost", ca, cert, key, ...more });
  let session: Buffer | undefined;
  socket.on("session", (given: Buffer) => {
    session = given;
  });
  socket.on("error", () => {});
  await once(socket, "secureConnect");
  socket.write(connectPacket(clientId));
  const answer = await new Promise<Buffer | undefined>((resolve) => {
    socket.once("data", resolve);
    socket.once("close", () => resolve(undefined));
  });
  const resumed = socket.isSessionReused();
  socket.destroy();
  return { returnCode: answer?.[3] ?? -1, resumed, session };
}

async function serverCertificate(folder: string, fromDays: number, toDays: number): Promise<Issued> {
  const validity = { notBefore: Date.now() + fromDays * DAY_MS, notAfter: Date.now() + toDays * DAY_MS };
  const whole = { notBefore: Date.now() - 100 * DAY_MS, notAfter: Date.now() + 3650 * DAY_MS };
  const authority = await makeAuthority("test site", newKey(), whole);
  const key = newKey();
  const names = { dns: ["localhost"], addresses: ["127.0.0.1"] };
  const wanted = {
    purpose: "server",
    commonName: "sierra-014",
    names,
    publicKey: createPublicKey(key),
    validity,
  } as const;
  const files = { certFile: join(folder, "s.crt"), keyFile: join(folder, "s.key"), caFile: join(folder, "s-ca.crt") };
  writeFileSync(files.certFile, await certify(authority, wanted));
  writeFileSync(files.keyFile, key.export({ type: "pkcs8", format: "pem" }));
  writeFileSync(files.caFile, authority.certificate);
  return files;
}

/** The protocol of a completed handshake, whatever the dates of the server's certificate. */
async function handshake(port: number): Promise<string | null> {
  const socket = connect({ port, host: "127.0.0.1", rejectUnauthorized: false });
  await once(socket, "secureConnect");
  const protocol = socket.getProtocol();
  socket.destroy();
  return protocol;
}

describe("the revocation list in Node.js's TLS", () => {
  /** Who a server with this list lets in: `yes`, or OpenSSL's reason. */
  async function letsIn(t: TestContext, server: Issued, crl: string, device: Issued): Promise<string> {
    const read = (file: string) => readFileSync(file);
    const listener = createServer({
      cert: read(server.certFile),
      key: read(server.keyFile),
      ca: read(server.caFile),
      crl,
      requestCert: true,
      rejectUnauthorized: false,
    });
    t.after(() => listener.close());
    listener.listen(0, "127.0.0.1");
    await once(listener, "listening");
    const { port } = listener.address() as AddressInfo;
    const { certFile, keyFile, caFile } = device;
    const client = connect({ port, host: "localhost", ca: read(caFile), cert: read(certFile), key: read(keyFile) });
    const [socket] = (await once(listener, "secureConnection")) as [TLSSocket];
    const reason = socket.authorized ? "yes" : String(socket.authorizationError);
    client.destroy();
    socket.destroy();
    return reason;
  }

  it("keeps out whom it names and lets in the others; one that has ended keeps out everybody", async (t) => {
    const { certs, crlFile, folder } = await site(t);
    const server = await certs("issue", "--server");
    const [lost, kept] = [await certs("issue", "--device", "lost"), await certs("issue", "--device", "kept")];
    const list = () => readFileSync(crlFile, "utf8");
    assert.equal(await letsIn(t, server, list(), lost), "yes");
    await certs("revoke", "--device", "lost");
    assert.equal(await letsIn(t, server, list(), lost), "CERT_REVOKED");
    assert.equal(await letsIn(t, server, list(), kept), "yes");

    // Why the list ends no sooner than the authority: the same authority's, but with an end that is over.
    const key = createPrivateKey(readFileSync(join(folder, "data", "certs", "ca.key")));
    const over = { notBefore: Date.now() - 2 * DAY_MS, notAfter: Date.now() - DAY_MS };
    const ended = await makeAuthority("Summit Edge authority of sierra-014", key, over);
    assert.equal(await letsIn(t, server, await revocationList(ended, 9, []), kept), "CRL_HAS_EXPIRED");
  });
});
