/**
 * What the outbox's file holds, as rows: blocks, dead letters, boots; and the space of keys, in which a block's key is its place.
 * Types and arithmetic only: the SQL is in `store-statements.ts`.
 */
import type { BlockClock } from "./restamp.ts";

/** Lanes are numbered as PRIORITIES are ordered: 0 is critical. */
export const LANES = 4;

/**
 * The key space is cut into bands of 2^48 keys: first what waits, by lane; then what fusion asked to be sent again
 * later, by lane. (All keys stay below 2^53, so that they are exact in JavaScript.)
 */
const BAND = 2 ** 48;
export const Band = {
  waiting: (lane: number): number => lane,
  deferred: (lane: number): number => LANES + lane,
} as const;

export const BANDS: readonly number[] = Array.from({ length: 2 * LANES }, (_, band) => band);

export const bandStart = (band: number): number => band * BAND;
export const bandEnd = (band: number): number => (band + 1) * BAND;
export const bandOf = (key: number): number => Math.floor(key / BAND);
export const seqOf = (key: number): number => key % BAND;

/** What one commit stored for one lane, without its body. */
export interface BlockHead {
  readonly key: number;
  readonly lastSeq: number;
  readonly count: number;
  /** The sequence numbers as runs, where they are not contiguous: `[[first, last], …]` as JSON. */
  readonly sequence: string | null;
  /** Wall time of the oldest and newest observation, ms. */
  readonly observedFrom: number;
  readonly observedTo: number;
  readonly acceptedAt: number;
  /** Milliseconds since the start of boot `boot`. */
  readonly acceptedMonotonic: number;
  readonly boot: number;
  readonly clock: BlockClock;
  readonly rawBytes: number;
  readonly rawCrc: number;
}

export interface Block extends BlockHead {
  readonly body: Uint8Array;
}

/** A reading that fusion refused for good, with its reason. */
export interface DeadLetter {
  readonly seq: number;
  readonly id: string;
  readonly lane: number;
  readonly code: string;
  readonly detail: string;
  /** The answer's problem details, as JSON. */
  readonly problem: string | null;
  readonly refusedAt: number;
  /** The observation as it was sent, JSON. */
  readonly reading: string;
}

/** What is known of the times of one boot: see `AgeClock`. */
export interface BootTimes {
  readonly id: number;
  /** What the age clock showed when this boot's monotonic clock was 0, ms. */
  readonly base: number;
  /** The boot's last moment that was noted, on both clocks, and whether the wall clock was synchronised then. */
  readonly seenMonotonic: number;
  readonly seenWall: number;
  readonly seenSynchronised: boolean;
  /** Whether the time that the machine was off before it is in `base`, or known not to count. */
  readonly offCounted: boolean;
}
