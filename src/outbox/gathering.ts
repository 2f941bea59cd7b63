/**
 * The group that gathers on the main thread until its commit: readings by lane, who waits for them, and until when the
 * commit may wait for company. Holds no timers and does no I/O.
 */
import { type Observation, PRIORITIES } from "../observation/observation.ts";
import type { NewBlock } from "./engine.ts";
import { withSeq } from "./observation-text.ts";
import { ENVELOPE_BYTES, SEPARATOR } from "./segment.ts";
import { LANES } from "./store.ts";

interface Lane {
  readonly texts: string[];
  /** Of all texts, in UTF-16 code units. */
  length: number;
  observedFrom: string;
  observedTo: string;
}

export interface BlockLimits {
  readonly maxReadings: number;
  readonly maxBytes: number;
}

/** When the group was accepted, and what was known of the clock. */
export type Acceptance = Pick<NewBlock, "acceptedAt" | "acceptedMonotonic" | "clock">;

/** What a sequence number (15 digits at most) and the separator add to a reading's text. */
const OVERHEAD = 15 + SEPARATOR.length;

export class Gathering {
  readonly #limits: BlockLimits;
  readonly #lanes: Lane[] = Array.from({ length: LANES }, () => ({
    texts: [],
    length: 0,
    observedFrom: "~",
    observedTo: "",
  }));
  readonly waiters: (() => void)[] = [];
  count = 0;
  /** Characters gathered; close enough to bytes for a bound on memory. */
  size = 0;
  /** Monotonic time at which the commit is due at the latest. */
  dueAt = Number.POSITIVE_INFINITY;
  #full = false;

  constructor(limits: BlockLimits) {
    this.#limits = { maxReadings: limits.maxReadings, maxBytes: limits.maxBytes - ENVELOPE_BYTES };
  }

  add(observation: Observation, text: string, dueAt: number): void {
    const lane = this.#lanes[PRIORITIES.indexOf(observation.priority)] as Lane;
    lane.texts.push(text);
    if (observation.ts_iso < lane.observedFrom) lane.observedFrom = observation.ts_iso;
    if (observation.ts_iso > lane.observedTo) lane.observedTo = observation.ts_iso;
    lane.length += text.length;
    this.size += text.length;
    this.count++;
    if (dueAt < this.dueAt) this.dueAt = dueAt;
    if (lane.texts.length >= this.#limits.maxReadings || this.size >= this.#limits.maxBytes) this.#full = true;
  }

  /** A full group does not wait for its delay. */
  get full(): boolean {
    return this.#full;
  }

  /** The group as blocks, each small enough for one request, with sequence numbers from `firstSeq` on. */
  seal(firstSeq: number, acceptance: Acceptance): NewBlock[] {
    const blocks: NewBlock[] = [];
    let seq = firstSeq;
    this.#lanes.forEach((lane, number) => {
      // Most groups are so small that not even three bytes a character could fill a request: then nothing is counted.
      const small = lane.length * 3 + lane.texts.length * OVERHEAD <= this.#limits.maxBytes;
      let texts: string[] = [];
      let bytes = 0;
      const cut = (): void => {
        if (texts.length === 0) return;
        blocks.push({
          ...acceptance,
          lane: number,
          firstSeq: seq - texts.length,
          count: texts.length,
          text: texts.join(SEPARATOR),
          observedFrom: Date.parse(lane.observedFrom),
          observedTo: Date.parse(lane.observedTo),
        });
        texts = [];
        bytes = 0;
      };
      for (const text of lane.texts) {
        const own = small ? 0 : Buffer.byteLength(text) + OVERHEAD;
        if (texts.length === this.#limits.maxReadings || bytes + own > this.#limits.maxBytes) cut();
        texts.push(withSeq(text, seq++));
        bytes += own;
      }
      cut();
    });
    return blocks;
  }
}
