/**
 * How large the outbox's working parts are, scaled to what it may hold, so that a small outbox works like a large one. Pure.
 */

export const PAGE_BYTES = 4096;
/** A page in the write-ahead log, with its header. */
export const FRAME_BYTES = PAGE_BYTES + 24;

/** 16 MB of WAL between checkpoints: a block that is delivered meanwhile never reaches the file. */
const MOST_CHECKPOINT_PAGES = 4000;
/** As large a share of the outbox may be WAL between checkpoints, and as large a one new bodies in one transaction. */
const SHARE = 16;
const FEWEST_CHECKPOINT_PAGES = 8;
/** Bytes. */
export const LARGEST_RESERVE = 4 * 1024 * 1024;
/** Holds one commit of fates, and what a checkpoint after it adds to the file. */
const SMALLEST_RESERVE = 256 * 1024;
/** Pages of tables' roots, interior nodes and freelist that a transaction touches besides the bodies' own. */
const TOUCHED_PAGES = 16;

export interface Sizes {
  /** Frames in the WAL that make a checkpoint due. */
  readonly checkpointPages: number;
  /**
   * Pages by which the WAL may run ahead of the file's end before a checkpoint is due. They, one transaction more and some
   * fates go into the reserve.
   */
  readonly growthPages: number;
  /** Bytes of new bodies in one transaction; a single block may be more. */
  readonly transactionBytes: number;
  /** What the WAL may come to, in bytes. */
  readonly walBytes: number;
  /** The reserve file, in bytes. */
  readonly reserveBytes: number;
}

/** For an outbox of `maxBytes` on a file system of `diskBytes`. */
export function sizesFor(maxBytes: number, diskBytes: number): Sizes {
  const share = Math.floor(Math.min(maxBytes, diskBytes) / SHARE);
  const checkpointPages = clamp(Math.floor(share / PAGE_BYTES), FEWEST_CHECKPOINT_PAGES, MOST_CHECKPOINT_PAGES);
  const reserveBytes = clamp(share - (share % PAGE_BYTES), SMALLEST_RESERVE, LARGEST_RESERVE);
  const transactionBytes = Math.min(share, reserveBytes / 4);
  return {
    checkpointPages,
    growthPages: Math.floor(reserveBytes / 2 / PAGE_BYTES),
    transactionBytes,
    walBytes: (checkpointPages + Math.ceil(transactionBytes / PAGE_BYTES) + TOUCHED_PAGES) * FRAME_BYTES,
    reserveBytes,
  };
}

/** The largest block and the largest lease that leave an outbox of `maxBytes` something to evict, in bytes of JSON. */
export function largestShare(maxBytes: number): number {
  return Math.max(FRAME_BYTES, Math.floor(maxBytes / SHARE));
}

function clamp(value: number, least: number, most: number): number {
  return Math.max(least, Math.min(most, value));
}
