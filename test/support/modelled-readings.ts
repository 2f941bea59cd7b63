/** What an outbox ought to know of readings: each in a plain list, with its fate. */
import assert from "node:assert/strict";
import { PRIORITIES } from "#src/observation/observation.js";
import type { FATES } from "#src/outbox/ledger.js";
import type { Machine } from "./model-machine.ts";

const CRITICAL = 0;

export interface Reading {
  readonly id: string;
  readonly seq: number;
  readonly lane: number;
  /** As the gateway's clock had it, or the device. */
  readonly observedAt: number;
  /** When it came in, where it has no time of its own and the clock was not to be trusted. */
  readonly stamp: { readonly boot: string; readonly uptime: number } | undefined;
}

/** On the clock that nobody sets, and on that of the boot, ms. */
export interface Moment {
  readonly elapsed: number;
  readonly boot: number;
  readonly monotonic: number;
}

export interface Accepted extends Reading {
  fate: (typeof FATES)[number];
  /** Number of the lease that it is on. */
  lease: number | undefined;
  /** Put off, or asked for again: sent ahead of its lane once due. */
  deferred: boolean;
  /** A block that holds such a reading waits for the clock. */
  readonly provisional: boolean;
  readonly acceptedBoot: number;
  /** Since when it waits. */
  since: Moment;
  /** It is among the dead letters. */
  letter: boolean;
  /** The time with which it was delivered. */
  sentAs?: number;
}

export class Readings {
  readonly #machine: Machine;
  readonly #bySeq = new Map<number, Accepted>();
  readonly #byId = new Map<string, Accepted>();
  /** By boot: what its clock turned out to be off by. */
  readonly #offsets = new Map<string, number>();
  #holdUntil = Number.NEGATIVE_INFINITY;

  constructor(machine: Machine) {
    this.#machine = machine;
    this.started();
  }

  add(reading: Accepted): void {
    this.#bySeq.set(reading.seq, reading);
    this.#byId.set(reading.id, reading);
  }

  get all(): Accepted[] {
    return [...this.#bySeq.values()];
  }

  get pending(): Accepted[] {
    return this.all.filter(({ fate }) => fate === "pending");
  }

  get letters(): Accepted[] {
    return this.all.filter(({ letter }) => letter);
  }

  inLane(lane: number): Accepted[] {
    return this.all.filter((reading) => reading.lane === lane);
  }

  numbered(seq: number): Accepted {
    return this.#bySeq.get(seq) ?? assert.fail(`${seq} was never accepted`);
  }

  known(id: string): Accepted {
    return this.#byId.get(id) ?? assert.fail(`${id} was never accepted`);
  }

  get clockKnown(): boolean {
    return this.#offsets.has(this.#machine.bootId);
  }

  get now(): Moment {
    const { elapsed, boot, monotonic } = this.#machine;
    return { elapsed, boot, monotonic };
  }

  /** The daemon has started (again): nothing is on lease, and what waits for the clock does so anew. */
  started(): void {
    for (const reading of this.#bySeq.values()) reading.lease = undefined;
    const { monotonic, settings } = this.#machine;
    this.#holdUntil = this.clockKnown ? Number.NEGATIVE_INFINITY : monotonic + settings.waitForClock;
  }

  /** From now on the clock of this boot is known. */
  synchronised(): void {
    const { bootId, rightTime, monotonic } = this.#machine;
    if (!this.clockKnown) this.#offsets.set(bootId, rightTime - monotonic);
    this.#holdUntil = Number.NEGATIVE_INFINITY;
  }

  /** When a reading was observed, as it goes out now; what has been delivered stays as it went. */
  timeOf({ stamp, observedAt, sentAs }: Accepted): number {
    if (sentAs !== undefined) return sentAs;
    const offset = stamp && this.#offsets.get(stamp.boot);
    return stamp === undefined || offset === undefined ? observedAt : offset + stamp.uptime;
  }

  /** Sequence numbers of what can be sent for certain, in order. What was put off is not: it may not be due yet. */
  get sendable(): number[] {
    return PRIORITIES.flatMap((_, lane) => {
      const waiting = this.pending
        .filter((reading) => reading.lane === lane && !reading.deferred && reading.lease === undefined)
        .sort((a, b) => a.seq - b.seq);
      const heldFrom = waiting.findIndex((reading) => this.#waitsForClock(reading));
      return (heldFrom < 0 ? waiting : waiting.slice(0, heldFrom)).map(({ seq }) => seq);
    });
  }

  #waitsForClock({ provisional, acceptedBoot, lane }: Accepted): boolean {
    const { boot, monotonic } = this.#machine;
    return provisional && acceptedBoot === boot && lane !== CRITICAL && monotonic < this.#holdUntil;
  }
}
