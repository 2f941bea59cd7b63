/** Certificates, authorities and revocation lists that change while the daemon runs. */
import assert from "node:assert/strict";
import { EventEmitter, once } from "node:events";
import { readFileSync, writeFileSync } from "node:fs";
import { connect as connectTcp, createServer } from "node:net";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { connect } from "node:tls";
import type { MqttClient } from "mqtt";
import { Collector } from "../support/collector.ts";
import { missing } from "../support/commands.ts";
import { sumOfFates } from "../support/ledger.ts";
import { MtlsGateway } from "../support/mtls-gateway.ts";
import { mutant } from "../support/mutant.ts";
import { type CertificateFiles, SiteAuthority } from "../support/site-authority.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { until } from "../support/until.ts";

const skip = missing("openssl");
const DEVICES = 50;
const FIRST_TIME = 1_780_000_000_000;

/** Publishes one reading after the other, each once the one before is acknowledged, until it is told to stop. */
class Device {
  readonly acknowledged: string[] = [];
  closed = false;
  readonly #client: MqttClient;
  readonly #name: string;
  readonly #gone: Promise<false>;
  readonly #done: Promise<void>;
  #stopping = false;

  constructor(client: MqttClient, name: string) {
    this.#client = client;
    this.#name = name;
    this.#gone = new Promise((resolve) => {
      client.once("close", () => {
        this.closed = true;
        resolve(false);
      });
    });
    this.#done = this.#publish();
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    await this.#done;
  }

  async #publish(): Promise<void> {
    for (let n = 0; !this.#stopping && !this.closed; n++) {
      const reading = JSON.stringify({ ts: FIRST_TIME + n, n });
      const published = this.#client.publishAsync(`telemetry/${this.#name}`, reading, { qos: 1 }).then(() => true);
      if (await Promise.race([published.catch(() => false), this.#gone])) this.acknowledged.push(`${this.#name}/${n}`);
      else return;
    }
  }
}

async function devices(t: TestContext, gateway: MtlsGateway): Promise<Device[]> {
  const all: Device[] = [];
  for (let n = 0; n < DEVICES; n++) {
    const name = `mast-${n}`;
    const client = await gateway.client(t, name, gateway.site.issue(name, { key: "shared" }));
    all.push(new Device(client, name));
  }
  return all;
}

/** Lies between a client and the gateway, and holds what the client sends behind its ClientHello: in TLS 1.3, its certificate. */
class SlowRoad {
  readonly port: number;
  /** Resolves when the client has sent it. */
  readonly certificate: Promise<unknown>;
  readonly goOn: () => void;

  private constructor(port: number, certificate: Promise<unknown>, goOn: () => void) {
    this.port = port;
    this.certificate = certificate;
    this.goOn = goOn;
  }

  static async open(t: TestContext, gatewayPort: number): Promise<SlowRoad> {
    const server = createServer().listen(0, "127.0.0.1");
    await once(server, "listening");
    const events = new EventEmitter();
    server.once("connection", (client) => {
      const gateway = connectTcp(gatewayPort, "127.0.0.1");
      t.after(() => [client, gateway].map((socket) => socket.destroy()));
      for (const socket of [client, gateway]) socket.on("error", () => {});
      gateway.pipe(client);
      client.once("data", (hello: Buffer) => {
        gateway.write(hello);
        client.pause();
        client.once("readable", () => events.emit("certificate"));
        events.once("go on", () => client.pipe(gateway));
      });
    });
    t.after(() => server.close());
    const address = server.address();
    const port = typeof address === "object" ? (address?.port ?? 0) : 0;
    return new SlowRoad(port, once(events, "certificate"), () => events.emit("go on"));
  }
}

/** The serial number of the certificate that the gateway shows to a new connection. */
function serialShown(gateway: MtlsGateway): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: "127.0.0.1", port: gateway.port, rejectUnauthorized: false });
    socket.once("secureConnect", () => {
      resolve(socket.getPeerCertificate().serialNumber);
      socket.destroy();
    });
    socket.once("error", reject);
  });
}

const conditionOf = async ({ daemon }: MtlsGateway, code: string) =>
  (await daemon.status()).conditions.find((each) => each.code === code) as { detail: string } | undefined;

/** A rotation of everything, one thing after the other, while devices publish; each step is awaited in the log. */
async function rotateAll(gateway: MtlsGateway, revoked: CertificateFiles): Promise<void> {
  const changed = (name: string) =>
    gateway.line(
      `${name} is in force`,
      ({ msg, files }) => msg === "changed files are in force" && `${files}`.includes(name),
    );
  const before = await serialShown(gateway);
  gateway.installPair(gateway.site.issue("localhost", { usage: "serverAuth" }));
  await changed("keyFile");
  assert.notEqual(await serialShown(gateway), before, "new connections see the new certificate");
  const second = new SiteAuthority(join(gateway.daemon.folder, ".."), "second");
  const both = readFileSync(gateway.site.caFile, "utf8") + readFileSync(second.caFile, "utf8");
  gateway.install("caFile", { text: both });
  await changed("caFile");
  gateway.revoke(revoked);
  await changed("crlFile");
}

test("a rotation of everything under 50 live connections loses none of them, and no acknowledged reading", {
  skip,
}, async (t) => {
  const fusion = await Collector.start();
  t.after(() => fusion.stop());
  const gateway = await MtlsGateway.start(t, { uplink: { url: fusion.url } });
  const stolen = gateway.site.issue("mast-99");
  const thief = new Device(await gateway.client(t, "mast-99", stolen), "mast-99");
  const all = await devices(t, gateway);
  const progress = all.map(({ acknowledged }) => acknowledged.length);
  await rotateAll(gateway, stolen);
  await until("the revoked device is cut off", () => thief.closed);
  const line = await gateway.line("its line", ({ msg }) => msg === "connection ended");
  assert.deepEqual([line.kind, line.certificate], ["certificate-revoked", "mast-99"]);
  await until("all went on publishing", () =>
    all.every(({ acknowledged, closed }, n) => closed || acknowledged.length > (progress[n] ?? 0) + 3),
  );
  assert.deepEqual(
    all.filter(({ closed }) => closed),
    [],
    "no connection was lost",
  );
  await Promise.all(all.map((each) => each.stop()));
  await gateway.daemon.until((ledger) => ledger.pending === 0);
  const arrived = new Set(fusion.received.map(({ source, attributes }) => `${source}/${attributes.n}`));
  const acknowledged = [...all, thief].flatMap((each) => each.acknowledged);
  assert.ok(acknowledged.length > 4 * DEVICES);
  assert.deepEqual(
    acknowledged.filter((reading) => !arrived.has(reading)),
    [],
    "what was acknowledged arrived",
  );
  const { ledger } = await gateway.daemon.status();
  assert.equal(ledger.accepted, sumOfFates(ledger));
});

test("without a look at whom it concerns, a rotation would end connections", { skip }, async (t) => {
  const dist = mutant(
    t,
    "identity/server-tls.js",
    "!issuedBy(before, certificate) || issuedBy(after, certificate)",
    "false",
  );
  const gateway = await MtlsGateway.start(t, { dist });
  const device = new Device(await gateway.client(t, "mast-1", gateway.site.issue("mast-1")), "mast-1");
  gateway.installPair(gateway.site.issue("localhost", { usage: "serverAuth" }));
  await until("its connection is lost", () => device.closed);
});

test("without a look at its certificate, a revoked device would go on publishing", { skip }, async (t) => {
  const dist = mutant(t, "identity/server-tls.js", "revocationOf(certificate, after)", "undefined");
  const gateway = await MtlsGateway.start(t, { dist });
  const stolen = gateway.site.issue("mast-99");
  const thief = new Device(await gateway.client(t, "mast-99", stolen), "mast-99");
  gateway.revoke(stolen);
  await gateway.hangUp();
  const published = thief.acknowledged.length;
  await until("it goes on", () => thief.acknowledged.length > published + 3);
  await thief.stop();
});

test("whoever was cut off does not come back by resuming a session", { skip }, async (t) => {
  const gateway = await MtlsGateway.start(t);
  const versions = ["TLSv1.2", "TLSv1.3"] as const;
  const mast = gateway.site.issue("mast-1");
  const again = gateway.site.issue("mast-2");
  const sessions: { version: (typeof versions)[number]; session: Buffer }[] = [];
  for (const version of versions) {
    const only = { minVersion: version, maxVersion: version };
    const { session } = await gateway.connectRaw("mast-1", mast, only);
    assert.ok(session);
    const resumed = await gateway.connectRaw("mast-1", mast, { ...only, session });
    assert.deepEqual([resumed.accepted, resumed.resumed], [true, true], `${version} sessions can be resumed`);
    sessions.push({ version, session: resumed.session ?? session });
  }
  gateway.revoke(mast);
  await gateway.hangUp();
  for (const { version, session } of sessions) {
    const tried = await gateway.connectRaw("mast-1", mast, { minVersion: version, maxVersion: version, session });
    assert.deepEqual([tried.accepted, tried.resumed], [false, false], version);
  }
  assert.equal((await gateway.connectRaw("mast-2", again)).accepted, true);
});

/** Whether a client gets in by its session once the authority of its certificate is gone. */
async function resumesWithoutAuthority(t: TestContext, dist?: string): Promise<boolean> {
  const gateway = await MtlsGateway.start(t, dist === undefined ? {} : { dist });
  const mast = gateway.site.issue("mast-1");
  const { session } = await gateway.connectRaw("mast-1", mast);
  assert.ok(session);
  const guest = await gateway.client(t, "mast-2", gateway.site.issue("mast-2"));
  let closed = false;
  guest.once("close", () => {
    closed = true;
  });
  const successor = new SiteAuthority(temporaryFolder(t), "successor");
  successor.writeCrl(gateway.path("crlFile"));
  gateway.install("caFile", { path: successor.caFile });
  await gateway.hangUp();
  await until("the session of the authority that has gone is ended", () => closed);
  return (await gateway.connectRaw("mast-1", mast, { session })).accepted;
}

test("clients of an authority that has gone are cut off, and do not come back", { skip }, async (t) => {
  assert.equal(await resumesWithoutAuthority(t), false);
});

/** Whether a client gets in whose handshake was under way when the authority of its certificate went. */
async function finishesWithoutAuthority(t: TestContext, dist?: string): Promise<boolean> {
  const gateway = await MtlsGateway.start(t, dist === undefined ? {} : { dist });
  const mast = gateway.site.issue("mast-1");
  const road = await SlowRoad.open(t, gateway.port);
  const login = gateway.connectRaw("mast-1", mast, { port: road.port });
  await road.certificate;
  const successor = new SiteAuthority(temporaryFolder(t), "successor");
  successor.writeCrl(gateway.path("crlFile"));
  gateway.install("caFile", { path: successor.caFile });
  await gateway.hangUp();
  road.goOn();
  const { accepted } = await login;
  if (!accepted) {
    const { kind } = await gateway.line("the refusal", ({ msg }) => msg === "connection refused");
    assert.equal(kind, "certificate-of-removed-authority");
  }
  return accepted;
}

test("a client whose handshake was under way when its authority went does not come in", { skip }, async (t) => {
  assert.equal(await finishesWithoutAuthority(t), false);
});

test("without another look at the end of its handshake it would come in", { skip }, async (t) => {
  const dist = mutant(t, "sources/mqtt/tls-door.js", "before === this.#tls", "before !== undefined");
  assert.equal(await finishesWithoutAuthority(t, dist), true);
});

test("with the tickets of before they would come back", { skip }, async (t) => {
  const dist = mutant(t, "sources/mqtt/tls-door.js", "this.server.setSecureContext(tls.options);", "");
  assert.equal(await resumesWithoutAuthority(t, dist), true);
});

test("a revoked client whose session could be resumed is refused all the same", { skip }, async (t) => {
  const dist = mutant(t, "sources/mqtt/tls-door.js", "this.server.setSecureContext(tls.options);", "");
  const gateway = await MtlsGateway.start(t, { dist });
  const mast = gateway.site.issue("mast-1");
  const { session } = await gateway.connectRaw("mast-1", mast);
  assert.ok(session);
  gateway.revoke(mast);
  await gateway.hangUp();
  const tried = await gateway.connectRaw("mast-1", mast, { session });
  assert.deepEqual([tried.accepted, tried.resumed], [false, true]);
});

test("files that are broken are refused, the old ones stay, health says so, and SIGHUP says what has changed", {
  skip,
}, async (t) => {
  const gateway = await MtlsGateway.start(t);
  const mast = gateway.site.issue("mast-1");
  const before = await serialShown(gateway);
  const faults = [
    ["certFile", "no certificate", /cert\.pem is no PEM certificate/],
    ["keyFile", readFileSync(mast.keyFile, "utf8"), /cert\.pem and .*key\.pem do not belong together/],
    [
      "caFile",
      readFileSync(gateway.site.caFile, "utf8").slice(0, 200),
      /ca\.pem holds a PEM certificate that has no end/,
    ],
    ["caFile", readFileSync(mast.certFile, "utf8"), /ca\.pem holds no authority's certificate/],
    [
      "crlFile",
      "-----BEGIN X509 CRL-----\nMIIB\n-----END X509 CRL-----\n",
      /crl\.pem cannot be read as certificate revocation lists/,
    ],
    ["crlFile", crlOfStranger(t), /crl\.pem holds a list of CN=stranger, which no authority here has signed/],
  ] as const;
  for (const [name, text, reason] of faults) {
    const good = readFileSync(gateway.path(name), "utf8");
    gateway.install(name, { text });
    const refused = await gateway.hangUp();
    assert.deepEqual([refused.changed, refused.refused], [[], ["mqtt.listeners[0].tls"]], `${reason}`);
    const condition = await conditionOf(gateway, "tls-files-0");
    assert.match(condition?.detail ?? "", reason);
    assert.match(condition?.detail ?? "", /What was in force before stays\. (Check|Put)/);
    assert.equal(await serialShown(gateway), before);
    assert.equal((await gateway.connectRaw("mast-1", mast)).accepted, true, "those who belong come in");
    gateway.install(name, { text: good });
    await gateway.hangUp();
    assert.equal(await conditionOf(gateway, "tls-files-0"), undefined);
  }
  gateway.installPair(gateway.site.issue("localhost", { usage: "serverAuth" }));
  const { changed, refused } = await gateway.hangUp();
  const key = "mqtt.listeners[0].tls";
  assert.deepEqual([changed, refused], [[`${key}.certFile`, `${key}.keyFile`], []]);
  assert.notEqual(await serialShown(gateway), before);
});

function crlOfStranger(t: TestContext): string {
  const folder = temporaryFolder(t);
  const file = join(folder, "crl.pem");
  new SiteAuthority(folder, "stranger").writeCrl(file);
  return readFileSync(file, "utf8");
}

test("a revocation list that is overdue goes on being used, and health says so", { skip }, async (t) => {
  const gateway = await MtlsGateway.start(t);
  const [mast, revoked] = [gateway.site.issue("mast-1"), gateway.site.issue("mast-2")];
  gateway.site.revoke(revoked);
  gateway.site.writeCrl(gateway.path("crlFile"), { nextUpdate: new Date(Date.now() - 3_600_000) });
  await gateway.hangUp();
  const condition = await conditionOf(gateway, "crl-overdue-0");
  assert.match(
    condition?.detail ?? "",
    /crlFile should have been replaced by 20.*used all the same.*put a newer list there/,
  );
  assert.equal((await gateway.connectRaw("mast-1", mast)).accepted, true);
  assert.equal((await gateway.connectRaw("mast-2", revoked)).accepted, false);
  gateway.site.writeCrl(gateway.path("crlFile"));
  await gateway.hangUp();
  assert.equal(await conditionOf(gateway, "crl-overdue-0"), undefined);
});

/** A gateway whose token fusion refuses, and that will not try again for an hour. */
async function refusedToken(t: TestContext, dist?: string) {
  const fusion = await Collector.start();
  t.after(() => fusion.stop());
  fusion.answer = ({ headers }) => ({ status: headers.authorization === "Bearer second" ? 204 : 401 });
  const tokenFile = join(temporaryFolder(t), "token");
  writeFileSync(tokenFile, "first");
  const breaker = { consecutiveFailures: 1, recovery: "1h" };
  const gateway = await MtlsGateway.start(t, {
    uplink: { url: fusion.url, tokenFile, breaker },
    ...(dist === undefined ? {} : { dist }),
  });
  const mast = await gateway.client(t, "mast-1", gateway.site.issue("mast-1"));
  await mast.publishAsync("telemetry/mast-1", "{}", { qos: 1 });
  await gateway.daemon.untilStatus(({ uplink }) => uplink.breaker === "open");
  writeFileSync(tokenFile, "second");
  return gateway;
}

test("a new token of the uplink is tried as soon as it is there, however long it would have waited", {
  skip,
}, async (t) => {
  const { daemon } = await refusedToken(t);
  await daemon.until(({ delivered }) => delivered === 1);
});

test("without that, it would wait on", { skip }, async (t) => {
  const dist = mutant(t, "uplink/forwarder.js", "transport.onRenewed(() => this.#line.renewed());", "");
  const gateway = await refusedToken(t, dist);
  await gateway.line("the token is noticed", ({ files }) => `${files}`.includes("uplink.tokenFile"));
  const { uplink, ledger } = await gateway.daemon.status();
  assert.deepEqual([uplink.breaker, ledger.delivered], ["open", 0]);
});
