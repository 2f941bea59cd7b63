import assert from "node:assert/strict";
import { createPublicKey } from "node:crypto";
import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Writable } from "node:stream";
import { describe, it, type TestContext } from "node:test";
import type { HttpConfig, MqttConfig, UplinkConfig } from "#src/config/schema.js";
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
    config: { mqtt, uplink, http: {} as HttpConfig },
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
  return { clock, watch, conditions, write, certFile, becomes };
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

  it("leaves a file that cannot be read to those who read it", async (t) => {
    const { clock, conditions, certFile, becomes } = await rig(t);
    clock.setWall(clock.now() + 60 * DAY_MS);
    await becomes("due", (all) => all.length === 1);
    rmSync(certFile);
    await becomes("not judged", (all) => all.length === 0);
    assert.deepEqual(conditions.list(), []);
  });
});
