/**
 * Thousands of connections that send anything at all: the daemon does not end, does not grow, and a fresh client is served.
 * FUZZ_CONNECTIONS sets how many (`npm run prove -- fuzz 100000`).
 */
import assert from "node:assert/strict";
import { describe, it, type TestContext } from "node:test";
import fc from "fast-check";
import { Daemon, FIELD_NODE_OPTIONS } from "../support/daemon.ts";
import { type FuzzedConnection, fuzzedConnection, makeConnection } from "../support/mqtt-fuzz.ts";
import { mutant } from "../support/mutant.ts";
import { messageOf, PUBACK, PUBLISH, publishPacket, RawMqtt } from "../support/raw-mqtt.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

const CONNECTIONS = Number(process.env.FUZZ_CONNECTIONS ?? 2000);
/** Connections at once. */
const WAVE = 50;
/** What the heap may be larger by when it happens to be measured. */
const GROWTH_MIB = 16;

async function start(t: TestContext, dist?: string): Promise<Daemon> {
  const ports = await Daemon.freePorts();
  const mqtt = {
    listeners: [{ bind: "127.0.0.1", port: ports.mqtt }],
    retained: ["#"],
    offlineQueue: 10,
    limits: { maxPacketBytes: "64KiB" },
  };
  const folder = temporaryFolder(t);
  const nodeOptions = FIELD_NODE_OPTIONS;
  const daemon = await Daemon.start({ folder, ports, changes: { mqtt }, nodeOptions, ...(dist ? { dist } : {}) });
  t.after(() => daemon.stop("SIGKILL"));
  return daemon;
}

/** Whether a client that behaves is let in, gets its acknowledgement, and receives what it has subscribed to. */
async function serve(daemon: Daemon): Promise<void> {
  const client = new RawMqtt(daemon.ports.mqtt);
  assert.equal(await client.connect("fresh"), 0);
  assert.deepEqual(await client.subscribe({ "telemetry/fresh": 1 }), [1]);
  client.send(publishPacket("telemetry/fresh", `{"at":${performance.now()}}`, { qos: 1, id: 7 }));
  assert.equal((await client.next(PUBACK)).body.readUInt16BE(0), 7);
  assert.equal(messageOf(await client.next(PUBLISH)).topic, "telemetry/fresh");
  await client.vanish();
}

/** Resolves once the daemon has no connection any more. */
async function emptied(daemon: Daemon): Promise<void> {
  for (;;) {
    const metrics = await (await daemon.get("/metrics")).text();
    if (/^summit_edge_mqtt_connections 0$/m.test(metrics)) return;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

async function fuzz(daemon: Daemon, connections: number): Promise<void> {
  const wave = fc.array(fuzzedConnection, { minLength: WAVE, maxLength: WAVE, size: "max" });
  await fc.assert(
    fc.asyncProperty(wave, async (scripts: readonly FuzzedConnection[]) => {
      await Promise.all(scripts.map((script) => makeConnection(daemon.ports.mqtt, script)));
      await serve(daemon);
    }),
    { numRuns: Math.ceil(connections / WAVE), endOnFailure: true },
  );
}

describe(`${CONNECTIONS} connections that send anything at all`, () => {
  it("neither end the daemon nor make it grow, and a fresh client is served all the while", async (t) => {
    const daemon = await start(t);
    await fuzz(daemon, CONNECTIONS / 3);
    await emptied(daemon);
    const before = daemon.residentMiB;
    await fuzz(daemon, (CONNECTIONS * 2) / 3);
    await emptied(daemon);
    const growth = daemon.residentMiB - before;
    t.diagnostic(`${before.toFixed(0)} MiB, and ${growth.toFixed(1)} MiB more behind the second two thirds`);
    assert.ok(growth < GROWTH_MIB, `${growth} MiB`);
    const { ledger } = await daemon.status();
    const fates = ["pending", "delivered", "expired", "evicted", "thinned", "deadLettered", "damaged"];
    assert.equal(
      ledger.accepted,
      fates.reduce((sum, fate) => sum + (ledger[fate] ?? 0), 0),
    );
    assert.ok((ledger.accepted ?? 0) > CONNECTIONS / WAVE);
    assert.equal(await daemon.stop(), 0);
  });
});

describe("controls", () => {
  it("a gate that does not expect a reset connection ends the daemon", { timeout: 200_000 }, async (t) => {
    const dist = mutant(t, "sources/mqtt/gate.js", 'socket.on("error", (error) => this.destroy(error));', "");
    const daemon = await start(t, dist);
    await assert.rejects(fuzz(daemon, 500));
    assert.notEqual(await daemon.ended(), 0);
  });

  it("a listener that forgets nobody soon serves nobody", { timeout: 200_000 }, async (t) => {
    const forgets = "this.#sockets.delete(socket);";
    const daemon = await start(t, mutant(t, "sources/mqtt/listeners.js", forgets, ""));
    await assert.rejects(fuzz(daemon, 500));
  });
});
