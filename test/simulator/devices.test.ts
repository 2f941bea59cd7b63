import assert from "node:assert/strict";
import { once } from "node:events";
import { type AddressInfo, createServer, type Server, type Socket } from "node:net";
import { test } from "node:test";
import { createServer as createTlsServer } from "node:tls";
import { Aedes } from "aedes";
import { pino } from "pino";
import { systemClock } from "#src/kernel/clock.js";
import { type FleetOptions, SensorFleet } from "#src/simulator/devices.js";
import { freePort } from "../support/free-port.ts";
import { until } from "../support/until.ts";
import { selfSigned } from "./certificate.ts";
import { silent } from "./fusion-client.ts";

interface Received {
  topic: string;
  payload: string;
  client: string;
}

/** A stock broker. With `acknowledge` false it takes messages and says nothing, as a gateway whose card is stuck. */
class Broker {
  readonly received: Received[] = [];
  acknowledge = true;
  readonly #sockets = new Set<Socket>();
  #aedes: Aedes | undefined;
  #server: Server | undefined;

  async listen(port?: number, tls?: { cert: string; key: string }): Promise<number> {
    const aedes = await Aedes.createBroker();
    aedes.authorizePublish = (client, packet, callback) => {
      const { topic, payload } = packet;
      this.received.push({ topic, payload: payload.toString(), client: client?.id ?? "" });
      if (this.acknowledge) callback(null);
    };
    const onSocket = (socket: Socket): void => {
      this.#sockets.add(socket);
      socket.on("error", () => {});
      socket.on("close", () => this.#sockets.delete(socket));
      aedes.handle(socket);
    };
    const server = tls === undefined ? createServer(onSocket) : createTlsServer(tls, onSocket);
    server.listen(port ?? (await freePort()), "127.0.0.1");
    await once(server, "listening");
    this.#aedes = aedes;
    this.#server = server;
    return (server.address() as AddressInfo).port;
  }

  /** As a crash would: every connection is cut. */
  async stop(): Promise<void> {
    const [server, aedes] = [this.#server, this.#aedes];
    if (server === undefined || aedes === undefined) return;
    const closed = once(server, "close");
    server.close();
    for (const socket of this.#sockets) socket.destroy();
    await closed;
    await new Promise<void>((resolve) => aedes.close(resolve));
  }
}

const options = (url: string, over: Partial<FleetOptions> = {}): FleetOptions => ({
  broker: { url },
  devices: 4,
  rate: 200,
  scenario: { kind: "ignition", seed: 1, lat: 38.94, lon: -120.05, startedAt: systemClock.now() },
  clock: systemClock,
  log: silent,
  ...over,
});

const collecting = (warnings: string[]): FleetOptions["log"] =>
  pino({ level: "warn" }, { write: (line) => void warnings.push((JSON.parse(line) as { msg: string }).msg) });

test("every sensor has a connection of its own, and every kind of message is acknowledged and counted", async () => {
  const broker = new Broker();
  const fleet = new SensorFleet(options(`mqtt://127.0.0.1:${await broker.listen()}`, { speed: 600 }));
  fleet.start();
  const kinds = (): number[] => Object.values(fleet.counts().acknowledgedByKind);
  await until("all kinds of message acknowledged", () => kinds().every((count) => count > 0));
  const counts = await fleet.stop(10_000);
  await broker.stop();
  assert.deepEqual([counts.acknowledged, counts.skipped], [counts.published, 0]);
  assert.equal(
    kinds().reduce((sum, count) => sum + count, 0),
    counts.acknowledged,
  );
  assert.equal(new Set(broker.received.map(({ payload }) => payload)).size, counts.acknowledged);
  assert.deepEqual([...new Set(broker.received.map(({ client }) => client))].sort(), [
    "smoke-01",
    "smoke-03",
    "temperature-02",
    "temperature-04",
  ]);
  const ids = broker.received.flatMap(({ payload }) => (JSON.parse(payload) as { id?: string }).id ?? []);
  assert.deepEqual(new Set(ids), fleet.acknowledgedIds());
});

test("a run can be repeated: the same scenario gives the same values, whenever the timers fire", async () => {
  const startedAt = Date.parse("2026-08-20T20:00:00Z");
  const scenario = { kind: "ignition", seed: 3, lat: 38.94, lon: -120.05, startedAt } as const;
  const run = async (): Promise<object[]> => {
    const broker = new Broker();
    const url = `mqtt://127.0.0.1:${await broker.listen()}`;
    const fleet = new SensorFleet(options(url, { scenario, speed: 600 }));
    fleet.start();
    await until("enough is said", () => fleet.counts().acknowledged > 200);
    await fleet.stop(10_000);
    await broker.stop();
    return broker.received.map(({ topic, payload }) => {
      const { ts_iso: _time, id: _id, ...said } = JSON.parse(payload) as Record<string, unknown>;
      return { topic, ...said };
    });
  };
  const saidBy = (source: string, said: object[]): object[] =>
    said.filter((one) => "source" in one && one.source === source).slice(0, 40);
  const [first, second] = [await run(), await run()];
  for (const source of ["smoke-01", "temperature-02"]) {
    assert.equal(saidBy(source, first).length, 40);
    assert.deepEqual(saidBy(source, first), saidBy(source, second));
  }
});

test("what was not acknowledged when the broker went is sent again as it was, and nothing that was is lost", async () => {
  const broker = new Broker();
  const port = await broker.listen();
  const fleet = new SensorFleet(options(`mqtt://127.0.0.1:${port}`, { devices: 2, rate: 100 }));
  fleet.start();
  await until("something acknowledged", () => fleet.counts().acknowledged > 5);
  broker.acknowledge = false;
  const before = fleet.counts().published;
  await until("something waits", () => broker.received.length > before);
  await broker.stop();
  await until("published while the broker was away", () => fleet.counts().published > before + 20);
  broker.acknowledge = true;
  await broker.listen(port);
  await until("the sensors are back", () => fleet.counts().connected === 2);
  const counts = await fleet.stop(20_000);
  await broker.stop();
  assert.equal(counts.acknowledged, counts.published);
  assert.equal(new Set(broker.received.map(({ payload }) => payload)).size, counts.published);
  assert.ok(broker.received.length > counts.published, "what the first broker kept to itself came again");
});

test("no more than so many messages wait per sensor; beyond it a sensor is silent, and counts that", async () => {
  const broker = new Broker();
  broker.acknowledge = false;
  const fleet = new SensorFleet(
    options(`mqtt://127.0.0.1:${await broker.listen()}`, { devices: 2, maxUnacknowledged: 5 }),
  );
  fleet.start();
  await until("messages are skipped", () => fleet.counts().skipped > 20);
  const { published, acknowledged } = fleet.counts();
  assert.deepEqual([published, acknowledged], [10, 0]);
  const counts = await fleet.stop(10);
  assert.deepEqual([counts.published, counts.acknowledged], [10, 0]);
  await broker.stop();
});

test("a broker that is away is said in the log, not too often, and waited for", async () => {
  const broker = new Broker();
  const port = await broker.listen();
  await broker.stop();
  const warnings: string[] = [];
  const log = collecting(warnings);
  const fleet = new SensorFleet(options(`mqtt://127.0.0.1:${port}`, { log, devices: 8 }));
  fleet.start();
  await until("the refused connections are said", () => warnings.length > 0);
  await broker.listen(port);
  await until("messages are acknowledged", () => fleet.counts().acknowledged > 0);
  await fleet.stop(10_000);
  await broker.stop();
  assert.ok(warnings.length <= 3, `${warnings.length} lines`);
  assert.match(warnings[0] ?? "", new RegExp(`127.0.0.1:${port}`));
});

test("speaks TLS, and only to a broker that its authority vouches for", async () => {
  const { cert, key } = await selfSigned();
  const broker = new Broker();
  const url = `mqtts://127.0.0.1:${await broker.listen(undefined, { key, cert })}`;
  const warnings: string[] = [];
  const stranger = new SensorFleet(options(url, { log: collecting(warnings), devices: 1 }));
  stranger.start();
  const friend = new SensorFleet(options(url, { broker: { url, ca: cert }, devices: 2 }));
  friend.start();
  await until("messages over TLS are acknowledged", () => friend.counts().acknowledged > 10);
  await until("the stranger refuses", () => warnings.length > 0);
  assert.match(warnings[0] ?? "", /certificate/);
  assert.equal((await stranger.stop(0)).acknowledged, 0);
  await friend.stop(10_000);
  await broker.stop();
});
