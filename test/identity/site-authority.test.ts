import assert from "node:assert/strict";
import { createPublicKey, generateKeyPairSync, X509Certificate } from "node:crypto";
import { existsSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it, type TestContext } from "node:test";
import { readRequest } from "#src/identity/authority.js";
import { type Delivery, type Order, SiteAuthority } from "#src/identity/site-authority.js";
import { run, skipWithout } from "../support/programs.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

const DAY_MS = 86_400_000;
const NOON = Date.UTC(2026, 6, 1, 12);
const TERMS = {
  caLifetime: 3650 * DAY_MS,
  serverLifetime: 365 * DAY_MS,
  deviceLifetime: 730 * DAY_MS,
  backdate: 30 * DAY_MS,
};
const skip = skipWithout("openssl");

async function site(t: TestContext, passphrase?: string): Promise<SiteAuthority> {
  const folder = join(temporaryFolder(t), "certs");
  return await SiteAuthority.make(folder, { name: "test site", passphrase, terms: TERMS, now: NOON });
}

function issue(authority: SiteAuthority, order: Partial<Order> = {}, now = NOON, terms = TERMS): Promise<Delivery> {
  const whole: Order = { purpose: "device", name: "mast-3", key: "new", again: false, ...order };
  return authority.issue(authority.unlock(undefined), whole, terms, now);
}

describe("a site's authority", () => {
  it("is made once: a second one is refused, also where only its key or its certificate is left", async (t) => {
    const { folder, caKeyFile, caFile } = await site(t);
    const again = () => SiteAuthority.make(folder, { name: "b", passphrase: undefined, terms: TERMS, now: NOON });
    const key = readFileSync(caKeyFile);
    await assert.rejects(again, { code: "AUTHORITY_EXISTS" });
    renameSync(caFile, `${caFile}.away`);
    await assert.rejects(again, { code: "AUTHORITY_EXISTS" });
    renameSync(`${caFile}.away`, caFile);
    rmSync(caKeyFile);
    await assert.rejects(again, { code: "AUTHORITY_EXISTS" });
    assert.notEqual(key.length, 0);
  });

  it("keeps its key for its owner alone, whatever the umask", async (t) => {
    const umask = process.umask(0);
    t.after(() => process.umask(umask));
    const authority = await site(t);
    const { files } = await issue(authority);
    for (const file of [authority.caKeyFile, files.keyFile]) assert.equal(statSync(file).mode & 0o777, 0o600);
    assert.equal(statSync(authority.caFile).mode & 0o777, 0o644);
  });

  it("is locked by its passphrase", async (t) => {
    const authority = await site(t, "correct horse");
    assert.match(readFileSync(authority.caKeyFile, "utf8"), /ENCRYPTED PRIVATE KEY/);
    assert.throws(() => authority.unlock(undefined), { code: "AUTHORITY_LOCKED" });
    assert.throws(() => authority.unlock("wrong horse"), { code: "AUTHORITY_LOCKED" });
    assert.equal(authority.unlock("correct horse").key.type, "private");
  });

  it("does not sign with a key that is not its own", async (t) => {
    const [authority, other] = [await site(t), await site(t)];
    writeFileSync(authority.caKeyFile, readFileSync(other.caKeyFile));
    assert.throws(() => authority.unlock(undefined), { code: "AUTHORITY_KEY_UNUSABLE" });
  });

  it("gives serial numbers of 20 octets, each its own", async (t) => {
    const authority = await site(t);
    for (const name of ["a", "b", "c"]) await issue(authority, { name });
    const serials = authority.records.map(({ serial }) => serial);
    assert.equal(new Set(serials).size, 4);
    for (const serial of serials) assert.match(serial, /^[4-7][0-9a-f]{39}$/);
  });

  it("knows a device by its id: common name and DNS name, for clients only", async (t) => {
    const { certificate } = await issue(await site(t));
    const { subject, subjectAltName, keyUsage, ca } = new X509Certificate(certificate);
    assert.equal(subject, "CN=mast-3");
    assert.equal(subjectAltName, "DNS:mast-3");
    assert.deepEqual(keyUsage, ["1.3.6.1.5.5.7.3.2"]);
    assert.equal(ca, false);
  });

  it("gives a device no second certificate while one is valid, unless it is told to", async (t) => {
    const authority = await site(t);
    await issue(authority);
    await assert.rejects(issue(authority), { code: "CERTIFICATE_EXISTS" });
    await issue(authority, { again: true });
    await issue(authority, { name: "mast-4" });
    const late = NOON + 731 * DAY_MS;
    await issue(authority, {}, late);
    await assert.rejects(issue(authority, {}, late), { code: "CERTIFICATE_EXISTS" });
  });

  it("gives a device another one once its certificates are revoked, and remembers all after a restart", async (t) => {
    const authority = await site(t);
    const { issued } = await issue(authority);
    await authority.revoke(authority.unlock(undefined), [issued.serial], "keyCompromise", NOON + DAY_MS);
    await issue(authority, {}, NOON + DAY_MS);
    const again = SiteAuthority.open(authority.folder);
    assert.deepEqual(again.records, authority.records);
    assert.deepEqual(again.records[1]?.revoked, { at: NOON + DAY_MS, reason: "keyCompromise" });
  });

  it("certifies the same key again where it is told to, and removes a key that no longer belongs", async (t) => {
    const authority = await site(t);
    const first = await issue(authority);
    const second = await issue(authority, { again: true, key: "same" });
    const spki = (pem: string) => new X509Certificate(pem).publicKey.export({ type: "spki", format: "pem" });
    assert.equal(spki(second.certificate), spki(first.certificate));
    assert.ok(existsSync(first.files.keyFile));
    const { publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
    const third = await issue(authority, { again: true, key: publicKey });
    assert.equal(spki(third.certificate), publicKey.export({ type: "spki", format: "pem" }));
    assert.equal(existsSync(first.files.keyFile), false);
  });

  it("issues nothing that outlives it, and nothing once it has ended", async (t) => {
    const authority = await site(t);
    const end = NOON + TERMS.caLifetime;
    const { issued } = await issue(authority, {}, end - DAY_MS);
    assert.equal(issued.notAfter, end);
    await assert.rejects(issue(authority, { name: "b" }, end), { code: "AUTHORITY_EXPIRED" });
  });

  it("is renewed with the same key and name, so that what it has issued stays valid", { skip }, async (t) => {
    const authority = await site(t);
    const { files } = await issue(authority, {}, NOON);
    const before = readFileSync(authority.caFile, "utf8");
    await authority.renew(authority.unlock(undefined), TERMS, NOON + 7 * DAY_MS);
    const after = readFileSync(authority.caFile, "utf8");
    assert.notEqual(after, before);
    const at = ["-attime", String((NOON + 8 * DAY_MS) / 1000)];
    const check = ["verify", ...at, "-crl_check", "-CRLfile", authority.crlFile, "-CAfile", authority.caFile];
    assert.deepEqual(run("openssl", [...check, files.certFile]).status, 0);
    assert.ok(new X509Certificate(after).checkPrivateKey(authority.unlock(undefined).key));
  });

  it("takes the date of the newest certificate for today's where the clock is behind it", async (t) => {
    const authority = await site(t);
    const in1980 = Date.UTC(1980, 0, 6);
    assert.equal(authority.behind(in1980), NOON - in1980);
    assert.equal(authority.behind(NOON + 1), 0);
    const { issued } = await issue(authority, {}, in1980);
    assert.equal(issued.issuedAt, NOON);
    assert.equal(issued.notAfter, NOON + TERMS.deviceLifetime);
  });

  it("says which line of a damaged index is not to be read, and does nothing with it", async (t) => {
    const authority = await site(t);
    const file = join(authority.folder, "index.jsonl");
    const text = readFileSync(file, "utf8");
    const damaged = ["{", "[]", "null", '{"serial":"../x"}', text.replace("issuedAt", "issued"), text.slice(0, 80)];
    for (const line of damaged) {
      writeFileSync(file, `${text}${line}\n`);
      assert.throws(() => SiteAuthority.open(authority.folder), { code: "CERTS_INDEX_DAMAGED", message: /line 2 of/ });
    }
  });

  it("says what to do where there is none", async (t) => {
    assert.throws(() => SiteAuthority.open(temporaryFolder(t)), { code: "AUTHORITY_MISSING", hint: /certs init/ });
  });
});

describe("a signing request", { skip }, () => {
  function request(t: TestContext, key: readonly string[], more: readonly string[] = []): Buffer {
    const file = join(temporaryFolder(t), "request");
    const args = [
      "req",
      "-new",
      "-newkey",
      ...key,
      "-nodes",
      "-subj",
      "/CN=mast-3",
      "-keyout",
      "/dev/null",
      "-out",
      file,
    ];
    const made = run("openssl", [...args, ...more]);
    assert.equal(made.status, 0, made.output);
    return readFileSync(file);
  }
  const P256 = ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"];

  it("is read in PEM and in DER, for the keys that are good enough", async (t) => {
    const keys = [P256, ["ec", "-pkeyopt", "ec_paramgen_curve:P-384"], ["rsa:2048"], ["ed25519"]];
    for (const key of keys) {
      const { commonName, publicKey } = await readRequest(request(t, key));
      assert.equal(commonName, "mast-3");
      assert.equal(createPublicKey(publicKey.export({ type: "spki", format: "pem" })).type, "public");
    }
    assert.equal((await readRequest(request(t, P256, ["-outform", "DER"]))).commonName, "mast-3");
  });

  it("is refused for a weak key, a signature that is not its key's, and bytes that are none", async (t) => {
    const refused = { code: "CSR_REFUSED" };
    await assert.rejects(readRequest(request(t, ["rsa:1024"])), refused);
    await assert.rejects(readRequest(request(t, ["ec", "-pkeyopt", "ec_paramgen_curve:secp256k1"])), refused);
    const der = request(t, P256, ["-outform", "DER"]);
    const name = der.indexOf("mast-3");
    der.write("mast-4", name);
    await assert.rejects(readRequest(der), { ...refused, message: /signature/ });
    for (const bytes of [Buffer.alloc(0), Buffer.from("nonsense"), Buffer.alloc(100_000)]) {
      await assert.rejects(readRequest(bytes), refused);
    }
  });
});
