/** Bursts of the smallest messages, while a subscriber has stalled, against the real daemon. */
import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { connected, gateway, isServed, MIB, pour, type World } from "../support/limited-gateway.ts";
import { mutant } from "../support/mutant.ts";
import { publishPacket, SUBACK, subscribePacket } from "../support/raw-mqtt.ts";

/** What one read of the socket may bring: messages that a subscriber gets, and thousands that nobody does. */
const BURST = Buffer.concat([
  ...Array.from({ length: 100 }, () => publishPacket("x/y", Buffer.alloc(300))),
  ...Array.from({ length: 5000 }, () => publishPacket("a", "1")),
]);

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

test("control: where the engine has them wait for one another, they end it", async (t) => {
  // What the engine takes where nothing is said.
  const dist = mutant(t, "sources/broker.js", "concurrency: 0", "concurrency: 100");
  const { world, burst } = await withStalled(t, dist);
  await assert.rejects(burst(), /closed/);
  assert.equal(await world.daemon.ended(), 1);
});
