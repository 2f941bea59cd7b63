import assert from "node:assert/strict";
import { once } from "node:events";
import { connect, createServer, type Socket } from "node:net";
import { describe, it, type TestContext } from "node:test";
import fc from "fast-check";
import { systemClock } from "#src/kernel/clock.js";
import { type GateLimits, MqttGate } from "#src/sources/mqtt/gate.js";
import { PublishLane } from "#src/sources/mqtt/publish-lane.js";
import { sendQueueOf } from "#src/sources/mqtt/send-queue.js";
import { PATIENCE_MS, STUCK_MS } from "#src/sources/mqtt/slow-reader.js";
import { mqttLimits } from "../../support/broker-under-test.ts";
import { connectPacket, packet, publishPacket, subscribePacket } from "../../support/raw-mqtt.ts";
import { TestClock } from "../../support/test-clock.ts";
import { until } from "../../support/until.ts";

const limits: GateLimits = { ...mqttLimits, maxPacketBytes: 70_000 };

interface Pair {
  readonly gate: MqttGate;
  /** The other end. */
  readonly client: Socket;
  readonly refusals: string[];
}

async function makePair(t: TestContext, given = limits, clock = systemClock): Promise<Pair> {
  const server = createServer({ allowHalfOpen: true }).listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  const accepted = once(server, "connection") as Promise<[Socket]>;
  const client = connect({ host: "127.0.0.1", port: typeof address === "object" ? (address?.port ?? 0) : 0 });
  client.on("error", () => {});
  const [socket] = await accepted;
  const refusals: string[] = [];
  const gate = new MqttGate(socket, given, clock, (code) => refusals.push(code));
  gate.on("error", () => {});
  t.after(() => {
    gate.destroy();
    client.destroy();
    server.close();
  });
  return { gate, client, refusals };
}

/** A lane that acknowledges at once. */
function laneOf(gate: MqttGate, taken: (payload: Buffer, topic: string) => void): PublishLane {
  return new PublishLane({
    publish: ({ payload, topic }, done) => {
      taken(Buffer.from(payload), topic);
      done();
    },
    forward: (_packet, done) => done(),
    connection: gate,
  });
}

describe("the gate", () => {
  it("lets every byte pass unchanged, wherever the packets are cut", async (t) => {
    const packets = fc.array(
      fc.oneof(
        fc.constant(packet(0xc0)),
        fc.integer({ min: 0, max: 300 }).map((size) => publishPacket("t/a", Buffer.alloc(size, 0x30), { qos: 1 })),
        fc.integer({ min: 16_000, max: 69_000 }).map((size) => publishPacket("t/b", Buffer.alloc(size, 0x10))),
      ),
      { maxLength: 20 },
    );
    const cuts = fc.array(fc.integer({ min: 1, max: 5000 }), { minLength: 1, maxLength: 10 });
    await fc.assert(
      fc.asyncProperty(packets, cuts, async (sent, sizes) => {
        const { gate, client, refusals } = await makePair(t);
        const stream = Buffer.concat([connectPacket("node-7"), ...sent]);
        const received: Buffer[] = [];
        gate.on("data", (chunk: Buffer) => received.push(chunk));
        for (let at = 0, turn = 0; at < stream.length; turn++) {
          const size = sizes[turn % sizes.length] ?? 1;
          client.write(stream.subarray(at, at + size));
          at += size;
        }
        client.end();
        gate.open();
        await once(gate, "end");
        assert.deepEqual(refusals, []);
        assert.ok(Buffer.concat(received).equals(stream));
      }),
      { numRuns: 30 },
    );
  });

  it("gives the lane packets whole and lets the others pass, in their order, wherever they are cut", async (t) => {
    const packets = fc.array(
      fc.oneof(
        fc.constant(packet(0xc0)),
        fc.integer({ min: 0, max: 300 }).map((size) => publishPacket("t/a", Buffer.alloc(size, 0x32), { qos: 1 })),
        fc.integer({ min: 0, max: 300 }).map((size) => publishPacket("t/b", Buffer.alloc(size, 0x32))),
        fc.integer({ min: 16_000, max: 69_000 }).map((size) => publishPacket("t/c", Buffer.alloc(size), { qos: 1 })),
      ),
      { maxLength: 20 },
    );
    const cuts = fc.array(fc.integer({ min: 1, max: 5000 }), { minLength: 1, maxLength: 10 });
    await fc.assert(
      fc.asyncProperty(packets, cuts, async (sent, sizes) => {
        const { gate, client, refusals } = await makePair(t);
        const received: Buffer[] = [];
        gate.on("data", (chunk: Buffer) => received.push(chunk));
        gate.open(laneOf(gate, (payload, topic) => received.push(publishPacket(topic, payload, { qos: 1 }))));
        const stream = Buffer.concat([connectPacket("node-7"), ...sent]);
        for (let at = 0, turn = 0; at < stream.length; turn++) {
          const size = sizes[turn % sizes.length] ?? 1;
          client.write(stream.subarray(at, at + size));
          at += size;
        }
        client.end();
        await once(gate, "end");
        assert.deepEqual(refusals, []);
        assert.ok(Buffer.concat(received).equals(stream));
      }),
      { numRuns: 30 },
    );
  });

  it("refuses a packet for the lane that is too large before its body has come", async (t) => {
    const { gate, client, refusals } = await makePair(t);
    gate.resume();
    gate.open(laneOf(gate, () => assert.fail("it was taken")));
    client.write(
      Buffer.concat([connectPacket("node-7"), publishPacket("t/a", Buffer.alloc(80_000), { qos: 1 })]).subarray(0, 100),
    );
    await once(gate, "close");
    assert.deepEqual(refusals, ["packet-size"]);
  });

  it("gives the lane nothing while somebody holds it, and goes on where it was", async (t) => {
    const { gate, client } = await makePair(t);
    gate.resume();
    const taken: number[] = [];
    const holder = {};
    gate.open(
      laneOf(gate, (payload) => {
        taken.push(payload.length);
        if (payload.length === 2) gate.hold(holder);
        if (payload.length === 4) gate.destroy();
      }),
    );
    const publishes = [1, 2, 3, 4].map((size) => publishPacket("t/a", Buffer.alloc(size), { qos: 1 }));
    client.write(connectPacket("node-7"));
    await once(gate, "data");
    client.write(Buffer.concat(publishes));
    while (taken.length < 2) await new Promise((resolve) => setImmediate(resolve));
    assert.deepEqual(taken, [1, 2]);
    gate.goOn(holder);
    await once(gate, "close");
    assert.deepEqual(taken, [1, 2, 3, 4]);
  });

  it("does not read a client that does not take what it is answered", async (t) => {
    const { gate, client } = await makePair(t, limits, new TestClock());
    gate.resume();
    client.pause();
    client.write(connectPacket("node-7"));
    await once(gate, "data");
    const taken: number[] = [];
    gate.open(laneOf(gate, (payload) => taken.push(payload.length)));
    const answers = Buffer.concat(Array.from({ length: 1000 }, () => Buffer.of(0x40, 2, 0, 1)));
    while (!gate.writableNeedDrain) {
      gate.answer(answers);
      await new Promise((resolve) => setImmediate(resolve));
    }
    client.write(publishPacket("t/a", "1", { qos: 1 }));
    while (client.writableLength > 0) await once(client, "drain");
    // What another client sends after that comes through: this one's would have, too.
    const other = await makePair(t);
    other.client.write(connectPacket("node-8"));
    other.gate.resume();
    await once(other.gate, "data");
    assert.deepEqual(taken, []);
    client.resume();
    while (taken.length === 0) await new Promise((resolve) => setImmediate(resolve));
  });

  it("lets nothing but the CONNECT pass before the client was let in", async (t) => {
    const { gate, client } = await makePair(t);
    const greeting = connectPacket("node-7");
    client.write(Buffer.concat([greeting, publishPacket("t/a", "1"), publishPacket("t/a", "2")]));
    const received: Buffer[] = [];
    gate.on("data", (chunk: Buffer) => received.push(chunk));
    await once(gate, "data");
    client.end();
    await new Promise((resolve) => setImmediate(resolve));
    assert.ok(Buffer.concat(received).equals(greeting));
    gate.open();
    await once(gate, "end");
    assert.equal(Buffer.concat(received).length, greeting.length + 2 * publishPacket("t/a", "1").length);
  });

  it("reads no more from the socket than its reader takes", async (t) => {
    const { gate, client } = await makePair(t);
    client.write(connectPacket("node-7"));
    await once(gate, "readable");
    gate.open();
    gate.read();
    const block = Buffer.concat(Array.from({ length: 100 }, () => publishPacket("t/a", Buffer.alloc(60_000))));
    // The kernel's buffers take some; then the sender has to wait.
    let sent = 0;
    while (sent < 20) {
      if (!client.write(block)) break;
      sent++;
    }
    await once(gate, "readable");
    await new Promise((resolve) => setImmediate(resolve));
    assert.ok(gate.readableLength < 200_000, String(gate.readableLength));
    assert.ok(client.writableLength > 0);
    const drained = once(client, "drain");
    gate.resume();
    await drained;
  });

  it("tells its writer to wait for a client that does not read, until it does", async (t) => {
    const { gate, client } = await makePair(t);
    client.pause();
    const block = Buffer.alloc(100_000);
    let written = 0;
    while (gate.write(block)) written += block.length;
    const drained = once(gate, "drain");
    client.resume();
    await drained;
    assert.ok(written > 0);
  });

  it("gives the reader an end where the client ends, and an error where it resets", async (t) => {
    const one = await makePair(t);
    one.gate.resume();
    one.client.end();
    await once(one.gate, "end");
    const other = await makePair(t);
    other.gate.resume();
    const failed = once(other.gate, "error");
    other.client.resetAndDestroy();
    const [error] = await failed;
    assert.equal(error.code, "ECONNRESET");
    assert.equal(other.gate.destroyed, true);
  });

  it("sends what was written before it is destroyed", async (t) => {
    const { gate, client } = await makePair(t);
    const received: Buffer[] = [];
    client.on("data", (chunk: Buffer) => received.push(chunk));
    gate.write(Buffer.from("last words"));
    gate.destroy();
    await once(client, "close");
    assert.equal(Buffer.concat(received).toString(), "last words");
  });

  it("closes half a connection after a while, whatever its reader does", async (t) => {
    const clock = new TestClock();
    const { gate, client } = await makePair(t, limits, clock);
    client.write(connectPacket("node-7"));
    await once(gate, "readable");
    gate.open();
    gate.resume();
    client.end();
    await once(gate, "end");
    client.resume();
    const closed = once(client, "close");
    await clock.advance(10_000);
    await closed;
  });

  it("gives up a client from which nothing came for one and a half times its keep-alive", async (t) => {
    const clock = new TestClock();
    const { gate, client, refusals } = await makePair(t, limits, clock);
    gate.resume();
    client.write(connectPacket("node-7"));
    let messages = 0;
    const lane = laneOf(gate, () => messages++);
    gate.open(lane, 10);
    for (let round = 1; round <= 3; round++) {
      await clock.advance(14_000);
      client.write(publishPacket("t/a", "1", { qos: 1 }));
      while (messages < round) await new Promise((resolve) => setImmediate(resolve));
    }
    assert.deepEqual(refusals, []);
    await clock.advance(14_999);
    assert.deepEqual(refusals, []);
    await clock.advance(1);
    assert.deepEqual(refusals, ["keep-alive"]);
  });

  it("does not give up a client that it does not read", async (t) => {
    const clock = new TestClock();
    const { gate, refusals } = await makePair(t, limits, clock);
    gate.open(undefined, 10);
    const holder = {};
    gate.hold(holder);
    await clock.advance(60_000);
    assert.deepEqual(refusals, []);
    gate.goOn(holder);
    await clock.advance(15_000);
    assert.equal(refusals.length, 1);
  });

  it("does not give up a client whose bytes wait because nobody reads what it sent before", async (t) => {
    const clock = new TestClock();
    const { gate, client, refusals } = await makePair(t, limits, clock);
    client.write(connectPacket("node-7"));
    await once(gate, "readable");
    gate.read();
    gate.open(undefined, 10);
    const message = publishPacket("t/a", Buffer.alloc(60_000));
    client.write(Buffer.concat([message, message, message]));
    await until("as much waits as may", () => gate.readableLength >= gate.readableHighWaterMark);
    await clock.advance(60_000);
    assert.deepEqual(refusals, []);
    let read = 0;
    gate.on("data", (chunk: Buffer) => {
      read += chunk.length;
    });
    await until("all is read", () => read === 3 * message.length);
    await clock.advance(14_999);
    assert.deepEqual(refusals, []);
    await clock.advance(1);
    assert.deepEqual(refusals, ["keep-alive"]);
  });

  it("ends a connection whose login is not decided in time, counted from the end of its CONNECT", async (t) => {
    const clock = new TestClock();
    const { gate, client, refusals } = await makePair(t, limits, clock);
    gate.resume();
    await clock.advance(limits.connectTimeout - 1);
    client.write(connectPacket("node-7"));
    await once(gate, "data");
    await clock.advance(limits.authenticateTimeout - 1);
    assert.deepEqual(refusals, []);
    await clock.advance(1);
    assert.deepEqual(refusals, ["authenticate-timeout"]);
    assert.equal(gate.destroyed, true);
  });

  it("answers a login that waits for others too long with code 3, and counts its own time from its turn", async (t) => {
    for (const turn of ["never comes", "comes"]) {
      const clock = new TestClock();
      const { gate, client, refusals } = await makePair(t, limits, clock);
      const answers: Buffer[] = [];
      client.on("data", (chunk: Buffer) => answers.push(chunk));
      gate.resume();
      client.write(connectPacket("node-7"));
      await once(gate, "data");
      gate.loginWaits();
      await clock.advance(limits.authenticateTimeout - 1);
      if (turn === "comes") gate.loginBegins();
      await clock.advance(limits.authenticateTimeout - 1);
      assert.deepEqual(refusals, turn === "comes" ? [] : ["busy"], turn);
      await clock.advance(1);
      await until("it is closed", () => client.closed);
      assert.deepEqual(refusals, [turn === "comes" ? "authenticate-timeout" : "busy"], turn);
      assert.deepEqual(Buffer.concat(answers), turn === "comes" ? Buffer.alloc(0) : Buffer.of(0x20, 2, 0, 3), turn);
    }
  });

  it("holds a SUBSCRIBE above its rate, and what comes behind it, and lets a PUBLISH before it pass", async (t) => {
    const clock = new TestClock();
    const { gate, client, refusals } = await makePair(t, { ...limits, subscribeRate: 2 }, clock);
    const received: Buffer[] = [];
    gate.on("data", (chunk: Buffer) => received.push(chunk));
    const subscribe = subscribePacket(1, ["a"]);
    const stream = Buffer.concat([connectPacket("n"), subscribe, publishPacket("t", "1"), subscribe, subscribe]);
    client.write(stream);
    await once(gate, "data");
    gate.open();
    const length = () => received.reduce((sum, chunk) => sum + chunk.length, 0);
    await clock.advance(1);
    assert.equal(length(), stream.length - subscribe.length);
    await clock.advance(500);
    assert.equal(length(), stream.length);
    assert.deepEqual(refusals, []);
  });

  it("passes a packet that comes byte by byte in one piece", async (t) => {
    const { gate, client } = await makePair(t);
    client.setNoDelay(true);
    const received: Buffer[] = [];
    gate.on("data", (chunk: Buffer) => received.push(chunk));
    client.write(connectPacket("node-7"));
    await once(gate, "data");
    gate.open();
    const whole = publishPacket("t/a", "1");
    const dripped = publishPacket("t/b", Buffer.alloc(3000));
    client.write(Buffer.concat([whole, dripped.subarray(0, 4)]));
    await once(gate, "data");
    assert.equal(received.at(-1)?.length, whole.length);
    for (const byte of dripped.subarray(4)) {
      await new Promise((resolve) => setImmediate(resolve));
      client.write(Buffer.from([byte]));
    }
    await once(gate, "data");
    assert.ok(received.at(-1)?.equals(dripped));
  });

  it("reads no more chunks from the socket than it may keep, however small, and goes on once they are read", async (t) => {
    const { gate, client } = await makePair(t);
    client.setNoDelay(true);
    client.write(connectPacket("node-7"));
    await once(gate, "readable");
    gate.open();
    gate.read();
    const ping = packet(0xc0);
    let sent = 0;
    const send = async (count: number): Promise<void> => {
      for (; count > 0; count--, sent += ping.length) {
        client.write(ping);
        await new Promise((resolve) => setImmediate(resolve));
      }
    };
    await send(2000);
    const kept = gate.readableLength;
    assert.ok(kept >= ping.length && kept <= 1024, String(kept));
    let received = 0;
    gate.on("readable", () => {
      for (let chunk = gate.read(); chunk !== null; chunk = gate.read()) received += (chunk as Buffer).length;
    });
    await until("all is read", () => received === sent);
    await send(10);
    await until("more is read", () => received === sent);
  });

  it("lets so many packets be read at a time, however small, and the others after them", async (t) => {
    const { gate, client } = await makePair(t);
    client.write(connectPacket("node-7"));
    await once(gate, "readable");
    gate.read();
    gate.open();
    const ping = packet(0xc0);
    client.write(Buffer.concat(Array.from({ length: 5000 }, () => ping)));
    const sizes: number[] = [];
    gate.on("readable", () => {
      const chunk = gate.read() as Buffer | null;
      if (chunk !== null) sizes.push(chunk.length / ping.length);
    });
    const sum = () => sizes.reduce((total, size) => total + size, 0);
    await until("all is read", () => sum() === 5000);
    assert.ok(Math.max(...sizes) <= 500, sizes.join());
    client.end();
    await once(gate, "end");
  });

  it("has no deadline any more once the CONNECT was answered", async (t) => {
    const clock = new TestClock();
    const { gate, refusals } = await makePair(t, limits, clock);
    gate.answered();
    await clock.advance(60_000);
    assert.deepEqual(refusals, []);
    assert.equal(gate.destroyed, false);
  });

  describe("whose client does not read", () => {
    async function clogged(t: TestContext) {
      const clock = new TestClock();
      const pair = await makePair(t, limits, clock);
      pair.gate.answered();
      pair.client.pause();
      const block = Buffer.alloc(100_000);
      while (pair.gate.write(block));
      let drains = 0;
      pair.gate.on("drain", () => drains++);
      return { ...pair, clock, block, drains: () => drains };
    }

    /** Lets time pass until it is cut off: what the other end's system still takes by itself counts as taken. */
    async function cutOff(clock: TestClock, refusals: readonly string[]): Promise<void> {
      const passes = () => clock.advance(STUCK_MS + PATIENCE_MS);
      await until("it is cut off", () => refusals.length > 0, passes);
      assert.deepEqual(refusals, ["slow-reader"]);
    }

    it("makes its writers wait for a moment, then lets them go on, once, and says that it lags", async (t) => {
      const { gate, clock, drains } = await clogged(t);
      await clock.advance(PATIENCE_MS - 1);
      assert.deepEqual([gate.lagging, drains()], [false, 0]);
      await clock.advance(1);
      assert.deepEqual([gate.lagging, drains()], [true, 1]);
      await clock.advance(4 * PATIENCE_MS);
      assert.deepEqual([gate.lagging, drains()], [true, 1]);
    });

    it("is well again once it has read", async (t) => {
      const { gate, client, clock, drains, refusals } = await clogged(t);
      await clock.advance(PATIENCE_MS);
      client.resume();
      await until("it has read", () => drains() === 2);
      assert.equal(gate.lagging, false);
      await clock.advance(2 * STUCK_MS);
      assert.deepEqual(refusals, []);
    });

    it("is not cut off as long as it takes something, however little: no write is done all that time", async (t) => {
      const { gate, client, clock, refusals } = await clogged(t);
      // The gate's end of the connection, for its other ports.
      const queued = () => sendQueueOf({ localPort: client.remotePort, remotePort: client.localPort });
      const waiting = gate.writableLength;
      for (let turn = 0; turn < 5; turn++) {
        await clock.advance(STUCK_MS - PATIENCE_MS);
        const before = queued();
        assert.ok(before !== undefined);
        await until(
          "it has taken something",
          () => queued() !== before,
          async () => void client.read(),
        );
        await clock.advance(PATIENCE_MS);
      }
      assert.deepEqual([refusals, gate.writableLength], [[], waiting]);
      await cutOff(clock, refusals);
    });

    it("is cut off where it takes nothing, and not as long as it takes something", async (t) => {
      const { gate, client, clock, block, refusals } = await clogged(t);
      let taken = 0;
      client.on("data", (chunk: Buffer) => {
        taken += chunk.length;
      });
      for (let turn = 0; turn < 5; turn++) {
        await clock.advance(STUCK_MS - PATIENCE_MS);
        client.resume();
        await until("it has taken what waited", () => gate.writableLength === 0);
        client.pause();
        await until(
          "the socket is full again",
          () => gate.writableNeedDrain,
          async () => {
            while (gate.write(block));
          },
        );
      }
      assert.deepEqual(refusals, []);
      assert.ok(taken > 0);
      await cutOff(clock, refusals);
      assert.equal(gate.destroyed, true);
    });
  });
});
