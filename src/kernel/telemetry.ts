import { type DestinationStream, type Logger, type LoggerOptions, pino } from "pino";
import { Registry } from "prom-client";
import type { Clock } from "./clock.ts";

export type { Logger } from "pino";

/** What every part reports through: its own child of the log, and the one metrics registry. */
export interface Telemetry {
  readonly log: Logger;
  readonly metrics: Registry;
}

/** Keys whose values never reach the log, wherever a logged object holds them. */
const SECRET_KEYS = ["password", "passphrase", "token", "authorization", "privateKey", "secret", "credential"];

const redact = {
  paths: SECRET_KEYS.flatMap((key) => [key, `*.${key}`, `*.*.${key}`]),
  censor: "[redacted]",
};

/**
 * The gateway's log: one JSON object a line, or for a person's eyes where `format` is `pretty`.
 * `bindings` stand in every line.
 */
export async function createLog(
  options: { level: string; format: "json" | "pretty" },
  bindings: Record<string, string>,
  destination?: DestinationStream,
): Promise<Logger> {
  const settings: LoggerOptions = {
    level: options.level,
    base: bindings,
    redact,
    serializers: { err: errorFields },
    timestamp: () => `,"time":"${new Date().toISOString()}"`,
    formatters: { level: (label) => ({ level: label }) },
  };
  if (destination !== undefined) return pino(settings, destination);
  if (options.format === "json") return pino(settings, pino.destination({ dest: 1, sync: true }));
  const { default: pretty } = await import("pino-pretty");
  return pino(settings, pretty({ sync: true, ignore: "gateway,version,pid", translateTime: "SYS:HH:MM:ss.l" }));
}

/** What the log shows of an error. Nothing else that hangs on one: a library may have put a request there, with its headers. */
function errorFields(thrown: unknown): unknown {
  if (!(thrown instanceof Error)) return thrown;
  const { type, message, stack } = pino.stdSerializers.err(thrown);
  const { code, op, hint } = thrown as { code?: unknown; op?: unknown; hint?: unknown };
  return { type, message, stack, code, op, hint };
}

/** A registry of metrics, empty. */
export function createMetrics(): Registry {
  return new Registry();
}

/**
 * Lets through at most `burst` events in any `windowMs`, so that a hostile or broken device cannot fill the log.
 * `admit` returns how many were held back since the last one that passed, or `undefined` for one that is held back.
 */
export class RateLimit {
  readonly #clock: Pick<Clock, "monotonic">;
  readonly #burst: number;
  readonly #windowMs: number;
  #windowStart = Number.NEGATIVE_INFINITY;
  #passed = 0;
  #heldBack = 0;

  constructor(clock: Pick<Clock, "monotonic">, burst: number, windowMs: number) {
    this.#clock = clock;
    this.#burst = burst;
    this.#windowMs = windowMs;
  }

  admit(): number | undefined {
    const now = this.#clock.monotonic();
    if (now - this.#windowStart >= this.#windowMs) {
      this.#windowStart = now;
      this.#passed = 0;
    }
    if (this.#passed >= this.#burst) {
      this.#heldBack++;
      return undefined;
    }
    this.#passed++;
    const heldBack = this.#heldBack;
    this.#heldBack = 0;
    return heldBack;
  }
}
