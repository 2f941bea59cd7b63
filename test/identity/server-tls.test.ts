import assert from "node:assert/strict";
import { createPublicKey, X509Certificate } from "node:crypto";
import { describe, it } from "node:test";
import { certify, makeAuthority, newKey } from "#src/identity/authority.js";
import { loadServerTls } from "#src/identity/server-tls.js";

const DAY_MS = 86_400_000;
const validity = { notBefore: Date.now() - DAY_MS, notAfter: Date.now() + DAY_MS };
const LISTENER = { clientCertificate: "required", development: false } as const;
const PEM = /-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----/g;

const [authority, other] = await Promise.all(["site", "other"].map((name) => makeAuthority(name, newKey(), validity)));
assert.ok(authority && other);
const key = newKey();
const certificate = await certify(authority, {
  purpose: "server",
  commonName: "sierra-014",
  names: { dns: ["localhost"], addresses: [] },
  publicKey: createPublicKey(key),
  validity,
});

/** Subjects of the chain that clients are shown, where the files hold these certificates. */
async function shown(certFile: string, caFile: string | undefined): Promise<string[]> {
  const file = (path: string, content: string) => ({ path, content: Buffer.from(content), mode: 0o600 });
  const { options } = await loadServerTls(LISTENER, "mqtt.listeners[0].tls", {
    certFile: file("server.pem", certFile),
    keyFile: file("server-key.pem", key.export({ type: "pkcs8", format: "pem" }) as string),
    caFile: caFile === undefined ? undefined : file("ca.pem", caFile),
    crlFile: undefined,
  });
  return (String(options.cert).match(PEM) ?? []).map((pem) => new X509Certificate(pem).subject);
}

describe("the chain that a TLS server shows", () => {
  it("is made once, of the authorities in caFile, where certFile holds the certificate alone", async () => {
    const both = `${other.certificate}\n${authority.certificate}`;
    assert.deepEqual(await shown(certificate, both), ["CN=sierra-014", "CN=site"]);
    assert.deepEqual(await shown(certificate.trim(), authority.certificate), ["CN=sierra-014", "CN=site"]);
  });

  it("is that of certFile where it holds one, and ends where no issuer is known", async () => {
    const chain = `${certificate}\n${other.certificate}`;
    assert.deepEqual(await shown(chain, authority.certificate), ["CN=sierra-014", "CN=other"]);
    assert.deepEqual(await shown(certificate, other.certificate), ["CN=sierra-014"]);
    assert.deepEqual(await shown(certificate, undefined), ["CN=sierra-014"]);
  });
});
