/**
 * What the outbox does, synchronously, on one store: commit, lease, settle, and look. It runs in the worker thread while the
 * daemon runs, and in a command's own thread while it does not.
 *
 * Invariants:
 * - The ledger changes in the same transaction as what it counts, and balances after every one.
 * - A lease lives in memory only: after a crash everything unsettled waits again, with the same ids.
 * - Nothing here grows with the backlog: a lease reads the blocks that it takes, no more.
 *
 * It does not decide when to commit or when to send; that is the outbox's face and the forwarder.
 */
import type { ClockQuality } from "../observation/observation.ts";
import { AgeClock } from "./age-clock.ts";
import type { Batch, BatchLimits, IndexRange, Settlement } from "./batch.ts";
import { idOf, placeOf, rebuilt, runsOf, textsOf } from "./block.ts";
import { ClockHold } from "./clock-hold.ts";
import { type DeadLetterChange, type DeadLetterSelection, DeadLetters } from "./dead-letters.ts";
import { Kept } from "./kept.ts";
import { type Fate, fatesOf, type Lease, type LeasedBlock } from "./lease.ts";
import type { Ledger } from "./ledger.ts";
import { isHeldBack, Queue, roomFor } from "./queue.ts";
import {
  NO_LEASE,
  type ReplayBatchLimits,
  type ReplayCount,
  type ReplayCursor,
  Replaying,
  type ReplaySelection,
  type ReplayTake,
} from "./replaying.ts";
import { requestOf, type Sender } from "./request.ts";
import type { BlockClock } from "./restamp.ts";
import { Retention, type RetentionSettings, type Room } from "./retention.ts";
import { encodeSegment, SEPARATOR, type Segment, segmentOf } from "./segment.ts";
import { expand, type Run, slice } from "./sequence.ts";
import { PAGE_BYTES } from "./sizes.ts";
import {
  BANDS,
  Band,
  type Block,
  type BlockHead,
  bandEnd,
  bandOf,
  bandStart,
  classify,
  type DeadLetter,
  LANES,
  type Store,
  seqOf,
} from "./store.ts";

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
  /** How many of the blocks, from the first on, are durable. */
  readonly stored: number;
  /** Whether the next one found no room: the others are to be tried again later. */
  readonly full: boolean;
}

/** What there is, in numbers, after a change. */
export interface Books {
  /** By lane. */
  readonly ledgers: readonly Ledger[];
  /** Readings that could be leased at once, by lane. */
  readonly available: readonly number[];
  /** Until readings that wait for a later try, or for the clock, are due, ms; `undefined` where none do. */
  readonly deferredDueIn: number | undefined;
  readonly lastSeq: number;
  readonly deadLetters: number;
  /** Whether the wall time of this boot is known, so that what is read from the file is restamped. */
  readonly clockKnown: boolean;
  /** In use: used pages × page size + WAL. */
  readonly bytes: number;
  readonly walBytes: number;
  readonly room: Room;
  /** Until the next reading has waited for `maxAge`, ms; `undefined` where none waits. */
  readonly expiresIn: number | undefined;
  /** When the oldest waiting reading was accepted, on this boot's monotonic clock (ms); `undefined` where none waits. */
  readonly oldestSince: number | undefined;
}

type Figures = Pick<Books, "bytes" | "walBytes" | "oldestSince" | "room" | "expiresIn">;

export interface EngineOptions {
  readonly gatewayId: string;
  /** Monotonic time, ms since boot. */
  readonly monotonic: () => number;
  readonly now: () => number;
  readonly maxDeadLetters: number;
  /** How long readings stamped by a clock that is not synchronised wait for it, ms; not at all by default. */
  readonly waitForClock?: number;
  readonly retention: RetentionSettings;
  /** Bytes free on the outbox's file system. */
  readonly freeDisk: () => number;
  /** How long delivered readings are kept for replay, ms; none where it is left out. */
  readonly keepDelivered?: number;
  /** One line for each thing that an operator ought to know. */
  readonly onNotice: (notice: Notice) => void;
}

/** The file was repaired: at this start (`now`), or earlier, and the damaged one is still there. */
export interface RepairNotice {
  readonly kind: "repaired";
  readonly now: boolean;
  readonly damaged: number;
  readonly salvaged: number;
  readonly setAside: string | null;
  readonly detail: string;
}

/** What is kept for replay. */
export interface KeptState {
  /** The id of the block kept last. */
  readonly through: number;
  /** Delivered readings are being kept now. */
  readonly keeps: boolean;
  readonly any: boolean;
}

export type Notice =
  | { readonly kind: "damaged"; readonly readings: number; readonly detail: string }
  | { readonly kind: "dead-letters-dropped"; readonly ids: readonly string[] }
  | RepairNotice;

export class Engine {
  readonly #store: Store;
  readonly #options: EngineOptions;
  readonly #leases = new Map<number, Lease>();
  readonly #hold: ClockHold;
  readonly #queue: Queue;
  readonly #letters: DeadLetters;
  readonly #ages: AgeClock;
  readonly #retention: Retention;
  readonly #kept: Kept;
  readonly #replaying: Replaying;
  readonly #sender: Sender;
  #nextLease = NO_LEASE + 1;
  #ledgers: Ledger[];
  #lastSeq: number;
  #figures: Figures;

  constructor(store: Store, options: EngineOptions) {
    this.#store = store;
    this.#options = options;
    this.#ledgers = store.ledgers();
    this.#lastSeq = store.lastSeq();
    this.#hold = new ClockHold(store.boot, options.waitForClock ?? 0, options.monotonic);
    if (store.clockKnown) this.#hold.end();
    this.#queue = new Queue(store, options.monotonic, this.#hold);
    this.#letters = new DeadLetters(
      store,
      this.#queue,
      options.maxDeadLetters,
      (ids) => options.onNotice({ kind: "dead-letters-dropped", ids }),
      () => ({ boot: store.boot, acceptedMonotonic: Math.floor(options.monotonic()) }),
    );
    this.#ages = new AgeClock(store, options);
    this.#kept = new Kept(store, { keepMs: options.keepDelivered ?? 0, ...options });
    this.#retention = new Retention(options.retention, {
      store,
      queue: this.#queue,
      letters: this.#letters,
      kept: this.#kept,
      ages: this.#ages,
      freeDisk: options.freeDisk,
      takeOut: (head, lane, fate) => this.#takeOut(head, lane, fate),
    });
    this.#sender = { gatewayId: options.gatewayId, outboxId: store.outboxId };
    this.#replaying = new Replaying(store.kept, this.#sender, options.now);
    this.#figures = this.#measure();
  }

  /**
   * Settles leases and stores new readings, as many as there is room for and one transaction holds. Durable once this has
   * returned.
   */
  commit(commit: Commit): Committed {
    const { effects, ...committed } = this.#transaction(() => {
      // Settled blocks go first: the pages they free are written again in this same transaction.
      const settled = commit.settlements.flatMap(({ lease, settlement }) => this.#settle(lease, settlement));
      const inserted = this.#insert(commit.blocks);
      if (commit.duplicates > 0) this.#store.addToLedger(0, { duplicates: commit.duplicates });
      return { ...inserted, effects: [...settled, ...inserted.effects] };
    });
    this.#follow(effects);
    return committed;
  }

  /**
   * What is to be done now and then, a part of it: what has waited too long expires, what is beyond a limit that was lowered
   * is evicted, the time is noted. Returns whether there is more to be done at once.
   */
  tend(quality: ClockQuality): boolean {
    const { effects, more } = this.#transaction(() => {
      if (this.#ages.isDue(quality)) this.#ages.note(quality);
      const expired = this.#retention.expire();
      const evicted = this.#retention.shrink();
      return { effects: [...expired.effects, ...evicted.effects], more: expired.more || evicted.more };
    });
    this.#follow(effects);
    return more;
  }

  /** Notes until when this boot is known to have run, where anything waits that has an age. */
  noteTime(quality: ClockQuality): void {
    if (this.#figures.oldestSince !== undefined) this.#transaction(() => this.#ages.note(quality));
  }

  /** Looks anew how much room there is. */
  look(): void {
    this.#figures = this.#measure();
  }

  /** Moves what the WAL holds into the file. */
  checkpoint(): void {
    this.#store.checkpoint();
  }

  /** The next readings to send, or `undefined`. */
  lease(limits: BatchLimits): Batch | undefined {
    if (limits.linkBackAt !== undefined) this.#hold.linkBack(limits.linkBackAt);
    for (;;) {
      const taken = this.#queue.next(limits);
      if (taken.length === 0) return undefined;
      const first = taken[0]?.head as BlockHead;
      if (taken.length === 1 && exceeds(first, limits) && first.count > 1) {
        this.#split(first, limits);
        continue;
      }
      const segments = this.#segments(taken.map(({ head }) => head.key));
      if (segments === undefined) continue;
      const lease: Lease = {
        blocks: taken.map(({ head, lane }) => ({ key: head.key, lane, count: head.count, runs: runsOf(head) })),
        count: taken.reduce((sum, { head }) => sum + head.count, 0),
        replayed: isHeldBack(first, limits),
        compression: limits.compression,
        sentAt: new Date(this.#options.now()).toISOString(),
      };
      return this.#register(lease, segments, limits);
    }
  }

  /** The clock is synchronised: this boot's wall time is its monotonic time plus `offsetMs`. Nothing waits for it any more. */
  fixClock(offsetMs: number): void {
    this.#store.setClockOffset(offsetMs);
    this.#hold.end();
  }

  /** A part of a leased batch as a request of its own. */
  part(leaseId: number, range: IndexRange): Batch {
    if (leaseId === NO_LEASE) return this.#replaying.part(range);
    const lease = this.#lease(leaseId);
    const texts = this.#texts(lease).slice(range.from, range.to);
    return this.#batch(leaseId, lease, range, [segmentOf(texts)]);
  }

  /** The ids of a lease's readings, in order. */
  ids(leaseId: number): string[] {
    if (leaseId === NO_LEASE) return this.#replaying.ids();
    return this.#texts(this.#lease(leaseId)).map(idOf);
  }

  /** The file is about to be closed: the books stay as they are, without looking into it again. */
  end(): void {
    this.#hold.end();
  }

  /** Where a replay that begins now ends, and whether it can have anything to send. */
  kept(): KeptState {
    return { through: this.#kept.lastId, keeps: this.#kept.keeps, any: this.#store.kept.oldest() !== undefined };
  }

  replayCount(selection: ReplaySelection, from: ReplayCursor): ReplayCount {
    return this.#replaying.count(selection, from);
  }

  replayTake(selection: ReplaySelection, from: ReplayCursor, limits: ReplayBatchLimits): ReplayTake {
    return this.#replaying.take(selection, from, limits);
  }

  /** Drops some of the delivered blocks that were kept for long enough. `true`: there may be more, call again. */
  purgeKept(clock: ClockQuality): boolean {
    return this.#refreshAfter(this.#kept.purge(clock));
  }

  /**
   * Drops the delivered block that has been kept for longest, whatever its age, so that nothing that waits has to go; within a
   * transaction or by itself. How many readings it had: 0 where none is kept.
   */
  dropOldestKept(): number {
    return this.#kept.dropOldest();
  }

  /** Numbers after the last change. */
  books(): Books {
    return {
      ledgers: this.#ledgers,
      available: this.#queue.available(this.#ledgers),
      deferredDueIn: this.#queue.deferredDueIn(),
      lastSeq: this.#lastSeq,
      deadLetters: this.#letters.count,
      clockKnown: this.#store.clockKnown,
      ...this.#figures,
    };
  }

  deadLetters(after: number, limit: number): DeadLetter[] {
    return this.#store.deadLetters(after, limit);
  }

  deadLettersOf(id: string): DeadLetter[] {
    return this.#store.deadLettersOf(id);
  }

  requeue(selection: DeadLetterSelection): DeadLetterChange {
    return this.#refreshAfter(this.#letters.requeue(selection));
  }

  drop(selection: DeadLetterSelection): DeadLetterChange {
    return this.#refreshAfter(this.#letters.drop(selection));
  }

  #transaction<T>(change: () => T): T {
    try {
      return this.#store.transaction(change);
    } catch (fault) {
      this.#letters.recount();
      this.#kept.recount();
      if (classify(fault) === "disk-full") this.#kept.diskFull();
      throw fault;
    }
  }

  /** Memory follows only what has been committed: a transaction that failed leaves leases as they were. */
  #follow(effects: readonly (() => void)[]): void {
    for (const effect of effects) effect();
    this.#store.checkpointIfDue();
    this.#refresh();
  }

  /** As many blocks as there is room for, and one transaction holds; one at least where there is room. */
  #insert(blocks: readonly NewBlock[]): Committed & { effects: readonly (() => void)[] } {
    const effects: (() => void)[] = [];
    let bytes = 0;
    for (const [index, { lane, runs, count, text, ...times }] of blocks.entries()) {
      const { body, rawBytes, rawCrc } = encodeSegment(text, count);
      bytes += body.length;
      if (index > 0 && bytes > this.#store.sizes.transactionBytes) return { stored: index, full: false, effects };
      const evicted = this.#retention.makeRoom(body.length);
      if (evicted === undefined) return { stored: index, full: true, effects };
      effects.push(...evicted);
      const { key, lastSeq, sequence } = placeOf(Band.waiting(lane), runs);
      this.#store.insertBlock({
        ...times,
        key,
        lastSeq,
        count,
        sequence,
        boot: this.#store.boot,
        rawBytes,
        rawCrc,
        body,
      });
      this.#store.addToLedger(lane, { accepted: count, pending: count });
      this.#store.setLastSeq(lane, lastSeq);
    }
    return { stored: blocks.length, full: false, effects };
  }

  /** Within a transaction: takes a waiting block out for a fate. Returns what to do in memory once it has been committed. */
  #takeOut(head: BlockHead, lane: number, fate: "evicted" | "expired"): () => void {
    // Its own count is believed only where its checksum matches.
    if (this.#store.block(head.key) === "damaged") return this.#setAsideWithin(head.key);
    this.#store.deleteBlock(head.key);
    this.#store.addToLedger(lane, { pending: -head.count, [fate]: head.count });
    return () => this.#queue.left(lane, head.key, head.count);
  }

  #register(lease: Lease, segments: readonly Segment[], limits: BatchLimits): Batch {
    const id = this.#nextLease++;
    const batch = this.#batch(id, lease, { from: 0, to: lease.count }, segments, limits.compression);
    this.#leases.set(id, lease);
    this.#queue.take(lease.blocks);
    return batch;
  }

  #batch(
    leaseId: number,
    lease: Lease,
    range: IndexRange,
    segments: readonly Segment[],
    compression: BatchLimits["compression"] = lease.compression,
  ): Batch {
    const runs = slice(
      lease.blocks.flatMap((block) => block.runs),
      range.from,
      range.to,
    );
    const { replayed, sentAt } = lease;
    const lane = lease.blocks[0]?.lane ?? 0;
    return requestOf(this.#sender, { lease: leaseId, range, runs, segments, lane, replayed, sentAt }, compression);
  }

  /** Blocks' bodies; `undefined` where one was damaged and has been set aside. Nothing else of a block is believed before. */
  #segments(keys: readonly number[]): Segment[] | undefined {
    const segments: Segment[] = [];
    for (const key of keys) {
      const block = this.#store.block(key);
      if (block === undefined) throw new Error(`block ${key} vanished`);
      if (block === "damaged") {
        this.#setAside(key);
        return undefined;
      }
      segments.push(block);
    }
    return segments;
  }

  #texts(lease: Lease): string[] {
    return lease.blocks.flatMap(({ key }) => {
      const block = this.#store.block(key);
      if (block === undefined || block === "damaged") throw new Error(`block ${key} vanished from under its lease`);
      return textsOf(block);
    });
  }

  #setAside(key: number): void {
    const effect = this.#store.transaction(() => this.#setAsideWithin(key));
    effect();
    this.#refresh();
  }

  /** Within a transaction. Returns what to do once it has been committed. */
  #setAsideWithin(key: number): () => void {
    const band = bandOf(key);
    const lane = band % LANES;
    const detail = `checksum of the block at sequence number ${seqOf(key)} does not match`;
    // The row itself is not to be believed, its count included: what is missing in the books was in it.
    this.#store.setAside(key, this.#options.now(), detail);
    const left = this.#store.countIn(Band.waiting(lane)) + this.#store.countIn(Band.deferred(lane));
    const readings = Math.max(0, (this.#store.ledgers()[lane]?.pending ?? 0) - left);
    this.#store.addToLedger(lane, { pending: -readings, damaged: readings });
    return () => {
      this.#queue.recount(lane);
      this.#options.onNotice({ kind: "damaged", readings, detail });
    };
  }

  /** Cuts a block that today's limits no longer allow into blocks that they do. */
  #split(head: BlockHead, limits: BatchLimits): void {
    const block = this.#store.block(head.key);
    if (block === undefined) return;
    if (block === "damaged") {
      this.#setAside(head.key);
      return;
    }
    const texts = textsOf(block);
    const numbers = expand(runsOf(block));
    this.#store.transaction(() => {
      this.#store.deleteBlock(block.key);
      let from = 0;
      while (from < texts.length) {
        let to = from + 1;
        let bytes = Buffer.byteLength(texts[from] ?? "");
        while (to < texts.length && to - from < limits.maxReadings) {
          bytes += SEPARATOR.length + Buffer.byteLength(texts[to] ?? "");
          if (bytes > roomFor(limits)) break;
          to++;
        }
        this.#store.insertBlock(rebuilt(block, bandOf(block.key), texts.slice(from, to), numbers.slice(from, to)));
        from = to;
      }
    });
  }

  /** Within a transaction: the fates of one lease. Returns what to do in memory once it has been committed. */
  #settle(leaseId: number, settlement: Settlement): (() => void)[] {
    const lease = this.#lease(leaseId);
    const fates = fatesOf(lease.count, settlement);
    const effects: (() => void)[] = [() => this.#end(leaseId, lease)];
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
        { seq: numbers[index] ?? 0, id: idOf(reading), lane, reading, refusedAt: this.#options.now() },
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

  #end(leaseId: number, lease: Lease): void {
    this.#leases.delete(leaseId);
    this.#queue.release(lease.blocks);
  }

  #lease(id: number): Lease {
    const lease = this.#leases.get(id);
    if (lease === undefined) throw new Error(`there is no lease ${id}`);
    return lease;
  }

  #refreshAfter<T>(result: T): T {
    this.#refresh();
    return result;
  }

  #measure(): Figures {
    const monotonic = this.#options.monotonic();
    let oldestSince: number | undefined;
    for (const band of BANDS) {
      if (this.#ledgers[band % LANES]?.pending === 0) continue;
      const head = this.#store.firstHead(bandStart(band), bandEnd(band));
      if (head === undefined) continue;
      const since = monotonic - this.#ages.ageOf(head);
      oldestSince = Math.min(since, oldestSince ?? since);
    }
    const { count: pages, used } = this.#store.pages();
    const { file, wal } = this.#store.fileBytes();
    return {
      bytes: used * PAGE_BYTES + wal,
      walBytes: wal,
      room: this.#retention.look({ pages, used, file, wal }),
      oldestSince,
      expiresIn: oldestSince === undefined ? undefined : this.#options.retention.maxAge - (monotonic - oldestSince),
    };
  }

  #refresh(): void {
    this.#ledgers = this.#store.ledgers();
    this.#lastSeq = this.#store.lastSeq();
    this.#figures = this.#measure();
    this.#queue.endFinishedPasses();
  }
}

function exceeds(head: BlockHead, limits: BatchLimits): boolean {
  return head.count > limits.maxReadings || head.rawBytes > roomFor(limits);
}
