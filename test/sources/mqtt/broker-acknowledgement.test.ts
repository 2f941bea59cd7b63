import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { startBroker } from "../../support/broker-under-test.ts";
import {
  messageOf,
  PUBACK,
  PUBCOMP,
  PUBLISH,
  PUBREC,
  publishPacket,
  pubrelPacket,
  RawMqtt,
  SUBACK,
  subscribePacket,
} from "../../support/raw-mqtt.ts";

const reading = '{"temperature":21.5}';

describe("an acknowledgement", () => {
  for (const [qos, answer] of [
    [1, PUBACK],
    [2, PUBREC],
  ] as const) {
    it(`of QoS ${qos} comes only after the commit`, async (t) => {
      const { outbox, ports } = await startBroker(t);
      const client = new RawMqtt(ports[0] ?? 0);
      assert.equal(await client.connect("node-7"), 0);
      // The control: where nothing holds the commit up, the answer comes.
      client.send(publishPacket("telemetry/a", reading, { qos, id: 1 }));
      assert.deepEqual((await client.next(answer)).body, Buffer.from([0, 1]));
      outbox.hold();
      client.send(publishPacket("telemetry/a", reading, { qos, id: 2 }));
      await outbox.heldUp(1);
      const other = new RawMqtt(ports[0] ?? 0);
      await other.connect("node-8");
      await other.ping();
      assert.deepEqual(client.packets, []);
      outbox.release();
      assert.deepEqual((await client.next(answer)).body, Buffer.from([0, 2]));
      assert.equal(outbox.readings.length, 2);
    });
  }

  it("does not wait where the topic carries no readings", async (t) => {
    const { outbox, ports } = await startBroker(t);
    outbox.hold();
    const client = new RawMqtt(ports[0] ?? 0);
    await client.connect("node-7");
    client.send(publishPacket("some/where", "not json", { qos: 1 }));
    await client.next(PUBACK);
    assert.equal(outbox.readings.length, 0);
  });

  it("is given to what cannot be read, which is counted as invalid and kept in part", async (t) => {
    const { intake, outbox, ports } = await startBroker(t);
    const client = new RawMqtt(ports[0] ?? 0);
    await client.connect("node-7");
    const bad = ["{", Buffer.from([0x22, 0xff, 0x22]), "17", '{"confidence":2}', "null", ""];
    for (const [index, payload] of bad.entries()) {
      client.send(publishPacket("telemetry/a", payload, { qos: index % 2 === 0 ? 1 : 2, id: index + 1 }));
      await client.next(index % 2 === 0 ? PUBACK : PUBREC);
    }
    assert.equal(outbox.readings.length, 0);
    assert.equal(intake.refused().invalid, bad.length);
    assert.deepEqual(
      intake
        .quarantine()
        .list()
        .map(({ via }) => via),
      bad.map(() => "telemetry/a"),
    );
    assert.equal(intake.quarantine().list()[0]?.head, "{");
  });

  it("is given to two readings for two whose numbers differ in the last of twenty digits", async (t) => {
    const { outbox, ports } = await startBroker(t);
    const client = new RawMqtt(ports[0] ?? 0);
    await client.connect("node-7");
    for (const id of ["12345678901234567890", "12345678901234567891"]) {
      client.send(publishPacket("telemetry/a", `{"ts":1780000000,"id":${id}}`, { qos: 1 }));
      await client.next(PUBACK);
    }
    assert.deepEqual(
      outbox.readings.map(({ attributes }) => attributes.id),
      ["12345678901234567890", "12345678901234567891"],
    );
  });

  it("of an array comes once, for the readings that are good", async (t) => {
    const { intake, outbox, ports } = await startBroker(t);
    const client = new RawMqtt(ports[0] ?? 0);
    await client.connect("node-7");
    client.send(publishPacket("observations/smoke", '[{"a":1},{"lat":91},5,{"a":2}]', { qos: 1 }));
    await client.next(PUBACK);
    await client.ping();
    assert.deepEqual(
      outbox.readings.map(({ attributes }) => attributes),
      [{ a: 1 }, { a: 2 }],
    );
    assert.equal(intake.refused().invalid, 2);
    assert.deepEqual(client.packets, []);
  });
});

describe("PUBLISHes of QoS 2 that may be answered in another order than they came in", () => {
  const three = [
    publishPacket("telemetry/a", reading, { qos: 2, id: 1 }),
    publishPacket("telemetry/a", "not json", { qos: 2, id: 2 }),
    publishPacket("some/where", reading, { qos: 2, id: 3 }),
  ];

  it("have their PUBRECs in that order", async (t) => {
    const { outbox, ports } = await startBroker(t);
    const [client, other] = [new RawMqtt(ports[0] ?? 0), new RawMqtt(ports[0] ?? 0)];
    await client.connect("node-7");
    await other.connect("node-8");
    outbox.hold();
    client.send(...three);
    await outbox.heldUp(1);
    await other.ping();
    outbox.release();
    for (const id of [1, 2, 3]) assert.equal((await client.next(PUBREC)).body.readUInt16BE(0), id);
  });

  it("come to subscribers in that order", async (t) => {
    const { outbox, ports } = await startBroker(t);
    const [client, subscriber] = [new RawMqtt(ports[0] ?? 0), new RawMqtt(ports[0] ?? 0)];
    await client.connect("node-7");
    await subscriber.connect("onlooker");
    subscriber.send(subscribePacket(1, ["#"]));
    await subscriber.next(SUBACK);
    outbox.hold();
    client.send(...three);
    await outbox.heldUp(1);
    await subscriber.ping();
    outbox.release();
    for (const topic of ["telemetry/a", "telemetry/a", "some/where"])
      assert.equal(messageOf(await subscriber.next(PUBLISH)).topic, topic);
  });

  it("are known as taken where the connection ended before the first of them was", async (t) => {
    const { outbox, ports } = await startBroker(t);
    const [before, after] = [new RawMqtt(ports[0] ?? 0), new RawMqtt(ports[0] ?? 0)];
    await before.connect("node-7", { clean: false });
    outbox.refusing = true;
    outbox.hold();
    const critical = { qos: 2, id: 2 } as const;
    before.send(publishPacket("telemetry/a", reading, { qos: 2, id: 1 }), publishPacket("alerts/a", reading, critical));
    await outbox.heldUp(1);
    await before.vanish();
    await after.connect("node-7", { clean: false });
    after.send(publishPacket("alerts/a", reading, { ...critical, dup: true }));
    const other = new RawMqtt(ports[0] ?? 0);
    await other.connect("node-8");
    await other.ping();
    outbox.release();
    assert.equal((await after.next(PUBREC)).body.readUInt16BE(0), 2);
    assert.equal(outbox.readings.length, 1);
  });
});

describe("a QoS 2 PUBLISH that comes again before its PUBREL", () => {
  it("joins the wait of the first copy", async (t) => {
    const { outbox, ports } = await startBroker(t);
    const client = new RawMqtt(ports[0] ?? 0);
    await client.connect("node-7");
    outbox.hold();
    client.send(
      publishPacket("telemetry/a", reading, { qos: 2 }),
      publishPacket("telemetry/a", reading, { qos: 2, dup: true }),
    );
    await outbox.heldUp(1);
    outbox.release();
    await client.next(PUBREC);
    await client.next(PUBREC);
    client.send(pubrelPacket(1));
    await client.next(PUBCOMP);
    assert.equal(outbox.readings.length, 1);
  });

  it("is not taken again after the commit", async (t) => {
    const { outbox, ports } = await startBroker(t);
    const client = new RawMqtt(ports[0] ?? 0);
    await client.connect("node-7");
    client.send(publishPacket("telemetry/a", reading, { qos: 2 }));
    await client.next(PUBREC);
    client.send(publishPacket("telemetry/a", reading, { qos: 2, dup: true }));
    await client.next(PUBREC);
    assert.equal(outbox.readings.length, 1);
    // The control: once released, the identifier stands for a new reading, even of the same content.
    client.send(pubrelPacket(1));
    await client.next(PUBCOMP);
    client.send(publishPacket("telemetry/a", reading, { qos: 2 }));
    await client.next(PUBREC);
    assert.equal(outbox.readings.length, 2);
  });

  for (const committed of [false, true]) {
    it(`is not taken again after a reconnect, ${committed ? "after" : "before"} the commit`, async (t) => {
      const { outbox, ports } = await startBroker(t);
      const before = new RawMqtt(ports[0] ?? 0);
      await before.connect("node-7", { clean: false });
      if (!committed) outbox.hold();
      before.send(publishPacket("telemetry/a", reading, { qos: 2 }));
      if (committed) await before.next(PUBREC);
      else await outbox.heldUp(1);
      await before.vanish();
      const after = new RawMqtt(ports[0] ?? 0);
      await after.connect("node-7", { clean: false });
      after.send(publishPacket("telemetry/a", reading, { qos: 2, dup: true }));
      if (!committed) {
        // Only a turn of the whole broker shows that the copy is waiting rather than on its way.
        const other = new RawMqtt(ports[0] ?? 0);
        await other.connect("node-8");
        await other.ping();
        outbox.release();
      }
      await after.next(PUBREC);
      after.send(pubrelPacket(1));
      await after.next(PUBCOMP);
      assert.equal(outbox.readings.length, 1);
    });
  }

  it("is a new reading in a clean session, also while the old one's waits for its commit", async (t) => {
    const { outbox, ports } = await startBroker(t);
    const before = new RawMqtt(ports[0] ?? 0);
    await before.connect("node-7");
    outbox.hold();
    before.send(publishPacket("telemetry/a", reading, { qos: 2 }));
    await outbox.heldUp(1);
    await before.vanish();
    const after = new RawMqtt(ports[0] ?? 0);
    await after.connect("node-7");
    after.send(publishPacket("telemetry/a", reading, { qos: 2 }));
    await outbox.heldUp(2);
    outbox.release();
    await after.next(PUBREC);
    assert.equal(outbox.readings.length, 2);
  });

  it("is a new reading where the device has begun to count again: other content under the same identifier", async (t) => {
    const { outbox, ports } = await startBroker(t);
    const before = new RawMqtt(ports[0] ?? 0);
    await before.connect("node-7", { clean: false });
    before.send(publishPacket("telemetry/a", reading, { qos: 2 }));
    await before.next(PUBREC);
    await before.vanish();
    const after = new RawMqtt(ports[0] ?? 0);
    await after.connect("node-7", { clean: false });
    after.send(publishPacket("telemetry/a", '{"temperature":22}', { qos: 2 }));
    await after.next(PUBREC);
    assert.equal(outbox.readings.length, 2);
  });
});

describe("while the intake is saturated", () => {
  it("a QoS 1 PUBLISH is not handed over before it is relieved", async (t) => {
    const { outbox, ports } = await startBroker(t);
    const client = new RawMqtt(ports[0] ?? 0);
    await client.connect("node-7");
    outbox.saturated = true;
    client.send(
      publishPacket("telemetry/a", reading, { qos: 1, id: 1 }),
      publishPacket("telemetry/a", reading, { qos: 1, id: 2 }),
    );
    await outbox.awaited();
    assert.equal(outbox.readings.length, 0);
    outbox.saturated = false;
    assert.deepEqual((await client.next(PUBACK)).body, Buffer.from([0, 1]));
    assert.deepEqual((await client.next(PUBACK)).body, Buffer.from([0, 2]));
    assert.equal(outbox.readings.length, 2);
  });

  it("what a client had not handed over goes with its connection", async (t) => {
    const { broker, outbox, ports } = await startBroker(t);
    const client = new RawMqtt(ports[0] ?? 0);
    await client.connect("node-7");
    outbox.saturated = true;
    client.send(publishPacket("telemetry/a", reading, { qos: 1 }));
    await outbox.awaited();
    await client.vanish();
    const other = new RawMqtt(ports[0] ?? 0);
    await other.connect("node-8");
    while (broker.status().connections > 1) await other.ping();
    outbox.saturated = false;
    await other.ping();
    assert.equal(outbox.readings.length, 0);
  });

  it("a client's QoS 0 messages wait with it, and it is read no further", async (t) => {
    const { outbox, ports } = await startBroker(t);
    const client = new RawMqtt(ports[0] ?? 0);
    await client.connect("node-7");
    outbox.saturated = true;
    client.send(publishPacket("telemetry/a", reading));
    client.send(publishPacket("telemetry/a", reading));
    const other = new RawMqtt(ports[0] ?? 0);
    await other.connect("node-8");
    await other.ping();
    assert.equal(outbox.readings.length, 0);
    outbox.saturated = false;
    await outbox.taken(2);
  });
});

describe("a payload that cannot even be shown", () => {
  it("is refused like any other, and the broker goes on", async (t) => {
    const { intake, outbox, ports } = await startBroker(t);
    const client = new RawMqtt(ports[0] ?? 0);
    await client.connect("node-7");
    client.send(publishPacket("telemetry/a", "[".repeat(6000) + "]".repeat(6000), { qos: 1, id: 5 }));
    client.send(publishPacket("telemetry/a", reading, { qos: 1, id: 6 }));
    await outbox.taken(1);
    assert.equal(intake.refused().invalid, 1);
  });
});

describe("stopping", () => {
  it("lets acknowledgements go out that wait for their commit, and takes nothing new", async (t) => {
    const { broker, outbox, ports } = await startBroker(t);
    const client = new RawMqtt(ports[0] ?? 0);
    await client.connect("node-7");
    outbox.hold();
    client.send(publishPacket("telemetry/a", reading, { qos: 1, id: 5 }));
    await outbox.heldUp(1);
    const stopped = broker.stop();
    client.send(publishPacket("telemetry/a", reading, { qos: 1, id: 6 }));
    assert.deepEqual(broker.status().listening, []);
    outbox.release();
    await stopped;
    assert.deepEqual((await client.next(PUBACK)).body, Buffer.from([0, 5]));
    await client.whenClosed();
    assert.equal(outbox.readings.length, 1);
    assert.equal(broker.status().connections, 0);
  });

  it("does not wait for a commit beyond its grace", async (t) => {
    const { broker, outbox, ports } = await startBroker(t);
    const client = new RawMqtt(ports[0] ?? 0);
    await client.connect("node-7");
    outbox.hold();
    client.send(publishPacket("telemetry/a", reading, { qos: 1 }));
    await outbox.heldUp(1);
    await broker.stop(1);
    await client.whenClosed();
    assert.deepEqual(client.packets, []);
  });
});
