/**
 * What the outbox may hold: how much room there is, what goes where there is none, and what has waited too long.
 *
 * Invariants:
 * - What goes, goes by name: its fate is counted in the transaction that deletes it, which for eviction is the one that
 *   stores what needed the room.
 * - Nothing on lease goes; `critical` goes only when nothing else is left, and nothing goes for what has a lower priority.
 * - Cost does not grow with the backlog: the oldest block of each lane is looked at, and some of what was put off.
 *
 * It begins no transactions of its own.
 */
import type { AgeClock } from "./age-clock.ts";
import type { DeadLetters } from "./dead-letters.ts";
import { DeferredRound } from "./deferred-round.ts";
import type { Kept } from "./kept.ts";
import type { Ledger } from "./ledger.ts";
import type { Queue } from "./queue.ts";
import { type BlockHead, LANES } from "./rows.ts";
import { PAGE_BYTES, type Sizes } from "./sizes.ts";
import type { Store } from "./store.ts";

export interface RetentionSettings {
  /** Bytes. */
  readonly maxBytes: number;
  /** Milliseconds since acceptance. */
  readonly maxAge: number;
  readonly whenFull: "evict" | "refuse";
  /** Bytes of the file system that the outbox leaves to others. */
  readonly reserveFreeDisk: number;
}

/** How full the outbox is. */
export interface Room {
  /** Used pages against those that it may use: 1 is full, and beyond 1 is possible where the limit was lowered. */
  readonly fill: number;
  readonly limitedBy: "maxBytes" | "reserveFreeDisk";
}

/** Takes a block out of the queue in favour of a fate, within a transaction. Returns what to do in memory once committed. */
export type TakeOut = (head: BlockHead, lane: number, fate: keyof Ledger & ("evicted" | "expired")) => () => void;

/** As free disk: the file is not to grow at all. */
export const NO_GROWTH = Number.NEGATIVE_INFINITY;

const CRITICAL_LANE = 0;
/** With no room left for anything, an outbox that holds less than this still grows: it would be of no use otherwise. */
const LEAST_PAGES = 256;
/** What a table's leaf page keeps of a long row, at least, and what an overflow page holds. */
const LEAST_LOCAL_BYTES = 489;
const OVERFLOW_BYTES = PAGE_BYTES - 4;
const ROW_BYTES = 128;
/** Nodes that an insertion may split. */
const SPLIT_PAGES = 2;
/** Dead letters dropped at a time where nothing but critical readings is left to evict. */
const LETTERS_PER_PAGE = 4;
/** Under `refuse` so many pages are left to critical readings: a share of the outbox, at least some commits' worth, at most 1 MiB. */
const CRITICAL_SHARE = 32;
const FEWEST_CRITICAL_PAGES = 4;
const MOST_CRITICAL_PAGES = 256;
/** Blocks that expire, or are evicted because the limit was lowered, in one transaction. */
const BLOCKS_AT_A_TIME = 200;

/** Pages that the file may come to. Pure. */
export function pageLimit(
  settings: Pick<RetentionSettings, "maxBytes" | "reserveFreeDisk">,
  sizes: Pick<Sizes, "walBytes">,
  now: { pages: number; fileBytes: number; walBytes: number; freeDisk: number },
): { readonly pages: number; readonly limitedBy: Room["limitedBy"] } {
  const walBytes = Math.max(sizes.walBytes, now.walBytes);
  const byMaxBytes = Math.max(1, Math.floor((settings.maxBytes - walBytes) / PAGE_BYTES));
  const byDisk = Math.floor(
    (now.fileBytes + Math.max(0, spareDisk(settings.reserveFreeDisk, walBytes - now.walBytes, now.freeDisk))) /
      PAGE_BYTES,
  );
  // What the file has already it keeps, whoever else needs the disk.
  const disk = Math.max(byDisk, now.pages, LEAST_PAGES);
  return disk < byMaxBytes
    ? { pages: disk, limitedBy: "reserveFreeDisk" }
    : { pages: byMaxBytes, limitedBy: "maxBytes" };
}

/** What the file may take of the disk. Without anything to reserve, it is the disk that says when it is full. */
function spareDisk(reserveFreeDisk: number, walGrowth: number, freeDisk: number): number {
  if (reserveFreeDisk === 0 && freeDisk !== NO_GROWTH) return Number.POSITIVE_INFINITY;
  return freeDisk - reserveFreeDisk - walGrowth;
}

/** The most pages that a new block with a body of so many bytes can need. Pure. */
export function pagesFor(bodyBytes: number): number {
  const overflow = Math.ceil(Math.max(0, bodyBytes + ROW_BYTES - LEAST_LOCAL_BYTES) / OVERFLOW_BYTES);
  return 1 + (bodyBytes + ROW_BYTES < PAGE_BYTES - 64 ? 0 : overflow) + SPLIT_PAGES;
}

export class Retention {
  readonly #settings: RetentionSettings;
  readonly #store: Store;
  readonly #queue: Queue;
  readonly #letters: DeadLetters;
  readonly #kept: Kept;
  readonly #ages: AgeClock;
  readonly #freeDisk: () => number;
  readonly #takeOut: TakeOut;
  readonly #measureAgain: () => void;
  /** By lane. */
  readonly #rounds: readonly DeferredRound[];
  #limit: ReturnType<typeof pageLimit> = { pages: 0, limitedBy: "maxBytes" };

  constructor(
    settings: RetentionSettings,
    parts: {
      store: Store;
      queue: Queue;
      letters: DeadLetters;
      kept: Kept;
      ages: AgeClock;
      /** Bytes free on the outbox's file system. */
      freeDisk: () => number;
      takeOut: TakeOut;
      /** Calls `look` where the last one is old: nothing is to go for a limit that has changed. */
      measureAgain: () => void;
    },
  ) {
    this.#settings = settings;
    this.#store = parts.store;
    this.#queue = parts.queue;
    this.#letters = parts.letters;
    this.#kept = parts.kept;
    this.#ages = parts.ages;
    this.#freeDisk = parts.freeDisk;
    this.#takeOut = parts.takeOut;
    this.#measureAgain = parts.measureAgain;
    const ageOf = (head: BlockHead) => this.#ages.ageOf(head);
    this.#rounds = Array.from({ length: LANES }, (_, lane) => new DeferredRound(this.#queue, lane, ageOf));
  }

  /** Looks how large the file may become; what is stored until the next look goes by that. */
  look(size: { readonly pages: number; readonly used: number; readonly file: number; readonly wal: number }): Room {
    const { pages, file: fileBytes, wal: walBytes } = size;
    const now = { pages, fileBytes, walBytes, freeDisk: this.#freeDisk() };
    this.#limit = pageLimit(this.#settings, this.#store.sizes, now);
    // What is only kept for replay takes no room from what is to come.
    const taken = Math.max(0, size.used - Math.ceil(this.#kept.totals.bytes / PAGE_BYTES));
    return { fill: taken / this.#limit.pages, limitedBy: this.#limit.limitedBy };
  }

  /**
   * Makes room for a block of a lane with a body of so many bytes, within the transaction that stores it. `undefined` where
   * there is none to be made; else what to do in memory once the transaction is committed, and whether the block is
   * `outranked`: all that could make room for it has a higher priority, so that it is the one to go. An outbox in which nothing
   * waits takes any block.
   */
  makeRoom(bodyBytes: number, lane: number): { effects: (() => void)[]; outranked: boolean } | undefined {
    const pages = pagesFor(bodyBytes);
    let { used } = this.#store.pages();
    if (used + pages + this.#leftToCritical(lane) > this.#limit.pages) this.#measureAgain();
    const need = pages + this.#leftToCritical(lane);
    // Where the limit was lowered, the rest of the way is `shrink`'s.
    const goal = Math.max(this.#limit.pages, used);
    const effects: (() => void)[] = [];
    for (; used + need > goal; used = this.#store.pages().used) {
      const evicted = this.#freeSome(lane);
      if (evicted === "outranked") return { effects, outranked: true };
      if (evicted === undefined && this.#store.ledgers().some(({ pending }) => pending > 0)) return undefined;
      if (evicted === undefined) break;
      effects.push(...evicted);
    }
    return { effects, outranked: false };
  }

  /** Where nothing is evicted for them, what has less priority leaves some room to critical readings, in pages. */
  #leftToCritical(lane: number): number {
    if (lane === CRITICAL_LANE || this.#settings.whenFull === "evict") return 0;
    const share = Math.floor(this.#limit.pages / CRITICAL_SHARE);
    return Math.min(MOST_CRITICAL_PAGES, Math.max(FEWEST_CRITICAL_PAGES, share));
  }

  /** Evicts some of what is beyond a limit that was lowered. Returns what to do in memory, and whether there is more. */
  shrink(): { effects: (() => void)[]; more: boolean } {
    const effects: (() => void)[] = [];
    // A WAL that is too long for the moment is no reason to evict anything that is stored.
    const limit = Math.floor((this.#settings.maxBytes - this.#store.sizes.walBytes) / PAGE_BYTES);
    for (let blocks = 0; blocks < BLOCKS_AT_A_TIME; blocks++) {
      if (this.#store.pages().used <= limit) return { effects, more: false };
      const evicted = this.#freeSome(CRITICAL_LANE);
      if (evicted === undefined || evicted === "outranked") return { effects, more: false };
      effects.push(...evicted);
    }
    return { effects, more: true };
  }

  /** Ends the wait of some of what is too old. Returns what to do in memory, and whether there is more. */
  expire(): { effects: (() => void)[]; more: boolean } {
    const effects: (() => void)[] = [];
    for (let lane = 0; lane < LANES; lane++) {
      const oldest = () => this.#queue.oldestWaiting(lane);
      for (let head = oldest(); head !== undefined && this.#dueIn(head) <= 0; head = oldest()) {
        if (effects.length === BLOCKS_AT_A_TIME) return { effects, more: true };
        effects.push(this.#takeOut(head, lane, "expired"));
      }
    }
    for (const [lane, round] of this.#rounds.entries()) {
      for (const head of round.look()) {
        if (effects.length === BLOCKS_AT_A_TIME) return { effects, more: true };
        if (this.#dueIn(head) <= 0) effects.push(this.#takeOut(head, lane, "expired"));
        else round.stays(head);
      }
    }
    return { effects, more: false };
  }

  /** For how long the oldest of what was put off in a lane has waited, ms, as far as `expire` has come; 0 for none. */
  deferredAge(lane: number): number {
    const waiting = (this.#rounds[lane]?.oldest() ?? []).filter(({ key }) => this.#store.firstHead(key, key + 1));
    return Math.max(0, ...waiting.map((head) => this.#ages.ageOf(head)));
  }

  #dueIn(head: BlockHead): number {
    return this.#settings.maxAge - this.#ages.ageOf(head);
  }

  /**
   * Frees some pages in favour of a lane. What was delivered and is kept for replay goes first: it has its fate. `undefined`
   * where nothing may go, `outranked` where only what has a higher priority could.
   */
  #freeSome(favoured: number): (() => void)[] | "outranked" | undefined {
    if (this.#kept.dropOldest() > 0) return [];
    return this.#settings.whenFull === "evict" ? this.#evictOne(favoured) : undefined;
  }

  #evictOne(favoured: number): (() => void)[] | "outranked" | undefined {
    for (let lane = LANES - 1; lane >= CRITICAL_LANE; lane--) {
      if (lane === CRITICAL_LANE && this.#letters.dropOldest(LETTERS_PER_PAGE) > 0) return [];
      const head = this.#queue.oldest(lane);
      if (head !== undefined) return lane < favoured ? "outranked" : [this.#takeOut(head, lane, "evicted")];
    }
    return undefined;
  }
}
