import { pino } from "pino";
import { Registry } from "prom-client";
import { type Clock, systemClock } from "#src/kernel/clock.js";
import { Conditions } from "#src/kernel/conditions.js";
import { Outbox, type OutboxContext, type OutboxSettings } from "#src/outbox/outbox.js";

/** Settings of an outbox in a folder, with no delays. */
export function outboxSettings(dataDir: string, changes: Partial<OutboxSettings> = {}): OutboxSettings {
  return {
    gatewayId: "sierra-014",
    dataDir,
    file: "outbox.db",
    maxBytes: 2 ** 30,
    maxAge: 30 * 86_400_000,
    whenFull: "evict",
    reserveFreeDisk: 0,
    maxDeadLetters: 1000,
    waitForClock: 120_000,
    keepDelivered: 0,
    bootId: "boot",
    commitDelay: { critical: 0, high: 0, normal: 0, low: 0 },
    block: { maxReadings: 500, maxBytes: 512 * 1024 },
    ...changes,
  };
}

/** A real outbox, as the gateway opens it; an unexpected end of it ends the test. */
export async function openOutbox(
  dataDir: string,
  changes: Partial<OutboxSettings> = {},
  clock: Clock = systemClock,
  context: Partial<OutboxContext> = {},
): Promise<Outbox> {
  const log = pino({ level: "silent" });
  return await Outbox.open(outboxSettings(dataDir, changes), {
    clock,
    telemetry: { log, metrics: new Registry() },
    conditions: new Conditions(clock, log),
    clockQuality: () => "synchronised",
    onFatal: (error) => {
      throw error;
    },
    ...context,
  });
}
