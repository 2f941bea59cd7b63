import assert from "node:assert/strict";
import { once } from "node:events";
import { connect, createServer, type Socket } from "node:net";
import { describe, it, type TestContext } from "node:test";
import fc from "fast-check";
import { systemClock } from "#src/kernel/clock.js";
import { type GateLimits, MqttGate } from "#src/sources/mqtt-gate.js";
import { connectPacket, packet, publishPacket } from "../support/raw-mqtt.ts";
import { TestClock } from "../support/test-clock.ts";

const limits: GateLimits = { maxPacketBytes: 70_000, connectTimeout: 10_000, publishRate: 0 };

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
  const gate = new MqttGate(socket, given, clock, (reason) => refusals.push(reason));
  gate.on("error", () => {});
  t.after(() => {
    gate.destroy();
    client.destroy();
    server.close();
  });
  return { gate, client, refusals };
}

describe("the gate", () => {
  it("lets every byte pass unchanged, wherever the packets are cut", async (t) => {
    const packets = fc.array(
      fc.oneof(
        fc.integer({ min: 0, max: 3 }).map((size) => packet(0xc0, Buffer.alloc(size))),
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

  it("has no deadline any more once the CONNECT was answered", async (t) => {
    const clock = new TestClock();
    const { gate, refusals } = await makePair(t, limits, clock);
    gate.answered();
    await clock.advance(60_000);
    assert.deepEqual(refusals, []);
    assert.equal(gate.destroyed, false);
  });
});
