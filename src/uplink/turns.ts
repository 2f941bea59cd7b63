/**
 * What the next request is to hold where several kinds of readings wait: whose turn it is, and what the backlog may take of the
 * link. Pure; `now` is monotonic milliseconds throughout.
 *
 * Critical readings go before everything, and no lane and no backlog waits for ever behind the rest (docs/decisions/0005, 0010).
 */
import type { UplinkConfig } from "../config/schema.ts";
import { PRIORITIES, type Priority } from "../observation/observation.ts";
import type { Batch, BatchLimits } from "../outbox/batch.ts";

/**
 * While held-back readings wait, newer ones of a higher priority go first (all newer ones, with `live-first`), but no more than
 * so many batches in a row: a batch holds one kind only, and a trickle of newer ones would otherwise keep a backlog waiting for ever.
 */
export const MAX_NEWER_IN_A_ROW = 4;
/**
 * Once readings have been waiting without a break for as long, one batch in so many begins with a lower lane, in turn: lanes
 * above that never run dry would keep it waiting for ever.
 */
export const LANE_TURNS_AFTER_MS = 10_000;
export const BATCHES_PER_LANE_TURN = 8;

const TURNING: readonly Priority[] = PRIORITIES.filter((priority) => priority !== "critical");

/** Which readings a lease is to bring first, of those that wait. */
export type Turn = Pick<BatchLimits, "heldBackTurn" | "liveFirst" | "newerFirst" | "newerOnly" | "laneTurn">;

export class Turns {
  readonly #config: Pick<UplinkConfig, "backlog" | "catchUpRate" | "batch">;
  /** Batches of newer readings since the last one of held-back readings. */
  #newerInARow = 0;
  #newerSentAt = Number.NEGATIVE_INFINITY;
  #batches = 0;
  /** Since when readings have been waiting without a break. */
  #waitingSince: number | undefined;
  /** The backlog has had its share of the link until then. */
  #backlogPaidUntil = Number.NEGATIVE_INFINITY;

  constructor(config: Pick<UplinkConfig, "backlog" | "catchUpRate" | "batch">) {
    this.#config = config;
  }

  /** During an outage everything counts as held back, and whatever is sent finds out whether it is over: nothing bounds it. */
  next(now: number, outage: boolean): Turn {
    const newerOnly = !outage && this.waitMs(now) > 0;
    // Newer readings wait for company as ever, and meanwhile the backlog goes on.
    const gathered = now - this.#newerSentAt >= this.#config.batch.linger;
    const laneTurn = this.#laneTurn(now);
    const liveFirst = this.#config.backlog === "live-first";
    return {
      heldBackTurn: this.#newerInARow >= MAX_NEWER_IN_A_ROW,
      liveFirst,
      newerFirst: liveFirst && (newerOnly || gathered),
      newerOnly,
      ...(laneTurn !== undefined && { laneTurn }),
    };
  }

  /** How long the backlog has had its share of the link, ms; 0 where it may go. */
  waitMs(now: number): number {
    return Math.max(0, this.#backlogPaidUntil - now);
  }

  /** Whether readings wait that could go. */
  waiting(now: number, some: boolean): void {
    this.#waitingSince = some ? (this.#waitingSince ?? now) : undefined;
  }

  /** A batch goes. Larger than the share of a moment, it is paid for by the moments after it. */
  sent(now: number, { replayed, count }: Pick<Batch, "replayed" | "count">): void {
    this.#batches++;
    this.#newerInARow = replayed ? 0 : this.#newerInARow + 1;
    if (!replayed) this.#newerSentAt = now;
    const { catchUpRate } = this.#config;
    if (replayed && catchUpRate > 0) {
      this.#backlogPaidUntil = Math.max(now, this.#backlogPaidUntil) + (count / catchUpRate) * 1000;
    }
  }

  #laneTurn(now: number): Priority | undefined {
    if (this.#waitingSince === undefined || now - this.#waitingSince < LANE_TURNS_AFTER_MS) return undefined;
    if (this.#batches % BATCHES_PER_LANE_TURN !== 0) return undefined;
    return TURNING[(this.#batches / BATCHES_PER_LANE_TURN) % TURNING.length];
  }
}
