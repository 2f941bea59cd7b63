import { pino } from "pino";
import type { SerialPortConfig } from "#src/config/schema.js";
import { type Clock, systemClock } from "#src/kernel/clock.js";
import { Conditions } from "#src/kernel/conditions.js";
import { createMetrics } from "#src/kernel/telemetry.js";
import { createSerialSources, type SerialParts } from "#src/sources/serial/serial-source.js";
import { RecordingIntake } from "./recording-intake.ts";

/** What the schema fills in for a port's line and its watch. */
export const LINE_DEFAULTS = {
  flowControl: "none",
  dtr: true,
  rts: true,
  silentAfter: 0,
  reopenWhenSilent: false,
  maxRate: { frames: 0, bytes: 0 },
} as const;

/** A port of NDJSON that is opened again at once. */
export function jsonPort(over: Partial<SerialPortConfig>): SerialPortConfig {
  return {
    name: "mast",
    baudRate: 4800,
    dataBits: 8,
    parity: "none",
    stopBits: 1,
    framing: "lines",
    maxFrameBytes: 4096,
    codec: "json",
    separator: ",",
    reopen: { initial: 10, max: 40 },
    ...LINE_DEFAULTS,
    ...over,
  };
}

/** All that serial sources need, and what they leave behind. `create`: a mutant's, for a control. */
export function serialHouse(
  configs: SerialPortConfig[],
  over: Partial<SerialParts> = {},
  create: typeof createSerialSources = createSerialSources,
) {
  const lines: { msg: string; code?: string; level: number; device?: string }[] = [];
  const log = pino({ level: "debug" }, { write: (line: string) => void lines.push(JSON.parse(line)) });
  const intake = new RecordingIntake();
  const clock: Clock = over.clock ?? systemClock;
  const conditions = new Conditions(clock, log);
  const metrics = createMetrics();
  const parts = { intake, clock, random: () => 0.5, conditions, telemetry: { log, metrics }, ...over };
  return { sources: create(configs, parts), intake, conditions, metrics, lines };
}
