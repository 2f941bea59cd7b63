/**
 * The broker's limits in time and rate, on the real daemon. Each is gone past, and the same is done once more where the limit is
 * raised.
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { connected, gateway, type World } from "../support/limited-gateway.ts";
import { mutant } from "../support/mutant.ts";
import {
  connectPacket,
  PUBACK,
  PUBLISH,
  packet,
  publishPacket,
  RawMqtt,
  SUBACK,
  subscribePacket,
} from "../support/raw-mqtt.ts";

describe("time", () => {
  /** Resolves when `client` was closed; the control, where the limit is raised, is open all the same. */
  async function closedBefore(client: RawMqtt, control: RawMqtt): Promise<void> {
    await client.whenClosed();
    assert.equal(control.closed, false);
  }

  it("to CONNECT is bounded, and to a TLS handshake", async (t) => {
    const short = await gateway(t, { connectTimeout: "300ms" }, { tls: true });
    const long = await gateway(t, {}, { tls: true });
    const open = ({ daemon }: World, port: "mqtt" | "mqtts", bytes: Buffer = Buffer.alloc(0)) => {
      const client = new RawMqtt(daemon.ports[port]);
      client.send(bytes);
      return client;
    };
    const begun = connectPacket("node-7").subarray(0, 9);
    await closedBefore(open(short, "mqtt"), open(long, "mqtt"));
    await closedBefore(open(short, "mqtt", begun), open(long, "mqtt", begun));
    // A record that promises a ClientHello of 512 bytes.
    const hello = Buffer.from([0x16, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3]);
    await closedBefore(open(short, "mqtts", hello), open(long, "mqtts", hello));
    const [late] = await short.named("connect-timeout");
    assert.match(String(late?.reason), /mqtt\.limits\.connectTimeout/);
    assert.equal((await short.named("connect-timeout")).length, 2);
    const [handshake] = await short.named("handshake-timeout");
    assert.deepEqual([handshake?.msg, handshake?.address], ["connection refused", "127.0.0.1"]);
    assert.deepEqual(
      long.log.filter(({ msg }) => msg === "connection refused"),
      [],
    );
  });

  it("for the handshake has a key of its own", async (t) => {
    const limits = { connectTimeout: "5m", handshakeTimeout: "200ms" };
    const { daemon, named } = await gateway(t, limits, { tls: true });
    await new RawMqtt(daemon.ports.mqtts).whenClosed();
    await named("handshake-timeout");
  });

  it("for a login that never comes to a decision is bounded", async (t) => {
    const hung = ["super(options);", "super({ ...options, authenticate: () => {} });"] as const;
    const limits = { authenticateTimeout: "300ms" };
    const dist = mutant(t, "sources/mqtt/engine.js", ...hung);
    const short = await gateway(t, limits, { dist });
    const long = await gateway(t, {}, { dist });
    const [client, control] = [short, long].map(({ port }) => {
      const each = new RawMqtt(port);
      each.send(connectPacket("node-7"));
      return each;
    });
    assert.ok(client !== undefined && control !== undefined);
    await closedBefore(client, control);
    const [line] = await short.named("authenticate-timeout");
    assert.deepEqual([line?.client, line?.address], ["node-7", "127.0.0.1"]);
    assert.match(String(line?.reason), /mqtt\.limits\.authenticateTimeout/);
    assert.deepEqual(client.packets, []);
  });

  it("without a word is bounded, whatever keep-alive the client asked for, and none that is within is changed", async (t) => {
    const short = await gateway(t, { maxKeepAlive: "1s" });
    const long = await gateway(t);
    const [none, tooLong, fits, control] = [
      await connected(short.port, "none", { keepAlive: 0 }),
      await connected(short.port, "too-long", { keepAlive: 600 }),
      await connected(short.port, "fits", { keepAlive: 1 }),
      await connected(long.port, "control", { keepAlive: 0 }),
    ];
    const patient = await gateway(t, { minKeepAlive: "30s" });
    const impatient = await connected(patient.port, "impatient", { keepAlive: 1 });
    const talking = await connected(short.port, "talking", { keepAlive: 0 });
    const talk = setInterval(() => talking.send(packet(0xc0)), 200);
    t.after(() => clearInterval(talk));
    for (const client of [none, tooLong, fits]) await closedBefore(client, control);
    assert.deepEqual([impatient.closed, talking.closed], [false, false]);
    const lines = await short.named("keep-alive");
    assert.deepEqual(lines.map(({ client }) => client).sort(), ["fits", "none", "too-long"]);
    assert.ok(lines.every(({ msg, address }) => msg === "client cut off" && address === "127.0.0.1"));
  });
});

describe("a client above its publish rate", () => {
  async function publishAll(port: number, count: number): Promise<number> {
    const client = await connected(port, "node-7", { keepAlive: 1 });
    const from = performance.now();
    for (let id = 1; id <= count; id++) client.send(publishPacket("telemetry/a", `{"n":${id}}`, { qos: 1, id }));
    for (let id = 1; id <= count; id++) await client.next(PUBACK);
    const took = performance.now() - from;
    await client.ping();
    return took;
  }

  it("is slowed down to it and never disconnected, and every reading is accepted", async (t) => {
    const limited = await gateway(t, { publishRate: 100 });
    const took = await publishAll(limited.port, 400);
    assert.ok(took >= 2500, `${took} ms`);
    assert.equal((await limited.daemon.status()).ledger.accepted, 400);
    const free = await publishAll((await gateway(t, { publishRate: 0 })).port, 400);
    assert.ok(free < took, `${free} ms`);
  });
});

describe("the session of a client that is away", () => {
  it("ends after sessionExpiry, and not where that is longer", async (t) => {
    const mqtt = { offlineQueue: 10 };
    const short = await gateway(t, { sessionExpiry: "300ms" }, { mqtt });
    const long = await gateway(t, {}, { mqtt });
    const publishers: RawMqtt[] = [];
    for (const { port } of [short, long]) {
      const client = await connected(port, "subscriber", { clean: false });
      client.send(subscribePacket(1, ["news"], 1));
      await client.next(SUBACK);
      await client.vanish();
      publishers.push(await connected(port, "publisher"));
    }
    while ((await short.metric('dropped_total{what="expired-session"}')) === 0);
    assert.equal(await long.metric('dropped_total{what="expired-session"}'), 0);
    const heard: boolean[] = [];
    for (const [index, { port }] of [short, long].entries()) {
      const client = await connected(port, "subscriber", { clean: false });
      const publisher = publishers[index];
      publisher?.send(publishPacket("news", "x", { qos: 1 }));
      await publisher?.next(PUBACK);
      await publisher?.ping();
      await client.ping();
      heard.push(client.packets.some(({ type }) => type === PUBLISH));
    }
    assert.deepEqual(heard, [false, true]);
  });
});
