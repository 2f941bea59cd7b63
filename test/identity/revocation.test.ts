import assert from "node:assert/strict";
import { X509Certificate } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it, type TestContext } from "node:test";
import { readRevocationList } from "#src/identity/revocation.js";
import { missing } from "../support/commands.ts";
import { type CertificateFiles, SiteAuthority } from "../support/site-authority.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

const file = (path: string, content: Buffer = readFileSync(path)) => ({ path, content, mode: 0o644 });
const certificateOf = ({ certFile }: CertificateFiles) => new X509Certificate(readFileSync(certFile));

function crlOf(t: TestContext, authority: SiteAuthority): Buffer {
  const path = join(temporaryFolder(t), "crl.pem");
  authority.writeCrl(path);
  return readFileSync(path);
}

describe("a revocation list", { skip: missing("openssl") }, () => {
  it("knows whom its authority has revoked, and not the same serial number of another authority", async (t) => {
    const folder = temporaryFolder(t);
    const [site, other] = [new SiteAuthority(folder, "site"), new SiteAuthority(folder, "other", "RSA")];
    const [revoked, namesake] = [site.issue("mast-1"), other.issue("mast-1")];
    assert.equal(certificateOf(revoked).serialNumber, certificateOf(namesake).serialNumber);
    site.revoke(revoked);
    const authorities = Buffer.concat([readFileSync(other.caFile), readFileSync(site.caFile)]);
    const list = await readRevocationList(file("crl.pem", crlOf(t, site)), file("ca.pem", authorities));
    assert.equal(list.size, 1);
    assert.equal(list.has(certificateOf(revoked)), true);
    assert.equal(list.has(certificateOf(namesake)), false);
    assert.equal(list.has(certificateOf(site.issue("mast-2"))), false);
  });

  it("may be several in one file, of authorities with keys and digests of different kinds", async (t) => {
    const folder = temporaryFolder(t);
    const [site, other] = [new SiteAuthority(folder, "site"), new SiteAuthority(folder, "other", "RSA")];
    const [first, second] = [site.issue("mast-1"), other.issue("mast-2")];
    site.revoke(first);
    other.revoke(second);
    const authorities = Buffer.concat([readFileSync(site.caFile), readFileSync(other.caFile)]);
    const lists = Buffer.concat([crlOf(t, site), crlOf(t, other)]);
    const list = await readRevocationList(file("crl.pem", lists), file("ca.pem", authorities));
    assert.deepEqual([list.has(certificateOf(first)), list.has(certificateOf(second))], [true, true]);
  });

  it("is overdue once its date has passed", async (t) => {
    const folder = temporaryFolder(t);
    const site = new SiteAuthority(folder, "site");
    const path = join(folder, "crl.pem");
    const nextUpdate = new Date(Math.floor(Date.now() / 1000) * 1000 + 60_000);
    site.writeCrl(path, { nextUpdate });
    const list = await readRevocationList(file(path), file(site.caFile));
    assert.equal(list.nextUpdate, nextUpdate.getTime());
    assert.equal(list.isOverdue(nextUpdate.getTime()), false);
    assert.equal(list.isOverdue(nextUpdate.getTime() + 1), true);
  });

  it("is refused where it was changed, cut short, signed by another of that name, or is something else", async (t) => {
    const folder = temporaryFolder(t);
    const site = new SiteAuthority(folder, "site");
    const impostor = new SiteAuthority(temporaryFolder(t), "site");
    const good = String(crlOf(t, site));
    const faults: [string, RegExp][] = [
      [String(crlOf(t, impostor)), /crl\.pem holds a list of CN=site, which no authority here has signed/],
      [good + good.slice(0, 100), /a X509 CRL in it has no end/],
      [readFileSync(site.caFile, "utf8"), /holds no certificate revocation list in PEM/],
      ["", /holds no certificate revocation list in PEM/],
    ];
    for (const [text, message] of faults) {
      const read = readRevocationList(file("crl.pem", Buffer.from(text)), file(site.caFile));
      await assert.rejects(read, { code: "CRL_INVALID", message, hint: /openssl crl -in crl\.pem/ });
    }
  });
});
