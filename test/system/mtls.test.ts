/** Who a listener with `clientCertificate: required` keeps out, and what the operator reads of it. */
import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { missing, run } from "../support/commands.ts";
import { type LogLine, MtlsGateway } from "../support/mtls-gateway.ts";
import { mutant, mutantWith } from "../support/mutant.ts";
import { type CertificateFiles, SiteAuthority } from "../support/site-authority.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

const skip = missing("openssl");

/** Devices that do not belong, with the kind of refusal in the log and what its reason says. */
interface Stranger {
  readonly who: string;
  readonly clientId: string;
  readonly files: CertificateFiles | undefined;
  readonly kind: string;
  readonly reason: RegExp;
}

function strangers(t: TestContext, gateway: MtlsGateway): Stranger[] {
  const { site } = gateway;
  const elsewhere = new SiteAuthority(temporaryFolder(t), "elsewhere");
  const revoked = site.issue("mast-5");
  gateway.revoke(revoked);
  return [
    {
      who: "no certificate",
      clientId: "mast-1",
      files: undefined,
      kind: "no-certificate",
      reason: /showed no certificate/,
    },
    {
      who: "an expired one",
      clientId: "mast-2",
      files: site.issue("mast-2", { days: -1 }),
      kind: "certificate-expired",
      reason: /expired on .* GMT, and this gateway's clock says 20.*renew it/,
    },
    {
      who: "one of another authority",
      clientId: "mast-3",
      files: elsewhere.issue("mast-3"),
      kind: "certificate-of-another-authority",
      reason: /is of CN=elsewhere, none of the authorities in the listener's caFile/,
    },
    {
      who: "a server's",
      clientId: "mast-4",
      files: site.issue("mast-4", { usage: "serverAuth" }),
      kind: "certificate-not-for-clients",
      reason: /not one for clients/,
    },
    {
      who: "a revoked one",
      clientId: "mast-5",
      files: revoked,
      kind: "certificate-revoked",
      reason: /has been revoked/,
    },
  ];
}

const serialOf = async (files: CertificateFiles): Promise<string> => {
  const { output } = await run("openssl", ["x509", "-in", files.certFile, "-noout", "-serial"]);
  return output.trim().replace("serial=", "").toLowerCase();
};

async function isLetIn(t: TestContext, gateway: MtlsGateway, { clientId, files }: Stranger): Promise<boolean> {
  return gateway.client(t, clientId, files).then(
    () => true,
    () => false,
  );
}

test("each client whose certificate is not accepted is refused, with a line of its own that names it", {
  skip,
}, async (t) => {
  const gateway = await MtlsGateway.start(t);
  const all = strangers(t, gateway);
  await gateway.hangUp();
  for (const stranger of all) {
    const { who, kind, reason, clientId, files } = stranger;
    assert.equal(await isLetIn(t, gateway, stranger), false, who);
    const line = await gateway.line(`the line of ${who}`, (each) => each.kind === kind);
    assert.deepEqual([line.level, line.msg, line.heldBack], ["warn", "connection refused", 0], who);
    assert.match(String(line.reason), reason, who);
    assert.match(String(line.address), /127\.0\.0\.1/, who);
    const named = files === undefined ? [undefined, undefined] : [clientId, await serialOf(files)];
    assert.deepEqual([line.certificate, line.serial], named, who);
  }
  const belongs = await gateway.client(t, "mast-6", gateway.site.issue("mast-6"));
  await belongs.publishAsync("telemetry/mast-6", "{}", { qos: 1 });
  assert.equal((await gateway.daemon.status()).ledger.accepted, 1);
});

test("without those checks, each of them gets in", { skip }, async (t) => {
  const dist = mutantWith(t, "identity/server-tls.js", [
    ['tls.clientCertificate !== "required"', "true"],
    ["!socket.authorized", "false"],
    ["revocationOf(certificate, tls)", "undefined"],
  ]);
  const gateway = await MtlsGateway.start(t, { dist });
  const all = strangers(t, gateway);
  await gateway.hangUp();
  for (const stranger of all) assert.equal(await isLetIn(t, gateway, stranger), true, stranger.who);
});

test("the right certificate under another's client id is refused, and the line names both", { skip }, async (t) => {
  const gateway = await MtlsGateway.start(t);
  const files = gateway.site.issue("mast-3");
  await assert.rejects(gateway.client(t, "mast-4", files), /Not authorized/);
  const line = await gateway.line("the refusal", ({ msg }) => msg === "login refused");
  assert.deepEqual([line.level, line.client, line.certificate], ["warn", "mast-4", "mast-3"]);
  assert.match(String(line.reason), /client id is not the certificate's name/);
  await gateway.client(t, "mast-3", files);
});

test("without that check, a device takes the client id of another", { skip }, async (t) => {
  const dist = mutant(t, "identity/access.js", "clientId === certificateName", "true");
  const gateway = await MtlsGateway.start(t, { dist });
  await gateway.client(t, "mast-4", gateway.site.issue("mast-3"));
});

/** A handshake in TLS 1.1, by an OpenSSL that is allowed to. */
async function speakTls11(t: TestContext, dist?: string): Promise<{ output: string; gateway: MtlsGateway }> {
  const gateway = await MtlsGateway.start(t, dist === undefined ? {} : { dist });
  const { certFile, keyFile } = gateway.site.issue("mast-1");
  const to = ["s_client", "-connect", `127.0.0.1:${gateway.port}`, "-cert", certFile, "-key", keyFile];
  const { output } = await run("openssl", [...to, "-tls1_1", "-cipher", "ALL:@SECLEVEL=0"]);
  return { output, gateway };
}

test("TLS 1.1 is refused, and the line says that the client is too old", { skip }, async (t) => {
  const { output, gateway } = await speakTls11(t);
  assert.match(output, /alert protocol version/);
  const line = await gateway.line("the refusal", ({ kind }) => kind === "tls-too-old");
  assert.deepEqual([line.level, line.msg], ["warn", "connection refused"]);
  assert.match(String(line.reason), /no TLS newer than 1\.1/);
});

test("a listener that allowed it would speak TLS 1.1", { skip }, async (t) => {
  const lenient = 'minVersion: "TLSv1.1", ciphers: "ALL:@SECLEVEL=0"';
  const { output } = await speakTls11(t, mutant(t, "identity/server-tls.js", 'minVersion: "TLSv1.2"', lenient));
  assert.match(output, /Protocol *: TLSv1\.1/);
});

test("a plain client at the TLS port, and one that does not trust the gateway, are told apart in the log", {
  skip,
}, async (t) => {
  const gateway = await MtlsGateway.start(t);
  const plain = await run("mosquitto_pub", ["-h", "127.0.0.1", "-p", `${gateway.port}`, "-t", "a", "-m", "b"]);
  assert.notEqual(plain.status, 0);
  assert.match(String((await gateway.line("it", ({ kind }) => kind === "not-tls")).reason), /plain MQTT client/);
  const elsewhere = new SiteAuthority(temporaryFolder(t), "elsewhere");
  const distrusting = ["--cafile", elsewhere.caFile, "-h", "localhost", "-p", `${gateway.port}`, "-t", "a", "-m", "b"];
  assert.notEqual((await run("mosquitto_pub", distrusting)).status, 0);
  const line = await gateway.line("it", ({ kind }) => kind === "distrusts-us");
  assert.match(String(line.reason), /does not accept this gateway's certificate/);
});

test("a flood of one kind of refusal hides neither another kind nor how many there were", { skip }, async (t) => {
  const gateway = await MtlsGateway.start(t);
  const [none, expired] = strangers(t, gateway);
  assert.ok(none !== undefined && expired !== undefined);
  for (let n = 0; n < 25; n++) assert.equal(await isLetIn(t, gateway, none), false);
  assert.equal(await isLetIn(t, gateway, expired), false);
  await gateway.line("the other kind", ({ kind }) => kind === "certificate-expired");
  const ofKind = (line: LogLine): boolean => line.kind === "no-certificate";
  assert.equal(gateway.log.filter(ofKind).length, 3, "as many as one address has");
  const text = await (await gateway.daemon.get("/metrics")).text();
  assert.match(text, /mqtt_connections_refused_total\{reason="tls"\} 26/);
});
