/** An authority between the one that is trusted and the devices, revoked by the former: its devices go with it. */
import "reflect-metadata";
import assert from "node:assert/strict";
import { createPublicKey, type KeyObject, webcrypto } from "node:crypto";
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { type TestContext, test } from "node:test";
import { connect, createServer, type TLSSocket } from "node:tls";
import * as x509 from "@peculiar/x509";
import { newKey, revocationList } from "#src/identity/authority.js";
import {
  type AcceptedClient,
  judgeClient,
  loadServerTls,
  refusalSince,
  type ServerTls,
} from "#src/identity/server-tls.js";

const DAY_MS = 86_400_000;
const algorithm = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };

interface Made {
  readonly name: string;
  readonly key: KeyObject;
  readonly certificate: string;
  readonly serial: string;
}

const pemOf = (key: KeyObject): string => key.export({ type: "pkcs8", format: "pem" }) as string;
const own = async (key: KeyObject) =>
  await webcrypto.subtle.importKey("pkcs8", key.export({ type: "pkcs8", format: "der" }), algorithm, false, ["sign"]);

/** A certificate, of an authority or a device; without an issuer it is its own. */
async function make(name: string, serial: string, kind: "authority" | "device", issuer?: Made): Promise<Made> {
  const key = newKey();
  const certificate = await x509.X509CertificateGenerator.create({
    serialNumber: serial,
    subject: `CN=${name}`,
    issuer: `CN=${issuer?.name ?? name}`,
    notBefore: new Date(Date.now() - DAY_MS),
    notAfter: new Date(Date.now() + DAY_MS),
    publicKey: createPublicKey(key).export({ type: "spki", format: "der" }),
    signingKey: await own(issuer?.key ?? key),
    signingAlgorithm: algorithm,
    extensions: [new x509.BasicConstraintsExtension(kind === "authority", undefined, true)],
  });
  return { name, key, serial, certificate: `${certificate.toString("pem")}\n` };
}

const root = await make("root", "01", "authority");
const region = await make("region", "02", "authority", root);
const stranger = await make("stranger", "03", "authority");
const device = await make("mast-3", "04", "device", region);

const content = (path: string, text: string) => ({ path, content: Buffer.from(text), mode: 0o600 });

/** What a listener is made of that trusts these, with a list of the root's that names these. */
async function listener(trusted: readonly Made[], revoked: readonly Made[]): Promise<ServerTls> {
  const entries = revoked.map(({ serial }) => ({ serial, at: Date.now(), reason: "keyCompromise" }) as const);
  return await loadServerTls({ clientCertificate: "required", development: false }, "tls", {
    certFile: content("server.pem", root.certificate),
    keyFile: content("server-key.pem", pemOf(root.key)),
    caFile: content("ca.pem", trusted.map(({ certificate }) => certificate).join("")),
    crlFile: content("crl.pem", await revocationList(root, 1, entries)),
  });
}

/** How the listener judges a device that sends these certificates. */
async function judged(t: TestContext, tls: ServerTls, sent: readonly Made[]) {
  const server = createServer(tls.options).listen(0, "127.0.0.1");
  t.after(() => server.close());
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  const cert = sent.map(({ certificate }) => certificate).join("");
  const client = connect({ port, host: "127.0.0.1", rejectUnauthorized: false, cert, key: pemOf(device.key) });
  client.on("error", () => {});
  const [socket] = (await once(server, "secureConnection")) as [TLSSocket];
  const verdict = judgeClient(socket, tls, Date.now());
  socket.destroy();
  client.destroy();
  return verdict;
}

const ways: readonly [string, readonly Made[], readonly Made[]][] = [
  ["the device sends it", [root], [device, region]],
  ["the device sends it behind another one", [root], [device, stranger, region]],
  ["caFile holds it", [root, region], [device]],
];
for (const [way, trusted, sent] of ways) {
  test(`a device of an authority that was revoked is refused, and one that is there goes, where ${way}`, async (t) => {
    const before = await listener(trusted, [stranger]);
    const after = await listener(trusted, [region]);
    const accepted = await judged(t, before, sent);
    assert.equal(accepted.accepted, true);
    const refused = await judged(t, after, sent);
    assert.equal(refused.accepted || refused.kind, "certificate-of-revoked-authority");
    const { certificate } = accepted as AcceptedClient;
    assert.ok(certificate);
    assert.equal(refusalSince(certificate, before, after)?.kind, "certificate-of-revoked-authority");
    assert.equal(refusalSince(certificate, before, before), undefined);
  });
}

test("nobody hides it behind more certificates than are looked at", async (t) => {
  const after = await listener([root], [region]);
  const crowd = await Promise.all(Array.from({ length: 20 }, (_, n) => make(`n${n}`, `1${n}`, "authority")));
  const refused = await judged(t, after, [device, ...crowd, region]);
  assert.equal(refused.accepted || refused.kind, "certificate-of-revoked-authority");
});
