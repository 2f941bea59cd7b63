/**
 * Which blocks go out next: the order of lanes, what is on lease, and what was put off. In memory only, over the store's
 * order of keys: after a crash nothing is on lease and everything put off is due.
 *
 * Nothing here grows with the backlog: it remembers the keys on lease, and two positions and a time for each lane.
 */
import type { BatchLimits } from "./batch.ts";
import type { Books } from "./books.ts";
import type { ClockHold } from "./clock-hold.ts";
import type { Ledger } from "./ledger.ts";
import { CRITICAL_LANE, type CriticalWaits, type Kind, type Look, looksOf } from "./order.ts";
import { Band, type BlockHead, bandEnd, bandOf, bandStart, LANES, seqOf } from "./rows.ts";
import { ENVELOPE_BYTES, SEPARATOR } from "./segment.ts";
import type { Store } from "./store.ts";

/** A block on lease, as far as the queue is concerned. */
export interface QueuedBlock {
  readonly key: number;
  readonly lane: number;
  readonly count: number;
}

type Outlook = Pick<Books, "available" | "deferredDueIn">;

/** A block that may go into a lease. */
interface Candidate {
  readonly head: BlockHead;
  readonly lane: number;
}

/** The readings of one lane that fusion asked to be sent again later, and the pass that sends them. */
interface Deferral {
  count: number;
  /** Monotonic time at which the next pass may begin. */
  dueAt: number;
  /** Since when readings have been waiting for that pass: those that come later do not put it off for ever. */
  since: number;
  /** The pass under way ends at this key; what is put off meanwhile lies behind `cursor` or after this, and waits for the next. */
  passThrough: number | undefined;
  cursor: number;
}

/** A commit of the smallest blocks still becomes requests of a useful size: no more blocks than this go into one lease. */
const MAX_BLOCKS_PER_LEASE = 1000;
/** Blocks looked at after every change, to say how many may go past a backlog that waits for the clock: about a request's worth. */
const NEWER_COUNTED = 50;

export class Queue {
  readonly #store: Store;
  readonly #monotonic: () => number;
  readonly #hold: ClockHold;
  readonly #leasedKeys = new Set<number>();
  readonly #leasedCounts = new Array<number>(LANES).fill(0);
  /** Of these, those that had been put off. */
  readonly #leasedDeferred = new Array<number>(LANES).fill(0);
  /** By lane: no block before this key waits unleased. */
  readonly #cursors: number[];
  readonly #deferrals: Deferral[];
  /** By lane: what tells whether the first block that waits unleased waits for the clock, where it is known; what is put behind it changes nothing. */
  readonly #heads = new Array<Pick<BlockHead, "clock" | "boot"> | undefined>(LANES);
  /** As of the last lease: readings from this sequence number on may go although those before them cannot. */
  #newerFrom: number | undefined;

  constructor(store: Store, monotonic: () => number, hold: ClockHold) {
    this.#store = store;
    this.#hold = hold;
    this.#monotonic = monotonic;
    this.#cursors = Array.from({ length: LANES }, (_, lane) => bandStart(Band.waiting(lane)));
    this.#deferrals = Array.from({ length: LANES }, (_, lane) => ({
      count: store.countIn(Band.deferred(lane)),
      dueAt: Number.NEGATIVE_INFINITY,
      since: Number.NEGATIVE_INFINITY,
      passThrough: undefined,
      cursor: bandStart(Band.deferred(lane)),
    }));
  }

  /**
   * Blocks for one lease: highest lane first, of one kind (held back or not), within the limits; at least one if any waits.
   * The kind is that of the first one, or the one whose turn it is (`order.ts`).
   */
  next(limits: BatchLimits): Candidate[] {
    const mayPass = limits.liveFirst === true && limits.heldBackThrough < Number.POSITIVE_INFINITY;
    this.#newerFrom = mayPass ? limits.heldBackThrough + 1 : undefined;
    for (const look of looksOf(limits, this.#criticalWaits(limits))) {
      const taken = this.#gather(limits, look);
      if (taken.length > 0) return taken;
    }
    this.endFinishedPasses();
    return [];
  }

  /** A look for one kind passes over lanes, or the rest of a lane, where the other kind is next; a lane keeps its order. */
  #gather(limits: BatchLimits, look: Look): Candidate[] {
    const taken: Candidate[] = [];
    let readings = 0;
    let bytes = -SEPARATOR.length;
    let heldBack = look.kind === undefined ? undefined : look.kind === "held-back";
    for (const lane of look.lanes) {
      for (const candidates of this.#candidates(lane, look.kind, limits)) {
        for (const head of candidates) {
          const kind = isHeldBack(head, limits);
          heldBack ??= kind;
          if (kind !== heldBack) {
            if (look.kind === undefined) return taken;
            break;
          }
          readings += head.count;
          bytes += head.rawBytes + SEPARATOR.length;
          const fits = readings <= limits.maxReadings && bytes <= roomFor(limits);
          if (taken.length > 0 && !fits) return taken;
          taken.push({ head, lane });
          if (!fits || taken.length === MAX_BLOCKS_PER_LEASE) return taken;
        }
      }
    }
    return taken;
  }

  /** A lane's blocks: what was put off and is due, then what waits. */
  #candidates(lane: number, kind: Kind | undefined, limits: BatchLimits): Generator<BlockHead>[] {
    if (kind !== "newer") return [this.#dueDeferred(lane), this.#waiting(lane)];
    // The backlog may be long: newer readings that may go before it are looked for behind it, not through it.
    const mayPass = limits.newerFirst === true || limits.liveFirst === true;
    return [this.#waiting(lane, mayPass ? limits.heldBackThrough + 1 : 0)];
  }

  /** Asked only where it decides something. */
  #criticalWaits(limits: BatchLimits): CriticalWaits {
    if (limits.lanes === "others" || (!limits.heldBackTurn && !limits.newerFirst && !limits.newerOnly)) {
      return { newer: false, heldBack: false };
    }
    const waits = (kind: Kind): boolean =>
      this.#candidates(CRITICAL_LANE, kind, limits).some((candidates) => {
        const { value: head } = candidates.next();
        return head !== undefined && isHeldBack(head, limits) === (kind === "held-back");
      });
    return { newer: waits("newer"), heldBack: waits("held-back") };
  }

  /** Puts blocks on lease. */
  take(blocks: readonly QueuedBlock[]): void {
    for (const { key, lane, count } of blocks) {
      this.#heads[lane] = undefined;
      this.#leasedKeys.add(key);
      this.#addLeased(lane, key, count);
      if (bandOf(key) === Band.deferred(lane)) this.#deferral(lane).cursor = key + 1;
    }
    // A block that was split reaches beyond the pass that met it: what is due of it is for the next lease, not for the one after.
    this.endFinishedPasses();
  }

  /** Ends a lease on blocks; what still waits of them is named to `lookAgainFrom`. */
  release(blocks: readonly QueuedBlock[]): void {
    for (const { key, lane, count } of blocks) {
      this.#leasedKeys.delete(key);
      this.#addLeased(lane, key, -count);
    }
  }

  /** A block at this key waits (again). */
  lookAgainFrom(lane: number, key: number): void {
    this.#heads[lane] = undefined;
    if (bandOf(key) === Band.waiting(lane)) this.#cursors[lane] = Math.min(this.#cursors[lane] ?? key, key);
    else this.#deferral(lane).cursor = Math.min(this.#deferral(lane).cursor, key);
  }

  /** `count` readings of a lane have been put into its deferred band, due after `delayMs`; 0 makes all of them due at once. */
  defer(lane: number, count: number, delayMs: number): void {
    if (count === 0) return;
    const deferral = this.#deferral(lane);
    const now = this.#monotonic();
    if (deferral.count === 0 || delayMs === 0) {
      deferral.dueAt = now + delayMs;
      deferral.since = now;
    } else {
      deferral.dueAt = Math.max(deferral.dueAt, Math.min(now, deferral.since + delayMs) + delayMs);
    }
    deferral.count += count;
  }

  /** A block was put off to this key: if the pass under way would still come by, it is left to the next. */
  passOver(lane: number, key: number): void {
    const deferral = this.#deferral(lane);
    if (deferral.passThrough !== undefined && key >= deferral.cursor) deferral.cursor = key + 1;
  }

  /** Whether anything of a lane was put off, on lease or not. */
  hasDeferred(lane: number): boolean {
    return this.#deferral(lane).count > 0;
  }

  /** Counts what was put off again, after a block went whose count could not be believed. */
  recount(lane: number): void {
    this.#heads[lane] = undefined;
    this.#deferral(lane).count = this.#store.countIn(Band.deferred(lane));
  }

  /** `count` readings have left the band of the block at `key`. */
  left(lane: number, key: number, count: number): void {
    this.#heads[lane] = undefined;
    if (bandOf(key) === Band.deferred(lane)) this.#deferral(lane).count -= count;
  }

  /** A pass has come to its end when nothing between its cursor and its end waits any more. What is on lease may be long. */
  endFinishedPasses(): void {
    for (const deferral of this.#deferrals) {
      if (deferral.passThrough === undefined) continue;
      const end = deferral.passThrough + 1;
      let rest = this.#store.firstHead(deferral.cursor, end);
      while (rest !== undefined && this.#leasedKeys.has(rest.key)) {
        deferral.cursor = rest.key + 1;
        rest = this.#store.firstHead(deferral.cursor, end);
      }
      if (rest === undefined) deferral.passThrough = undefined;
    }
  }

  /** The oldest block of a lane that is not on lease, whether it waits or was put off. */
  oldest(lane: number): BlockHead | undefined {
    const waiting = this.oldestWaiting(lane);
    const deferred = this.oldestDeferred(lane);
    if (waiting === undefined || deferred === undefined) return waiting ?? deferred;
    return seqOf(deferred.key) < seqOf(waiting.key) ? deferred : waiting;
  }

  oldestWaiting(lane: number): BlockHead | undefined {
    const [head] = this.#unleased(lane);
    return head;
  }

  /** Due or not. */
  oldestDeferred(lane: number): BlockHead | undefined {
    if (this.#deferral(lane).count === 0) return undefined;
    const end = bandEnd(Band.deferred(lane));
    let head = this.#store.firstHead(bandStart(Band.deferred(lane)), end);
    while (head !== undefined && this.#leasedKeys.has(head.key)) head = this.#store.firstHead(head.key + 1, end);
    return head;
  }

  /** Blocks of a lane that were put off, due or not, and are not on lease, from a key on. */
  *deferredFrom(lane: number, from: number): Generator<BlockHead> {
    if (this.#deferral(lane).count === 0) return;
    const end = bandEnd(Band.deferred(lane));
    for (let head = this.#store.firstHead(from, end); head !== undefined; ) {
      if (!this.#leasedKeys.has(head.key)) yield head;
      head = this.#store.firstHead(head.key + 1, end);
    }
  }

  /**
   * Readings that could be leased now, by lane, and until others are due that were put off or wait for the clock, ms; `undefined`
   * where none wait for that. Asked after every commit: while the clock is awaited it looks into the file where what comes first in a
   * lane may have changed, or is on lease, and for what may go past a backlog.
   */
  outlook(ledgers: readonly Ledger[]): Outlook {
    const forClock = ledgers.map(({ pending }, lane) => pending > 0 && this.#waitsForClock(lane));
    const available = ledgers.map((ledger, lane) => {
      const deferral = this.#deferral(lane);
      const putOff = deferral.count - (this.#leasedDeferred[lane] ?? 0);
      const notDue = this.#isDue(deferral) ? 0 : putOff;
      const available = Math.max(0, ledger.pending - (this.#leasedCounts[lane] ?? 0) - notDue);
      return forClock[lane] === true ? Math.min(available, putOff - notDue + this.#newer(lane)) : available;
    });
    const waits = this.#deferrals
      .filter((deferral) => deferral.count > 0 && !this.#isDue(deferral))
      .map((deferral) => Math.max(0, deferral.dueAt - this.#monotonic()));
    if (forClock.includes(true)) waits.push(this.#hold.remainingMs);
    return { available, deferredDueIn: waits.length === 0 ? undefined : Math.min(...waits) };
  }

  /** Of a lane whose next block waits for the clock: readings behind it that need not, some at least. */
  #newer(lane: number): number {
    if (this.#newerFrom === undefined) return 0;
    let [readings, blocks] = [0, 0];
    for (const { count } of this.#waiting(lane, this.#newerFrom)) {
      readings += count;
      if (++blocks === NEWER_COUNTED) break;
    }
    return readings;
  }

  /** Whether the next block of a lane waits for the clock, and with it those behind: a lane keeps its order. */
  #waitsForClock(lane: number): boolean {
    if (!this.#hold.active) return false;
    this.#heads[lane] ??= this.oldestWaiting(lane);
    const head = this.#heads[lane];
    return head !== undefined && this.#hold.holds(head, lane);
  }

  /** Blocks of a lane that may go now, from sequence number `fromSeq` on, oldest first. */
  *#waiting(lane: number, fromSeq = 0): Generator<BlockHead> {
    for (const head of this.#unleased(lane, fromSeq)) {
      if (this.#hold.holds(head, lane)) return;
      yield head;
    }
  }

  /** Blocks of a lane that wait and are not on lease, from sequence number `fromSeq` on, oldest first. */
  *#unleased(lane: number, fromSeq = 0): Generator<BlockHead> {
    const band = Band.waiting(lane);
    const end = bandEnd(band);
    const cursor = this.#cursors[lane] ?? end;
    let from = Math.max(cursor, bandStart(band) + fromSeq);
    let onlyLeased = from === cursor;
    for (;;) {
      const head = this.#store.firstHead(from, end);
      if (head === undefined) return;
      from = head.key + 1;
      if (this.#leasedKeys.has(head.key)) {
        if (onlyLeased) this.#cursors[lane] = from;
        continue;
      }
      onlyLeased = false;
      yield head;
    }
  }

  /** Blocks of a lane whose later try is due, oldest first. */
  *#dueDeferred(lane: number): Generator<BlockHead> {
    const deferral = this.#deferral(lane);
    if (deferral.count === 0 || !this.#isDue(deferral)) return;
    const band = Band.deferred(lane);
    if (deferral.passThrough === undefined) {
      deferral.passThrough = this.#store.headBefore(bandEnd(band), bandStart(band))?.key ?? bandStart(band);
      deferral.cursor = bandStart(band);
      deferral.since = this.#monotonic();
    }
    let from = deferral.cursor;
    for (;;) {
      const head = this.#store.firstHead(from, deferral.passThrough + 1);
      if (head === undefined) return;
      from = head.key + 1;
      if (!this.#leasedKeys.has(head.key)) yield head;
    }
  }

  #isDue(deferral: Deferral): boolean {
    return deferral.passThrough !== undefined || this.#monotonic() >= deferral.dueAt;
  }

  #deferral(lane: number): Deferral {
    return this.#deferrals[lane] as Deferral;
  }

  #addLeased(lane: number, key: number, count: number): void {
    const counts =
      bandOf(key) === Band.deferred(lane) ? [this.#leasedCounts, this.#leasedDeferred] : [this.#leasedCounts];
    for (const leased of counts) leased[lane] = (leased[lane] ?? 0) + count;
  }
}

/** Whether a block goes out marked as replayed: held back by an outage or a restart, or asked for again. */
export function isHeldBack(head: BlockHead, limits: BatchLimits): boolean {
  return head.lastSeq <= limits.heldBackThrough || bandOf(head.key) >= Band.deferred(0);
}

/** What a request's limit leaves for the readings, in bytes. */
export function roomFor(limits: Pick<BatchLimits, "maxBytes">): number {
  return limits.maxBytes - ENVELOPE_BYTES;
}
