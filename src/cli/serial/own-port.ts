/** A configured serial port without a daemon: opened by the command itself, under the same lock, and read the same way. */
import type { SerialPortConfig } from "../../config/schema.ts";
import { watchedPort } from "../../gateway-serial.ts";
import { systemClock } from "../../kernel/clock.ts";
import { Conditions } from "../../kernel/conditions.ts";
import { createLog, createMetrics } from "../../kernel/telemetry.ts";
import { SerialTail } from "../../operations/serial-tail.ts";
import type { TailWhat, TimedTailLine } from "../../operations/tail-line.ts";
import type { Intake } from "../../sources/intake.ts";
import { createSerialSources } from "../../sources/serial/serial-source.ts";
import { unavailable } from "./unavailable.ts";

/** Nothing is kept of what is only looked at. */
const NOBODY: Intake = {
  submit: () => ({ accepted: 0, duplicates: 0, refused: 0, unauthorised: 0 }),
  refuse: () => {},
  saturated: false,
  refuses: () => false,
  onceRelieved: () => {},
};

/**
 * Hands what comes over the port to `take` until `signal` ends it. A port that goes away is opened again.
 * @throws GatewayError SERIAL_PORT_UNAVAILABLE where it cannot be opened to begin with
 */
export async function tailOwnPort(
  port: SerialPortConfig,
  what: TailWhat,
  signal: AbortSignal,
  take: (line: TimedTailLine) => void,
): Promise<void> {
  const log = await createLog({ level: "silent", format: "json" }, {}, process.stderr);
  const conditions = new Conditions(systemClock, log);
  const telemetry = { log, metrics: createMetrics() };
  const parts = { intake: NOBODY, clock: systemClock, random: Math.random, conditions, telemetry };
  const [source] = createSerialSources([port], parts);
  if (source === undefined) return;
  const tail = new SerialTail(watchedPort(source, conditions), systemClock, what);
  try {
    await source.start();
    const { state, detail = "it was closed at once" } = source.status();
    if (state !== "open") throw unavailable(detail);
    signal.addEventListener("abort", () => tail.destroy());
    if (!signal.aborted) for await (const piece of tail) for (const line of linesOf(piece)) take(JSON.parse(line));
  } catch (error) {
    if (!signal.aborted) throw error;
  } finally {
    await source.stop();
    tail.destroy();
  }
}

/** Each piece holds whole lines. */
function linesOf(piece: unknown): string[] {
  return String(piece).split("\n").slice(0, -1);
}
