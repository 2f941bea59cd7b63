/**
 * The broker's limits in numbers, on the real daemon. Each is gone past, and the same is done once more where the limit is
 * raised.
 */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { networkInterfaces } from "node:os";
import { join } from "node:path";
import { describe, it, type TestContext } from "node:test";
import { entryFor } from "#src/identity/passwords.js";
import { connected, gateway, isServed, READING } from "../support/limited-gateway.ts";
import {
  CONNACK,
  connectPacket,
  PUBACK,
  PUBCOMP,
  PUBLISH,
  PUBREC,
  publishPacket,
  pubrelPacket,
  RawMqtt,
  remainingLength,
  SUBACK,
  subscribePacket,
  UNSUBACK,
  unsubscribePacket,
} from "../support/raw-mqtt.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

describe("connections", () => {
  it("in all are bounded, and the ones beyond are named", async (t) => {
    const limited = await gateway(t, { maxConnections: 3 });
    const raised = await gateway(t, { maxConnections: 4 });
    for (const { port } of [limited, raised]) for (let n = 0; n < 3; n++) await connected(port, `node-${n}`);
    await new RawMqtt(limited.port).whenClosed();
    assert.match(String((await limited.named("connections"))[0]?.reason), /mqtt\.limits\.maxConnections\)/);
    await connected(raised.port, "node-3");
  });

  const address = Object.values(networkInterfaces())
    .flat()
    .find((each) => each?.family === "IPv4" && !each.internal)?.address;

  it("from one address are bounded, loopback excepted", { skip: address === undefined }, async (t) => {
    const where = { from: String(address), to: String(address) };
    const start = (maxConnectionsPerAddress: number) =>
      gateway(t, { maxConnectionsPerAddress }, { bind: "0.0.0.0", mqtt: { anonymous: "always" } });
    const limited = await start(2);
    const clients = [await connected(limited.port, "a", {}, where), await connected(limited.port, "b", {}, where)];
    await new RawMqtt(limited.port, where).whenClosed();
    const [line] = await limited.named("connections-per-address");
    assert.equal(line?.address, address);
    for (let n = 0; n < 5; n++) await connected(limited.port, `local-${n}`);
    await clients[0]?.vanish();
    for (;;) {
      const next = new RawMqtt(limited.port, where);
      next.send(connectPacket("c"));
      if ((await next.next(CONNACK).catch(() => undefined)) !== undefined) break;
    }
    const raised = await start(0);
    for (let n = 0; n < 5; n++) await connected(raised.port, `node-${n}`, {}, where);
  });

  it("of one identity are bounded; one that comes again under its client id takes its own place", async (t) => {
    const passwordFile = join(temporaryFolder(t), "passwords");
    const entries = ["mast", "other"].map(async (name) => `${name}:${await entryFor(Buffer.from("secret"))}\n`);
    writeFileSync(passwordFile, (await Promise.all(entries)).join(""), { mode: 0o600 });
    const limited = await gateway(t, { maxConnectionsPerIdentity: 2 }, { mqtt: { passwordFile } });
    const mast = { username: "mast", password: "secret" };
    const first = await connected(limited.port, "a", mast);
    await connected(limited.port, "b", mast);
    const third = new RawMqtt(limited.port);
    assert.equal(await third.connect("c", mast), 3);
    const [line] = await limited.named("connections-per-identity");
    assert.deepEqual([line?.client, line?.address], ["c", "127.0.0.1"]);
    const again = await connected(limited.port, "a", mast);
    await first.whenClosed();
    assert.equal(await new RawMqtt(limited.port).connect("c", mast), 3);
    await connected(limited.port, "d", { username: "other", password: "secret" });
    await connected(limited.port, "e");
    await again.vanish();
    while ((await new RawMqtt(limited.port).connect("c", mast)) !== 0);
    const raised = await gateway(t, { maxConnectionsPerIdentity: 0 }, { mqtt: { passwordFile } });
    for (let n = 0; n < 5; n++) await connected(raised.port, `node-${n}`, mast);
  });
});

describe("a topic too long or too deep", () => {
  const long = `telemetry/${"x".repeat(1000)}`;
  const deep = Array.from({ length: 40 }, () => "x").join("/");
  const abyss = Array.from({ length: 20_000 }, () => "x").join("/");

  it("is acknowledged and counted where it is published, and refused where it is subscribed or left as a will", async (t) => {
    const { port, daemon } = await gateway(t);
    const client = await connected(port, "node-7");
    for (const [index, topic] of [long, deep, abyss].entries()) {
      client.send(publishPacket(topic, READING, { qos: 1, id: index + 1 }));
      assert.deepEqual((await client.next(PUBACK)).body, Buffer.from([0, index + 1]));
    }
    client.send(subscribePacket(9, [long, deep, abyss, "telemetry/+"]));
    assert.deepEqual([...(await client.next(SUBACK)).body.subarray(2)], [128, 128, 128, 0]);
    client.send(unsubscribePacket(10, [deep, abyss]));
    await client.next(UNSUBACK);
    const { refused, ledger } = await daemon.status();
    assert.deepEqual([refused.invalid, ledger.accepted], [3, 0]);
    for (const topic of [long, deep])
      assert.equal(await new RawMqtt(port).connect("testator", { will: { topic, payload: "{}" } }), 5);
    await client.ping();
  });

  it("control: is none where the limits are raised", async (t) => {
    const { port, daemon } = await gateway(t, { maxTopicBytes: "2KiB", maxTopicLevels: 100 });
    const client = await connected(port, "node-7");
    client.send(publishPacket(long, READING, { qos: 1 }));
    await client.next(PUBACK);
    client.send(subscribePacket(9, [long, deep]));
    assert.deepEqual([...(await client.next(SUBACK)).body.subarray(2)], [0, 0]);
    assert.equal((await daemon.status()).ledger.accepted, 1);
    await connected(port, "testator", { will: { topic: deep, payload: "{}" } });
  });
});

describe("topic filters", () => {
  const filters = (from: number, to: number) => Array.from({ length: to - from }, (_, n) => `t/${from + n}`);
  async function granted(client: RawMqtt, wanted: readonly string[]): Promise<number> {
    client.send(subscribePacket(1, wanted));
    const codes = [...(await client.next(SUBACK)).body.subarray(2)];
    assert.equal(codes.length, wanted.length);
    return codes.filter((code) => code !== 0x80).length;
  }

  it("are 100 for each client, over packets and connections of a session", async (t) => {
    const { port, metric } = await gateway(t);
    const client = await connected(port, "node-7", { clean: false });
    assert.equal(await granted(client, filters(0, 60)), 60);
    assert.equal(await granted(client, filters(50, 120)), 50);
    await client.vanish();
    const again = await connected(port, "node-7", { clean: false });
    assert.equal(await granted(again, filters(200, 210)), 0);
    assert.equal(await granted(again, filters(0, 10)), 10);
    again.send(unsubscribePacket(2, filters(0, 5)));
    await again.next(UNSUBACK);
    assert.equal(await granted(again, filters(200, 210)), 5);
    assert.equal(await granted(await connected(port, "node-8"), filters(0, 10)), 10);
    assert.ok((await metric('dropped_total{what="subscription"}')) > 0);
  });

  it("of 20,000 in one SUBSCRIBE are granted 100, and each gets its answer", async (t) => {
    const { port } = await gateway(t, { maxPacketBytes: "256KiB" });
    assert.equal(await granted(await connected(port, "node-7", { clean: false }), filters(0, 20_000)), 100);
    await isServed(port);
  });

  it("control: are more where the limit is raised", async (t) => {
    const { port } = await gateway(t, { maxSubscriptions: 150 });
    assert.equal(await granted(await connected(port, "node-7"), filters(0, 200)), 150);
  });
});

describe("QoS 2 messages without PUBREL", () => {
  const burst = (count: number, topic: string) =>
    Array.from({ length: count }, (_, n) => publishPacket(topic, READING, { qos: 2, id: n + 1 }));

  for (const topic of ["telemetry/a", "elsewhere", "$SYS/denied"]) {
    it(`cut their client off beyond the limit, all at once or one by one, on ${topic}`, async (t) => {
      const { port, named } = await gateway(t, { maxInflightQos2: 50 });
      const client = await connected(port, "node-7");
      client.send(...burst(51, topic));
      await client.whenClosed();
      const [line] = await named("qos2-in-flight");
      assert.deepEqual([line?.msg, line?.client], ["client cut off", "node-7"]);
      const patient = await connected(port, "node-8");
      for (let id = 1; id <= 200; id++) {
        patient.send(publishPacket(topic, READING, { qos: 2, id }));
        await patient.next(PUBREC);
        patient.send(pubrelPacket(id));
        await patient.next(PUBCOMP);
      }
      for (let id = 1; id <= 50; id++) patient.send(publishPacket(topic, READING, { qos: 2, id }));
      for (let id = 1; id <= 50; id++) await patient.next(PUBREC);
      // A copy of one that is open is none more.
      patient.send(publishPacket(topic, READING, { qos: 2, id: 7, dup: true }));
      await patient.next(PUBREC);
      patient.send(publishPacket(topic, READING, { qos: 2, id: 51 }));
      await patient.whenClosed();
    });
  }

  it("control: are let in where the limit is raised", async (t) => {
    const { port } = await gateway(t, { maxInflightQos2: 100 });
    const client = await connected(port, "node-7");
    client.send(...burst(51, "telemetry/a"));
    for (let n = 0; n < 51; n++) await client.next(PUBREC);
    await client.ping();
  });
});

describe("messages that are kept", () => {
  /** Topics of the PUBLISH packets that a client has got, once no more come. */
  async function received(client: RawMqtt): Promise<string[]> {
    const publishes = () => client.packets.filter(({ type }) => type === PUBLISH);
    for (let known = -1; known < publishes().length; ) {
      known = publishes().length;
      // The engine sends one in each turn of its event loop, and answers a PING no sooner than in the next.
      for (let n = 0; n < 20; n++) await client.ping();
    }
    return publishes().map(({ body }) => body.subarray(2, 2 + body.readUInt16BE(0)).toString());
  }

  async function retained(t: TestContext, limits: object): Promise<string[]> {
    const { port } = await gateway(t, limits, { mqtt: { retained: ["config/#"] } });
    const publisher = await connected(port, "publisher");
    for (let n = 0; n < 5; n++) publisher.send(publishPacket(`config/${n}`, "x".repeat(100), { retain: true }));
    publisher.send(publishPacket("elsewhere", "x", { retain: true }));
    await publisher.ping();
    const client = await connected(port, "late");
    client.send(subscribePacket(1, ["#"]));
    await client.next(SUBACK);
    return (await received(client)).sort();
  }

  it("as retained are bounded in number and bytes, and only where configured", async (t) => {
    const all = Array.from({ length: 5 }, (_, n) => `config/${n}`);
    assert.deepEqual(await retained(t, {}), all);
    assert.deepEqual(await retained(t, { maxRetainedMessages: 3 }), all.slice(0, 3));
    assert.deepEqual(await retained(t, { maxRetainedBytes: "250B" }), all.slice(0, 2));
  });

  async function queued(t: TestContext, limits: object, offlineQueue: number, count: number, bytes: number) {
    const { port } = await gateway(t, { publishRate: 0, ...limits }, { mqtt: { offlineQueue } });
    const subscriber = await connected(port, "subscriber", { clean: false });
    subscriber.send(subscribePacket(1, ["news/#"], 1));
    await subscriber.next(SUBACK);
    await subscriber.vanish();
    const publisher = await connected(port, "publisher");
    for (let n = 0; n < count; n++) {
      publisher.send(publishPacket(`news/${n}`, "x".repeat(bytes), { qos: 1, id: 1 + (n % 1000) }));
      if (n % 100 === 99) await publisher.ping();
    }
    await publisher.ping();
    const again = await connected(port, "subscriber", { clean: false });
    return received(again);
  }

  it("for an absent subscriber are bounded in number, and none by default", async (t) => {
    assert.deepEqual(await queued(t, {}, 0, 20, 10), []);
    assert.deepEqual(await queued(t, {}, 3, 20, 10), ["news/17", "news/18", "news/19"]);
    assert.equal((await queued(t, {}, 30, 20, 10)).length, 20);
  });

  it("for an absent subscriber are bounded in bytes", async (t) => {
    const topics = await queued(t, { maxQueuedBytes: "4MiB" }, 100_000, 1000, 20_000);
    assert.ok(topics.length > 90 && topics.length < 110, String(topics.length));
    assert.equal(topics.at(-1), "news/999");
    const raised = await queued(t, { maxQueuedBytes: "64MiB" }, 100_000, 1000, 20_000);
    assert.equal(raised.length, 1000);
  });
});

describe("the log of clients that are cut off", () => {
  it("names one although another is cut off all the time, for that reason or for another", async (t) => {
    const { port, log, named, metric } = await gateway(t);
    const tooLarge = Buffer.concat([Buffer.from([0x10]), remainingLength(10_000)]);
    for (let n = 0; n < 100; n++) {
      const noisy = new RawMqtt(port);
      noisy.send(tooLarge);
      await noisy.whenClosed();
    }
    const quiet = new RawMqtt(port, { from: "127.0.0.2" });
    quiet.send(tooLarge);
    await quiet.whenClosed();
    const other = new RawMqtt(port);
    other.send(publishPacket("t", "x"));
    await other.whenClosed();
    await named("protocol");
    const sizes = log.filter(({ code }) => code === "packet-size").map(({ address }) => address);
    assert.deepEqual(sizes, ["127.0.0.1", "127.0.0.1", "127.0.0.1", "127.0.0.2"]);
    assert.equal(await metric('connections_refused_total{reason="packet-size"}'), 101);
  });
});
