/**
 * The group whose commit is under way: which of its blocks are not stored yet, in the order in which they are to be, and who waits for
 * each. Where there is room for some of it only, critical readings that come meanwhile join it, before all that has less priority.
 */

import type { NewBlock } from "./commit.ts";
import type { BlockMemory, GatheredBlock, SealedBlock } from "./gathering.ts";
import { CRITICAL_LANE } from "./order.ts";

export class UnderWay {
  readonly #memory: BlockMemory;
  #waiting: readonly SealedBlock[];
  #waiters: (() => void)[] = [];

  /** Of blocks in the order of their lanes. Their memory goes back to `memory` as they are stored. */
  constructor(blocks: readonly SealedBlock[], memory: BlockMemory) {
    this.#waiting = blocks;
    this.#memory = memory;
  }

  /** Not stored yet. */
  get blocks(): readonly NewBlock[] {
    return this.#waiting.map(({ block }) => block);
  }

  /** Of these, in bytes. */
  get size(): number {
    return this.#waiting.reduce((sum, { block }) => sum + block.text.length, 0);
  }

  /** Whether the next block to be stored is of critical readings. */
  get criticalIsNext(): boolean {
    return this.#waiting[0]?.lane === CRITICAL_LANE;
  }

  /** The block, not stored yet, that holds the reading with this sequence number. */
  blockOf(seq: number): GatheredBlock | undefined {
    return this.#waiting.find(({ block }) => block.runs.some(([first, last]) => first <= seq && seq <= last));
  }

  /** Critical blocks go behind those that are here, and before all others. */
  join(critical: readonly SealedBlock[]): void {
    const others = this.#waiting.findIndex(({ lane }) => lane !== CRITICAL_LANE);
    const at = others === -1 ? this.#waiting.length : others;
    this.#waiting = [...this.#waiting.slice(0, at), ...critical, ...this.#waiting.slice(at)];
  }

  /** The first `count` blocks are stored. */
  stored(count: number): void {
    for (const { waiters } of this.#leave(count)) for (const waiter of waiters) this.#waiters.push(waiter);
  }

  /** None of it will be stored: nobody is told. */
  giveUp(): void {
    this.#leave(this.#waiting.length);
  }

  /** Whom to tell of what has been stored since the last call. */
  takeWaiters(): (() => void)[] {
    const waiters = this.#waiters;
    this.#waiters = [];
    return waiters;
  }

  #leave(count: number): readonly SealedBlock[] {
    const left = this.#waiting.slice(0, count);
    this.#waiting = this.#waiting.slice(count);
    for (const { memory } of left) this.#memory.giveBack(memory);
    return left;
  }
}

/** Which blocks hold a message's readings: it may be acknowledged once all of them are stored. */
export class Waits {
  /** Nearly always one. */
  #only: GatheredBlock | undefined;
  #more: Set<GatheredBlock> | undefined;

  on(block: GatheredBlock | undefined): void {
    if (block === undefined || block === this.#only) return;
    if (this.#only === undefined) this.#only = block;
    else {
      this.#more ??= new Set();
      this.#more.add(block);
    }
  }

  /** Sees to it that `committed` is called once all are stored; in a later turn where nothing waits. */
  call(committed: () => void): void {
    if (this.#only === undefined) {
      setImmediate(committed);
      return;
    }
    if (this.#more === undefined) {
      this.#only.waiters.push(committed);
      return;
    }
    let left = 1 + this.#more.size;
    const stored = (): void => {
      if (--left === 0) committed();
    };
    for (const block of [this.#only, ...this.#more]) block.waiters.push(stored);
  }
}
