import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { AedesPublishPacket, Client } from "aedes";
import { MAX_FILTER_LEVELS, type SessionLimits, SessionStore } from "#src/sources/mqtt/session-store.js";
import { mqttLimits } from "../../support/broker-under-test.ts";
import { anonymous } from "../../support/identities.ts";
import { TestClock } from "../../support/test-clock.ts";

/** What the store sees of an aedes client. */
function client(id: string, clean: boolean): Client {
  return { id, clean } as Client;
}

let counter = 0;
function message(topic: string, payload = "x"): AedesPublishPacket {
  const packet = { cmd: "publish", topic, payload: Buffer.from(payload), qos: 1, retain: false, dup: false };
  return { ...packet, brokerId: "b", brokerCounter: ++counter } as AedesPublishPacket;
}

const { maxRetainedBytes, maxRetainedMessages } = mqttLimits;

function makeStore({ offlineQueue = 0, ...limits }: { offlineQueue?: number } & Partial<SessionLimits> = {}) {
  const dropped: string[] = [];
  const clock = new TestClock();
  const store = new SessionStore({
    offlineQueue,
    limits: { ...mqttLimits, ...limits },
    clock,
    dropped: (what) => dropped.push(what),
  });
  return { store, dropped, clock };
}

async function queued(store: SessionStore, of: Client): Promise<string[]> {
  const packets = (await store.outgoingStream(of).toArray()) as AedesPublishPacket[];
  return packets.map(({ topic }) => topic);
}

async function connected(store: SessionStore, id: string, filter?: string): Promise<Client> {
  const newcomer = client(id, false);
  const session = store.opened(newcomer, anonymous(newcomer.id));
  if (filter !== undefined) {
    store.grant(session, filter, 1);
    await store.addSubscriptions(newcomer, [{ topic: filter, qos: 1 }]);
  }
  return newcomer;
}

describe("whether somebody takes a message", () => {
  it("is looked up in a thousand subscriptions at most; beyond, somebody does", async () => {
    const { store } = makeStore();
    const subscribers = Array.from({ length: 11 }, (_, n) =>
      store.opened(client(`sub-${n}`, true), anonymous(`sub-${n}`)),
    );
    const everybody = (): boolean => true;
    assert.equal(store.takes("news", everybody), false);
    for (const session of subscribers.slice(0, 10)) for (let n = 0; n < 100; n++) store.grant(session, `t/${n}`, 0);
    assert.deepEqual([store.takes("t/99", everybody), store.takes("news", everybody)], [true, false]);
    for (const session of subscribers.slice(10)) store.grant(session, "t/100", 0);
    assert.equal(store.takes("news", everybody), true);
  });
});

describe("messages for an absent client", () => {
  it("are kept up to the configured number, oldest dropped, and none where that is 0", async () => {
    for (const [offlineQueue, expected] of [
      [0, []],
      [2, ["t/3", "t/4"]],
    ] as const) {
      const { store } = makeStore({ offlineQueue });
      store.closed(await connected(store, "sub", "t/#"));
      for (let index = 0; index < 5; index++)
        store.outgoingEnqueueCombi([{ clientId: "sub", qos: 1 }], message(`t/${index}`));
      assert.deepEqual(await queued(store, await connected(store, "sub")), expected);
    }
  });

  it("that were on their way when it left are cut to the same number", async () => {
    const { store } = makeStore({ offlineQueue: 1 });
    const subscriber = await connected(store, "sub", "t/#");
    for (const topic of ["t/1", "t/2"]) store.outgoingEnqueueCombi([{ clientId: "sub", qos: 1 }], message(topic));
    store.closed(subscriber);
    assert.deepEqual(await queued(store, await connected(store, "sub")), ["t/2"]);
  });

  it("are bounded in bytes over all clients, and one has at most half; its own oldest are dropped", async () => {
    const { store, dropped } = makeStore({ offlineQueue: 100_000, maxQueuedBytes: 4 * 1024 * 1024 });
    const kiB = "x".repeat(1024);
    const send = (clientId: string, count: number) => {
      for (let n = 0; n < count; n++) store.outgoingEnqueueCombi([{ clientId, qos: 1 }], message(`t/${n}`, kiB));
    };
    const kept = async (id: string) => queued(store, await connected(store, id));
    for (const id of ["a", "b", "c"]) store.closed(await connected(store, id, "t/#"));
    send("a", 4000);
    const ofA = await kept("a");
    const each = 1024 + 256 + "t/1234".length;
    assert.ok(ofA.length * each <= 2 * 1024 * 1024 && (ofA.length + 2) * each > 2 * 1024 * 1024, String(ofA.length));
    assert.equal(ofA.at(-1), "t/3999");
    assert.equal(dropped.length, 4000 - ofA.length);
    send("b", 4000);
    send("c", 10);
    assert.ok((await kept("c")).length <= 10);
    assert.ok((await kept("b")).length + ofA.length + (await kept("c")).length <= (4 * 1024 * 1024) / each + 1);
  });

  it("count while a connected client does not acknowledge them, and no longer once it does or is forgotten", async () => {
    const { store, dropped } = makeStore({ maxQueuedBytes: 64 * 1024 });
    const big = "x".repeat(30 * 1024);
    for (const id of ["a", "b", "c"]) await connected(store, id, "t/#");
    const again = await connected(store, "a");
    const sent = message("t/1", big);
    store.outgoingEnqueueCombi(
      [
        { clientId: "a", qos: 1 },
        { clientId: "b", qos: 1 },
      ],
      sent,
    );
    store.outgoingEnqueueCombi([{ clientId: "c", qos: 1 }], message("t/2", big));
    assert.deepEqual(dropped, ["offline-message"]);
    await store.outgoingUpdate(again, { ...sent, messageId: 1 });
    await store.outgoingClearMessageId(again, { messageId: 1 });
    store.outgoingEnqueueCombi([{ clientId: "c", qos: 1 }], message("t/3", big));
    assert.deepEqual(dropped, ["offline-message"]);
    store.opened(client("b", true), anonymous("b"));
    store.outgoingEnqueueCombi([{ clientId: "a", qos: 1 }], message("t/4", big));
    assert.deepEqual(dropped, ["offline-message"]);
  });

  it("keep nothing alive of what was read together with them", async () => {
    const { store } = makeStore({ offlineQueue: 10 });
    const chunk = Buffer.alloc(64 * 1024, "x");
    const subscriber = await connected(store, "sub", "t/#");
    const packet = { ...message("t/1"), payload: chunk.subarray(10, 20) };
    store.outgoingEnqueueCombi([{ clientId: "sub", qos: 1 }], packet);
    await store.storeRetained(packet);
    const [waiting] = (await store.outgoingStream(subscriber).toArray()) as { payload: Buffer }[];
    const [kept] = (await store.createRetainedStreamCombi(["#"]).toArray()) as { payload: Buffer }[];
    for (const copy of [waiting, kept]) {
      assert.equal(copy?.payload.toString(), "x".repeat(10));
      assert.equal(copy?.payload.buffer.byteLength, 10);
    }
  });

  it("are not queued twice where two of its filters cover the topic", async () => {
    const { store } = makeStore({ offlineQueue: 10 });
    const subscriber = await connected(store, "sub", "t/#");
    store.outgoingEnqueueCombi(
      [0, 1].map((qos) => ({ clientId: "sub", qos })),
      message("t/1"),
    );
    assert.deepEqual(await queued(store, subscriber), ["t/1"]);
  });
});

describe("messages on their way to a connected client", () => {
  it("are taken out by their packet identifier, or before they have one by themselves", async () => {
    const { store } = makeStore();
    const subscriber = await connected(store, "sub", "t/#");
    const [one, two] = [message("t/1"), message("t/2")];
    for (const packet of [one, two]) store.outgoingEnqueueCombi([{ clientId: "sub", qos: 1 }], packet);
    await store.outgoingUpdate(subscriber, { ...one, messageId: 7 });
    await store.outgoingClearMessageId(subscriber, two);
    assert.deepEqual(await queued(store, subscriber), ["t/1"]);
    assert.equal((await store.outgoingClearMessageId(subscriber, { messageId: 7 }))?.messageId, 7);
    assert.deepEqual(await queued(store, subscriber), []);
    await store.outgoingUpdate(subscriber, { messageId: 99 });
  });
});

describe("sessions", () => {
  it("of absent clients are bounded; the one away for longest is forgotten with its subscriptions", async () => {
    const { store, dropped } = makeStore({ maxSessions: 2, offlineQueue: 5 });
    for (const id of ["a", "b", "c"]) store.closed(await connected(store, id, "t/#"));
    assert.equal(store.size, 2);
    assert.equal(store.subscriptions, 2);
    assert.deepEqual(dropped, ["session"]);
    assert.deepEqual(await store.subscriptionsByClient({ id: "a" }), []);
    assert.equal((await store.subscriptionsByClient({ id: "b" })).length, 1);
  });

  it("of absent clients end after the configured time, by elapsed time, and not while their client is there", async () => {
    const { store, dropped, clock } = makeStore({ sessionExpiry: 60_000 });
    await connected(store, "there", "t/#");
    store.closed(await connected(store, "a", "t/#"));
    await clock.advance(30_000);
    store.closed(await connected(store, "b", "t/#"));
    clock.setWall(Date.UTC(2040, 0, 1));
    await clock.advance(29_999);
    assert.equal(store.size, 3);
    await clock.advance(1);
    assert.deepEqual(dropped, ["expired-session"]);
    assert.equal(store.size, 2);
    await clock.advance(30_000);
    assert.equal(store.size, 1);
    assert.equal(store.subscriptions, 1);
    await clock.advance(600_000);
    assert.equal(store.size, 1);
  });

  it("that have expired are not resumed, even where the timer is late", async () => {
    const { store, clock } = makeStore({ sessionExpiry: 60_000 });
    store.closed(await connected(store, "a", "t/#"));
    clock.stall(60_000);
    const back = await connected(store, "a");
    assert.deepEqual(await store.subscriptionsByClient(back), []);
    assert.equal(store.subscriptions, 0);
  });

  it("of absent clients are bounded in what they hold together", async () => {
    const { store, dropped } = makeStore({ maxSessions: 100_000 });
    const deep = Array.from({ length: 32 }, () => "x").join("/");
    for (let n = 0; n < 1000; n++) store.closed(await connected(store, `node-${n}`, `${n}/${deep}`));
    assert.ok(store.size < 700, String(store.size));
    assert.ok(dropped.length > 300 && dropped.every((what) => what === "session"));
  });

  it("have topic filters of a bounded number of levels together, and get those back that end", async () => {
    const { store, dropped } = makeStore({ maxSubscriptions: 10_000 });
    const deep = Array.from({ length: 31 }, () => "x").join("/");
    let granted = 0;
    const sessions = Array.from({ length: 3 }, (_, n) =>
      store.opened(client(`node-${n}`, true), anonymous(`node-${n}`)),
    );
    for (const session of sessions)
      for (let n = 0; n < 1000; n++) granted += Number(store.grant(session, `${n}/${deep}`, 1));
    assert.equal(granted, Math.floor(MAX_FILTER_LEVELS / 32));
    assert.equal(dropped.length, 3000 - granted);
    store.opened(client("node-0", true), anonymous("node-0"));
    const [, second] = sessions;
    assert.ok(second !== undefined && store.grant(second, "one/more", 1));
  });

  it("with nothing in them are known when their client is back, and the first to be forgotten", async () => {
    const { store, dropped } = makeStore({ maxSessions: 2 });
    store.closed(await connected(store, "subscriber", "t/#"));
    store.closed(await connected(store, "a"));
    const again = client("a", false);
    assert.equal(store.opened(again, anonymous("a")).resumed, true);
    store.closed(again);
    store.closed(await connected(store, "b"));
    assert.deepEqual(dropped, ["session"]);
    assert.equal(store.opened(client("a", false), anonymous("a")).resumed, false);
    assert.equal(store.opened(client("subscriber", false), anonymous("subscriber")).resumed, true);
  });

  it("that are clean are not remembered", async () => {
    const { store } = makeStore();
    const clean = client("b", true);
    store.grant(store.opened(clean, anonymous(clean.id)), "t/#", 1);
    assert.equal(store.subscriptions, 1);
    store.closed(clean);
    assert.equal(store.size, 0);
    assert.equal(store.subscriptions, 0);
  });

  it("that are clean start afresh, and late calls for the old connection do not touch the new one", async () => {
    const { store } = makeStore();
    const old = client("a", true);
    store.opened(old, anonymous(old.id));
    const young = client("a", true);
    const session = store.opened(young, anonymous(young.id));
    await store.incomingStorePacket(old, { ...message("t/1"), messageId: 1 });
    store.closed(old);
    assert.equal(session.received.size, 0);
    assert.equal(store.size, 1);
    await assert.rejects(store.incomingGetPacket(young, { messageId: 1 }));
  });

  it("that go on know their QoS 2 packets until they are released", async () => {
    const { store } = makeStore();
    const before = await connected(store, "a");
    await store.incomingStorePacket(before, { ...message("t/1"), messageId: 1 });
    store.closed(before);
    const after = await connected(store, "a");
    await store.incomingGetPacket(after, { messageId: 1 });
    await store.incomingDelPacket(after, { messageId: 1 });
    await assert.rejects(store.incomingGetPacket(after, { messageId: 1 }));
  });

  it("keep only the filters that were granted", async () => {
    const { store } = makeStore();
    const subscriber = client("a", false);
    store.grant(store.opened(subscriber, anonymous(subscriber.id)), "allowed", 1);
    await store.addSubscriptions(subscriber, [
      { topic: "denied", qos: 1 },
      { topic: "allowed", qos: 1 },
    ]);
    assert.deepEqual(
      (await store.subscriptionsByClient({ id: "a" })).map(({ topic }) => topic),
      ["allowed"],
    );
  });
});

describe("retained messages", () => {
  it("are bounded in number; one that is there can be replaced and taken away", async () => {
    const { store, dropped } = makeStore();
    for (let index = 0; index <= maxRetainedMessages; index++) await store.storeRetained(message(`t/${index}`));
    assert.deepEqual(dropped, ["retained-message"]);
    await store.storeRetained(message("t/0", "new"));
    await store.storeRetained(message("t/1", ""));
    await store.storeRetained(message("one more"));
    assert.deepEqual(dropped, ["retained-message"]);
    assert.equal((await store.createRetainedStreamCombi(["#"]).toArray()).length, maxRetainedMessages);
  });

  it("are bounded in bytes", async () => {
    const { store, dropped } = makeStore();
    await store.storeRetained(message("t/1", "x".repeat(maxRetainedBytes)));
    await store.storeRetained(message("t/2"));
    assert.deepEqual(dropped, ["retained-message"]);
    await store.storeRetained(message("t/1", "x"));
    await store.storeRetained(message("t/2"));
    assert.deepEqual(dropped, ["retained-message"]);
  });
});
