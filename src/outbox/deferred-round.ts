/**
 * Finds the oldest of what was put off in one lane. That lies in the order of sequence numbers, and a requeued dead letter, which
 * waits anew, may lie before blocks that have waited for long: so all are looked at in rounds, some at a time.
 *
 * What it remembers is as of the last look; whoever asks sees whether it is still there.
 */
import type { Queue } from "./queue.ts";
import { Band, type BlockHead, bandStart } from "./rows.ts";

/** Blocks looked at in one go: some milliseconds, whatever the backlog. */
const HEADS_AT_A_TIME = 1000;

export class DeferredRound {
  readonly #queue: Queue;
  readonly #lane: number;
  readonly #ageOf: (head: BlockHead) => number;
  #from: number;
  /** Of this round so far, and of the last one. */
  #met: BlockHead | undefined;
  #oldest: BlockHead | undefined;

  constructor(queue: Queue, lane: number, ageOf: (head: BlockHead) => number) {
    this.#queue = queue;
    this.#lane = lane;
    this.#ageOf = ageOf;
    this.#from = bandStart(Band.deferred(lane));
  }

  /** The next blocks of the round that are not on lease; the one after the last begins a new round. */
  *look(): Generator<BlockHead> {
    let looked = 0;
    for (const head of this.#queue.deferredFrom(this.#lane, this.#from)) {
      this.#from = head.key;
      if (looked++ === HEADS_AT_A_TIME) return;
      yield head;
      this.#from = head.key + 1;
    }
    this.#oldest = this.#met;
    this.#met = undefined;
    this.#from = bandStart(Band.deferred(this.#lane));
  }

  /** A block of this look that stays. */
  stays(head: BlockHead): void {
    if (this.#met === undefined || this.#ageOf(head) > this.#ageOf(this.#met)) this.#met = head;
  }

  /** The oldest that is known of, at most two. */
  oldest(): BlockHead[] {
    return [this.#met, this.#oldest].filter((head) => head !== undefined);
  }
}
