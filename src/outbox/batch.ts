/** What the outbox hands to an uplink, and what the uplink hands back. Types only: the uplink never sees the store. */
import type { Priority } from "../observation/observation.ts";
import type { KeptState } from "./books.ts";
import type { ReplayBatchLimits, ReplayCount, ReplayCursor, ReplaySelection, ReplayTake } from "./replaying.ts";

/** Positions of readings in a leased batch, `from` included, `to` not. */
export interface IndexRange {
  readonly from: number;
  readonly to: number;
}

export interface BatchLimits {
  readonly maxReadings: number;
  /** JSON bytes of the observations, before compression. */
  readonly maxBytes: number;
  readonly compression: "gzip" | "none";
  /**
   * Readings up to this sequence number were held back, by an outage or a restart; a batch holds only readings up to it
   * (`replayed: true`) or only later ones. `Number.POSITIVE_INFINITY` while the outage lasts.
   */
  readonly heldBackThrough: number;
  /** Where readings that were held back wait, these are wanted, though newer ones of a higher priority wait as well. */
  readonly heldBackTurn?: boolean;
  /** When the link first came back after an outage, on the monotonic clock: readings that wait for the time wait a little more. */
  readonly linkBackAt?: number | undefined;
  /** Newer readings go before those that were held back; critical ones of either kind before all others. */
  readonly newerFirst?: boolean;
  /** Newer readings may go before those that were held back, as `newerFirst` says; at least where those cannot go themselves. */
  readonly liveFirst?: boolean;
  /** Those that were held back stay where they are, but for critical ones. */
  readonly newerOnly?: boolean;
  /** This lane goes before all others but the critical one. */
  readonly laneTurn?: Priority;
  /** Only the critical lane, or only the others. */
  readonly lanes?: "critical" | "others";
}

/** One request's worth of readings, on lease: nobody else sends them until the lease is settled. A crash ends the lease. */
export interface Batch {
  readonly lease: number;
  /** Which readings of the lease these are; a whole batch is `{ from: 0, to: count }`. */
  readonly range: IndexRange;
  readonly count: number;
  readonly firstSeq: number;
  readonly lastSeq: number;
  /** The highest priority in the batch. */
  readonly priority: Priority;
  readonly replayed: boolean;
  /** The same for the same set of readings, never the same for another set (contract, section 5). */
  readonly idempotencyKey: string;
  /** The whole request body, ready to send. */
  readonly body: Uint8Array;
  readonly contentEncoding: "gzip" | undefined;
}

/** Why fusion refused one reading for good. */
export interface DeadLetterReason {
  /** The answer's own code, or `http-422` where it gave none. */
  readonly code: string;
  readonly detail: string;
  /** The answer's problem details as it sent them, where it sent any (bounded by the uplink). */
  readonly problem?: unknown;
}

/** The fates of a lease's readings, by position in the whole lease. What is not named goes back to waiting. */
export interface Settlement {
  readonly delivered: readonly IndexRange[];
  readonly deadLettered: readonly (DeadLetterReason & { readonly index: number })[];
  /** Waiting again, but not before `delayMs` has passed, and without holding up the readings behind. */
  readonly retryLater?: { readonly indexes: readonly number[]; readonly delayMs: number };
}

/** The outbox as an uplink sees it. */
export interface BatchSource {
  /** The next readings to send, highest priority first and in the order of acceptance; `undefined` where none wait. */
  lease(limits: BatchLimits): Promise<Batch | undefined>;
  /** A part of a leased batch as a request of its own; `range` counts positions in the whole lease. */
  part(batch: Batch, range: IndexRange): Promise<Batch>;
  /** The ids of a leased batch's readings, in order. */
  ids(batch: Batch): Promise<string[]>;
  /** Ends the lease. Resolves once the fates are committed; a caller that need not wait for that does not. */
  settle(batch: Batch, settlement: Settlement): Promise<void>;
  /** Readings that could be leased now: neither on lease nor waiting for a later try. */
  waiting(): { readonly count: number; readonly highest: Priority | undefined };
  /** Sequence number of the newest committed reading; 0 for none. */
  lastSeq(): number;
  /** Calls `listener` whenever `waiting()` may have grown; the returned function ends that. */
  onWaiting(listener: () => void): () => void;
}

/** Delivered readings that were kept, as an uplink sees them. They are on no lease, and nothing here changes their fate. */
export interface ReplaySource extends Pick<BatchSource, "part" | "ids"> {
  kept(): Promise<KeptState>;
  replayCount(selection: ReplaySelection, from: ReplayCursor): Promise<ReplayCount>;
  /** The batch that this brings is the one that `part` and `ids` know, until the next. */
  replayTake(selection: ReplaySelection, from: ReplayCursor, limits: ReplayBatchLimits): Promise<ReplayTake>;
}
