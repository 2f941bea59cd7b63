import assert from "node:assert/strict";
import { X509Certificate } from "node:crypto";
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { hostname, tmpdir } from "node:os";
import { join } from "node:path";
import { describe, it, type TestContext } from "node:test";
import { developmentCertificates } from "#src/identity/development-certificates.js";
import { TestClock } from "../support/test-clock.ts";

function dataDir(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), "summit-edge-certificates-"));
  t.after(() => rmSync(folder, { recursive: true }));
  return folder;
}

describe("development certificates", () => {
  it("are a P-256 certificate for this machine, of an authority whose key is not kept", async (t) => {
    const { files, made } = await developmentCertificates(dataDir(t), new TestClock());
    assert.equal(made, true);
    const ca = new X509Certificate(readFileSync(files.caFile));
    const certificate = new X509Certificate(readFileSync(files.certFile));
    assert.ok(ca.ca);
    assert.equal(certificate.ca, false);
    assert.ok(certificate.verify(ca.publicKey));
    assert.ok(certificate.checkIssued(ca));
    assert.equal(certificate.publicKey.asymmetricKeyDetails?.namedCurve, "prime256v1");
    for (const name of ["localhost", hostname()]) assert.equal(certificate.checkHost(name), name);
    for (const address of ["127.0.0.1", "::1"]) assert.equal(certificate.checkIP(address), address);
    assert.deepEqual(readdirSync(join(files.caFile, "..")).sort(), ["ca.pem", "server-key.pem", "server.pem"]);
    assert.equal(statSync(files.keyFile).mode & 0o777, 0o600);
  });

  it("are used again, also when the clock has moved on a little", async (t) => {
    const folder = dataDir(t);
    const clock = new TestClock();
    const { files } = await developmentCertificates(folder, clock);
    const before = readFileSync(files.certFile, "utf8");
    clock.setWall(clock.now() + 300 * 86_400_000);
    assert.equal((await developmentCertificates(folder, clock)).made, false);
    assert.equal(readFileSync(files.certFile, "utf8"), before);
  });

  it("are made anew when they have expired, are not valid yet, or are not whole", async (t) => {
    const folder = dataDir(t);
    const clock = new TestClock();
    const { files } = await developmentCertificates(folder, clock);
    const spoil: (() => void)[] = [
      () => clock.setWall(clock.now() + 366 * 86_400_000),
      () => clock.setWall(clock.now() - 3 * 86_400_000),
      () => writeFileSync(files.certFile, "torn"),
      () => rmSync(files.keyFile),
      () => writeFileSync(files.caFile, ""),
    ];
    for (const fault of spoil) {
      fault();
      assert.equal((await developmentCertificates(folder, clock)).made, true);
      assert.equal((await developmentCertificates(folder, clock)).made, false);
    }
  });
});
