import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { connect, connectAsync, type MqttClient } from "mqtt";
import { startBroker } from "../../support/broker-under-test.ts";
import { missing, Running, run } from "../../support/commands.ts";
import { CONNACK, PUBACK, publishPacket, RawMqtt } from "../../support/raw-mqtt.ts";

/** mqtt.js types its events so that `events.once` does not take it. */
function heard(client: MqttClient, event: "connect" | "message"): Promise<void> {
  return new Promise((resolve) => client.once(event, () => resolve()));
}

const noMosquitto = missing("mosquitto_pub");

describe("with mosquitto's clients", { skip: noMosquitto }, () => {
  for (const qos of ["0", "1", "2"]) {
    it(`a reading of QoS ${qos} is accepted and forwarded`, async (t) => {
      const { intake, outbox, ports, log } = await startBroker(t);
      const subscriber = new Running("mosquitto_sub", ["-p", String(ports[0]), "-t", "#", "-q", qos, "-v"]);
      t.after(() => subscriber.stop());
      await log.line("client subscribed");
      const args = [
        "-p",
        String(ports[0]),
        "-i",
        "node-7",
        "-q",
        qos,
        "-t",
        "observations/smoke",
        "-m",
        '{"pm2_5":81}',
      ];
      assert.equal((await run("mosquitto_pub", args)).status, 0);
      await subscriber.line('observations/smoke {"pm2_5":81}');
      const [observation] = outbox.readings;
      assert.equal(observation?.class, "smoke");
      assert.equal(observation?.source, "node-7");
      assert.deepEqual(observation?.attributes, { pm2_5: 81 });
      assert.equal(intake.sources()[0]?.accepted, 1);
    });
  }

  it("the default routes give class, source and priority", async (t) => {
    const { outbox, ports } = await startBroker(t);
    for (const topic of ["telemetry/mast-3", "alerts/mast-3", "health/mast-3/heartbeat"]) {
      await run("mosquitto_pub", ["-p", String(ports[0]), "-q", "1", "-t", topic, "-m", "{}"]);
    }
    assert.deepEqual(
      outbox.readings.map((observation) => [observation.class, observation.source, observation.priority]),
      [
        ["telemetry", "mast-3", "normal"],
        ["alert", "mast-3", "critical"],
        ["heartbeat", "mast-3", "low"],
      ],
    );
  });

  it("a thousand lines over one connection all become readings", async (t) => {
    const { outbox, ports } = await startBroker(t);
    const lines = Array.from({ length: 1000 }, (_, index) => `{"n":${index}}`).join("\n");
    const args = ["-p", String(ports[0]), "-q", "1", "-t", "telemetry/mast-3", "-l"];
    assert.equal((await run("mosquitto_pub", args, `${lines}\n`)).status, 0);
    assert.equal(outbox.readings.length, 1000);
  });

  it("a login that is not allowed gets return code 5, with a password that nothing can verify 4", async (t) => {
    const { log, ports } = await startBroker(t, { anonymous: "never" });
    const args = ["-p", String(ports[0]), "-t", "telemetry/a", "-m", "{}"];
    assert.equal((await run("mosquitto_pub", args)).status, 5);
    assert.equal((await run("mosquitto_pub", [...args, "-u", "me", "-P", "secret"])).status, 4);
    const refused = log.lines.filter(({ msg }) => msg === "login refused");
    assert.equal(refused.length, 2);
    assert.equal(refused[0]?.level, "warn");
    assert.doesNotMatch(JSON.stringify(log.lines), /secret/);
  });
});

describe("with mqtt.js", () => {
  it("a window of QoS 2 messages is taken once each", async (t) => {
    const { outbox, ports } = await startBroker(t);
    const client = await connectAsync(`mqtt://127.0.0.1:${ports[0]}`, { clientId: "node-7" });
    t.after(() => client.endAsync());
    await Promise.all(
      Array.from({ length: 200 }, (_, index) => client.publishAsync("telemetry/a", `{"n":${index}}`, { qos: 2 })),
    );
    assert.equal(outbox.readings.length, 200);
  });

  it("a message that was not acknowledged comes again after a reconnect, and is a copy", async (t) => {
    const { outbox, intake, ports } = await startBroker(t);
    const client = await connectAsync(`mqtt://127.0.0.1:${ports[0]}`, {
      clientId: "node-7",
      clean: false,
      reconnectPeriod: 1,
    });
    t.after(() => client.endAsync());
    outbox.hold();
    const published = client.publishAsync("telemetry/a", '{"ts":1782907200,"t":20}', { qos: 1 });
    await outbox.heldUp(1);
    client.stream.destroy();
    await outbox.heldUp(2);
    outbox.release();
    await published;
    assert.equal(outbox.readings.length, 1);
    assert.equal(intake.sources()[0]?.duplicates, 1);
  });

  it("messages wait for an absent subscriber up to the configured number, the oldest dropped", async (t) => {
    for (const [offlineQueue, expected] of [
      [0, []],
      [2, ["2", "3"]],
    ] as const) {
      const { broker, ports } = await startBroker(t, { offlineQueue });
      const url = `mqtt://127.0.0.1:${ports[0]}`;
      const subscriber = await connectAsync(url, { clientId: "sub", clean: false });
      await subscriber.subscribeAsync("news/#", { qos: 1 });
      await subscriber.endAsync();
      const publisher = await connectAsync(url, { clientId: "pub" });
      while (broker.status().connections > 1) await new Promise((resolve) => setImmediate(resolve));
      for (const text of ["1", "2", "3"]) await publisher.publishAsync("news/a", text, { qos: 1 });
      const again = connect(url, { clientId: "sub", clean: false, manualConnect: true });
      const received: string[] = [];
      again.on("message", (_topic, payload) => received.push(payload.toString()));
      again.connect();
      await heard(again, "connect");
      await publisher.publishAsync("news/a", "last", { qos: 1 });
      while (!received.includes("last")) await heard(again, "message");
      assert.deepEqual(received, [...expected, "last"]);
      await Promise.all([again.endAsync(), publisher.endAsync()]);
    }
  });
});

describe("a retained PUBLISH", () => {
  it("is kept where its topic is on the list, else only forwarded", async (t) => {
    const { ports } = await startBroker(t, { retained: ["config/#"] });
    const url = `mqtt://127.0.0.1:${ports[0]}`;
    const publisher = await connectAsync(url);
    const early = await connectAsync(url);
    const late = await connectAsync(url);
    t.after(() => Promise.all([publisher, early, late].map((client) => client.endAsync())));
    const forwarded: string[] = [];
    early.on("message", (topic) => forwarded.push(topic));
    await early.subscribeAsync("#");
    await publisher.publishAsync("telemetry/a", "{}", { qos: 1, retain: true });
    await publisher.publishAsync("config/a", "on", { qos: 1, retain: true });
    while (forwarded.length < 2) await heard(early, "message");
    const kept: string[] = [];
    late.on("message", (topic, payload) => kept.push(`${topic} ${payload}`));
    await late.subscribeAsync("#");
    await publisher.publishAsync("end", "", { qos: 1 });
    while (!kept.includes("end ")) await heard(late, "message");
    assert.deepEqual(kept, ["config/a on", "end "]);
  });
});

describe("a will", () => {
  it("on a routed topic becomes a reading when its client vanishes, and not when it disconnects", async (t) => {
    const { outbox, ports } = await startBroker(t);
    const will = { topic: "alerts/mast-3", payload: '{"gone":true}' };
    const polite = new RawMqtt(ports[0] ?? 0);
    await polite.connect("mast-3", { will });
    polite.send(Buffer.from([0xe0, 0]));
    await polite.whenClosed();
    const client = new RawMqtt(ports[0] ?? 0);
    await client.connect("mast-3", { will });
    await client.vanish();
    await outbox.taken(1);
    assert.equal(outbox.readings.length, 1);
    assert.equal(outbox.readings[0]?.class, "alert");
    assert.equal(outbox.readings[0]?.priority, "critical");
  });

  it("on a topic of the broker's own, or on none, is a reason to refuse the connection", async (t) => {
    const { ports } = await startBroker(t);
    const reserved = new RawMqtt(ports[0] ?? 0);
    assert.equal(await reserved.connect("a", { will: { topic: "$SYS/x", payload: "" } }), 5);
    const wild = new RawMqtt(ports[0] ?? 0);
    await assert.rejects(wild.connect("b", { will: { topic: "a/#", payload: "" } }));
    assert.deepEqual(
      wild.packets.filter(({ type }) => type === CONNACK),
      [],
    );
  });
});

describe("a PUBLISH that is not allowed", () => {
  it("is acknowledged, counted as unauthorised, and reaches nobody", async (t) => {
    const { intake, outbox, ports } = await startBroker(t);
    const subscriber = await connectAsync(`mqtt://127.0.0.1:${ports[0]}`, { clientId: "sub", clean: false });
    t.after(() => subscriber.endAsync());
    const received: string[] = [];
    subscriber.on("message", (topic) => received.push(topic));
    await subscriber.subscribeAsync("#", { qos: 1 });
    const client = new RawMqtt(ports[0] ?? 0);
    await client.connect("node-7");
    client.send(publishPacket("$SYS/broker/x", '{"a":1}', { qos: 1, id: 3 }));
    assert.deepEqual((await client.next(PUBACK)).body, Buffer.from([0, 3]));
    client.send(publishPacket("telemetry/a", "{}", { qos: 1, id: 4 }));
    await client.next(PUBACK);
    while (received.length === 0) await heard(subscriber, "message");
    assert.deepEqual(received, ["telemetry/a"]);
    assert.equal(intake.refused().unauthorised, 1);
    assert.equal(outbox.readings.length, 1);
  });
});
