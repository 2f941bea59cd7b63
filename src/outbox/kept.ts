/**
 * Delivered blocks, kept for `outbox.keepDelivered` so that they can be sent again. They have their fate: nothing here changes the
 * ledger, and losing them loses nothing that was promised.
 *
 * Invariants: with nothing to keep, nothing is written; a block is kept in the transaction that counts it as delivered; kept
 * blocks go before anything that still waits has to, on a full disk and in a full outbox (`dropOldest`).
 */
import type { ClockQuality } from "../observation/observation.ts";
import type { AgeClock } from "./age-clock.ts";
import type { KeptTotals } from "./books.ts";
import type { DeliveredWhen } from "./kept-table.ts";
import { type Block, bandOf, LANES, seqOf } from "./rows.ts";
import type { Store } from "./store.ts";

/** Blocks dropped in one transaction: neighbours share pages, and a commit waits no longer for it than for another commit. */
const PURGED_AT_ONCE = 32;
/** After the disk was found full, delivered blocks are not kept for as long. */
const SPARE_AFTER_DISK_FULL_MS = 60_000;

export interface KeptOptions {
  /** How long to keep, ms of elapsed time; 0 keeps none. */
  readonly keepMs: number;
  readonly ages: AgeClock;
  readonly monotonic: () => number;
  readonly now: () => number;
  /** The engine's, which knows `remember`. */
  readonly transaction: <T>(change: () => T) => T;
}

export class Kept {
  readonly #store: Store;
  readonly #options: KeptOptions;
  #nextId: number;
  #clock: ClockQuality = "unsynchronised";
  #spareUntil = Number.NEGATIVE_INFINITY;
  #totals: KeptTotals;

  constructor(store: Store, options: KeptOptions) {
    this.#store = store;
    this.#options = options;
    // Never given twice while this runs, even where all were dropped meanwhile: a replay knows its end by it.
    this.#nextId = store.kept.lastId() + 1;
    this.#totals = store.kept.totals();
  }

  /** How much is kept; counted along, for its cost must not grow with it. */
  get totals(): KeptTotals {
    return this.#totals;
  }

  /** At the beginning of a transaction; what is returned puts things back where that was rolled back. */
  remember(): () => void {
    const totals = this.#totals;
    return () => {
      this.#totals = totals;
    };
  }

  /** The id of the block kept last; 0 where none ever was. */
  get lastId(): number {
    return this.#nextId - 1;
  }

  get any(): boolean {
    return this.#store.kept.oldest() !== undefined;
  }

  /** Whether delivered blocks are being kept now. */
  get keeps(): boolean {
    return this.#options.keepMs > 0 && this.#options.monotonic() >= this.#spareUntil;
  }

  /** Within the transaction that delivers the block at `key`, before it is deleted there. */
  keepWhole(key: number): void {
    if (!this.keeps) return;
    if (this.#store.firstHead(key, key + 1)?.clock === "provisional") {
      // It went out with its times put right, and is kept as it went.
      const block = this.#store.block(key);
      if (block !== undefined && block !== "damaged") this.keepPart(block);
      return;
    }
    const place = { lane: bandOf(key) % LANES, firstSeq: seqOf(key) };
    this.#add(this.#store.kept.insertWaiting(this.#nextId++, key, place, this.#when()));
  }

  /** As `keepWhole`, of the delivered readings of a block, as a block of their own. */
  keepPart(block: Block): void {
    const { key, lastSeq, count, sequence, observedFrom, observedTo, rawBytes, rawCrc, body } = block;
    const part = { lastSeq, count, sequence, observedFrom, observedTo, rawBytes, rawCrc, body };
    const place = { id: this.#nextId++, lane: bandOf(key) % LANES, firstSeq: seqOf(key) };
    this.#store.kept.insert({ ...place, ...part }, this.#when());
    this.#add({ readings: count, bytes: body.length });
  }

  /**
   * Drops some of the blocks that are old enough, the oldest first, and notes the time by which they age. `true`: there may be more,
   * call again.
   */
  purge(clock: ClockQuality): boolean {
    this.#clock = clock;
    const { ages, transaction } = this.#options;
    // Where nothing waits, nobody else notes it.
    if (this.any && ages.isDue(clock)) transaction(() => ages.note(clock));
    if (!this.#oldestIsDue()) return false;
    return transaction(() => {
      for (let dropped = 0; dropped < PURGED_AT_ONCE; dropped++) {
        if (!this.#oldestIsDue() || this.dropOldest() === 0) return false;
      }
      return true;
    });
  }

  /** Drops the block that was delivered first, whatever its age, within a transaction. How many readings: 0 where none is kept. */
  dropOldest(): number {
    const oldest = this.#store.kept.oldest();
    if (oldest === undefined) return 0;
    this.#store.kept.delete(oldest.id);
    this.#add({ readings: -oldest.count, bytes: -oldest.bytes });
    return oldest.count;
  }

  /** The disk was found full: what is delivered for a while is not kept, so that its deletion makes room. */
  diskFull(): void {
    this.#spareUntil = this.#options.monotonic() + SPARE_AFTER_DISK_FULL_MS;
  }

  #add({ readings, bytes }: KeptTotals): void {
    this.#totals = { readings: this.#totals.readings + readings, bytes: this.#totals.bytes + bytes };
  }

  #when(): DeliveredWhen {
    const { now, monotonic } = this.#options;
    return { at: now(), monotonic: Math.floor(monotonic()), boot: this.#store.boot, clock: this.#clock };
  }

  #oldestIsDue(): boolean {
    const oldest = this.#store.kept.oldest();
    return oldest !== undefined && this.#options.ages.ageOf(oldest) >= this.#options.keepMs;
  }
}
