import { EventEmitter, once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Writable } from "node:stream";
import type { TestContext } from "node:test";
import type { MqttConfig, MqttLimits } from "#src/config/schema.js";
import type { AccessPolicy } from "#src/identity/access.js";
import { AccessControl } from "#src/identity/access-control.js";
import type { AuditEvent } from "#src/kernel/audit.js";
import { type Clock, systemClock } from "#src/kernel/clock.js";
import { Conditions } from "#src/kernel/conditions.js";
import { Reloads } from "#src/kernel/reloading.js";
import { createLog, createMetrics, type Telemetry } from "#src/kernel/telemetry.js";
import { MqttBroker } from "#src/sources/mqtt/broker.js";
import { ReadingsIntake } from "#src/sources/readings-intake.js";
import { RecordingOutbox } from "./recording-outbox.ts";

export interface LogLine {
  readonly level: string;
  readonly msg: string;
  readonly [key: string]: unknown;
}

/** A log that is kept, line by line. */
export class RecordedLog {
  readonly lines: LogLine[] = [];
  readonly #events = new EventEmitter().setMaxListeners(0);
  readonly destination = new Writable({
    write: (chunk: Buffer, _encoding, done) => {
      for (const line of chunk.toString().trim().split("\n")) this.lines.push(JSON.parse(line));
      this.#events.emit("lines");
      done();
    },
  });

  /** Resolves with the first line of that message, which may have been written already. */
  async line(message: string): Promise<LogLine> {
    for (;;) {
      const found = this.lines.find(({ msg }) => msg === message);
      if (found !== undefined) return found;
      await once(this.#events, "lines");
    }
  }
}

export async function recordingTelemetry(): Promise<{ telemetry: Telemetry; log: RecordedLog }> {
  const log = new RecordedLog();
  const options = { level: "debug", format: "json" } as const;
  return { telemetry: { log: await createLog(options, {}, log.destination), metrics: createMetrics() }, log };
}

/** The limits' defaults, but for the rates: those get tests of their own. */
export const mqttLimits: MqttLimits = {
  maxConnections: 256,
  maxConnectionsPerAddress: 64,
  maxConnectionsPerIdentity: 128,
  maxConnectBytes: 4096,
  maxPacketBytes: 65536,
  connectTimeout: 10_000,
  authenticateTimeout: 5_000,
  minKeepAlive: 1_000,
  maxKeepAlive: 3_600_000,
  publishRate: 0,
  subscribeRate: 0,
  maxTopicBytes: 512,
  maxTopicLevels: 32,
  maxSubscriptions: 100,
  maxInflightQos2: 1000,
  maxQueuedBytes: 16 * 1024 * 1024,
  maxRetainedMessages: 1000,
  maxRetainedBytes: 8 * 1024 * 1024,
  maxSessions: 1000,
  sessionExpiry: 7 * 86_400_000,
};

/** The `mqtt` section with every default, on a free port of this machine. */
export function mqttConfig(overrides: Partial<MqttConfig> = {}): MqttConfig {
  return {
    listeners: [{ bind: "127.0.0.1", port: 0 }],
    anonymous: "loopback",
    routes: [
      { topic: "observations/{class}" },
      { topic: "telemetry/{device}", class: "telemetry" },
      { topic: "alerts/{device}", class: "alert", priority: "critical" },
      { topic: "health/{device}/heartbeat", class: "heartbeat", priority: "low" },
    ],
    retained: [],
    offlineQueue: 0,
    sources: [],
    ...overrides,
    limits: { ...mqttLimits, ...overrides.limits },
  };
}

export interface BrokerUnderTest {
  readonly broker: MqttBroker;
  readonly intake: ReadingsIntake;
  readonly outbox: RecordingOutbox;
  readonly access: AccessControl;
  readonly audited: AuditEvent[];
  readonly log: RecordedLog;
  readonly telemetry: Telemetry;
  readonly dataDir: string;
  /** The ports bound, in the order of the listeners. */
  readonly ports: number[];
  readonly reloads: Reloads;
  readonly conditions: Conditions;
}

/**
 * A running broker with a real intake before a recording outbox; the test's end stops it. `policy` stands for the password
 * and access files.
 */
export async function startBroker(
  test: TestContext,
  overrides: Partial<MqttConfig> = {},
  clock: Clock = systemClock,
  policy: Partial<AccessPolicy> = {},
): Promise<BrokerUnderTest> {
  const dataDir = mkdtempSync(join(tmpdir(), "summit-edge-broker-"));
  const { telemetry, log } = await recordingTelemetry();
  const outbox = new RecordingOutbox();
  const intake = new ReadingsIntake({ outbox, clock, telemetry });
  const conditions = new Conditions(clock, telemetry.log);
  const audited: AuditEvent[] = [];
  const audit = (event: AuditEvent): void => void audited.push(event);
  const reloads = new Reloads({ clock, conditions, log: telemetry.log, audit });
  const config = mqttConfig(overrides);
  const access = new AccessControl({ anonymous: config.anonymous, ...policy });
  const broker = new MqttBroker({ config, dataDir, intake, access, clock, telemetry, reloads, conditions, audit });
  test.after(async () => {
    reloads.stop();
    outbox.release();
    await broker.stop();
    rmSync(dataDir, { recursive: true });
  });
  await broker.start();
  const ports = broker.status().listening.map(({ port }) => port);
  return { broker, intake, outbox, access, log, telemetry, dataDir, ports, reloads, conditions, audited };
}
