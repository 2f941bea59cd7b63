/**
 * The group that gathers on the main thread until its commit: readings by lane, who waits for them, and until when the
 * commit may wait for company. Holds no timers and does no I/O.
 */
import { type Observation, PRIORITIES } from "../observation/observation.ts";
import type { NewBlock } from "./commit.ts";
import { CRITICAL_LANE } from "./order.ts";
import { LANES } from "./rows.ts";
import { ENVELOPE_BYTES, SEPARATOR } from "./segment.ts";
import { append, type Run } from "./sequence.ts";

export interface BlockLimits {
  readonly maxReadings: number;
  readonly maxBytes: number;
}

/** When the group was accepted, and what was known of the clock. */
export type Acceptance = Pick<NewBlock, "acceptedAt" | "acceptedMonotonic" | "clock">;

/** Room for a few readings: most groups on a quiet site are no larger. */
const FIRST_BYTES = 2048;
const SEPARATOR_BYTES = Buffer.from(SEPARATOR);
/** UTF-8 takes no more for one UTF-16 code unit. */
const MAX_BYTES_PER_UNIT = 3;

/** Spare buffers, and the largest of them: a busy site commits a few blocks at a time. */
const MOST_SPARE = 4;
const LARGEST_SPARE_BYTES = 256 * 1024;

/**
 * Memory for blocks, shared with the worker: nothing is copied on the way to it, and what was written is used again, because
 * new memory for each commit takes longer than all the rest of it.
 */
export class BlockMemory {
  readonly #spare: Buffer[] = [];

  take(): Buffer {
    return this.#spare.pop() ?? sharedBuffer(FIRST_BYTES);
  }

  /** Nobody looks at it any more. */
  giveBack(buffer: Buffer): void {
    if (this.#spare.length < MOST_SPARE && buffer.length <= LARGEST_SPARE_BYTES) this.#spare.push(buffer);
  }
}

function sharedBuffer(bytes: number): Buffer {
  return Buffer.from(new SharedArrayBuffer(bytes));
}

/** A gathered block as far as those are concerned who wait for it. */
export interface GatheredBlock {
  readonly lane: number;
  /** What to call once it is stored. */
  readonly waiters: (() => void)[];
}

/** A block that nothing is added to any more. */
export interface SealedBlock extends GatheredBlock {
  readonly block: NewBlock;
  readonly memory: Buffer;
}

/** A block that is being written: as bytes from the start, so that its size is known and its text is held once. */
class OpenBlock implements GatheredBlock {
  readonly lane: number;
  readonly waiters: (() => void)[] = [];
  count = 0;
  /** Characters. */
  size = 0;
  /** Some of its readings are to be restamped. */
  provisional = false;
  #bytes: Buffer;
  #used = 0;
  #runs: Run[] = [];
  #observedFrom = "~";
  #observedTo = "";

  constructor(lane: number, memory: Buffer) {
    this.lane = lane;
    this.#bytes = memory;
  }

  has(seq: number): boolean {
    return this.#runs.some(([first, last]) => first <= seq && seq <= last);
  }

  /** Adds a reading; `false`, and nothing is changed, where the block would be larger than `maxBytes` and is not empty. */
  add(text: string, time: string, seq: number, maxBytes: number): boolean {
    const joined = this.count === 0 ? 0 : SEPARATOR_BYTES.length;
    const at = this.#used + joined;
    this.#makeRoom(at + text.length * MAX_BYTES_PER_UNIT);
    const end = at + this.#bytes.write(text, at);
    if (end > maxBytes && this.count > 0) return false;
    if (joined > 0) SEPARATOR_BYTES.copy(this.#bytes, this.#used);
    this.#used = end;
    this.size += text.length;
    this.count++;
    append(this.#runs, seq);
    if (time < this.#observedFrom) this.#observedFrom = time;
    if (time > this.#observedTo) this.#observedTo = time;
    return true;
  }

  seal(acceptance: Acceptance): SealedBlock {
    const { lane, waiters } = this;
    return { lane, waiters, memory: this.#bytes, block: this.#sealed(acceptance) };
  }

  #sealed(acceptance: Acceptance): NewBlock {
    return {
      ...acceptance,
      ...(this.provisional && { clock: "provisional" }),
      lane: this.lane,
      runs: this.#runs,
      count: this.count,
      text: new Uint8Array(this.#bytes.buffer, this.#bytes.byteOffset, this.#used),
      observedFrom: Date.parse(this.#observedFrom),
      observedTo: Date.parse(this.#observedTo),
    };
  }

  #makeRoom(bytes: number): void {
    if (bytes <= this.#bytes.length) return;
    const larger = sharedBuffer(Math.max(bytes, this.#bytes.length * 2));
    this.#bytes.copy(larger, 0, 0, this.#used);
    this.#bytes = larger;
  }
}

export class Gathering {
  readonly #limits: BlockLimits;
  readonly #memory: BlockMemory;
  /** In the order in which they were begun. */
  #blocks: OpenBlock[] = [];
  /** The one that takes the lane's next reading, by lane. */
  readonly #open = new Array<OpenBlock | undefined>(LANES).fill(undefined);
  count = 0;
  /** Characters gathered; close enough to bytes for a bound on memory. */
  size = 0;
  /** Monotonic time at which the commit is due at the latest. */
  dueAt = Number.POSITIVE_INFINITY;
  #full = false;

  constructor(limits: BlockLimits, memory = new BlockMemory()) {
    this.#memory = memory;
    this.#limits = { maxReadings: limits.maxReadings, maxBytes: limits.maxBytes - ENVELOPE_BYTES };
  }

  /**
   * Adds a reading, and returns the block that holds it. `provisional`: the reading is to be restamped once the clock is right.
   */
  add(observation: Observation, text: string, seq: number, dueAt: number, provisional = false): GatheredBlock {
    const { maxReadings, maxBytes } = this.#limits;
    const lane = PRIORITIES.indexOf(observation.priority);
    let block = this.#open[lane];
    if (block === undefined || block.count === maxReadings || !block.add(text, observation.ts_iso, seq, maxBytes)) {
      block = this.#begin(lane);
      block.add(text, observation.ts_iso, seq, maxBytes);
    }
    if (provisional) block.provisional = true;
    this.size += text.length;
    this.count++;
    if (dueAt < this.dueAt) this.dueAt = dueAt;
    if (block.count === maxReadings || this.size >= maxBytes) this.#full = true;
    return block;
  }

  /** A full group does not wait for its delay. */
  get full(): boolean {
    return this.#full;
  }

  get holdsCritical(): boolean {
    return this.#open[CRITICAL_LANE] !== undefined;
  }

  /** The block that holds the reading with this sequence number, if any does. */
  blockOf(seq: number): GatheredBlock | undefined {
    return this.#blocks.find((block) => block.has(seq));
  }

  /** The group as blocks, each small enough for one request, highest priority first: there may not be room for all. */
  seal(acceptance: Acceptance): SealedBlock[] {
    return this.#blocks.sort((a, b) => a.lane - b.lane).map((block) => block.seal(acceptance));
  }

  /** As `seal`, one lane's blocks alone, which are the caller's from then on; the others go on gathering. */
  sealLane(lane: number, acceptance: Acceptance): SealedBlock[] {
    const sealed = this.#blocks.filter((block) => block.lane === lane);
    this.#blocks = this.#blocks.filter((block) => block.lane !== lane);
    this.#open[lane] = undefined;
    for (const { count, size } of sealed) {
      this.count -= count;
      this.size -= size;
    }
    return sealed.map((block) => block.seal(acceptance));
  }

  #begin(lane: number): OpenBlock {
    const block = new OpenBlock(lane, this.#memory.take());
    this.#blocks.push(block);
    this.#open[lane] = block;
    return block;
  }
}
