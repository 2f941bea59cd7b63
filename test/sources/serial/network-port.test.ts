import assert from "node:assert/strict";
import { once } from "node:events";
import { type AddressInfo, createServer, type Server, type Socket } from "node:net";
import { afterEach, describe, it } from "node:test";
import { pino } from "pino";
import type { SerialPortConfig } from "#src/config/schema.js";
import { Conditions } from "#src/kernel/conditions.js";
import { createMetrics } from "#src/kernel/telemetry.js";
import { createSerialSources, type SerialSource } from "#src/sources/serial/serial-source.js";
import { freePort } from "../../support/free-port.ts";
import { RecordingIntake } from "../../support/recording-intake.ts";
import { jsonPort, LINE_DEFAULTS, serialHouse } from "../../support/serial-house.ts";
import { TestClock } from "../../support/test-clock.ts";
import { until } from "../../support/until.ts";

const REOPEN = { initial: 1000, max: 60_000 };

/** A serial-to-network adapter on loopback. */
class Adapter {
  readonly server: Server;
  readonly sockets: Socket[] = [];

  private constructor(server: Server) {
    this.server = server;
    server.on("connection", (socket) => {
      socket.on("error", () => {});
      this.sockets.push(socket);
    });
  }

  static async listen(port?: number): Promise<Adapter> {
    const adapter = new Adapter(createServer());
    adapter.server.listen(port ?? (await freePort()), "127.0.0.1");
    await once(adapter.server, "listening");
    return adapter;
  }

  get port(): number {
    return (this.server.address() as AddressInfo).port;
  }

  async close(): Promise<void> {
    if (!this.server.listening) return;
    const closed = once(this.server, "close");
    this.server.close();
    for (const socket of this.sockets) socket.destroy();
    await closed;
  }
}

/** A clock that remembers for how long it was asked to sleep: the waits between attempts. */
class WaitClock extends TestClock {
  readonly waits: number[] = [];

  override sleep(delayMs: number, signal?: AbortSignal): Promise<void> {
    this.waits.push(delayMs);
    return super.sleep(delayMs, signal);
  }
}

function house(path: string, random = () => 0.999_999) {
  const clock = new WaitClock();
  const log = pino({ level: "silent" });
  const intake = new RecordingIntake();
  const conditions = new Conditions(clock, log);
  const config: SerialPortConfig = {
    name: "far",
    path,
    baudRate: 9600,
    dataBits: 8,
    parity: "none",
    stopBits: 1,
    framing: "lines",
    maxFrameBytes: 4096,
    codec: "csv",
    columns: ["t", "rh"],
    separator: ",",
    reopen: REOPEN,
    ...LINE_DEFAULTS,
  };
  const parts = { intake, clock, random, conditions, telemetry: { log, metrics: createMetrics() } };
  const [source] = createSerialSources([config], parts);
  assert.ok(source);
  return { source, intake, conditions, clock };
}

describe("a serial source over TCP", () => {
  const running: SerialSource[] = [];
  const adapters: Adapter[] = [];

  afterEach(async () => {
    for (const source of running.splice(0)) await source.stop();
    for (const adapter of adapters.splice(0)) await adapter.close();
  });

  async function listen(port?: number): Promise<Adapter> {
    const adapter = await Adapter.listen(port);
    adapters.push(adapter);
    return adapter;
  }

  it("reads frames, and connects again after the connection was lost", async () => {
    const adapter = await listen();
    const { source, intake, conditions, clock } = house(`tcp://127.0.0.1:${adapter.port}`);
    running.push(source);
    await source.start();
    assert.equal(source.status().state, "open");
    await until("connected", () => adapter.sockets.length === 1);
    adapter.sockets[0]?.write("21.5,40\r\n22,4");
    await until("the first reading", () => intake.readings.length === 1);
    adapter.sockets[0]?.end();
    await until("noticed", () => source.status().state === "waiting");
    assert.deepEqual(
      conditions.list().map(({ component, code, severity }) => [component, code, severity]),
      [["serial:far", "serial-failed", "degraded"]],
    );
    await clock.advance(REOPEN.initial);
    await until("connected again", () => source.status().state === "open" && adapter.sockets.length === 2);
    adapter.sockets[1]?.write("23,41\r\n");
    await until("the second reading", () => intake.readings.length === 2);
    assert.deepEqual(intake.payloads(), [
      { t: 21.5, rh: 40 },
      { t: 23, rh: 41 },
    ]);
    assert.equal(intake.readings[0]?.origin.class, "telemetry");
    assert.deepEqual(conditions.list(), []);
  });

  it("waits longer after each failure up to the configured maximum, until data has flowed", async () => {
    const adapter = await listen();
    const { source, intake, clock } = house(`tcp://127.0.0.1:${adapter.port}`);
    running.push(source);
    await source.start();
    for (let connection = 0; connection < 10; connection++) {
      const connected = () => adapter.sockets.length === connection + 1 && source.status().state === "open";
      await until("connected", connected);
      if (connection === 8) {
        adapter.sockets[connection]?.write("1,2\n");
        await until("data", () => intake.readings.length === 1);
      }
      adapter.sockets[connection]?.destroy();
      await until("noticed", () => clock.waits.length === connection + 1);
      await clock.advance(REOPEN.max);
    }
    const seconds = clock.waits.map((wait) => Math.round(wait / 1000));
    assert.deepEqual(seconds, [1, 2, 4, 8, 16, 32, 60, 60, 1, 2]);
  });

  it("spreads the waits by chance, never below the first one", async () => {
    const { source, clock } = house("tcp://adapter", () => 0);
    running.push(source);
    await source.start();
    await clock.advance(3 * REOPEN.initial);
    assert.deepEqual(clock.waits, [1000, 1000, 1000, 1000]);
  });

  it("says what is wrong with a path that is no address", async () => {
    const { source, conditions } = house("tcp://adapter");
    running.push(source);
    await source.start();
    assert.match(conditions.list()[0]?.detail ?? "", /not of the form tcp:\/\/host:port/);
  });

  it("gives up an attempt to connect when it is stopped", async () => {
    // 192.0.2.0/24 is for documentation (RFC 5737): nobody answers.
    const { source } = house("tcp://192.0.2.1:4001");
    const started = source.start();
    await source.stop();
    await started;
    assert.equal(source.status().state, "closed");
  });

  it("asks a device at the other end that speaks when it is asked", async () => {
    const adapter = await listen();
    adapter.server.on("connection", (socket) => socket.on("data", (asked) => socket.write(`{"asked":"${asked}"}\n`)));
    const poll = { every: 10, timeout: 5000, retries: 0, framed: false, start: [], requests: [{ text: "value?" }] };
    const { sources, intake } = serialHouse([jsonPort({ path: `tcp://127.0.0.1:${adapter.port}`, poll })]);
    const [source] = sources as [SerialSource];
    running.push(source);
    await source.start();
    await until("three answers", () => intake.readings.length >= 3);
    assert.deepEqual(intake.payloads()[0], { asked: "value?" });
  });
});
