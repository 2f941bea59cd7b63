import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, it, type TestContext } from "node:test";
import type { ListenerConfig } from "#src/config/schema.js";
import { systemClock } from "#src/kernel/clock.js";
import { GatewayError } from "#src/kernel/errors.js";
import { Authority } from "../../support/authority.ts";
import { type BrokerUnderTest, mqttConfig, startBroker } from "../../support/broker-under-test.ts";
import { missing, run } from "../../support/commands.ts";
import { loginRaw } from "../../support/mtls-gateway.ts";

const noMosquitto = missing("mosquitto_pub");
const noOpenssl = missing("openssl");

type Tls = NonNullable<ListenerConfig["tls"]>;

function startTls(t: TestContext, tls: Partial<Tls> = {}): Promise<BrokerUnderTest> {
  const listener = {
    bind: "127.0.0.1",
    port: 0,
    tls: { clientCertificate: "none" as const, development: true, ...tls },
  };
  return startBroker(t, { listeners: [listener] });
}

function caFile({ dataDir }: BrokerUnderTest): string {
  return join(dataDir, "certs-development", "ca.pem");
}

function publish(broker: BrokerUnderTest, ...more: string[]): Promise<{ status: number | null; output: string }> {
  const to = ["--cafile", caFile(broker), "-h", "localhost", "-p", String(broker.ports[0])];
  return run("mosquitto_pub", [...to, "-q", "1", "-t", "telemetry/mast-3", "-m", '{"t":1}', ...more]);
}

function temporaryFolder(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), "summit-edge-tls-"));
  t.after(() => rmSync(folder, { recursive: true }));
  return folder;
}

describe("a TLS listener with development certificates", { skip: noMosquitto }, () => {
  it("takes readings from a client that trusts the development authority, and from no other", async (t) => {
    const broker = await startTls(t);
    assert.equal((await publish(broker)).status, 0);
    assert.equal(broker.outbox.readings.length, 1);
    const stranger = await Authority.make(temporaryFolder(t), "stranger");
    const distrusting = await publish(broker, "--cafile", stranger.caFile);
    assert.notEqual(distrusting.status, 0);
    assert.equal(broker.outbox.readings.length, 1);
  });

  it("says in one line that this is for development, where the authority is, and how to try it", async (t) => {
    const broker = await startTls(t);
    const [line, ...others] = broker.log.lines.filter(({ msg }) => msg.includes("development"));
    assert.equal(others.length, 0);
    assert.match(line?.msg ?? "", /never for the field/);
    assert.ok(line?.msg.includes(`mosquitto_pub --cafile ${caFile(broker)} -h localhost -p ${broker.ports[0]}`));
  });
});

describe("a TLS listener", () => {
  it("speaks TLS 1.2 and 1.3, and nothing older", { skip: noOpenssl }, async (t) => {
    const broker = await startTls(t);
    const handshake = (...flags: string[]) =>
      run("openssl", ["s_client", "-connect", `127.0.0.1:${broker.ports[0]}`, "-CAfile", caFile(broker), ...flags]);
    assert.match((await handshake("-tls1_2")).output, /Verify return code: 0/);
    assert.match((await handshake("-tls1_3")).output, /Verify return code: 0/);
    const old = await handshake("-tls1_1", "-cipher", "ALL:@SECLEVEL=0");
    assert.notEqual(old.status, 0);
    assert.match(old.output, /alert protocol version/);
    await broker.log.line("connection refused");
  });

  it("does not renegotiate", { skip: noOpenssl }, async (t) => {
    const broker = await startTls(t);
    const args = ["s_client", "-connect", `127.0.0.1:${broker.ports[0]}`, "-CAfile", caFile(broker), "-tls1_2"];
    const { output } = await run("openssl", args, "R\n");
    assert.match(output, /RENEGOTIATING/);
    assert.match(output, /no renegotiation/);
  });

  it("ends a connection that does not finish its handshake", async (t) => {
    const listener = { bind: "127.0.0.1", port: 0, tls: { clientCertificate: "none" as const, development: true } };
    const { broker, ports, log } = await startBroker(t, {
      listeners: [listener],
      limits: { ...mqttConfig().limits, connectTimeout: 100 },
    });
    const socket = connect({ host: "127.0.0.1", port: ports[0] ?? 0 });
    socket.on("error", () => {});
    await new Promise((resolve) => socket.once("close", resolve));
    assert.equal((await log.line("connection refused")).kind, "handshake-timeout");
    while (broker.status().connections > 0) await new Promise((resolve) => setImmediate(resolve));
  });

  it("counts a connection in its handshake against the maximum", async (t) => {
    const listener = { bind: "127.0.0.1", port: 0, tls: { clientCertificate: "none" as const, development: true } };
    const { broker, ports, log } = await startBroker(t, {
      listeners: [listener],
      limits: { ...mqttConfig().limits, maxConnections: 1 },
    });
    const first = connect({ host: "127.0.0.1", port: ports[0] ?? 0 });
    while (broker.status().connections === 0) await new Promise((resolve) => setImmediate(resolve));
    const second = connect({ host: "127.0.0.1", port: ports[0] ?? 0 });
    second.on("error", () => {});
    await new Promise((resolve) => second.once("close", resolve));
    assert.equal((await log.line("connection refused")).code, "connections");
    first.destroy();
  });

  it("names the file that is missing, unreadable or wrong, and its key", async (t) => {
    const folder = temporaryFolder(t);
    const bad = join(folder, "bad.pem");
    writeFileSync(bad, "no certificate");
    const faults: [Partial<Tls>, string, RegExp][] = [
      [{}, "CONFIG_INVALID", /mqtt\.listeners\[0\]\.tls\.certFile/],
      [{ certFile: join(folder, "none.pem"), keyFile: bad }, "FILE_UNREADABLE", /none\.pem.*ENOENT/],
      [{ certFile: bad, keyFile: bad }, "TLS_MATERIAL_INVALID", /mqtt\.listeners\[0\]\.tls/],
      [{ certFile: bad, keyFile: bad, clientCertificate: "required" }, "CONFIG_INVALID", /caFile is missing/],
    ];
    for (const [tls, code, message] of faults) {
      await assert.rejects(startTls(t, { development: false, ...tls }), (error: unknown) => {
        assert.ok(error instanceof GatewayError);
        assert.equal(error.code, code);
        assert.match(error.message, message);
        return true;
      });
    }
  });
});

describe("a listener that asks for client certificates", { skip: noMosquitto }, () => {
  const withCertificate = ({ certFile, keyFile }: { certFile: string; keyFile: string }, id: string) => [
    "--cert",
    certFile,
    "--key",
    keyFile,
    "-i",
    id,
  ];

  it("tells who gives no client id which one it must be, and names none that the broker made up", async (t) => {
    const authority = await Authority.make(temporaryFolder(t), "site");
    const { certFile, keyFile } = await authority.issue("mast-3");
    const tls = { clientCertificate: "required" as const, development: true, caFile: authority.caFile };
    const broker = await startBroker(t, { anonymous: "never", listeners: [{ bind: "127.0.0.1", port: 0, tls }] });
    assert.equal((await publish(broker, "--cert", certFile, "--key", keyFile)).status, 5);
    const line = await broker.log.line("login refused");
    assert.match(String(line.reason), /gave no client id: it must be mast-3, .* \(mosquitto_pub -i mast-3\)$/);
    assert.deepEqual([line.client, line.certificate], [undefined, "mast-3"]);
  });

  it("lets in who shows one of its authority under the certificate's name, whatever `anonymous` says", async (t) => {
    const folder = temporaryFolder(t);
    const authority = await Authority.make(folder, "site");
    const mast = await authority.issue("mast-3");
    const tls = { clientCertificate: "required" as const, development: true, caFile: authority.caFile };
    const broker = await startBroker(t, { anonymous: "never", listeners: [{ bind: "127.0.0.1", port: 0, tls }] });
    assert.equal((await publish(broker, ...withCertificate(mast, "mast-3"))).status, 0);
    assert.equal(broker.outbox.readings.length, 1);
    assert.equal((await publish(broker, ...withCertificate(mast, "mast-4"))).status, 5);
    assert.match(String((await broker.log.line("login refused")).reason), /not the certificate's name/);
    assert.notEqual((await publish(broker, "-i", "mast-3")).status, 0);
    const stranger = await (await Authority.make(folder, "stranger")).issue("mast-3");
    assert.notEqual((await publish(broker, ...withCertificate(stranger, "mast-3"))).status, 0);
    const wild = await authority.issue("mast-#");
    assert.equal((await publish(broker, ...withCertificate(wild, "mast-#"))).status, 5);
    assert.equal(broker.outbox.readings.length, 1);
  });

  it("lets nobody resume a session once the certificate has expired", async (t) => {
    const folder = temporaryFolder(t);
    const authority = await Authority.make(folder, "site");
    const mast = await authority.issue("mast-3");
    const tls = { clientCertificate: "required" as const, development: true, caFile: authority.caFile };
    let later = 0;
    const clock = { ...systemClock, now: () => systemClock.now() + later };
    const broker = await startBroker(t, { listeners: [{ bind: "127.0.0.1", port: 0, tls }] }, clock);
    const options = {
      host: "localhost",
      port: broker.ports[0] ?? 0,
      ca: readFileSync(caFile(broker)),
      cert: readFileSync(mast.certFile),
      key: readFileSync(mast.keyFile),
    };
    const { session } = await loginRaw("mast-3", options);
    assert.ok(session);
    const resumed = await loginRaw("mast-3", { ...options, session });
    assert.deepEqual([resumed.accepted, resumed.resumed], [true, true]);
    later = 2 * 86_400_000;
    const expired = await loginRaw("mast-3", { ...options, session: resumed.session ?? session });
    assert.deepEqual([expired.accepted, expired.resumed], [false, true]);
    assert.equal((await broker.log.line("connection refused")).kind, "certificate-expired");
  });

  it("treats a client without one as anonymous where it is optional, and refuses a bad one", async (t) => {
    const folder = temporaryFolder(t);
    const authority = await Authority.make(folder, "site");
    const mast = await authority.issue("mast-3");
    const stranger = await (await Authority.make(folder, "stranger")).issue("mast-3");
    const broker = await startTls(t, { clientCertificate: "optional", caFile: authority.caFile });
    assert.equal((await publish(broker)).status, 0);
    assert.equal((await publish(broker, ...withCertificate(mast, "mast-3"))).status, 0);
    assert.notEqual((await publish(broker, ...withCertificate(stranger, "mast-3"))).status, 0);
    assert.equal((await broker.log.line("connection refused")).kind, "certificate-of-another-authority");
    assert.equal(broker.outbox.readings.length, 2);
  });
});
