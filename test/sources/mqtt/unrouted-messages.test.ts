/** A message on a topic that no route matches: acknowledged and forwarded, and where nobody takes it, counted and named in the log. */
import assert from "node:assert/strict";
import { describe, it, type TestContext } from "node:test";
import { parseAcl } from "#src/identity/acl.js";
import { nearestRoute } from "#src/sources/mqtt/nearest-route.js";
import { type BrokerUnderTest, mqttConfig, startBroker } from "../../support/broker-under-test.ts";
import { PUBACK, PUBLISH, publishPacket, RawMqtt } from "../../support/raw-mqtt.ts";
import { TestClock } from "../../support/test-clock.ts";

const reading = '{"confidence":0.123}';
const LOGGED = "message not stored, and nobody has subscribed to it";

function linesOf({ log }: BrokerUnderTest) {
  return log.lines.filter(({ msg }) => msg === LOGGED);
}

async function connected(gateway: BrokerUnderTest, id: string, options = {}): Promise<RawMqtt> {
  const client = new RawMqtt(gateway.ports[0] ?? 0);
  await client.connect(id, options);
  return client;
}

async function started(t: TestContext, overrides: Parameters<typeof startBroker>[1] = {}, policy = {}) {
  const clock = new TestClock();
  const gateway = await startBroker(t, overrides, clock, policy);
  return { clock, gateway, client: await connected(gateway, "mast-3") };
}

describe("a message that no route matches", () => {
  for (const qos of [0, 1, 2] as const) {
    it(`with QoS ${qos} is counted, and named in the log with the route that was meant`, async (t) => {
      const { gateway, client } = await started(t);
      client.send(publishPacket("observation/smoke", reading, { qos, id: 1 }));
      client.send(publishPacket("observations/smoke", reading, { qos: 1, id: 2 }));
      await client.next(PUBACK);
      const expected = "no route in mqtt.routes matches observation/smoke; did you mean observations/{class}?";
      await client.ping();
      const lines = linesOf(gateway).map(({ level, client: id, topic, reason, heldBack }) => [
        level,
        id,
        topic,
        reason,
        heldBack,
      ]);
      assert.deepEqual(lines, [["warn", "mast-3", "observation/smoke", expected, 0]]);
      assert.equal(gateway.broker.status().unrouted, 1);
      assert.match(await gateway.telemetry.metrics.metrics(), /^summit_edge_mqtt_unrouted_total 1$/m);
      assert.equal(gateway.intake.sources()[0]?.accepted, 1);
    });
  }

  it("of a client that gave no id is told without one: what the engine has made up says nothing to anybody", async (t) => {
    const { gateway } = await started(t);
    const nameless = await connected(gateway, "");
    nameless.send(publishPacket("news", reading, { qos: 1, id: 1 }));
    await nameless.next(PUBACK);
    assert.deepEqual(
      linesOf(gateway).map(({ client, address }) => [client, address]),
      [[undefined, "127.0.0.1"]],
    );
  });

  it("is told once an hour for each address and topic, whatever the client's id, and of all a few a minute", async (t) => {
    const { clock, gateway, client } = await started(t);
    const send = async (topic: string): Promise<void> => {
      client.send(publishPacket(topic, reading, { qos: 1, id: 1 }));
      await client.next(PUBACK);
    };
    for (let n = 0; n < 4; n++) await send("news");
    const nameless = await connected(gateway, "");
    nameless.send(publishPacket("news", reading, { qos: 1, id: 1 }));
    await nameless.next(PUBACK);
    assert.equal(linesOf(gateway).length, 1);
    assert.equal(linesOf(gateway)[0]?.address, "127.0.0.1");
    await clock.advance(3_600_000);
    await send("news");
    assert.deepEqual(
      linesOf(gateway).map(({ heldBack }) => heldBack),
      [0, 4],
    );
    for (let n = 0; n < 20; n++) await send(`news/${n}`);
    assert.equal(linesOf(gateway).length, 11);
    // What was held back was not told, so that it is not silent for an hour.
    await clock.advance(60_000);
    await send("news/19");
    assert.deepEqual([linesOf(gateway).at(-1)?.topic, linesOf(gateway).at(-1)?.heldBack], ["news/19", 11]);
    assert.equal(gateway.broker.status().unrouted, 27);
  });

  it("is nothing to tell of where a subscriber takes it, and all it is where none for it is left", async (t) => {
    const { gateway, client } = await started(t);
    const subscriber = await connected(gateway, "panel", { clean: false });
    await subscriber.subscribe({ "news/+": 0, "telemetry/#": 1 });
    const send = async (topic: string): Promise<number> => {
      client.send(publishPacket(topic, "x", { qos: 1, id: 1 }));
      await client.next(PUBACK);
      return gateway.broker.status().unrouted;
    };
    assert.equal(await send("news/today"), 0);
    await subscriber.next(PUBLISH);
    assert.equal(await send("observation/smoke"), 1);
    await subscriber.vanish();
    while (gateway.broker.status().connections > 1) await client.ping();
    assert.equal(await send("news/today"), 2);
  });

  it("is kept for an absent subscriber where mqtt.offlineQueue says so, and then nothing to tell of", async (t) => {
    const { gateway, client } = await started(t, { offlineQueue: 10 });
    const subscriber = await connected(gateway, "panel", { clean: false });
    await subscriber.subscribe({ news: 1 });
    await subscriber.vanish();
    while (gateway.broker.status().connections > 1) await client.ping();
    client.send(publishPacket("news", "x", { qos: 1, id: 1 }));
    await client.next(PUBACK);
    assert.equal(gateway.broker.status().unrouted, 0);
  });

  it("is told of where the only subscriber may not receive it", async (t) => {
    const parsed = parseAcl("topic write #\ntopic read public/#");
    const { gateway, client } = await started(t, {}, "acl" in parsed ? { acl: parsed.acl } : {});
    const subscriber = await connected(gateway, "panel");
    assert.deepEqual(await subscriber.subscribe({ "#": 1 }), [1]);
    for (const [topic, unrouted] of Object.entries({ "public/news": 0, "observation/smoke": 1 })) {
      client.send(publishPacket(topic, reading, { qos: 1, id: 1 }));
      await client.next(PUBACK);
      assert.equal(gateway.broker.status().unrouted, unrouted, topic);
    }
  });

  it("is nothing to tell of where it is retained; a retained one elsewhere is", async (t) => {
    const { gateway, client } = await started(t, { retained: ["config/#"] });
    client.send(publishPacket("config/a", "on", { qos: 1, id: 1, retain: true }));
    await client.next(PUBACK);
    assert.equal(gateway.broker.status().unrouted, 0);
    client.send(publishPacket("configuration/a", "on", { qos: 1, id: 2, retain: true }));
    await client.next(PUBACK);
    assert.equal(gateway.broker.status().unrouted, 1);
  });

  it("is counted where it is a will; one on a topic that begins with $ is refused, and counted as that alone", async (t) => {
    const { gateway, client } = await started(t);
    const other = await connected(gateway, "mast-4", { will: { topic: "alertz/mast-4", payload: reading } });
    await other.vanish();
    assert.match(String((await gateway.log.line(LOGGED)).reason), /did you mean alerts\/\{device\}\?$/);
    client.send(publishPacket("$stray", "x", { qos: 1, id: 1 }));
    await client.next(PUBACK);
    assert.equal(gateway.broker.status().unrouted, 1);
    assert.equal(gateway.intake.refused().unauthorised, 1);
  });

  it("on a long topic is cut in the log", async (t) => {
    const { gateway, client } = await started(t);
    client.send(publishPacket("x".repeat(500), "x", { qos: 1, id: 1 }));
    await client.next(PUBACK);
    const cut = "x".repeat(256);
    const lines = linesOf(gateway).map(({ topic, reason }) => [topic, reason]);
    assert.deepEqual(lines, [[cut, `no route in mqtt.routes matches ${cut}`]]);
  });
});

describe("the nearest route", () => {
  const routes = mqttConfig().routes.map(({ topic }) => topic);
  const cases: Readonly<Record<string, string | undefined>> = {
    "observation/smoke": "observations/{class}",
    "Observations/smoke": "observations/{class}",
    "/observations/smoke": "observations/{class}",
    "observations/smoke/": "observations/{class}",
    "observations/": "observations/{class}",
    observations: "observations/{class}",
    "site/obervations/smoke": "observations/{class}",
    "telemtry/mast-3": "telemetry/{device}",
    "telemetry/mast-3/air": "telemetry/{device}",
    "alert/tower": "alerts/{device}",
    "health/node-1/heartbeet": "health/{device}/heartbeat",
    "health/heartbeat": "health/{device}/heartbeat",
    "health/node-1": undefined,
    "observations/a/b/c/d": undefined,
    "news/today": undefined,
    "zigbee2mqtt/bridge/state": undefined,
    "": undefined,
    "/": undefined,
    [`${"a/".repeat(500)}observations/smoke`]: undefined,
  };
  for (const [topic, route] of Object.entries(cases)) {
    it(`to ${topic.slice(0, 40) || "nothing"} is ${route ?? "none"}`, () =>
      assert.equal(nearestRoute(topic, routes), route));
  }

  it("may end in #, or have + anywhere", () => {
    assert.equal(nearestRoute("sensor/a/b/c/d/e", ["sensors/#", "+/data"]), "sensors/#");
    assert.equal(nearestRoute("mast-3/date", ["sensors/#", "+/data"]), "+/data");
    assert.equal(nearestRoute("mast-3", ["sensors/#", "+/data"]), undefined);
  });
});
