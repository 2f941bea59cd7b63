/**
 * What Eclipse Paho's interoperability suite for MQTT 3.1.1 looks at, and what else depends on more than one packet. Where stock
 * aedes behaves otherwise, the same is done to it: the control.
 */
import assert from "node:assert/strict";
import { describe, it, type TestContext } from "node:test";
import { type BrokerUnderTest, startBroker } from "../../support/broker-under-test.ts";
import {
  acknowledgement,
  CONNACK,
  connectPacket,
  messageOf,
  PUBACK,
  PUBCOMP,
  PUBLISH,
  PUBREC,
  PUBREL,
  publishPacket,
  pubrelPacket,
  RawMqtt,
  UNSUBACK,
  unsubscribePacket,
  type Will,
} from "../../support/raw-mqtt.ts";
import { startStockAedes } from "../../support/stock-aedes.ts";

/** Runs what a test does against our broker, and against aedes as it comes. */
async function onBoth<T>(
  t: TestContext,
  work: (port: number) => Promise<T>,
  overrides: Parameters<typeof startBroker>[1] = {},
): Promise<{ ours: T; stock: T }> {
  const { ports } = await startBroker(t, overrides);
  return { ours: await work(ports[0] ?? 0), stock: await work(await startStockAedes(t)) };
}

/** Connects; resolves with the client, and whether CONNACK said that its session was there. */
async function session(port: number, id: string, clean = false): Promise<{ client: RawMqtt; present: boolean }> {
  const client = new RawMqtt(port);
  client.send(connectPacket(id, { clean }));
  const { body } = await client.next(CONNACK);
  assert.equal(body[1], 0);
  return { client, present: body[0] === 1 };
}

async function leave(client: RawMqtt): Promise<void> {
  client.send(Buffer.from([0xe0, 0]));
  await client.whenClosed();
}

/** Publishes at QoS 2, which is delivered with any QoS, and resolves once the broker has taken it. */
async function publish(port: number, topic: string, payload: string, retain = false): Promise<void> {
  const client = new RawMqtt(port);
  await client.connect("publisher");
  client.send(publishPacket(topic, payload, { qos: 2, retain }));
  await client.next(PUBREC);
  client.send(pubrelPacket(1));
  await client.next(PUBCOMP);
  await leave(client);
}

/** What a subscriber received on its way up to a last message, which it has subscribed to. */
async function receivedUntil(client: RawMqtt, last: string): Promise<ReturnType<typeof messageOf>[]> {
  const received = [];
  for (;;) {
    const message = messageOf(await client.next(PUBLISH));
    if (message.topic === last) return received;
    received.push(message);
  }
}

describe("a client id of no length", () => {
  it("gets a session of its own, for as long as the connection", async (t) => {
    const { broker, ports } = await startBroker(t);
    const clients = [new RawMqtt(ports[0] ?? 0), new RawMqtt(ports[0] ?? 0)];
    for (const client of clients) assert.equal(await client.connect(""), 0);
    for (const client of clients) await client.ping();
    assert.equal(broker.status().sessions, 2);
    for (const client of clients) await leave(client);
    while (broker.status().sessions > 0) await new Promise((resolve) => setImmediate(resolve));
  });
});

describe("CONNACK says that a session was there", () => {
  const presence = async (port: number, between: (client: RawMqtt) => Promise<void>, clean = false) => {
    const first = await session(port, "node-7");
    assert.equal(first.present, false);
    await between(first.client);
    await leave(first.client);
    const second = await session(port, "node-7", clean);
    await leave(second.client);
    return second.present;
  };

  it("where it held nothing [MQTT-3.2.2-2]; stock aedes does not", async (t) => {
    assert.deepEqual(await onBoth(t, (port) => presence(port, (client) => client.ping())), {
      ours: true,
      stock: false,
    });
  });

  it("where it held only a QoS 2 message on its way in; stock aedes does not", async (t) => {
    const unreleased = async (client: RawMqtt) => {
      client.send(publishPacket("news/a", "{}", { qos: 2, id: 9 }));
      await client.next(PUBREC);
    };
    assert.deepEqual(await onBoth(t, (port) => presence(port, unreleased)), { ours: true, stock: false });
  });

  it("where it held a subscription, and where its client is pushed out by itself", async (t) => {
    const subscribed = async (client: RawMqtt) => void (await client.subscribe({ "a/b": 1 }));
    assert.deepEqual(await onBoth(t, (port) => presence(port, subscribed)), { ours: true, stock: true });
    const { ports } = await startBroker(t);
    const first = await session(ports[0] ?? 0, "node-7");
    assert.equal((await session(ports[0] ?? 0, "node-7")).present, true);
    await first.client.whenClosed();
  });

  it("never to a clean session, nor behind one [MQTT-3.2.2-1, -3]", async (t) => {
    const { ports } = await startBroker(t);
    const port = ports[0] ?? 0;
    assert.equal(await presence(port, (client) => client.ping(), true), false);
    assert.equal((await session(port, "node-7")).present, false);
  });

  it("but never together with a refusal [MQTT-3.2.2-4]", async (t) => {
    const { ports } = await startBroker(t);
    const first = await session(ports[0] ?? 0, "node-7");
    await leave(first.client);
    const refused = new RawMqtt(ports[0] ?? 0);
    refused.send(connectPacket("node-7", { clean: false, will: { topic: "$SYS/x", payload: "" } }));
    assert.deepEqual([...(await refused.next(CONNACK)).body], [0, 5]);
  });
});

describe("a message", () => {
  const qosOf = async (port: number, filters: Record<string, number>): Promise<number[]> => {
    const { client } = await session(port, "subscriber", true);
    await client.subscribe({ ...filters, end: 0 });
    await publish(port, "a/b", "x");
    await publish(port, "end", "");
    return (await receivedUntil(client, "end")).map(({ qos }) => qos);
  };

  it("comes with the QoS that was granted, no higher [MQTT-3.8.4-6]; stock aedes looks only for a filter without wildcards", async (t) => {
    for (const [filters, ours, stock] of [
      [{ "a/b": 1 }, [1], [1]],
      [{ "a/+": 1 }, [1], [2]],
      [{ "#": 0 }, [0], [0]],
    ] as const) {
      assert.deepEqual(await onBoth(t, (port) => qosOf(port, filters)), { ours, stock });
    }
  });

  it("comes once, with the highest QoS of filters that overlap [MQTT-3.3.5-1]; with stock aedes the first one decides, or one without wildcards", async (t) => {
    for (const [filters, stock] of [
      [{ "a/+": 2, "a/b": 1 }, [1]],
      [{ "a/b": 0, "a/#": 2 }, [0]],
      [{ "#": 2, "a/#": 1 }, [2]],
    ] as const) {
      assert.deepEqual(await onBoth(t, (port) => qosOf(port, filters)), { ours: [2], stock });
    }
  });

  it("comes with the QoS of the newest SUBSCRIBE, and not at all behind an UNSUBSCRIBE [MQTT-3.8.4-3, MQTT-3.10.4-2]", async (t) => {
    const { ports } = await startBroker(t);
    const port = ports[0] ?? 0;
    const { client } = await session(port, "subscriber", true);
    await client.subscribe({ "a/+": 2, "b/+": 1, end: 0 });
    await client.subscribe({ "a/+": 0 });
    client.send(unsubscribePacket(5, ["b/+", "never/subscribed"]));
    assert.deepEqual((await client.next(UNSUBACK)).body, Buffer.of(0, 5));
    for (const topic of ["a/b", "b/c", "end"]) await publish(port, topic, "");
    assert.deepEqual(
      (await receivedUntil(client, "end")).map(({ topic, qos }) => [topic, qos]),
      [["a/b", 0]],
    );
  });
});

describe("retained messages", () => {
  it("come to a new subscription, marked, with the QoS granted; to one that is there unmarked; an empty one takes them away", async (t) => {
    const { ports } = await startBroker(t, { retained: ["a/#"] });
    const port = ports[0] ?? 0;
    const early = await session(port, "early", true);
    await early.client.subscribe({ "#": 0 });
    for (const topic of ["a/b", "a/c", "a/d"]) await publish(port, topic, "kept", true);
    await publish(port, "a/c", "", true);
    await publish(port, "end", "");
    assert.deepEqual(
      (await receivedUntil(early.client, "end")).map(({ retain }) => retain),
      [false, false, false, false],
    );
    const { client } = await session(port, "late", true);
    await client.subscribe({ "+/+": 1, end: 0 });
    await publish(port, "end", "");
    const received = await receivedUntil(client, "end");
    assert.deepEqual(received.map(({ topic, qos, retain }) => [topic, qos, retain]).sort(), [
      ["a/b", 1, true],
      ["a/d", 1, true],
    ]);
  });
});

describe("keep-alive", () => {
  it("a client that is silent for longer than one and a half times it is cut off, and its will published", async (t) => {
    const { ports } = await startBroker(t);
    const watcher = await session(ports[0] ?? 0, "watcher", true);
    await watcher.client.subscribe({ "wills/#": 1 });
    const client = new RawMqtt(ports[0] ?? 0);
    await client.connect("silent", { keepAlive: 1, will: { topic: "wills/silent", payload: "gone" } });
    await client.whenClosed();
    assert.equal(messageOf(await watcher.client.next(PUBLISH)).payload, "gone");
  });
});

describe("what was sent and not acknowledged before a client vanished", () => {
  const redelivered = async (port: number) => {
    const first = await session(port, "subscriber");
    await first.client.subscribe({ "a/+": 2 });
    for (const payload of ["1", "2", "3"]) await publish(port, `a/${payload}`, payload);
    const sent = [];
    for (let n = 0; n < 3; n++) sent.push(messageOf(await first.client.next(PUBLISH)));
    const [done, received, open] = sent;
    first.client.send(acknowledgement(PUBREC, done?.id ?? 0), acknowledgement(PUBREC, received?.id ?? 0));
    for (let n = 0; n < 2; n++) await first.client.next(PUBREL);
    first.client.send(acknowledgement(PUBCOMP, done?.id ?? 0));
    await first.client.ping();
    await first.client.vanish();
    const { client } = await session(port, "subscriber");
    const released = (await client.next(PUBREL)).body.readUInt16BE(0);
    const again = messageOf(await client.next(PUBLISH));
    await client.vanish();
    return { released: released === received?.id, same: again.id === open?.id, payload: again.payload, dup: again.dup };
  };

  it("is sent again with its packet identifier and DUP, what was received is released again [MQTT-4.4.0-1, MQTT-3.3.1-1]; stock aedes leaves DUP out", async (t) => {
    const { ours, stock } = await onBoth(t, redelivered, { offlineQueue: 10 });
    assert.deepEqual(ours, { released: true, same: true, payload: "3", dup: true });
    assert.equal(stock.dup, false);
  });

  it("comes with the QoS granted where it was published while the client was away, without DUP", async (t) => {
    const offline = async (port: number): Promise<[number, boolean]> => {
      const first = await session(port, "subscriber");
      await first.client.subscribe({ "a/+": 1 });
      await leave(first.client);
      await publish(port, "a/b", "x");
      const { client } = await session(port, "subscriber");
      const { qos, dup } = messageOf(await client.next(PUBLISH));
      await client.vanish();
      return [qos, dup];
    };
    assert.deepEqual(await onBoth(t, offline, { offlineQueue: 10 }), { ours: [1, false], stock: [2, false] });
  });
});

describe("a will", () => {
  const published = async (broker: BrokerUnderTest, end: (client: RawMqtt) => Promise<void>) => {
    const port = broker.ports[0] ?? 0;
    const watcher = await session(port, "watcher", true);
    await watcher.client.subscribe({ "#": 2 });
    const client = new RawMqtt(port);
    const will: Will = { topic: "wills/node-7", payload: "gone", qos: 1 };
    await client.connect("node-7", { will });
    await end(client);
    while (broker.broker.status().sessions > 1) await new Promise((resolve) => setImmediate(resolve));
    await publish(port, "end", "");
    const found = (await receivedUntil(watcher.client, "end")).map(({ topic, qos }) => `${topic} ${qos}`);
    await leave(watcher.client);
    return found;
  };

  it("is published, with its QoS, where the client vanishes or violates the protocol, and not where it takes its leave [MQTT-3.1.2-8, MQTT-3.14.4-3]", async (t) => {
    const broker = await startBroker(t);
    assert.deepEqual(await published(broker, (client) => client.vanish()), ["wills/node-7 1"]);
    const violate = async (client: RawMqtt) => {
      client.send(publishPacket("a/+", ""));
      await client.whenClosed();
    };
    assert.deepEqual(await published(broker, violate), ["wills/node-7 1"]);
    assert.deepEqual(await published(broker, leave), []);
  });
});

describe("topics that begin with $", () => {
  it("are covered by no wildcard in first place, and nobody may publish there [MQTT-4.7.2-1]", async (t) => {
    const { ports } = await startBroker(t);
    const { client } = await session(ports[0] ?? 0, "subscriber", true);
    assert.deepEqual(await client.subscribe({ "#": 2, "+/a": 2, "/+": 2 }), [2, 2, 2]);
    await publish(ports[0] ?? 0, "$own/a", "");
    await publish(ports[0] ?? 0, "/a", "");
    await publish(ports[0] ?? 0, "end", "");
    assert.deepEqual(
      (await receivedUntil(client, "end")).map(({ topic }) => topic),
      ["/a"],
    );
  });
});

describe("a subscription that is denied", () => {
  it("gets 0x80 at its place among others, brings nothing, and is not there after a reconnect [MQTT-3.9.3-1]", async (t) => {
    const { ports } = await startBroker(t, { offlineQueue: 10 });
    const port = ports[0] ?? 0;
    const first = await session(port, "subscriber");
    assert.deepEqual(await first.client.subscribe({ "a/b": 1, "$SYS/#": 1, end: 2 }), [1, 0x80, 2]);
    await leave(first.client);
    const { client } = await session(port, "subscriber");
    await publish(port, "$SYS/x", "");
    await publish(port, "a/b", "");
    await publish(port, "end", "");
    assert.deepEqual(
      (await receivedUntil(client, "end")).map(({ topic }) => topic),
      ["a/b"],
    );
  });
});

describe("an acknowledgement", () => {
  /** Receives a message of that QoS, answers, and says whether the connection is still there. */
  const stays = async (port: number, qos: number, ...answers: ((id: number) => Buffer)[]): Promise<boolean> => {
    const { client } = await session(port, "subscriber", true);
    await client.subscribe({ "a/b": qos });
    await publish(port, "a/b", "x");
    const { id } = messageOf(await client.next(PUBLISH));
    client.send(...answers.map((answer) => answer(id)));
    const alive = await client.ping().then(
      () => true,
      () => false,
    );
    await client.vanish();
    return alive;
  };
  const ack = (type: number) => (id: number) => acknowledgement(type, id);

  it("that does not fit the QoS of its message ends the connection; stock aedes takes it", async (t) => {
    for (const [qos, types] of [
      [1, [PUBREC]],
      [1, [PUBCOMP]],
      [2, [PUBACK]],
      [2, [PUBCOMP]],
      [2, [PUBREC, PUBACK]],
    ] as const) {
      const both = await onBoth(t, (port) => stays(port, qos, ...types.map(ack)));
      assert.deepEqual(both, { ours: false, stock: true }, `QoS ${qos}: ${types}`);
    }
  });

  it("that fits is taken, a second PUBREC and a second PUBACK too", async (t) => {
    for (const [qos, types] of [
      [1, [PUBACK]],
      [1, [PUBACK, PUBACK]],
      [2, [PUBREC, PUBREC, PUBCOMP]],
      [2, [PUBREC, PUBCOMP, PUBCOMP]],
    ] as const) {
      const { ports } = await startBroker(t);
      assert.equal(await stays(ports[0] ?? 0, qos, ...types.map(ack)), true, `QoS ${qos}: ${types}`);
    }
  });
});

describe("a packet with a fault in the midst of others", () => {
  it("takes away nothing from those before it, and what is behind it is not taken", async (t) => {
    const { outbox, ports, log, telemetry } = await startBroker(t);
    const client = new RawMqtt(ports[0] ?? 0);
    await client.connect("node-7");
    const publishes = [1, 2].map((n) => publishPacket("telemetry/a", `{"n":${n}}`, { qos: 1, id: n }));
    client.send(...publishes, publishPacket("telemetry/+", "{}"), publishPacket("telemetry/a", '{"n":3}'));
    await client.whenClosed();
    await outbox.taken(2);
    assert.deepEqual(
      outbox.readings.map(({ attributes }) => attributes.n),
      [1, 2],
    );
    const line = await log.line("client cut off");
    assert.equal(line.client, "node-7");
    assert.match(String(line.reason), /wildcard in its topic \[MQTT-3\.3\.2-2\]/);
    const metric = await telemetry.metrics.getSingleMetricAsString("summit_edge_mqtt_protocol_faults_total");
    assert.match(metric, /reason="topic-name"} 1/);
  });

  it("nothing is taken behind a DISCONNECT [MQTT-3.14.4-1]", async (t) => {
    const { outbox, ports } = await startBroker(t);
    const client = new RawMqtt(ports[0] ?? 0);
    await client.connect("node-7");
    client.send(
      publishPacket("telemetry/a", '{"n":1}'),
      Buffer.from([0xe0, 0]),
      publishPacket("telemetry/a", '{"n":2}'),
    );
    await client.whenClosed();
    await outbox.taken(1);
    assert.equal(outbox.readings.length, 1);
  });
});
