/**
 * The broker's limits where memory is the point, measured on the real daemon as the unit starts it. Each control does the same
 * where the limit is raised or the protection removed.
 */
import assert from "node:assert/strict";
import { describe, it, type TestContext } from "node:test";
import { connected, gateway, growth, isServed, MIB, pour, READING, type World } from "../support/limited-gateway.ts";
import { mutant, mutantWith } from "../support/mutant.ts";
import {
  connectPacket,
  PUBACK,
  PUBLISH,
  packet,
  publishPacket,
  RawMqtt,
  remainingLength,
  SUBACK,
  subscribePacket,
} from "../support/raw-mqtt.ts";

/** Holds a measured growth to its bound, in MiB, and shows it. */
function assertRise(t: TestContext, rise: number, bound: number): void {
  t.diagnostic(`resident memory rose by ${rise.toFixed(1)} MiB`);
  assert.ok(rise < bound, `${rise} MiB, not below ${bound}`);
}

describe("a packet header that announces 200 MiB", () => {
  const announced = remainingLength(200 * MIB);

  async function beforeConnect(world: World, connections: number, each: number): Promise<number> {
    return growth(world, async () => {
      const clients = Array.from({ length: connections }, () => new RawMqtt(world.port));
      await Promise.all(
        clients.map(async (client) => {
          client.send(Buffer.concat([Buffer.from([0x10]), announced]));
          await pour(client, Buffer.alloc(MIB), each);
        }),
      );
      for (const client of clients) client.socket.destroy();
    });
  }

  it("before CONNECT moves memory by less than 10 MiB, and is named", async (t) => {
    const world = await gateway(t);
    assertRise(t, await beforeConnect(world, 20, 200 * MIB), 10);
    const [line] = await world.named("packet-size");
    assert.deepEqual([line?.msg, line?.address], ["connection refused", "127.0.0.1"]);
    assert.match(String(line?.reason), /mqtt\.limits\.maxConnectBytes/);
    assert.equal(await world.metric('connections_refused_total{reason="packet-size"}'), 20);
    await isServed(world.port);
  });

  it("control: without the check it moves memory by all that is sent", async (t) => {
    const check = "if (index + 1 + length > limit)";
    const dist = mutant(t, "sources/mqtt/gate.js", check, "if (length < 0)");
    assert.ok((await beforeConnect(await gateway(t, {}, { dist }), 1, 100 * MIB)) > 50);
  });

  async function afterConnect(world: World, connections: number, each: number): Promise<number> {
    return growth(world, async () => {
      await Promise.all(
        Array.from({ length: connections }, async (_, index) => {
          const client = await connected(world.port, `node-${index}`);
          client.send(Buffer.concat([Buffer.from([0x30]), announced]));
          await pour(client, Buffer.alloc(MIB), each);
          client.socket.destroy();
        }),
      );
    });
  }

  it("after CONNECT moves memory by less than 10 MiB, and its client is named", async (t) => {
    const world = await gateway(t);
    assertRise(t, await afterConnect(world, 20, 200 * MIB), 10);
    const [line] = await world.named("packet-size");
    assert.equal(line?.msg, "client cut off");
    assert.match(String(line?.client), /^node-/);
    assert.match(String(line?.reason), /mqtt\.limits\.maxPacketBytes/);
    assert.equal(await world.metric('clients_cut_off_total{reason="packet-size"}'), 20);
    await isServed(world.port);
  });

  it("control: where maxPacketBytes allows it, it moves memory by all that is sent", async (t) => {
    assert.ok((await afterConnect(await gateway(t, { maxPacketBytes: "256MiB" }), 1, 100 * MIB)) > 50);
  });
});

describe("packets that come byte by byte", () => {
  async function drip(world: World): Promise<number> {
    return growth(world, async () => {
      const clients = Array.from({ length: 60 }, () => new RawMqtt(world.port));
      for (const { socket } of clients) socket.setNoDelay(true);
      for (const byte of connectPacket("x".repeat(2000)).subarray(0, -1)) {
        for (const { socket } of clients) socket.write(Buffer.from([byte]));
        await new Promise((resolve) => setTimeout(resolve, 1));
      }
      await isServed(world.port);
      assert.ok(clients.every(({ closed }) => !closed));
      for (const { socket } of clients) socket.destroy();
    });
  }

  it("hold little more memory than their bytes; kept as they come (control), hundreds of times as much", async (t) => {
    const limits = { connectTimeout: "5m" };
    const copy = "chunk.copy(this.#buffer, this.#length);";
    const kept = mutant(t, "sources/mqtt/pieces.js", copy, `(this.chunks ??= []).push(chunk); ${copy}`);
    const rise = await drip(await gateway(t, limits));
    assertRise(t, rise, 15);
    const without = await drip(await gateway(t, limits, { dist: kept }));
    assert.ok(without > 2 * rise && without > 15, `${without} MiB`);
  });
});

describe("a client above its rate", () => {
  it("of PUBLISH has its messages held back in the socket, not in memory, and stays connected", async (t) => {
    const world = await gateway(t, { publishRate: 1 });
    const clients = await Promise.all(Array.from({ length: 20 }, (_, n) => connected(world.port, `node-${n}`)));
    const message = publishPacket("x/y", Buffer.alloc(60_000, 0x20));
    const rise = await growth(world, async () => {
      const pouring = clients.map((client) => pour(client, message, 100 * MIB));
      await Promise.race([...pouring, new Promise((resolve) => setTimeout(resolve, 3000))]);
    });
    assertRise(t, rise, 30);
    assert.ok(clients.every(({ closed }) => !closed));
    for (const { socket } of clients) socket.destroy();
  });

  it("of SUBSCRIBE likewise; without a rate (control) each costs memory at once", async (t) => {
    const flood = async (world: World) => {
      const client = await connected(world.port, "node-7");
      const rise = await growth(world, async () => {
        client.send(Buffer.concat(Array.from({ length: 30_000 }, () => subscribePacket(1, ["#"]))));
        for (let n = 0; n < 50; n++) await client.next(SUBACK);
        await isServed(world.port);
      });
      assert.equal(client.closed, false);
      return rise;
    };
    const rise = await flood(await gateway(t));
    assertRise(t, rise, 10);
    // The engine's own share is bounded as well, and would hide it.
    const dist = mutant(t, "sources/mqtt/gate.js", "MAX_PACKETS = 500", "MAX_PACKETS = 1e9");
    const free = await flood(await gateway(t, { subscribeRate: 0 }, { dist }));
    assert.ok(free > 2 * rise && free > 15, `${free} MiB`);
  });
});

describe("what is kept for clients", () => {
  async function filters(world: World, clients: number): Promise<number> {
    return growth(world, async () => {
      for (let n = 0; n < clients; n++) {
        const client = await connected(world.port, `node-${n}`, { clean: false });
        // The engine keeps filters with a wildcard in a tree, level by level.
        const deep = Array.from({ length: 100 }, (_, index) =>
          ["+", ...Array.from({ length: 31 }, (_, level) => (n * 3200 + index * 32 + level).toString(36))].join("/"),
        );
        client.send(subscribePacket(1, deep, 1));
        await client.next(SUBACK);
        await client.vanish();
      }
    });
  }

  it("as filters of those that went away is bounded", async (t) => {
    const world = await gateway(t);
    const rise = await filters(world, 100);
    assertRise(t, rise, 60);
    assert.ok((await world.metric('dropped_total{what="session"}')) > 50);
    await isServed(world.port);
    const unbounded = mutantWith(t, "sources/mqtt/session-store.js", [
      ["MAX_FILTER_LEVELS = 50_000", "MAX_FILTER_LEVELS = 1e9"],
      ["MAX_ABSENT_WEIGHT = 20_000", "MAX_ABSENT_WEIGHT = 1e9"],
    ]);
    const without = await filters(await gateway(t, {}, { dist: unbounded }), 100);
    assert.ok(without > rise + 30, `${without} MiB`);
  });

  it("as messages for subscribers that acknowledge none is bounded", async (t) => {
    const load = async (limits: object) => {
      const world = await gateway(t, { publishRate: 0, ...limits });
      const subscribers = await Promise.all(
        Array.from({ length: 5 }, async (_, n) => {
          const client = await connected(world.port, `mute-${n}`, { clean: false });
          client.send(subscribePacket(1, ["news"], 1));
          await client.next(SUBACK);
          return client;
        }),
      );
      const publisher = await connected(world.port, "publisher");
      const rise = await growth(world, async () => {
        for (let n = 0; n < 900; n++) {
          publisher.send(publishPacket("news", Buffer.alloc(60_000), { qos: 1, id: n + 1 }));
          await publisher.next(PUBACK);
          for (const client of subscribers) client.packets.length = 0;
        }
        await publisher.ping();
      });
      return { rise, dropped: await world.metric('dropped_total{what="offline-message"}') };
    };
    const { rise, dropped } = await load({});
    assertRise(t, rise, 50);
    assert.ok(dropped > 0);
    const raised = await load({ maxQueuedBytes: "1GiB" });
    assert.ok(raised.rise > rise + 30, `${raised.rise} MiB`);
    assert.equal(raised.dropped, 0);
  });
});

describe("a subscriber that does not read", () => {
  /** Publishes 240 MiB, for `pourFor` ms at the most, to one that does not read, and then readings to it and another; `heard` resolves once that has all. */
  async function withStuckReader({ port }: World, pourFor = 30_000) {
    const stuck = await connected(port, "stuck");
    stuck.send(subscribePacket(1, ["#"]));
    await stuck.next(SUBACK);
    stuck.socket.pause();
    const other = await connected(port, "other");
    other.send(subscribePacket(1, ["telemetry/#"]));
    await other.next(SUBACK);
    const flooders = await Promise.all([0, 1, 2].map((n) => connected(port, `flooder-${n}`)));
    const message = publishPacket("x/y", Buffer.alloc(60_000, 0x20));
    const pouring = flooders.map((client) => pour(client, message, 80 * MIB));
    await Promise.race([Promise.all(pouring), new Promise((resolve) => setTimeout(resolve, pourFor))]);
    const device = await connected(port, "device");
    const heard = (async () => {
      for (let id = 1; id <= 150; id++) {
        device.send(publishPacket("telemetry/a", READING), publishPacket("telemetry/a", READING, { qos: 1, id }));
        await device.next(PUBACK);
      }
      for (let n = 1; n <= 300; n++) await other.next(PUBLISH);
      return true;
    })();
    heard.catch(() => {});
    return { heard, end: () => [...flooders, stuck].map(({ socket }) => socket.destroy()) };
  }

  it("holds neither the others up nor memory, and is cut off and named", async (t) => {
    // Not after a minute, so that nobody need wait for it.
    const dist = mutant(t, "sources/mqtt/slow-reader.js", "STUCK_MS = 60_000", "STUCK_MS = 5_000");
    const world = await gateway(t, { publishRate: 0 }, { dist });
    const rise = await growth(world, async () => {
      const { heard, end } = await withStuckReader(world);
      assert.equal(await heard, true);
      const [line] = await world.named("slow-reader");
      assert.deepEqual([line?.msg, line?.client], ["client cut off", "stuck"]);
      end();
    });
    // Two thirds of it rise for the same messages without a subscriber: they are collected lazily. What is held is twice as much (control).
    assertRise(t, rise, 160);
    assert.ok((await world.metric('dropped_total{what="slow-reader"}')) > 0);
    await isServed(world.port);
  });

  it("control: holds the others up where it is waited for", async (t) => {
    const dist = mutant(t, "sources/mqtt/slow-reader.js", "PATIENCE_MS = 250", "PATIENCE_MS = 600_000");
    const world = await gateway(t, { publishRate: 0 }, { dist });
    const stood = () => new Promise<boolean>((resolve) => setTimeout(() => resolve(true), 4000));
    for (let pours = 1; pours <= 5; pours++) {
      const { heard, end } = await withStuckReader(world, 2000);
      const held = await Promise.race([heard.then(() => false), stood()]);
      end();
      if (held) return;
    }
    assert.fail("every reading came through");
  });

  it("control: holds memory where what waits for it has no bound", async (t) => {
    const dist = mutant(t, "sources/mqtt/gate.js", "OUTPUT_HIGH_WATER = 256 * 1024", "OUTPUT_HIGH_WATER = 2 ** 40");
    const world = await gateway(t, { publishRate: 0 }, { dist });
    const rise = await growth(world, async () => {
      const { end } = await withStuckReader(world);
      end();
    });
    assert.ok(rise > 200, `${rise} MiB`);
  });
});

describe("half-open connections", () => {
  it("of every kind are gone after their time, and hold no memory", async (t) => {
    const world = await gateway(t, { connectTimeout: "1s", maxKeepAlive: "1s" });
    const rise = await growth(world, async () => {
      const clients: RawMqtt[] = [];
      for (let n = 0; n < 40; n++) {
        const silent = new RawMqtt(world.port);
        const half = new RawMqtt(world.port);
        half.socket.allowHalfOpen = true;
        half.socket.end(connectPacket("half").subarray(0, 7));
        const vanished = await connected(world.port, `vanished-${n}`);
        const mute = await connected(world.port, `mute-${n}`);
        mute.socket.allowHalfOpen = true;
        mute.socket.pause();
        mute.socket.end(packet(0xc0));
        clients.push(silent, half, vanished, mute);
      }
      while ((await world.metric("connections")) > 0);
      for (const { socket } of clients) socket.destroy();
    });
    assertRise(t, rise, 30);
    await isServed(world.port);
  });

  it("control: that say nothing stay where their time is longer", async (t) => {
    const world = await gateway(t, { connectTimeout: "1h", maxKeepAlive: "1h" });
    const clients = [new RawMqtt(world.port), await connected(world.port, "silent")];
    const brief = await gateway(t, { connectTimeout: "1s", maxKeepAlive: "1s" });
    const others = [new RawMqtt(brief.port), await connected(brief.port, "silent")];
    for (const other of others) await other.whenClosed();
    assert.ok(clients.every(({ closed }) => !closed));
  });
});
