import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { PublishPacket } from "aedes";
import { MAX_UNACKNOWLEDGED, MAX_WAITING_BYTES, PublishLane } from "#src/sources/mqtt/publish-lane.js";
import { publishPacket } from "../../support/raw-mqtt.ts";

type Done = (error?: Error | null) => void;

function makeLane() {
  const taken: { packet: PublishPacket; done: Done }[] = [];
  const forwarded: { packet: PublishPacket; done: () => void }[] = [];
  const acknowledged: number[] = [];
  const events: string[] = [];
  const lane = new PublishLane({
    publish: (packet, done) => taken.push({ packet, done }),
    forward: (packet, done) => forwarded.push({ packet, done }),
    connection: {
      answer: (bytes) => {
        for (let at = 0; at < bytes.length; at += 4) {
          assert.equal(bytes.readUInt16BE(at), 0x4002);
          acknowledged.push(bytes.readUInt16BE(at + 2));
        }
      },
      hold: () => events.push("hold"),
      goOn: () => events.push("go on"),
      fail: (error) => events.push(error.message),
    },
  });
  const take = (bytes: Buffer): boolean => {
    const start = 2 + bytes.subarray(1).findIndex((byte) => byte < 0x80);
    return PublishLane.takes(bytes[0] ?? 0) && lane.take(bytes[0] ?? 0, bytes, start, bytes.length);
  };
  return { take, taken, forwarded, acknowledged, events };
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

describe("the lane of publishes", () => {
  it("hands over what the packet says", () => {
    const { take, taken } = makeLane();
    assert.ok(take(publishPacket("telemetry/mäst", '{"a":1}', { qos: 1, id: 513, dup: true })));
    const { payload, ...rest } = taken[0]?.packet ?? assert.fail();
    assert.equal(payload.toString(), '{"a":1}');
    const expected = { cmd: "publish", topic: "telemetry/mäst", qos: 1, dup: true, retain: false, messageId: 513 };
    assert.deepEqual(rest, expected);
  });

  it("leaves to the engine what is not its own", () => {
    const { take, taken } = makeLane();
    const qos1 = { qos: 1, id: 7 } as const;
    const foreign = [
      publishPacket("t/a", "1"),
      publishPacket("t/a", "1", { qos: 2, id: 7 }),
      publishPacket("t/a", "1", { ...qos1, retain: true }),
      publishPacket("t/a", "1", { qos: 1, id: 0 }),
      publishPacket("", "1", qos1),
      publishPacket("$SYS/a", "1", qos1),
      publishPacket("t/+", "1", qos1),
      publishPacket("t/#", "1", qos1),
      publishPacket("t/\0", "1", qos1),
      publishPacket("a/".repeat(40), "1", qos1),
      Buffer.from([0x32, 0]),
      Buffer.from([0x32, 3, 0, 3, 0x61]),
      Buffer.from([0x32, 6, 0, 9, 0x61, 0x62, 0, 1]),
    ];
    for (const bytes of foreign) assert.equal(take(bytes), false, bytes.toString("hex"));
    assert.deepEqual(taken, []);
  });

  it("acknowledges in the order in which the messages came, whichever may be acknowledged first", async () => {
    const { take, taken, acknowledged } = makeLane();
    for (const id of [5, 6, 7, 8]) take(publishPacket("t/a", "1", { qos: 1, id }));
    for (const index of [1, 3]) taken[index]?.done();
    await turn();
    assert.deepEqual(acknowledged, []);
    taken[0]?.done();
    await turn();
    assert.deepEqual(acknowledged, [5, 6]);
    taken[2]?.done();
    await turn();
    assert.deepEqual(acknowledged, [5, 6, 7, 8]);
  });

  it("forwards a message once it is acknowledged, never before", async () => {
    const { take, taken, forwarded } = makeLane();
    take(publishPacket("t/a", "1", { qos: 1, id: 5 }));
    await turn();
    assert.equal(forwarded.length, 0);
    taken[0]?.done();
    await turn();
    assert.equal(forwarded[0]?.packet.topic, "t/a");
  });

  it("lets only so many messages wait, those that subscribers have not taken yet included", async () => {
    const { take, taken, forwarded, events } = makeLane();
    for (let id = 1; id < MAX_UNACKNOWLEDGED; id++) take(publishPacket("t/a", "1", { qos: 1, id }));
    assert.deepEqual(events, []);
    take(publishPacket("t/a", "1", { qos: 1, id: MAX_UNACKNOWLEDGED }));
    assert.deepEqual(events, ["hold"]);
    for (const { done } of taken) done();
    await turn();
    assert.deepEqual(events, ["hold"]);
    for (const { done } of forwarded.slice(0, MAX_UNACKNOWLEDGED / 2)) done();
    assert.deepEqual(events, ["hold", "go on"]);
  });

  it("lets only so many bytes wait", async () => {
    const { take, taken, forwarded, events } = makeLane();
    const big = publishPacket("t/a", Buffer.alloc(60_000, 0x20), { qos: 1, id: 1 });
    const most = Math.ceil(MAX_WAITING_BYTES / 60_000);
    for (let n = 1; n < most; n++) take(big);
    assert.deepEqual(events, []);
    take(big);
    assert.deepEqual(events, ["hold"]);
    for (const { done } of taken) done();
    await turn();
    for (const { done } of forwarded) done();
    assert.deepEqual(events, ["hold", "go on"]);
  });

  it("ends the connection for an error, and acknowledges nothing that came after it", async () => {
    const { take, taken, events, acknowledged } = makeLane();
    for (const id of [5, 6, 7]) take(publishPacket("t/a", "1", { qos: 1, id }));
    taken[0]?.done();
    taken[1]?.done(new Error("not connected"));
    taken[2]?.done();
    await turn();
    assert.deepEqual(events, ["not connected"]);
    assert.deepEqual(acknowledged, [5]);
  });
});
