/** Bursts of the smallest messages, while a subscriber has stalled, against the real daemon. */
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { connected, gateway, growth, isServed, MIB, pour, type World } from "../support/limited-gateway.ts";
import { mutant } from "../support/mutant.ts";
import { publishPacket, SUBACK, subscribePacket } from "../support/raw-mqtt.ts";

/** What one read of the socket may bring: messages that a subscriber gets, and thousands that nobody does. */
const BURST = Buffer.concat([
  ...Array.from({ length: 100 }, () => publishPacket("x/y", Buffer.alloc(300))),
  ...Array.from({ length: 5000 }, () => publishPacket("a", "1")),
]);

const UNBOUNDED = ["MAX_PACKETS = 500", "MAX_PACKETS = 1e9"] as const;

/** A daemon with a subscriber that does not read; `burst` resolves once what it sent has been read. */
async function withStalled(t: TestContext, dist?: string): Promise<{ world: World; burst: () => Promise<void> }> {
  const world = await gateway(t, { publishRate: 0 }, dist === undefined ? {} : { dist });
  const stalled = await connected(world.port, "stalled");
  stalled.send(subscribePacket(1, ["x/#"]));
  await stalled.next(SUBACK);
  stalled.socket.pause();
  const client = await connected(world.port, "burst");
  const burst = async (): Promise<void> => {
    await pour(client, BURST, 10 * BURST.length);
    await client.ping();
  };
  return { world, burst };
}

test("do not end it, neither before nor while the subscriber lags", async (t) => {
  const { world, burst } = await withStalled(t);
  await burst();
  const flooder = await connected(world.port, "flooder");
  while ((await world.metric('dropped_total{what="slow-reader"}')) === 0) {
    await pour(flooder, publishPacket("x/y", Buffer.alloc(60_000)), MIB);
  }
  await burst();
  await isServed(world.port);
});

test("control: where the engine has them wait for one another, however many it has read, they end it", async (t) => {
  const dist = mutant(t, "sources/mqtt/gate.js", ...UNBOUNDED);
  const broker = join(dist, "sources", "mqtt", "broker.js");
  const text = readFileSync(broker, "utf8");
  // What the engine takes where nothing is said.
  assert.ok(text.includes("concurrency: 0"));
  writeFileSync(broker, text.replace("concurrency: 0", "concurrency: 100"));
  const { world, burst } = await withStalled(t, dist);
  await assert.rejects(burst(), /closed/);
  assert.equal(await world.daemon.ended(), 1);
});

/** By how many MiB memory rises while two clients pour out the smallest messages to a subscriber that reads none. */
async function riseOf(t: TestContext, dist?: string): Promise<number> {
  const { world } = await withStalled(t, dist);
  const clients = await Promise.all([1, 2].map((n) => connected(world.port, `node-${n}`)));
  const messages = Buffer.concat(Array.from({ length: 10_000 }, () => publishPacket("x", "1")));
  return growth(world, async () => {
    await Promise.all(clients.map((client) => pour(client, messages, 6 * messages.length)));
    await Promise.all(clients.map((client) => client.ping()));
  });
}

test("hold little memory on their way through the engine; all that one read brings (control), several times as much", async (t) => {
  const rise = await riseOf(t);
  t.diagnostic(`resident memory rose by ${rise.toFixed(1)} MiB`);
  const without = await riseOf(t, mutant(t, "sources/mqtt/gate.js", ...UNBOUNDED));
  assert.ok(without > 2 * rise && without > 40, `${without} MiB, not far above ${rise}`);
});
