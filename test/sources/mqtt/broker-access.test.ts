import assert from "node:assert/strict";
import { before, describe, it, type TestContext } from "node:test";
import type { MqttConfig } from "#src/config/schema.js";
import type { AccessPolicy } from "#src/identity/access.js";
import { type Acl, parseAcl } from "#src/identity/acl.js";
import { entryFor } from "#src/identity/passwords.js";
import { systemClock } from "#src/kernel/clock.js";
import { type BrokerUnderTest, startBroker } from "../../support/broker-under-test.ts";
import { missing, run } from "../../support/commands.ts";
import {
  CONNACK,
  type ConnectOptions,
  connectPacket,
  PUBACK,
  PUBLISH,
  PUBREC,
  publishPacket,
  RawMqtt,
  SUBACK,
  subscribePacket,
} from "../../support/raw-mqtt.ts";
import { startStockAedes } from "../../support/stock-aedes.ts";
import { until } from "../../support/until.ts";

const IDENTIFIER_REJECTED = 2;
const BAD_CLIENT_ID = 2;
const BAD_CREDENTIALS = 4;
const NOT_AUTHORISED = 5;
const REFUSED = 0x80;

const noMosquitto = missing("mosquitto_pub");

/** Users whose password is `pw-` and their name. */
const users = new Map<string, string>();
before(async () => {
  for (const name of ["mast-3", "mast-9", "conc"]) users.set(name, await entryFor(Buffer.from(`pw-${name}`)));
});

const as = (username: string, more: ConnectOptions = {}): ConnectOptions => ({
  username,
  password: `pw-${username}`,
  ...more,
});

function acl(...lines: string[]): Acl {
  const parsed = parseAcl(lines.join("\n"));
  if ("acl" in parsed) return parsed.acl;
  assert.fail(JSON.stringify(parsed.faults));
}

function start(
  t: TestContext,
  policy: Partial<AccessPolicy> = {},
  config: Partial<MqttConfig> = {},
): Promise<BrokerUnderTest> {
  return startBroker(t, config, systemClock, { users, ...policy });
}

async function connected(port: number | undefined, clientId: string, options: ConnectOptions = {}): Promise<RawMqtt> {
  const client = new RawMqtt(port ?? 0);
  assert.equal(await client.connect(clientId, options), 0);
  return client;
}

async function connectCode(port: number | undefined, clientId: string, options: ConnectOptions = {}): Promise<number> {
  const client = new RawMqtt(port ?? 0);
  const code = await client.connect(clientId, options);
  await client.whenClosed();
  return code;
}

/** Subscribes, and resolves with the return codes. */
async function subscribe(client: RawMqtt, filters: readonly string[], qos = 0): Promise<number[]> {
  client.send(subscribePacket(1, filters, qos));
  return [...(await client.next(SUBACK)).body.subarray(2)];
}

async function publish(client: RawMqtt, topic: string, payload = "{}", retain = false): Promise<void> {
  client.send(publishPacket(topic, payload, { qos: 1, id: 7, retain }));
  await client.next(PUBACK);
}

/** Resolves once so many messages have come. */
function messages(client: RawMqtt, count: number): Promise<void> {
  const come = () => client.packets.filter(({ type }) => type === PUBLISH).length;
  return until(`${count} messages`, () => come() >= count);
}

/** Topics of the messages that have come, once everything that was sent to the broker before is through. */
async function received(client: RawMqtt): Promise<string[]> {
  await client.ping();
  return client.packets
    .filter(({ type }) => type === PUBLISH)
    .map(({ body }) => body.subarray(2, 2 + body.readUInt16BE(0)).toString());
}

describe("a login", () => {
  it("with the right password is let in, with any other gets code 4, on loopback too", async (t) => {
    const { ports, audited, log } = await start(t);
    await connected(ports[0], "any-id", as("mast-3"));
    const wrong: ConnectOptions[] = [
      { username: "mast-3", password: "pw-mast-9" },
      { username: "mast-3", password: "" },
      { username: "mast-3" },
      { username: "nobody", password: "pw-mast-3" },
      { username: "", password: "pw-mast-3" },
    ];
    for (const [n, each] of wrong.entries()) {
      assert.equal(await connectCode(ports[0], `x-${n}`, each), BAD_CREDENTIALS);
    }
    await connected(ports[0], "anonymous");
    const lines = log.lines.filter(({ msg }) => msg === "login refused");
    assert.equal(lines.length, wrong.length);
    assert.deepEqual(
      lines.map(({ client, user, reason }) => [client, user, reason]),
      wrong.map(({ username }, n) => [`x-${n}`, username, "unknown user or wrong password"]),
    );
    assert.deepEqual(
      audited.map(({ action, actor, detail }) => [action, actor, detail?.client, detail?.user]),
      wrong.map(({ username }, n) => ["login.refused", "address:127.0.0.1", `x-${n}`, username]),
    );
    assert.doesNotMatch(JSON.stringify([log.lines, audited]), /pw-|scrypt/);
  });

  it("that is refused after its name was verified stands in the trail under that name, not the one it claims", async (t) => {
    const { ports, audited, log } = await start(t);
    await connected(ports[0], "shared", as("mast-3"));
    assert.equal(await connectCode(ports[0], "shared", as("mast-9")), BAD_CLIENT_ID);
    const [entry] = audited;
    assert.deepEqual([entry?.actor, entry?.detail?.client], ["device:mast-9", "shared"]);
    const line = log.lines.find(({ msg }) => msg === "login refused");
    assert.deepEqual([line?.code, line?.kind, line?.client], ["login", "client-id", "shared"]);
  });

  it("whose will may not be published is refused", async (t) => {
    const { ports } = await start(t, { acl: acl("user mast-3", "topic write telemetry/mast-3") });
    const will = (topic: string) => as("mast-3", { will: { topic, payload: "{}" } });
    assert.equal(await connectCode(ports[0], "a", will("telemetry/mast-9")), NOT_AUTHORISED);
    await connected(ports[0], "a", will("telemetry/mast-3"));
  });

  it("of a client that is gone before its password is verified leaves no session", async (t) => {
    const { broker, ports } = await start(t);
    const leaving = Array.from({ length: 5 }, (_, index) => {
      const client = new RawMqtt(ports[0] ?? 0);
      client.send(connectPacket(`c${index}`, as("mast-3", { clean: false })));
      return client;
    });
    await until("five connections", () => broker.status().connections === 5);
    // A mere end may follow what is to be read still, as from a device that waits for no answer; a reset says that it is gone.
    for (const client of leaving) client.socket.resetAndDestroy();
    await until("no connection", () => broker.status().connections === 0);
    // By then every verification that had begun is through: they are done in order.
    const last = await connected(ports[0], "last", as("mast-3"));
    assert.equal(broker.status().sessions, 1);
    await last.vanish();
  });
});

describe("a subscription with an allowed and a denied filter", () => {
  const filters = ["public/#", "secret/#"];

  /** What a client gets that comes back, of messages while it was away and since. */
  async function roundTrip(port: number, granted: number[]): Promise<string[]> {
    const eve = await connected(port, "eve", { clean: false });
    assert.deepEqual(await subscribe(eve, filters, 1), granted);
    await eve.vanish();
    const other = await connected(port, "bob");
    for (const topic of ["secret/away", "public/away"]) await publish(other, topic, "x");
    const again = await connected(port, "eve", { clean: false });
    for (const topic of ["secret/now", "public/now"]) await publish(other, topic, "x");
    while (!(await received(again)).includes("public/now")) await messages(again, 1);
    return received(again);
  }

  it("on stock aedes brings what was denied after a reconnect", async (t) => {
    const port = await startStockAedes(t, {
      authorizeSubscribe: (_client, subscription, done) =>
        done(null, subscription.topic.startsWith("secret/") ? null : subscription),
    });
    assert.deepEqual(await roundTrip(port, [1, REFUSED]), ["secret/away", "public/away", "public/now"]);
  });

  it("here never does", async (t) => {
    const rules = acl("topic write #", "topic read public/#");
    const { ports } = await start(t, { acl: rules }, { offlineQueue: 10 });
    assert.deepEqual(await roundTrip(ports[0] ?? 0, [1, REFUSED]), ["public/away", "public/now"]);
  });
});

describe("rules that have changed", () => {
  const open = acl("topic readwrite #");
  const shut = acl("topic readwrite #", "topic deny secret/#");

  it("hold for the next message of whoever is connected, in both directions", async (t) => {
    const { access, intake, ports } = await start(t, { acl: open });
    const reader = await connected(ports[0], "reader");
    const writer = await connected(ports[0], "writer");
    assert.deepEqual(await subscribe(reader, ["#"]), [0]);
    await publish(writer, "secret/a");
    await messages(reader, 1);
    access.change({ acl: shut });
    access.change({ acl: acl("topic write #", "topic read public/#") });
    await publish(writer, "secret/b");
    await publish(writer, "public/b");
    await messages(reader, 2);
    assert.deepEqual(await received(reader), ["secret/a", "public/b"]);
    access.change({ acl: shut });
    await publish(writer, "secret/c");
    assert.equal(intake.refused().unauthorised, 1);
  });

  it("hold for what waits for a client that is away, and for its subscriptions", async (t) => {
    const { access, ports } = await start(t, { acl: open }, { offlineQueue: 10 });
    const reader = await connected(ports[0], "reader", { clean: false });
    await subscribe(reader, ["secret/#", "public/#"], 1);
    await reader.vanish();
    const writer = await connected(ports[0], "writer");
    await publish(writer, "secret/waits");
    await publish(writer, "public/waits");
    access.change({ acl: acl("topic write #", "topic read public/#") });
    const again = await connected(ports[0], "reader", { clean: false });
    await publish(writer, "secret/now");
    await publish(writer, "public/now");
    await messages(again, 2);
    assert.deepEqual(await received(again), ["public/waits", "public/now"]);
  });
});

describe("a retained message", () => {
  it("is kept only where its sender may publish it, and shown only to whom may read it", async (t) => {
    const rules = acl("user mast-3", "topic readwrite news/#", "user mast-9", "topic read news/public");
    const { ports } = await start(t, { acl: rules }, { retained: ["#"] });
    const writer = await connected(ports[0], "w", as("mast-3"));
    for (const topic of ["news/secret", "news/public", "else"]) await publish(writer, topic, "x", true);
    const [mine, theirs] = [await connected(ports[0], "m", as("mast-3")), await connected(ports[0], "t", as("mast-9"))];
    for (const client of [mine, theirs]) await subscribe(client, ["#"]);
    await messages(mine, 2);
    await messages(theirs, 1);
    assert.deepEqual((await received(mine)).sort(), ["news/public", "news/secret"]);
    assert.deepEqual(await received(theirs), ["news/public"]);
  });
});

describe("a second client with the same id, but of another user", () => {
  it("on stock aedes pushes the first one out, and gets its session", async (t) => {
    const port = await startStockAedes(t, {
      authenticate: (_client, username, password, done) => done(null, password?.toString() === `pw-${username}`),
    });
    const first = await connected(port, "shared", as("mast-3", { clean: false }));
    await subscribe(first, ["secret/#"]);
    const second = await connected(port, "shared", as("mast-9", { clean: false }));
    await first.whenClosed();
    const other = await connected(port, "other", as("conc"));
    await publish(other, "secret/a", "x");
    await messages(second, 1);
    assert.deepEqual(await received(second), ["secret/a"]);
  });

  it("here is refused with code 2, while the first is connected and while it is away", async (t) => {
    const { ports } = await start(t, {}, { offlineQueue: 10 });
    const first = await connected(ports[0], "shared", as("mast-3", { clean: false }));
    await subscribe(first, ["secret/#"], 1);
    const intruders: ConnectOptions[] = [as("mast-9"), as("mast-9", { clean: false }), {}];
    for (const each of intruders) assert.equal(await connectCode(ports[0], "shared", each), IDENTIFIER_REJECTED);
    await first.ping();
    await first.vanish();
    const other = await connected(ports[0], "other", as("conc"));
    await publish(other, "secret/a", "x");
    for (const each of intruders) assert.equal(await connectCode(ports[0], "shared", each), IDENTIFIER_REJECTED);
    const again = new RawMqtt(ports[0] ?? 0);
    again.send(connectPacket("shared", as("mast-3", { clean: false })));
    assert.deepEqual([...(await again.next(CONNACK)).body], [1, 0]);
    await messages(again, 1);
    assert.deepEqual(await received(again), ["secret/a"]);
  });

  it("takes the id if it is its own name, and begins afresh", async (t) => {
    const { access, ports } = await start(t, { users: new Map([...users].filter(([name]) => name !== "conc")) });
    const squatter = await connected(ports[0], "conc", as("mast-9", { clean: false }));
    await subscribe(squatter, ["secret/#"], 1);
    access.change({ users });
    const owner = new RawMqtt(ports[0] ?? 0);
    owner.send(connectPacket("conc", as("conc", { clean: false })));
    assert.deepEqual([...(await owner.next(CONNACK)).body], [0, 0]);
    await squatter.whenClosed();
    const other = await connected(ports[0], "other");
    await subscribe(owner, ["open/#"]);
    for (const topic of ["secret/a", "open/a"]) await publish(other, topic, "x");
    await messages(owner, 1);
    assert.deepEqual(await received(owner), ["open/a"]);
  });

  it("is none of its business where the user is the same: it takes over, as MQTT has it", async (t) => {
    const { ports } = await start(t);
    const first = await connected(ports[0], "shared", as("mast-3"));
    await connected(ports[0], "shared", as("mast-3"));
    await first.whenClosed();
  });
});

describe("an identity that holds a wildcard", () => {
  it("on stock aedes opens everybody's topics where a hook puts it into a filter", async (t) => {
    const port = await startStockAedes(t, {
      authorizeSubscribe: (client, subscription, done) =>
        done(null, subscription.topic === `site/${client.id}/#` ? subscription : null),
    });
    const eve = await connected(port, "+");
    assert.deepEqual(await subscribe(eve, ["site/+/#"]), [0]);
    const bob = await connected(port, "bob");
    await publish(bob, "site/bob/secret", "x");
    await messages(eve, 1);
    assert.deepEqual(await received(eve), ["site/bob/secret"]);
  });

  it("here is not let in where rules use it, and opens nothing where they come later", async (t) => {
    const rules = acl("pattern readwrite site/%c/#");
    const { access, ports } = await start(t, { acl: rules });
    for (const clientId of ["+", "#", "bob/secret", "+/#"]) {
      assert.equal(await connectCode(ports[0], clientId), IDENTIFIER_REJECTED, clientId);
    }
    access.change({ acl: acl("topic readwrite #") });
    const eve = await connected(ports[0], "+");
    assert.deepEqual(await subscribe(eve, ["site/+/#"]), [0]);
    access.change({ acl: rules });
    assert.deepEqual(await subscribe(eve, ["site/+/x"]), [REFUSED]);
    const bob = await connected(ports[0], "bob");
    assert.deepEqual(await subscribe(bob, ["site/bob/#"]), [0]);
    await publish(bob, "site/bob/secret", "x");
    await messages(bob, 1);
    assert.deepEqual(await received(eve), []);
  });
});

describe("a reading whose source is another device", () => {
  it("is refused as unauthorised, acknowledged, and forwarded to nobody, each of an array by itself", async (t) => {
    const { intake, outbox, ports } = await start(t);
    const reader = await connected(ports[0], "reader");
    await subscribe(reader, ["#"]);
    const device = await connected(ports[0], "any-id", as("mast-3"));
    const mixed = '[{"n":1},{"n":2,"source":"mast-9"},{"n":3,"source":"mast-3"}]';
    device.send(publishPacket("observations/smoke", mixed, { qos: 2, id: 3 }));
    await device.next(PUBREC);
    // Again, as a device does that has lost the answer: nothing is taken twice.
    device.send(publishPacket("observations/smoke", mixed, { qos: 2, id: 3, dup: true }));
    await device.next(PUBREC);
    await publish(device, "observations/smoke", '{"n":4,"source":"mast-9"}');
    device.send(publishPacket("observations/smoke", '{"n":5,"source":"mast-9"}'));
    await publish(device, "telemetry/mast-9", '{"n":6}');
    await publish(device, "telemetry/mast-3", '{"n":7}');
    await messages(reader, 1);
    assert.deepEqual(
      outbox.readings.map(({ source, attributes }) => [source, attributes.n]),
      [
        ["mast-3", 1],
        ["mast-3", 3],
        ["mast-3", 7],
      ],
    );
    assert.equal(intake.refused().unauthorised, 4);
    assert.deepEqual(await received(reader), ["telemetry/mast-3"]);
    assert.match(intake.quarantine().list()[0]?.detail ?? "", /mast-3 may not speak for mast-9; .*mqtt\.sources/);
  });

  it("is taken where mqtt.sources says so, or rules let it publish to a topic that names the device", async (t) => {
    const { access, intake, outbox, ports } = await start(t, { sources: new Map([["conc", /^(?:tank-.*)$/u]]) });
    const conc = await connected(ports[0], "any-id", as("conc"));
    await publish(conc, "observations/level", '{"n":1,"source":"tank-7"}');
    await publish(conc, "telemetry/tank-8", '{"n":2}');
    access.change({ acl: acl("user conc", "topic write telemetry/#", "topic write observations/#") });
    await publish(conc, "telemetry/mast-9", '{"n":3}');
    assert.equal(intake.refused().unauthorised, 0);
    await publish(conc, "observations/level", '{"n":4,"source":"mast-9"}');
    assert.equal(intake.refused().unauthorised, 1);
    assert.deepEqual(
      outbox.readings.map(({ source }) => source),
      ["tank-7", "tank-8", "mast-9"],
    );
  });
});

describe("a user that was removed, or has another password", () => {
  it("is cut off, and its will is not published", async (t) => {
    const { access, broker, intake, log, ports } = await start(t);
    const reader = await connected(ports[0], "reader");
    await subscribe(reader, ["#"]);
    const will = { topic: "telemetry/mast-3", payload: "{}" };
    const gone = await connected(ports[0], "a", as("mast-3", { will, clean: false }));
    await subscribe(gone, ["x"]);
    const stays = await connected(ports[0], "b", as("mast-9"));
    access.change({ users: new Map([...users].filter(([name]) => name !== "mast-3")) });
    await gone.whenClosed();
    await until("the will is refused", () => intake.refused().unauthorised === 1);
    await publish(stays, "telemetry/mast-9");
    await messages(reader, 1);
    assert.deepEqual(await received(reader), ["telemetry/mast-9"]);
    assert.equal((await log.line("client cut off")).user, "mast-3");
    assert.equal(broker.status().sessions, 2);
    assert.equal(await connectCode(ports[0], "a", as("mast-3")), BAD_CREDENTIALS);

    access.change({ users: new Map([...users, ["mast-9", await entryFor(Buffer.from("new"))]]) });
    await stays.whenClosed();
    await connected(ports[0], "b", { username: "mast-9", password: "new" });
  });
});

describe("with mosquitto's clients", { skip: noMosquitto }, () => {
  it("-u and -P are understood, and what may not be is said", async (t) => {
    const rules = acl("user mast-3", "topic write telemetry/mast-3", "topic read commands/mast-3");
    const { outbox, ports } = await start(t, { acl: rules });
    const to = ["-p", String(ports[0]), "-u", "mast-3"];
    const message = ["-q", "1", "-t", "telemetry/mast-3", "-m", '{"t":1}'];
    assert.equal((await run("mosquitto_pub", [...to, "-P", "pw-mast-3", ...message])).status, 0);
    assert.equal((await run("mosquitto_pub", [...to, "-P", "wrong", ...message])).status, BAD_CREDENTIALS);
    assert.deepEqual(
      outbox.readings.map(({ source }) => source),
      ["mast-3"],
    );
    const denied = await run("mosquitto_sub", [...to, "-P", "pw-mast-3", "-t", "commands/mast-9"]);
    assert.match(denied.output, /All subscription requests were denied/);
  });
});
