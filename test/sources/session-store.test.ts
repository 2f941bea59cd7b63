import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { AedesPublishPacket, Client } from "aedes";
import { MAX_RETAINED_BYTES, MAX_RETAINED_MESSAGES, SessionStore } from "#src/sources/session-store.js";

/** What the store sees of an aedes client. */
function client(id: string, clean: boolean): Client {
  return { id, clean } as Client;
}

let counter = 0;
function message(topic: string, payload = "x"): AedesPublishPacket {
  const packet = { cmd: "publish", topic, payload: Buffer.from(payload), qos: 1, retain: false, dup: false };
  return { ...packet, brokerId: "b", brokerCounter: ++counter } as AedesPublishPacket;
}

function makeStore(options: { offlineQueue?: number; maxSessions?: number } = {}) {
  const dropped: string[] = [];
  const store = new SessionStore({
    offlineQueue: 0,
    maxSessions: 10,
    ...options,
    dropped: (what) => dropped.push(what),
  });
  return { store, dropped };
}

async function queued(store: SessionStore, of: Client): Promise<string[]> {
  const packets = (await store.outgoingStream(of).toArray()) as AedesPublishPacket[];
  return packets.map(({ topic }) => topic);
}

async function connected(store: SessionStore, id: string, filter?: string): Promise<Client> {
  const newcomer = client(id, false);
  const session = store.opened(newcomer);
  if (filter !== undefined) {
    store.grant(session, filter);
    await store.addSubscriptions(newcomer, [{ topic: filter, qos: 1 }]);
  }
  return newcomer;
}

describe("messages for an absent client", () => {
  it("are kept up to the configured number, oldest dropped, and none where that is 0", async () => {
    for (const [offlineQueue, expected] of [
      [0, []],
      [2, ["t/3", "t/4"]],
    ] as const) {
      const { store } = makeStore({ offlineQueue });
      store.closed(await connected(store, "sub", "t/#"));
      for (let index = 0; index < 5; index++) store.outgoingEnqueueCombi([{ clientId: "sub" }], message(`t/${index}`));
      assert.deepEqual(await queued(store, await connected(store, "sub")), expected);
    }
  });

  it("that were on their way when it left are cut to the same number", async () => {
    const { store } = makeStore({ offlineQueue: 1 });
    const subscriber = await connected(store, "sub", "t/#");
    for (const topic of ["t/1", "t/2"]) store.outgoingEnqueueCombi([{ clientId: "sub" }], message(topic));
    store.closed(subscriber);
    assert.deepEqual(await queued(store, await connected(store, "sub")), ["t/2"]);
  });

  it("are bounded in bytes over all clients", async () => {
    const { store, dropped } = makeStore({ offlineQueue: 100_000 });
    store.closed(await connected(store, "sub", "t/#"));
    const big = "x".repeat(1024 * 1024);
    for (let index = 0; index < 65; index++) store.outgoingEnqueueCombi([{ clientId: "sub" }], message("t/1", big));
    assert.deepEqual(dropped, ["offline-message"]);
  });

  it("are not queued twice where two of its filters cover the topic", async () => {
    const { store } = makeStore({ offlineQueue: 10 });
    const subscriber = await connected(store, "sub", "t/#");
    store.outgoingEnqueueCombi([{ clientId: "sub" }, { clientId: "sub" }], message("t/1"));
    assert.deepEqual(await queued(store, subscriber), ["t/1"]);
  });
});

describe("messages on their way to a connected client", () => {
  it("are taken out by their packet identifier, or before they have one by themselves", async () => {
    const { store } = makeStore();
    const subscriber = await connected(store, "sub", "t/#");
    const [one, two] = [message("t/1"), message("t/2")];
    for (const packet of [one, two]) store.outgoingEnqueueCombi([{ clientId: "sub" }], packet);
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

  it("with nothing to remember are not remembered", async () => {
    const { store } = makeStore();
    store.closed(await connected(store, "a"));
    const clean = client("b", true);
    store.grant(store.opened(clean), "t/#");
    assert.equal(store.subscriptions, 1);
    store.closed(clean);
    assert.equal(store.size, 0);
    assert.equal(store.subscriptions, 0);
  });

  it("that are clean start afresh, and late calls for the old connection do not touch the new one", async () => {
    const { store } = makeStore();
    const old = client("a", true);
    store.opened(old);
    const young = client("a", true);
    const session = store.opened(young);
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
    store.grant(store.opened(subscriber), "allowed");
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
    for (let index = 0; index <= MAX_RETAINED_MESSAGES; index++) await store.storeRetained(message(`t/${index}`));
    assert.deepEqual(dropped, ["retained-message"]);
    await store.storeRetained(message("t/0", "new"));
    await store.storeRetained(message("t/1", ""));
    await store.storeRetained(message("one more"));
    assert.deepEqual(dropped, ["retained-message"]);
    assert.equal((await store.createRetainedStreamCombi(["#"]).toArray()).length, MAX_RETAINED_MESSAGES);
  });

  it("are bounded in bytes", async () => {
    const { store, dropped } = makeStore();
    await store.storeRetained(message("t/1", "x".repeat(MAX_RETAINED_BYTES)));
    await store.storeRetained(message("t/2"));
    assert.deepEqual(dropped, ["retained-message"]);
    await store.storeRetained(message("t/1", "x"));
    await store.storeRetained(message("t/2"));
    assert.deepEqual(dropped, ["retained-message"]);
  });
});
