/**
 * The one door for readings: what any source understood as a payload is split, normalised, counted and appended to the
 * outbox here.
 *
 * Invariants: every reading of a payload is either handed to the outbox or counted as refused, one by one; `committed` is
 * called exactly once, by the outbox where it took anything, else in a later turn. It keeps no reading itself; its tables
 * are bounded.
 */
import { Counter } from "prom-client";
import type { Clock } from "../kernel/clock.ts";
import { RateLimit, type Telemetry } from "../kernel/telemetry.ts";
import { TimeOrderedIds } from "../observation/identity.ts";
import { type DecodedReading, normalise, type ReadingDefaults } from "../observation/normalise.ts";
import type { Observation, Priority } from "../observation/observation.ts";
import type { Admission, Intake, Origin } from "./intake.ts";
import { type Head, headOf, Quarantine, type Refusals } from "./quarantine.ts";

/** What the intake needs of the outbox. */
export interface ReadingsOutbox {
  /**
   * Takes the readings, in order. `committed` is called once, without arguments and never before this returns, when all
   * of them (copies included) are durable.
   */
  append(
    readings: readonly Observation[],
    receivedAt: number,
    committed: () => void,
  ): { readonly accepted: number; readonly duplicates: number; readonly copies: readonly Observation[] };
  /** Whether so much waits for its commit that sources ought to pause. */
  readonly saturated: boolean;
  /** Whether it is full and takes nothing of a priority: what has no acknowledgement is refused, what has one had better wait. */
  refuses(priority: Priority): boolean;
  /** Calls `listener` once when `saturated` and what is refused have changed for the better. */
  onceRelieved(listener: () => void): void;
}

/** One source's counts since the start, for status. */
export interface SourceCounts {
  readonly name: string;
  readonly kind: Origin["kind"];
  readonly accepted: number;
  readonly refused: number;
  readonly duplicates: number;
  /** Wall time in milliseconds; `undefined` before the first reading. */
  readonly lastReadingAt: number | undefined;
}

/** One device (a reading's `source`) that was heard. */
export interface DeviceCounts {
  readonly source: string;
  /** The name of the source that it last came in by. */
  readonly via: string;
  /** Readings that were committed; copies are none. */
  readonly accepted: number;
  readonly lastReadingAt: number;
}

export type RefusalReason = "invalid" | "unauthorised" | "outbox-full";

/** Most readings in one payload; those behind are refused. */
export const MAX_READINGS_PER_PAYLOAD = 10_000;
/** Devices remembered; the one not heard for longest makes room. */
export const MAX_DEVICES = 512;
/** Refused elements of one array that are kept for the operator; the others are only counted. */
const QUARANTINED_PER_PAYLOAD = 10;
/** Refusals are logged at most so often. */
const REFUSALS_LOGGED = 10;
const REFUSALS_WINDOW_MS = 60_000;

type Mutable<T> = { -readonly [key in keyof T]: T[key] };
type Device = Mutable<DeviceCounts> & { heard: number };

export class ReadingsIntake implements Intake {
  readonly #outbox: ReadingsOutbox;
  readonly #clock: Clock;
  readonly #log: Telemetry["log"];
  readonly #ids: TimeOrderedIds;
  readonly #refusalLog: RateLimit;
  readonly #quarantine = new Quarantine();
  readonly #sources = new Map<string, Mutable<SourceCounts>>();
  readonly #devices = new Map<string, Device>();
  readonly #refused: Record<RefusalReason, number> = { invalid: 0, unauthorised: 0, "outbox-full": 0 };
  #heard = 0;

  constructor(parts: { outbox: ReadingsOutbox; clock: Clock; telemetry: Telemetry; ids?: TimeOrderedIds }) {
    this.#outbox = parts.outbox;
    this.#clock = parts.clock;
    this.#log = parts.telemetry.log.child({ part: "intake" });
    this.#ids = parts.ids ?? new TimeOrderedIds();
    this.#refusalLog = new RateLimit(parts.clock, REFUSALS_LOGGED, REFUSALS_WINDOW_MS);
    this.#measure(parts.telemetry.metrics);
  }

  submit(payload: unknown, origin: Origin, committed?: () => void): Admission {
    const receivedAt = this.#clock.now();
    let readings: Observation[] = [];
    const unauthorisedBefore = this.#refused.unauthorised;
    let refused = Array.isArray(payload)
      ? this.#takeAll(payload, origin, receivedAt, readings)
      : this.#take(payload, origin, receivedAt, readings, true);
    const unauthorised = this.#refused.unauthorised - unauthorisedBefore;
    if (committed === undefined && this.#outbox.refuses("normal")) {
      const taken = readings.filter(({ priority }) => !this.#outbox.refuses(priority));
      const withoutRoom = readings.length - taken.length;
      if (withoutRoom > 0) this.#countRefusal("outbox-full", origin, withoutRoom);
      refused += withoutRoom;
      readings = taken;
    }
    if (readings.length === 0) {
      if (committed !== undefined) process.nextTick(committed);
      return { accepted: 0, duplicates: 0, refused, unauthorised };
    }
    const counts = this.#countsOf(origin);
    const { accepted, duplicates, copies } = this.#outbox.append(readings, receivedAt, () => {
      // Accepted is what has been committed (contract, section 1.1), and no earlier.
      counts.accepted += accepted;
      for (const device of devices) device.accepted++;
      committed?.();
    });
    counts.duplicates += duplicates;
    counts.lastReadingAt = receivedAt;
    const devices = this.#note(origin, readings, copies, receivedAt);
    return { accepted, duplicates, refused, unauthorised };
  }

  refuse(reason: RefusalReason, detail: string, raw: Uint8Array | string, origin: Origin): void {
    this.#countRefusal(reason, origin);
    this.#keep(reason, detail, headOf(raw), origin);
  }

  get saturated(): boolean {
    return this.#outbox.saturated;
  }

  refuses(priority: Priority): boolean {
    return this.#outbox.refuses(priority);
  }

  onceRelieved(listener: () => void): void {
    this.#outbox.onceRelieved(listener);
  }

  /** What each source brought, in the order in which they were first heard. */
  sources(): SourceCounts[] {
    return [...this.#sources.values()].map((counts) => ({ ...counts }));
  }

  /** The devices heard last, at most `MAX_DEVICES`. */
  devices(): DeviceCounts[] {
    return [...this.#devices.values()].map(({ source, via, accepted, lastReadingAt }) => ({
      source,
      via,
      accepted,
      lastReadingAt,
    }));
  }

  /** Readings refused since the start, by reason. */
  refused(): Record<RefusalReason, number> {
    return { ...this.#refused };
  }

  /** What was refused last, in part. */
  quarantine(): Refusals {
    return this.#quarantine;
  }

  #takeAll(payload: readonly unknown[], origin: Origin, receivedAt: number, into: Observation[]): number {
    let refused = 0;
    for (const element of payload.slice(0, MAX_READINGS_PER_PAYLOAD)) {
      refused += this.#take(element, origin, receivedAt, into, refused < QUARANTINED_PER_PAYLOAD);
    }
    const beyond = payload.length - MAX_READINGS_PER_PAYLOAD;
    if (beyond <= 0) return refused;
    this.#countRefusal("invalid", origin, beyond);
    this.#keep(
      "invalid",
      `${beyond} readings beyond the ${MAX_READINGS_PER_PAYLOAD} of one payload`,
      { head: "" },
      origin,
    );
    return refused + beyond;
  }

  /** Adds one reading to `into`, or counts it as refused; returns how many were refused. */
  #take(reading: unknown, origin: Origin, receivedAt: number, into: Observation[], keep: boolean): 0 | 1 {
    const result = isReading(reading)
      ? normalise(reading, defaultsOf(origin, receivedAt), this.#ids)
      : ({ kind: "refused", detail: "not a JSON object" } as const);
    const objection = result.kind === "observation" ? origin.objection?.(result.observation.source) : undefined;
    if (result.kind === "observation" && objection === undefined) {
      into.push(result.observation);
      return 0;
    }
    const reason = result.kind === "refused" ? "invalid" : "unauthorised";
    this.#countRefusal(reason, origin);
    if (keep) {
      const detail = result.kind === "refused" ? result.detail : (objection ?? "");
      this.#keep(reason, detail, headOf(textOf(reading)), origin);
    }
    return 1;
  }

  /** Remembers who was heard; gives the device of each reading that is no copy. */
  #note(origin: Origin, readings: readonly Observation[], copies: readonly Observation[], at: number): Device[] {
    const follow = this.#log.isLevelEnabled("debug");
    const repeated = copies.length === 0 ? undefined : new Set(copies);
    const devices: Device[] = [];
    for (const reading of readings) {
      const device = this.#hear(reading.source, origin.name, at);
      if (repeated?.has(reading) !== true) devices.push(device);
      if (follow) this.#follow(reading, origin);
    }
    return devices;
  }

  #follow(reading: Observation, origin: Origin): void {
    const trace = reading.traceparent === undefined ? undefined : { trace: reading.traceparent.slice(3, 35) };
    const { id, source } = reading;
    this.#log.debug({ reading: id, source, class: reading.class, via: origin.via, ...trace }, "reading taken");
  }

  #hear(source: string, via: string, at: number): Device {
    this.#heard++;
    const known = this.#devices.get(source);
    if (known !== undefined) {
      known.via = via;
      known.lastReadingAt = at;
      known.heard = this.#heard;
      return known;
    }
    if (this.#devices.size >= MAX_DEVICES) this.#forgetQuietest();
    const device = { source, via, accepted: 0, lastReadingAt: at, heard: this.#heard };
    this.#devices.set(source, device);
    return device;
  }

  #forgetQuietest(): void {
    let quietest: { source: string; heard: number } | undefined;
    for (const device of this.#devices.values()) {
      if (quietest === undefined || device.heard < quietest.heard) quietest = device;
    }
    if (quietest !== undefined) this.#devices.delete(quietest.source);
  }

  #countsOf(origin: Origin): Mutable<SourceCounts> {
    let counts = this.#sources.get(origin.name);
    if (counts === undefined) {
      const { name, kind } = origin;
      counts = { name, kind, accepted: 0, refused: 0, duplicates: 0, lastReadingAt: undefined };
      this.#sources.set(name, counts);
    }
    return counts;
  }

  #countRefusal(reason: RefusalReason, origin: Origin, readings = 1): void {
    this.#refused[reason] += readings;
    this.#countsOf(origin).refused += readings;
  }

  #keep(reason: RefusalReason, detail: string, { head, ...hex }: Head, origin: Origin): void {
    const { name: source, via, source: device } = origin;
    this.#quarantine.add({ at: this.#clock.now(), reason, detail, source, via, device, head, ...hex });
    const heldBack = this.#refusalLog.admit();
    if (heldBack === undefined) return;
    this.#log.warn({ reason, detail, source, via, head, heldBack }, "reading refused");
  }

  /** The counts are kept once, here; a scrape reads them. */
  #measure(metrics: Telemetry["metrics"]): void {
    const sources = this.#sources;
    const refused = this.#refused;
    new Counter({
      name: "summit_edge_readings_accepted_total",
      help: "Readings accepted since the start, by source.",
      labelNames: ["source"],
      registers: [metrics],
      collect() {
        this.reset();
        for (const { name, accepted } of sources.values()) this.inc({ source: name }, accepted);
      },
    });
    new Counter({
      name: "summit_edge_readings_refused_total",
      help: "Readings refused since the start, by reason.",
      labelNames: ["reason"],
      registers: [metrics],
      collect() {
        this.reset();
        for (const [reason, count] of Object.entries(refused)) this.inc({ reason }, count);
      },
    });
  }
}

function isReading(value: unknown): value is DecodedReading {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function defaultsOf(origin: Origin, receivedAt: number): ReadingDefaults {
  return { class: origin.class, priority: origin.priority, source: origin.source, receivedAt };
}

/** A decoded reading as text. A codec may have made what JSON cannot write, a device nested too deep for it. */
function textOf(reading: unknown): string {
  try {
    return JSON.stringify(reading) ?? typeof reading;
  } catch {
    return "(cannot be shown)";
  }
}
