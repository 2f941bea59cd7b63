import assert from "node:assert/strict";
import { createPublicKey, X509Certificate } from "node:crypto";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Writable } from "node:stream";
import { describe, it, type TestContext } from "node:test";
import type { Config, MqttConfig, UplinkConfig } from "#src/config/schema.js";
import { certify, makeAuthority, newKey } from "#src/identity/authority.js";
import { CertificateWatch } from "#src/identity/certificate-watch.js";
import { type Condition, Conditions } from "#src/kernel/conditions.js";
import { createLog } from "#src/kernel/telemetry.js";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { TestClock } from "../support/test-clock.ts";
import { until } from "../support/until.ts";

const DAY_MS = 86_400_000;

async function rig(t: TestContext, clockIsTrusted = true) {
  const clock = new TestClock();
  const folder = temporaryFolder(t);
  const [certFile, caFile] = [join(folder, "server.crt"), join(folder, "ca.crt")];
  const authorityValidity = { notBefore: clock.now() - DAY_MS, notAfter: clock.now() + 3650 * DAY_MS };
  const authority = await makeAuthority("test", newKey(), authorityValidity);
  writeFileSync(caFile, authority.certificate);
  const write = async (fromDays: number, toDays: number): Promise<void> => {
    const validity = { notBefore: clock.now() + fromDays * DAY_MS, notAfter: clock.now() + toDays * DAY_MS };
    const names = { dns: ["localhost"], addresses: [] };
    const publicKey = createPublicKey(newKey());
    const wanted = { purpose: "server", commonName: "sierra-014", names, publicKey, validity } as const;
    writeFileSync(certFile, await certify(authority, wanted));
  };
  await write(-1, 89);
  const tls = { certFile, keyFile: "/nowhere", caFile, clientCertificate: "required", development: false } as const;
  const log = await createLog(
    { level: "silent", format: "json" },
    {},
    new Writable({ write: (_c, _e, done) => done() }),
  );
  const conditions = new Conditions(clock, log);
  const mqtt = { listeners: [{ bind: "127.0.0.1", port: 0, tls }] } as unknown as MqttConfig;
  const uplink = { tls: {} } as UplinkConfig;
  const watch = new CertificateWatch({
    config: { gateway: { id: "a", dataDir: folder }, certs: { folder: "site" }, mqtt, uplink, http: {} } as Config,
    clock,
    conditions,
    clockIsTrusted: () => clockIsTrusted,
  });
  t.after(() => watch.stop());
  await watch.start();
  /** Lets time pass until what is wrong is as wanted. */
  const becomes = async (what: string, holds: (conditions: readonly Condition[]) => boolean): Promise<void> => {
    await until(
      what,
      () => holds(conditions.list()),
      () => clock.advance(60_000),
    );
  };
  /** Writes the index of the site's own authority. */
  const index = (...records: readonly object[]): void => {
    const dates = { issuedAt: "2026-01-01", notBefore: "2026-01-01", notAfter: "2036-01-01" };
    const lines = records.map((record) => JSON.stringify({ serial: "01ab", fingerprint: "", ...dates, ...record }));
    mkdirSync(join(folder, "site"), { recursive: true });
    writeFileSync(join(folder, "site", "index.jsonl"), `${lines.join("\n")}\n`);
  };
  return { clock, watch, conditions, write, certFile, becomes, folder, index };
}

describe("the watch over the gateway's certificates", () => {
  it("says nothing of certificates in their first two thirds", async (t) => {
    const { clock, conditions, becomes } = await rig(t);
    clock.setWall(clock.now() + 58 * DAY_MS);
    await becomes("looked again", () => true);
    assert.deepEqual(conditions.list(), []);
  });

  it("says when renewal is due, and when it is too late, and that all is well after a renewal", async (t) => {
    const { clock, conditions, write, becomes } = await rig(t);
    clock.setWall(clock.now() + 60 * DAY_MS);
    await becomes("due", ([condition]) => condition?.code === "certificate-renewal-due");
    const [due] = conditions.list();
    assert.equal(due?.component, "certificates");
    assert.equal(due?.severity, "degraded");
    assert.match(due?.detail ?? "", /mqtt\.listeners\[0\]\.tls\.certFile \(CN=sierra-014\) .*summit-edge certs renew/);
    clock.setWall(clock.now() + 30 * DAY_MS);
    await becomes("ended", (all) => all.length === 1 && all[0]?.code === "certificate-expired");
    assert.match(conditions.list()[0]?.detail ?? "", /used all the same/);
    await write(-1, 89);
    await becomes("well again", (all) => all.length === 0);
  });

  it("blames the clock first where that is not known to be right", async (t) => {
    const { clock, conditions, becomes } = await rig(t, false);
    clock.setWall(Date.UTC(1980, 0, 6));
    await becomes("not yet valid", ([condition]) => condition?.code === "certificate-not-yet-valid");
    assert.match(conditions.list()[0]?.detail ?? "", /clock .* is not known to be right.*timedatectl/);
    assert.doesNotMatch(conditions.list()[0]?.detail ?? "", /Renew/);
    assert.equal(conditions.list()[0]?.severity, "degraded");
  });

  it("says which listener lets revoked devices in, where the authority that it trusts has revoked some", async (t) => {
    const { conditions, folder, index, becomes } = await rig(t);
    const { fingerprint256 } = new X509Certificate(readFileSync(join(folder, "ca.crt")));
    index({ kind: "authority", name: "site", fingerprint: fingerprint256 }, { kind: "device", name: "mast-3" });
    await becomes("looked again", () => true);
    assert.deepEqual(conditions.list(), []);
    const revoked = { at: "2026-07-01T00:00:00.000Z", reason: "keyCompromise" };
    const gone = { kind: "device", name: "mast-3", revoked };
    index({ kind: "authority", name: "site", fingerprint: fingerprint256 }, gone);
    await becomes("raised", ([condition]) => condition?.code === "revocations-unlisted");
    assert.match(
      conditions.list()[0]?.detail ?? "",
      /mqtt\.listeners\[0\]\.tls .*\(mast-3\).*set crlFile: .*site\/ca\.crl/,
    );
    // What another authority has revoked is no matter of this listener.
    index({ kind: "authority", name: "site", fingerprint: "another" }, gone);
    await becomes("well again", (all) => all.length === 0);
  });

  it("leaves a file that cannot be read to those who read it", async (t) => {
    const { clock, conditions, certFile, becomes } = await rig(t);
    clock.setWall(clock.now() + 60 * DAY_MS);
    await becomes("due", (all) => all.length === 1);
    rmSync(certFile);
    await becomes("not judged", (all) => all.length === 0);
    assert.deepEqual(conditions.list(), []);
  });
});
