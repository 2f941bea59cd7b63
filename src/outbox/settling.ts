/**
 * Writes the fates of a lease's readings: what was delivered goes (or is kept for replay), what was refused becomes a dead
 * letter, what is to be tried later is put off, and the rest waits on.
 *
 * Everything here runs within the caller's transaction; what memory is to follow is returned, to be done once it is committed.
 */
import type { Settlement } from "./batch.ts";
import { idOf, rebuilt, textsOf } from "./block.ts";
import type { DeadLetters } from "./dead-letters.ts";
import type { Kept } from "./kept.ts";
import { type Fate, fatesOf, type Lease, type LeasedBlock } from "./lease.ts";
import type { Queue } from "./queue.ts";
import { Band, type Block, bandOf } from "./rows.ts";
import { expand } from "./sequence.ts";
import type { Store } from "./store.ts";

export class Settling {
  readonly #store: Store;
  readonly #queue: Queue;
  readonly #letters: DeadLetters;
  readonly #kept: Kept;
  readonly #now: () => number;

  constructor(parts: { store: Store; queue: Queue; letters: DeadLetters; kept: Kept; now: () => number }) {
    this.#store = parts.store;
    this.#queue = parts.queue;
    this.#letters = parts.letters;
    this.#kept = parts.kept;
    this.#now = parts.now;
  }

  /** Within a transaction: the fates of one lease. Returns what to do in memory once it has been committed. */
  settle(lease: Lease, settlement: Settlement): (() => void)[] {
    const fates = fatesOf(lease.count, settlement);
    const effects: (() => void)[] = [];
    let at = 0;
    for (const block of lease.blocks) {
      const own = fates?.slice(at, at + block.count);
      at += block.count;
      if (own === undefined) this.#deliverWhole(block, effects);
      else if (own.some((fate) => fate !== "waiting"))
        this.#settleBlock(block, own, settlement, at - block.count, effects);
      else effects.push(() => this.#queue.lookAgainFrom(block.lane, block.key));
    }
    return effects;
  }

  #deliverWhole(block: LeasedBlock, effects: (() => void)[]): void {
    this.#kept.keepWhole(block.key);
    this.#store.deleteBlock(block.key);
    this.#store.addToLedger(block.lane, { pending: -block.count, delivered: block.count });
    effects.push(() => this.#queue.left(block.lane, block.key, block.count));
  }

  #settleBlock(
    leased: LeasedBlock,
    fates: readonly Fate[],
    settlement: Settlement,
    offset: number,
    effects: (() => void)[],
  ): void {
    if (fates.every((fate) => fate === "delivered")) {
      this.#deliverWhole(leased, effects);
      return;
    }
    const block = this.#store.block(leased.key);
    if (block === undefined || block === "damaged")
      throw new Error(`block ${leased.key} vanished from under its lease`);
    const texts = textsOf(block);
    const numbers = expand(leased.runs);
    const pick = (wanted: Fate) => fates.flatMap((fate, index) => (fate === wanted ? [index] : []));
    const those = (indexes: readonly number[], band: number): Block =>
      rebuilt(
        block,
        band,
        indexes.map((index) => texts[index] ?? ""),
        indexes.map((index) => numbers[index] ?? 0),
      );
    const rewrite = (indexes: readonly number[], band: number): number | undefined => {
      if (indexes.length === 0) return undefined;
      const next = those(indexes, band);
      this.#store.insertBlock(next);
      return next.key;
    };
    const { lane } = leased;
    const dead = pick("dead");
    const deliveredOnes = pick("delivered");
    const delivered = deliveredOnes.length;
    const later = pick("later");
    this.#store.deleteBlock(leased.key);
    if (delivered > 0 && this.#kept.keeps) this.#kept.keepPart(those(deliveredOnes, bandOf(leased.key)));
    const waitingKey = rewrite(pick("waiting"), bandOf(leased.key));
    const laterKey = rewrite(later, Band.deferred(lane));
    for (const index of dead) {
      const reading = texts[index] ?? "";
      const reason = settlement.deadLettered.find((letter) => letter.index === offset + index);
      this.#letters.bury(
        { seq: numbers[index] ?? 0, id: idOf(reading), lane, reading, refusedAt: this.#now() },
        reason ?? { code: "unknown", detail: "" },
      );
    }
    this.#store.addToLedger(lane, { pending: -delivered - dead.length, delivered, deadLettered: dead.length });
    if (waitingKey !== undefined) effects.push(() => this.#queue.lookAgainFrom(lane, waitingKey));
    effects.push(() => {
      this.#queue.left(lane, leased.key, delivered + dead.length + later.length);
      this.#queue.defer(lane, later.length, settlement.retryLater?.delayMs ?? 0);
      if (laterKey !== undefined) this.#queue.passOver(lane, laterKey);
    });
  }
}
