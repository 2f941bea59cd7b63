/** Takes blocks whose checksum does not match out of the queue, and counts their readings as damaged. */
import type { Notice } from "./books.ts";
import type { Queue } from "./queue.ts";
import { Band, bandOf, LANES, seqOf } from "./rows.ts";
import type { Store } from "./store.ts";

export class DamagedBlocks {
  readonly #store: Store;
  readonly #queue: Queue;
  readonly #now: () => number;
  readonly #onNotice: (notice: Notice) => void;

  /** How many blocks were set aside since the start. */
  damaged = 0;

  constructor(
    store: Store,
    queue: Queue,
    options: { readonly now: () => number; readonly onNotice: (notice: Notice) => void },
  ) {
    this.#store = store;
    this.#queue = queue;
    this.#now = options.now;
    this.#onNotice = options.onNotice;
  }

  /** In a transaction of its own. */
  setAside(key: number): void {
    const effect = this.#store.transaction(() => this.setAsideWithin(key));
    effect();
  }

  /** Within a transaction. Returns what to do once it has been committed. */
  setAsideWithin(key: number): () => void {
    const lane = bandOf(key) % LANES;
    const detail = `checksum of the block at sequence number ${seqOf(key)} does not match`;
    // The row itself is not to be believed, its count included: what is missing in the books was in it.
    this.#store.setAside(key, this.#now(), detail);
    const left = this.#store.countIn(Band.waiting(lane)) + this.#store.countIn(Band.deferred(lane));
    const readings = Math.max(0, (this.#store.ledgers()[lane]?.pending ?? 0) - left);
    this.#store.addToLedger(lane, { pending: -readings, damaged: readings });
    return () => {
      this.damaged++;
      this.#queue.recount(lane);
      this.#onNotice({ kind: "damaged", readings, detail });
    };
  }
}
