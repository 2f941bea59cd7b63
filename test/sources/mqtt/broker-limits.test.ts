import assert from "node:assert/strict";
import { connect } from "node:net";
import { describe, it } from "node:test";
import { GatewayError } from "#src/kernel/errors.js";
import { mqttConfig, startBroker } from "../../support/broker-under-test.ts";
import {
  connectPacket,
  PUBACK,
  PUBREC,
  packet,
  publishPacket,
  RawMqtt,
  remainingLength,
  SUBACK,
  subscribePacket,
} from "../../support/raw-mqtt.ts";
import { TestClock } from "../../support/test-clock.ts";

const reading = '{"temperature":21.5}';
const limits = mqttConfig().limits;

describe("a connection is ended", () => {
  const early: [string, Buffer[], string, RegExp][] = [
    [
      "that announces 200 MiB before CONNECT",
      [Buffer.from([0x10]), remainingLength(200 * 1024 * 1024)],
      "packet-size",
      /larger than 4096.*maxConnectBytes/,
    ],
    ["whose CONNECT is larger than 4 KiB", [connectPacket("x".repeat(4096))], "packet-size", /larger than 4096/],
    ["that begins with another packet", [publishPacket("telemetry/a", reading)], "protocol", /not a CONNECT/],
    ["that speaks HTTP", [Buffer.from("GET / HTTP/1.1\r\n\r\n")], "protocol", /not a CONNECT/],
    ["whose remaining length never ends", [Buffer.from([0x10, 0x80, 0x80, 0x80, 0x80, 0x01])], "protocol", /malformed/],
  ];
  for (const [what, sent, code, reason] of early) {
    it(what, async (t) => {
      const { log, ports, telemetry } = await startBroker(t);
      const client = new RawMqtt(ports[0] ?? 0);
      // Byte by byte, so that no header comes whole.
      for (const byte of Buffer.concat(sent).subarray(0, 8)) client.socket.write(Buffer.from([byte]));
      client.send(Buffer.concat(sent).subarray(8));
      await client.whenClosed();
      const line = await log.line("connection refused");
      assert.deepEqual([line.level, line.code, line.address], ["warn", code, "127.0.0.1"]);
      assert.match(String(line.reason), reason);
      const metric = await telemetry.metrics.getSingleMetricAsString("summit_edge_mqtt_connections_refused_total");
      assert.match(metric, new RegExp(`reason="${code}"} 1`));
    });
  }

  it("that sends a packet larger than the maximum, of which nothing is kept", async (t) => {
    const { outbox, ports } = await startBroker(t, { limits: { ...limits, maxPacketBytes: 1000 } });
    const client = new RawMqtt(ports[0] ?? 0);
    await client.connect("node-7");
    const fits = publishPacket("telemetry/a", JSON.stringify({ text: "x".repeat(1000 - 3 - 13 - 2 - 11) }), { qos: 1 });
    assert.equal(fits.length, 1000);
    client.send(fits);
    await client.next(PUBACK);
    client.send(packet(0x32, Buffer.alloc(998)).subarray(0, 3));
    await client.whenClosed();
    assert.equal(outbox.readings.length, 1);
  });

  it("that sends no CONNECT in time", async (t) => {
    const clock = new TestClock();
    const { broker, ports } = await startBroker(t, {}, clock);
    const client = new RawMqtt(ports[0] ?? 0);
    client.send(connectPacket("node-7").subarray(0, 5));
    while (broker.status().connections === 0) await new Promise((resolve) => setImmediate(resolve));
    await clock.advance(limits.connectTimeout - 1);
    assert.equal(client.closed, false);
    await clock.advance(1);
    await client.whenClosed();
  });

  it("beyond the maximum number, over all listeners", async (t) => {
    const { broker, ports, log } = await startBroker(t, {
      listeners: [
        { bind: "127.0.0.1", port: 0 },
        { bind: "127.0.0.1", port: 0 },
      ],
      limits: { ...limits, maxConnections: 2 },
    });
    const clients = [new RawMqtt(ports[0] ?? 0), new RawMqtt(ports[1] ?? 0)];
    for (const [index, client] of clients.entries()) assert.equal(await client.connect(`node-${index}`), 0);
    for (const port of ports) await new RawMqtt(port).whenClosed();
    assert.ok(
      log.lines.some(({ reason }) =>
        String(reason).startsWith("2 connections, the most allowed (mqtt.limits.maxConnections)"),
      ),
    );
    await clients[0]?.vanish();
    while (broker.status().connections > 1) await clients[1]?.ping();
    assert.equal(await new RawMqtt(ports[1] ?? 0).connect("node-9"), 0);
  });
});

describe("a client above its rate", () => {
  it("is read no further until time has passed, and never disconnected", async (t) => {
    const clock = new TestClock();
    const { outbox, ports } = await startBroker(t, { limits: { ...limits, publishRate: 10 } }, clock);
    const client = new RawMqtt(ports[0] ?? 0);
    await client.connect("node-7");
    client.send(
      ...Array.from({ length: 25 }, (_, index) =>
        publishPacket("telemetry/a", `{"n":${index}}`, { qos: 1, id: index + 1 }),
      ),
    );
    await outbox.taken(10);
    const other = new RawMqtt(ports[0] ?? 0);
    await other.connect("node-8");
    await other.ping();
    assert.equal(outbox.readings.length, 10);
    await clock.advance(500);
    await outbox.taken(15);
    await other.ping();
    assert.equal(outbox.readings.length, 15);
    await clock.advance(1000);
    await outbox.taken(25);
    for (let index = 0; index < 25; index++) await client.next(PUBACK);
    await client.ping();
    assert.deepEqual(
      outbox.readings.map(({ attributes }) => attributes.n),
      Array.from({ length: 25 }, (_, index) => index),
    );
  });
});

describe("a client's subscriptions", () => {
  it("are bounded in number, and none begins with $", async (t) => {
    const { ports } = await startBroker(t);
    const client = new RawMqtt(ports[0] ?? 0);
    await client.connect("node-7", { clean: false });
    const filters = ["$SYS/#", "$share/x/y", ...Array.from({ length: 200 }, (_, index) => `t/${index}`)];
    client.send(subscribePacket(1, filters));
    const granted = [...(await client.next(SUBACK)).body.subarray(2)];
    assert.deepEqual(granted.slice(0, 2), [128, 128]);
    assert.equal(granted.filter((code) => code !== 128).length, 100);
  });
});

describe("QoS 2 messages of a connection that another one of the same session has pushed out", () => {
  it("count no longer where nobody took them, and do where they wait for their PUBREL", async (t) => {
    const { broker, outbox, ports } = await startBroker(t, { limits: { ...limits, maxInflightQos2: 4 } });
    const exactlyOnce = (...ids: number[]) =>
      Buffer.concat(ids.map((id) => publishPacket("telemetry/a", `{"n":${id}}`, { qos: 2, id })));
    const first = new RawMqtt(ports[0] ?? 0);
    await first.connect("node-7", { clean: false });
    first.send(exactlyOnce(1));
    await first.next(PUBREC);
    outbox.saturated = true;
    first.send(exactlyOnce(2, 3, 4));
    const other = new RawMqtt(ports[0] ?? 0);
    await other.connect("node-8");
    await other.ping();
    const second = new RawMqtt(ports[0] ?? 0);
    assert.equal(await second.connect("node-7", { clean: false }), 0);
    await first.whenClosed();
    while (broker.status().connections > 2) await new Promise((resolve) => setImmediate(resolve));
    outbox.saturated = false;
    second.send(exactlyOnce(5, 6, 7));
    for (const id of [5, 6, 7]) assert.equal((await second.next(PUBREC)).body.readUInt16BE(0), id);
    second.send(exactlyOnce(8));
    await second.whenClosed();
    assert.equal(outbox.readings.length, 4);
  });
});

describe("one QoS 2 message more than a client may have in flight", () => {
  it("has the client cut off at once, also while the others wait for their commit", async (t) => {
    const { outbox, ports } = await startBroker(t, { limits: { ...limits, maxInflightQos2: 2 } });
    const client = new RawMqtt(ports[0] ?? 0);
    await client.connect("node-7");
    outbox.hold();
    client.send(...[1, 2, 3].map((id) => publishPacket("telemetry/a", `{"n":${id}}`, { qos: 2, id })));
    await client.whenClosed();
    assert.equal(outbox.waiting, 2);
  });
});

describe("what pipelined clients send behind CONNECT", () => {
  it("is taken once they were let in, however much it is", async (t) => {
    const { outbox, ports } = await startBroker(t);
    const client = new RawMqtt(ports[0] ?? 0);
    const publishes = Array.from({ length: 500 }, (_, index) => publishPacket("telemetry/a", `{"n":${index}}`));
    client.send(connectPacket("node-7"), ...publishes);
    await outbox.taken(500);
  });
});

describe("a port that is taken", () => {
  it("is named, with the key that changes it, and nothing stays bound", async (t) => {
    const first = await startBroker(t);
    const [port = 0] = first.ports;
    await assert.rejects(
      startBroker(t, {
        listeners: [
          { bind: "127.0.0.1", port: 0 },
          { bind: "127.0.0.1", port },
        ],
      }),
      (error: unknown) => {
        assert.ok(error instanceof GatewayError);
        assert.equal(error.code, "PORT_TAKEN");
        assert.match(error.message, new RegExp(`127\\.0\\.0\\.1 port ${port}`));
        assert.match(error.hint, /mqtt\.listeners\[1\]\.port/);
        return true;
      },
    );
  });
});

describe("half a connection", () => {
  it("that its client has closed still delivers what was sent before", async (t) => {
    const { broker, outbox, ports } = await startBroker(t);
    const socket = connect({ host: "127.0.0.1", port: ports[0] ?? 0 });
    socket.end(Buffer.concat([connectPacket("node-7"), publishPacket("telemetry/a", reading)]));
    await outbox.taken(1);
    socket.resume();
    await new Promise((resolve) => socket.once("close", resolve));
    while (broker.status().connections > 0) await new Promise((resolve) => setImmediate(resolve));
  });
});
