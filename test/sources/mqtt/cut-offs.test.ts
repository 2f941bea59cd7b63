import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { type CutOffCode, CutOffs } from "#src/sources/mqtt/cut-offs.js";
import { recordingTelemetry } from "../../support/broker-under-test.ts";
import { TestClock } from "../../support/test-clock.ts";

async function makeCutOffs() {
  const clock = new TestClock();
  const { telemetry, log } = await recordingTelemetry();
  const cutOffs = new CutOffs(clock, telemetry);
  const named = (code: CutOffCode) =>
    log.lines.filter((line) => line.code === code).map(({ client, address }) => client ?? address);
  return { clock, cutOffs, log, named, metrics: telemetry.metrics };
}

describe("a client that is cut off", () => {
  it("is named with its address, id, reason and code, and counted by reason", async () => {
    const { cutOffs, log, metrics } = await makeCutOffs();
    cutOffs.report("tls", "no certificate", { address: "192.0.2.1" });
    cutOffs.report("keep-alive", "said nothing", { address: "192.0.2.1", clientId: "node-7", admitted: true });
    const [refused, cut] = log.lines;
    assert.deepEqual(
      [refused?.msg, refused?.code, refused?.address, refused?.client, refused?.reason],
      ["connection refused", "tls", "192.0.2.1", undefined, "no certificate"],
    );
    assert.deepEqual(
      [cut?.msg, cut?.level, cut?.code, cut?.client],
      ["client cut off", "warn", "keep-alive", "node-7"],
    );
    const text = await metrics.metrics();
    assert.match(text, /mqtt_connections_refused_total{reason="tls"} 1/);
    assert.match(text, /mqtt_clients_cut_off_total{reason="keep-alive"} 1/);
  });

  it("has a few lines a minute for each reason, and the next one tells how many were held back", async () => {
    const { cutOffs, log, clock } = await makeCutOffs();
    for (let n = 0; n < 100; n++) cutOffs.report("packet-size", "x", { address: "192.0.2.1" });
    assert.equal(log.lines.length, 3);
    await clock.advance(60_000);
    cutOffs.report("packet-size", "x", { address: "192.0.2.1" });
    assert.equal(log.lines[3]?.heldBack, 97);
  });

  it("hides no other, whatever the reason of either", async () => {
    const { cutOffs, named } = await makeCutOffs();
    for (let n = 0; n < 10_000; n++) {
      cutOffs.report("packet-size", "x", { address: "192.0.2.1" });
      cutOffs.report("slow-reader", "x", { address: "192.0.2.1", clientId: "noisy", admitted: true });
    }
    cutOffs.report("packet-size", "x", { address: "192.0.2.2" });
    cutOffs.report("connect-timeout", "x", { address: "192.0.2.1" });
    cutOffs.report("slow-reader", "x", { address: "192.0.2.1", clientId: "quiet", admitted: true });
    assert.ok(named("packet-size").includes("192.0.2.2"));
    assert.equal(named("connect-timeout").length, 1);
    assert.ok(named("slow-reader").includes("quiet"));
  });

  it("hides no other under many client ids either", async () => {
    const { cutOffs, named } = await makeCutOffs();
    for (let n = 0; n < 1000; n++)
      cutOffs.report("keep-alive", "x", { address: "192.0.2.1", clientId: `noisy-${n}`, admitted: true });
    assert.equal(named("keep-alive").length, 9);
    cutOffs.report("keep-alive", "x", { address: "192.0.2.2", clientId: "quiet", admitted: true });
    assert.equal(named("keep-alive").at(-1), "quiet");
  });

  it("cannot fill the log under many names, nor the memory", async () => {
    const { cutOffs, log } = await makeCutOffs();
    for (let n = 0; n < 10_000; n++)
      cutOffs.report("protocol", "x", { address: `192.0.2.${n % 250}`, clientId: `node-${n}`, admitted: true });
    assert.equal(log.lines.length, 30);
  });

  it("before it was let in is told apart by what it says it is, and cannot hide that one elsewhere", async () => {
    const { cutOffs, log } = await makeCutOffs();
    const login = (address: string, clientId: string) =>
      cutOffs.report("login", "wrong password", { address, clientId }, { kind: "credentials" });
    for (let n = 0; n < 100; n++) login("192.0.2.1", "mast-3");
    login("192.0.2.1", "mast-4");
    login("192.0.2.2", "mast-3");
    const told = log.lines.map(({ msg, client, address }) => [msg, client, address]);
    assert.deepEqual(told.slice(-3), [
      ["login refused", "mast-3", "192.0.2.1"],
      ["login refused", "mast-4", "192.0.2.1"],
      ["login refused", "mast-3", "192.0.2.2"],
    ]);
    for (let n = 0; n < 1000; n++) login("192.0.2.1", `guess-${n}`);
    assert.equal(log.lines.filter(({ address }) => address === "192.0.2.1").length, 9);
  });

  it("is told with a reason that nobody has heard before, however many there were", async () => {
    const { cutOffs, log } = await makeCutOffs();
    for (let n = 0; n < 1000; n++) {
      const address = `192.0.2.${n % 250}`;
      const reason = `the client id has a session of the user u-${n}`;
      cutOffs.report("login", reason, { address, clientId: `node-${n}` }, { kind: "client-id" });
    }
    assert.equal(log.lines.length, 30);
    const kinds = ["credentials", "rights", "certificate-expired", "hung-up"];
    for (const kind of kinds) cutOffs.report("tls", kind, { address: "192.0.2.1" }, { kind });
    assert.deepEqual(
      log.lines.slice(30).map(({ kind }) => kind),
      kinds,
    );
  });
});
