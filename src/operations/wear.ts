/**
 * How much the gateway writes, and what that means for the card: bytes per reading, commits per second, and a year of both at
 * the rate of the last day.
 *
 * What is counted is what the kernel has charged to this process (`write_bytes` of proc(5)): the outbox, and its log where
 * that goes to a file. The file system's own journal and what the card makes of a write inside (it erases blocks of
 * megabytes) come on top and cannot be seen from here, so every estimate is before them.
 */
import { readFileSync } from "node:fs";
import type { Clock } from "../kernel/clock.ts";

/** Running totals, of which only differences matter. */
export interface WearTotals {
  /** By this process; `undefined` where the kernel does not account for it. */
  readonly writtenBytes: number | undefined;
  /** Readings. */
  readonly accepted: number;
  readonly commits: number;
}

export interface WearView {
  /** Since the process began. */
  readonly writtenBytes: number;
  /** What the rates below are taken over: since the start, and the last 24 hours at the most. */
  readonly measuredSeconds: number;
  /** `undefined` where none was accepted meanwhile. */
  readonly bytesPerReading: number | undefined;
  readonly commitsPerSecond: number;
  /** `undefined` in the first minute, which tells nothing about a year. */
  readonly bytesPerYear: number | undefined;
  /** `outbox.cardEndurance`: bytes that the card is rated to take over its life. */
  readonly enduranceBytes: number;
}

const SAMPLE_EVERY_MS = 10 * 60_000;
/** 24 hours. */
const SAMPLES = 144;
const TELLING_SECONDS = 60;
const YEAR_SECONDS = 365.25 * 86_400;

interface Sample extends WearTotals {
  readonly at: number;
}

export class WearMeter {
  readonly #clock: Clock;
  readonly #enduranceBytes: number;
  readonly #read: () => WearTotals;
  /** Oldest first, at most `SAMPLES`. */
  readonly #samples: Sample[] = [];
  #cancel = (): void => {};

  constructor(parts: { clock: Clock; enduranceBytes: number; read: () => WearTotals }) {
    this.#clock = parts.clock;
    this.#enduranceBytes = parts.enduranceBytes;
    this.#read = parts.read;
  }

  /** Measures from now on, until `stop`. */
  start(): void {
    this.#samples.push(this.#sample());
    if (this.#samples.length > SAMPLES) this.#samples.shift();
    this.#cancel = this.#clock.after(SAMPLE_EVERY_MS, () => this.start());
  }

  stop(): void {
    this.#cancel();
  }

  /** The figures as of now; `undefined` where the kernel does not account for what is written. */
  view(): WearView | undefined {
    const now = this.#sample();
    const from = this.#samples[0] ?? now;
    if (now.writtenBytes === undefined || from.writtenBytes === undefined) return undefined;
    const seconds = (now.at - from.at) / 1000;
    const written = now.writtenBytes - from.writtenBytes;
    const readings = now.accepted - from.accepted;
    return {
      writtenBytes: now.writtenBytes,
      measuredSeconds: seconds,
      bytesPerReading: readings > 0 ? written / readings : undefined,
      commitsPerSecond: seconds > 0 ? (now.commits - from.commits) / seconds : 0,
      bytesPerYear: seconds >= TELLING_SECONDS ? (written / seconds) * YEAR_SECONDS : undefined,
      enduranceBytes: this.#enduranceBytes,
    };
  }

  #sample(): Sample {
    return { ...this.#read(), at: this.#clock.monotonic() };
  }
}

/** `write_bytes` of proc(5)'s /proc/self/io: bytes sent to storage; `undefined` where the kernel does not account for it. */
export function writtenBytes(): number | undefined {
  try {
    const found = /^write_bytes: (\d+)$/m.exec(readFileSync("/proc/self/io", "latin1"));
    return found?.[1] === undefined ? undefined : Number(found[1]);
  } catch {
    return undefined;
  }
}
