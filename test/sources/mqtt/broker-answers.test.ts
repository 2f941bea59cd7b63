/** What a client is answered and sent: PUBACKs in their order (MQTT-4.6.0-2), also behind its own end; messages without another's DUP. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { startBroker } from "../../support/broker-under-test.ts";
import { messageOf, PUBACK, PUBLISH, publishPacket, RawMqtt, subscribePacket } from "../../support/raw-mqtt.ts";
import { TestClock } from "../../support/test-clock.ts";

const reading = '{"temperature":21.5}';
/** What the engine acknowledges, each for a reason of its own; on `telemetry/…` only after a commit. */
const BY_ENGINE: Readonly<Record<string, (id: number) => Buffer>> = {
  retained: (id) => publishPacket("config/a", "on", { qos: 1, id, retain: true }),
  "retained, a reading": (id) => publishPacket(`telemetry/${id}`, reading, { qos: 1, id, retain: true }),
  "on a topic too deep": (id) => publishPacket("a/".repeat(40), "x", { qos: 1, id }),
  "behind a SUBSCRIBE": (id) =>
    Buffer.concat([subscribePacket(99, ["news"]), publishPacket("news", "x", { qos: 1, id })]),
};

function identifiers(client: RawMqtt): number[] {
  return client.packets.filter(({ type }) => type === PUBACK).map(({ body }) => body.readUInt16BE(0));
}

describe("the PUBACK of a message", () => {
  for (const [what, byEngine] of Object.entries(BY_ENGINE)) {
    it(`${what} comes behind those before it, and before those behind it`, async (t) => {
      const { outbox, ports } = await startBroker(t, { retained: ["config/#", "telemetry/#"] });
      const client = new RawMqtt(ports[0] ?? 0);
      await client.connect("node-7");
      outbox.hold();
      client.send(publishPacket("telemetry/a", reading, { qos: 1, id: 1 }));
      client.send(byEngine(2), publishPacket("news", "x", { qos: 1, id: 3 }));
      client.send(byEngine(4), publishPacket("telemetry/a", '{"n":5}', { qos: 1, id: 5 }));
      await outbox.heldUp(what.includes("reading") ? 4 : 2);
      // What another client is answered after that shows that this one's would have come, too.
      const other = new RawMqtt(ports[0] ?? 0);
      await other.connect("node-8");
      await other.ping();
      assert.deepEqual(identifiers(client), []);
      outbox.release();
      while (identifiers(client).length < 5) await other.ping();
      assert.deepEqual(identifiers(client), [1, 2, 3, 4, 5]);
    });
  }

  it("retained, does not wait for what comes behind it", async (t) => {
    const { outbox, ports } = await startBroker(t, { retained: ["config/#"] });
    const client = new RawMqtt(ports[0] ?? 0);
    await client.connect("node-7");
    outbox.hold();
    client.send(BY_ENGINE.retained?.(1) ?? assert.fail(), publishPacket("telemetry/a", reading, { qos: 1, id: 2 }));
    assert.equal((await client.next(PUBACK)).body.readUInt16BE(0), 1);
    await client.ping();
    assert.deepEqual(identifiers(client), []);
  });
});

describe("a client that closes its half of the connection", () => {
  it("gets the PUBACKs of all that it sent before, and then the end", async (t) => {
    const { broker, outbox, ports } = await startBroker(t, { retained: ["telemetry/#"] });
    const client = new RawMqtt(ports[0] ?? 0);
    await client.connect("node-7");
    outbox.hold();
    const messages = [1, 2, 3].map((id) =>
      publishPacket("telemetry/a", `{"n":${id}}`, { qos: 1, id, retain: id === 2 }),
    );
    client.socket.end(Buffer.concat(messages));
    await outbox.heldUp(3);
    assert.equal(client.closed, false);
    outbox.release();
    await client.whenClosed();
    assert.deepEqual(identifiers(client), [1, 2, 3]);
    while (broker.status().connections > 0) await new Promise((resolve) => setImmediate(resolve));
  });

  it("is closed after a while where they do not come", async (t) => {
    const clock = new TestClock();
    const { outbox, ports } = await startBroker(t, {}, clock);
    const client = new RawMqtt(ports[0] ?? 0);
    await client.connect("node-7", { keepAlive: 1 });
    outbox.hold();
    client.socket.end(publishPacket("telemetry/a", reading, { qos: 1 }));
    await outbox.heldUp(1);
    await clock.advance(9_000);
    assert.equal(client.closed, false);
    await clock.advance(1_100);
    await client.whenClosed();
    assert.deepEqual(client.packets, []);
  });
});

describe("a message that its publisher sends once more", () => {
  const again: Readonly<Record<string, { qos: 1 | 2; retain?: boolean }>> = {
    "with QoS 1": { qos: 1 },
    retained: { qos: 1, retain: true },
    "with QoS 2": { qos: 2 },
  };
  for (const [how, options] of Object.entries(again)) {
    it(`${how} comes to its subscribers without DUP (MQTT-3.3.1-3)`, async (t) => {
      const { ports } = await startBroker(t, { retained: ["news"] });
      const subscriber = new RawMqtt(ports[0] ?? 0);
      await subscriber.connect("sub");
      assert.deepEqual(await subscriber.subscribe({ news: 1 }), [1]);
      const publisher = new RawMqtt(ports[0] ?? 0);
      await publisher.connect("pub");
      publisher.send(publishPacket("news", "x", { ...options, id: 7, dup: true }));
      const { payload, qos, dup } = messageOf(await subscriber.next(PUBLISH));
      assert.deepEqual([payload, qos, dup], ["x", 1, false]);
    });
  }
});
