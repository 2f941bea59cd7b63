/** What one transaction of the outbox does, and what became of it. Types only. */
import type { Settlement } from "./batch.ts";
import type { BlockClock } from "./restamp.ts";
import type { Run } from "./sequence.ts";

/** Readings of one lane that are committed together, as the face collected them. */
export interface NewBlock {
  readonly lane: number;
  readonly runs: readonly Run[];
  readonly count: number;
  /** The observations' JSON in UTF-8, joined by `SEPARATOR`. */
  readonly text: Uint8Array;
  readonly observedFrom: number;
  readonly observedTo: number;
  readonly acceptedAt: number;
  readonly acceptedMonotonic: number;
  readonly clock: BlockClock;
}

/** Everything that one transaction does. */
export interface Commit {
  readonly blocks: readonly NewBlock[];
  readonly settlements: readonly { readonly lease: number; readonly settlement: Settlement }[];
  /** Copies recognised since the last commit. */
  readonly duplicates: number;
}

/** What became of a commit. Its settlements are durable in any case. */
export interface Committed {
  /** How many of the blocks, from the first on, are durable, or evicted at once in favour of what is more important. */
  readonly stored: number;
  /** Whether the next one found no room: the others are to be tried again later. */
  readonly full: boolean;
}
