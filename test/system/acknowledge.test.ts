/** Acknowledged means durable (contract, section 1.1): on a disk whose every fsync takes its time, nothing is said before. */
import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import type { MqttClient, Packet } from "mqtt";
import { missing } from "../support/commands.ts";
import { Daemon, type DaemonOptions } from "../support/daemon.ts";
import { device } from "../support/device.ts";
import { delaySyncs, noDiskFaults } from "../support/disk-fault.ts";
import { mutant } from "../support/mutant.ts";
import { PtyPair } from "../support/pty-pair.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

const SYNC_MS = 400;
const skip = noDiskFaults();

async function slowGateway(t: TestContext, options: Partial<DaemonOptions> = {}): Promise<Daemon> {
  const daemon = await Daemon.start({ folder: temporaryFolder(t), ...options });
  t.after(() => daemon.stop("SIGKILL"));
  await delaySyncs(t, daemon.child.pid, SYNC_MS);
  return daemon;
}

/** Milliseconds from a PUBLISH to the packet that acknowledges it. */
async function acknowledgedAfter(client: MqttClient, qos: 1 | 2, payload: unknown): Promise<number> {
  const wanted = qos === 1 ? "puback" : "pubrec";
  const from = performance.now();
  const acknowledged = new Promise<number>((resolve) => {
    const look = ({ cmd }: Packet): void => {
      if (cmd !== wanted) return;
      client.off("packetreceive", look);
      resolve(performance.now() - from);
    };
    client.on("packetreceive", look);
  });
  const published = client.publishAsync("observations/smoke", JSON.stringify(payload), { qos });
  const ms = await acknowledged;
  await published;
  return ms;
}

for (const [qos, packet] of [
  [1, "PUBACK"],
  [2, "PUBREC"],
] as const) {
  test(`${packet} comes after the fsync of the commit`, { skip }, async (t) => {
    const daemon = await slowGateway(t);
    const client = await device(t, daemon.ports.mqtt);
    for (let n = 0; n < 3; n++) {
      const ms = await acknowledgedAfter(client, qos, { n });
      assert.ok(ms >= SYNC_MS, `${packet} after ${ms} ms, with ${SYNC_MS} ms for an fsync`);
      assert.equal((await daemon.status()).ledger.accepted, n + 1, "what is acknowledged is in the books");
    }
  });
}

test("PUBACK of a copy comes after the fsync of the original", { skip }, async (t) => {
  const daemon = await slowGateway(t);
  const [first, second] = [await device(t, daemon.ports.mqtt), await device(t, daemon.ports.mqtt)];
  const reading = { ts: 1_780_000_000, source: "mast-1", smoke_ppm: 3 };
  const waits = await Promise.all([acknowledgedAfter(first, 1, reading), acknowledgedAfter(second, 1, reading)]);
  for (const ms of waits) assert.ok(ms >= SYNC_MS, `PUBACK after ${ms} ms, with ${SYNC_MS} ms for an fsync`);
  await daemon.until(({ accepted, duplicates }) => accepted === 1 && duplicates === 1);
});

test("control: a gateway that acknowledges before its commit is earlier than the fsync", { skip }, async (t) => {
  const dist = mutant(t, "outbox/under-way.js", "this.#only.waiters.push(committed);", "setImmediate(committed);");
  const daemon = await slowGateway(t, { dist });
  const client = await device(t, daemon.ports.mqtt);
  const waits: number[] = [];
  for (let n = 0; n < 10; n++) waits.push(await acknowledgedAfter(client, 1, { n }));
  assert.ok(Math.min(...waits) < SYNC_MS, `PUBACK after ${waits} ms, with ${SYNC_MS} ms for an fsync`);
});

/** Milliseconds from `say` until ledger, source and metrics count one more reading; none of them may count it earlier. */
async function countedAfter(daemon: Daemon, source: string, say: () => Promise<unknown>): Promise<number> {
  const counted = async (): Promise<number[]> => {
    const { ledger, sources } = await daemon.status();
    const metrics = await (await daemon.get("/metrics")).text();
    const metric = new RegExp(`^summit_edge_readings_accepted_total\\{source="${source}"\\} (\\d+)$`, "m").exec(
      metrics,
    );
    return [ledger.accepted ?? 0, sources.find(({ name }) => name === source)?.accepted ?? 0, Number(metric?.[1] ?? 0)];
  };
  assert.deepEqual(await counted(), [0, 0, 0]);
  const from = performance.now();
  await say();
  for (;;) {
    const counts = await counted();
    if (counts.some((count) => count > 0)) return performance.now() - from;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

test("a QoS 0 reading counts as accepted only once its commit is on the disk", { skip }, async (t) => {
  const daemon = await slowGateway(t);
  const client = await device(t, daemon.ports.mqtt);
  const ms = await countedAfter(daemon, "mqtt", () => client.publishAsync("observations/smoke", '{"smoke_ppm":3}'));
  assert.ok(ms >= SYNC_MS, `counted after ${ms} ms, with ${SYNC_MS} ms for an fsync`);
  await daemon.until(({ accepted }) => accepted === 1);
});

test("a serial reading counts as accepted only once its commit is on the disk", {
  skip: skip || missing("socat"),
}, async (t) => {
  const folder = temporaryFolder(t);
  const port = await PtyPair.plugIn(folder);
  t.after(() => port.unplug());
  const daemon = await slowGateway(t, {
    folder,
    changes: { serial: [{ name: "mast", path: port.device, codec: "json" }] },
  });
  const ms = await countedAfter(daemon, "mast", () => port.say('{"smoke_ppm":3}\n'));
  assert.ok(ms >= SYNC_MS, `counted after ${ms} ms, with ${SYNC_MS} ms for an fsync`);
  await daemon.until(({ accepted }) => accepted === 1);
});
