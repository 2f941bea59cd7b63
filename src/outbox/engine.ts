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
import { placeOf } from "./block.ts";
import type { Books, KeptState, Notice } from "./books.ts";
import { ClockHold } from "./clock-hold.ts";
import type { Commit, Committed, NewBlock } from "./commit.ts";
import { DamagedBlocks } from "./damaged-blocks.ts";
import { type DeadLetterChange, type DeadLetterSelection, DeadLetters } from "./dead-letters.ts";
import type { KnownBooks } from "./file-state.ts";
import { Kept } from "./kept.ts";
import { Leasing } from "./leasing.ts";
import type { Ledger } from "./ledger.ts";
import { Queue } from "./queue.ts";
import {
  NO_LEASE,
  type ReplayBatchLimits,
  type ReplayCount,
  type ReplayCursor,
  Replaying,
  type ReplaySelection,
  type ReplayTake,
} from "./replaying.ts";
import { Retention, type RetentionSettings } from "./retention.ts";
import { BANDS, Band, type BlockHead, bandEnd, bandStart, type DeadLetter, LANES } from "./rows.ts";
import { encodeSegment } from "./segment.ts";
import { Settling } from "./settling.ts";
import { PAGE_BYTES } from "./sizes.ts";
import type { Store } from "./store.ts";
import { classify } from "./store-fault.ts";

/**
 * To measure how large the files are, and what has waited longest, costs half as much as a small commit. Of commits that only store more
 * readings, not each is followed by it: it is done so often, or after so many bytes of their text.
 */
const MEASURE_MS = 5;
const MEASURE_BYTES = 256 * 1024;

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

export class Engine {
  readonly #store: Store;
  readonly #options: EngineOptions;
  readonly #hold: ClockHold;
  readonly #queue: Queue;
  readonly #letters: DeadLetters;
  readonly #ages: AgeClock;
  readonly #retention: Retention;
  readonly #kept: Kept;
  readonly #replaying: Replaying;
  readonly #damaged: DamagedBlocks;
  readonly #leasing: Leasing;
  readonly #settling: Settling;
  #ledgers: readonly Ledger[];
  #lastSeq: number;
  #figures: Figures;
  /** Whether readings have been stored since the figures were measured, how much of their text, and when that was. */
  #figuresAreOld = false;
  #bytesSince = 0;
  #measuredAt = Number.NEGATIVE_INFINITY;

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
      (change) => this.#transaction(change),
      () => ({ boot: store.boot, acceptedMonotonic: Math.floor(options.monotonic()) }),
    );
    this.#ages = new AgeClock(store, options);
    this.#kept = new Kept(store, {
      keepMs: options.keepDelivered ?? 0,
      ages: this.#ages,
      ...options,
      transaction: (change) => this.#transaction(change),
    });
    this.#retention = new Retention(options.retention, {
      store,
      queue: this.#queue,
      letters: this.#letters,
      kept: this.#kept,
      ages: this.#ages,
      freeDisk: options.freeDisk,
      takeOut: (head, lane, fate) => this.#takeOut(head, lane, fate),
      measureAgain: () => this.#measureIfOld(),
    });
    const sender = { gatewayId: options.gatewayId, outboxId: store.outboxId };
    this.#replaying = new Replaying(store.kept, sender, options.now);
    this.#damaged = new DamagedBlocks(store, this.#queue, options);
    const parts = { store, queue: this.#queue, letters: this.#letters, kept: this.#kept, now: options.now };
    this.#settling = new Settling(parts);
    this.#leasing = new Leasing({ ...parts, damaged: this.#damaged, sender });
    this.#figures = this.#measure();
  }

  /**
   * Settles leases and stores new readings, as many as there is room for and one transaction holds. Durable once `durable` is
   * called, with the ledger as it is then; a checkpoint that is due takes until this has returned.
   */
  commit(commit: Commit, durable?: (committed: Committed) => void): Committed {
    const { effects, ...committed } = this.#transact(
      () => {
        // Settled blocks go first: the pages they free are written again in this same transaction.
        const settled = commit.settlements.flatMap(({ lease, settlement }) => this.#settle(lease, settlement));
        const inserted = this.#insert(commit.blocks);
        if (commit.duplicates > 0) this.#store.addToLedger(0, { duplicates: commit.duplicates });
        return { ...inserted, effects: [...settled, ...inserted.effects] };
      },
      ({ effects, ...stored }) => {
        for (const effect of effects) effect();
        this.#count();
        durable?.(stored);
      },
    );
    this.#store.checkpointIfDue();
    this.#figuresAreOld = true;
    for (const { text } of commit.blocks) this.#bytesSince += text.length;
    const onlyStored = commit.settlements.length === 0 && effects.length === 0;
    const isDue = this.#options.monotonic() - this.#measuredAt >= MEASURE_MS || this.#bytesSince > MEASURE_BYTES;
    if (isDue || !onlyStored) this.#refresh();
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
    this.#measureIfOld();
    if (this.#figures.oldestSince !== undefined || this.#kept.any) this.#transaction(() => this.#ages.note(quality));
  }

  /** Looks anew how much room there is. */
  look(): void {
    this.#figures = this.#measure();
    this.#measuredAt = this.#options.monotonic();
    this.#figuresAreOld = false;
    this.#bytesSince = 0;
  }

  /** Moves what the WAL holds into the file. */
  checkpoint(): void {
    this.#store.checkpoint();
  }

  /** The next readings to send, or `undefined`. */
  lease(limits: BatchLimits): Batch | undefined {
    if (limits.linkBackAt !== undefined) this.#hold.linkBack(limits.linkBackAt);
    const { damaged } = this.#damaged;
    const batch = this.#leasing.lease(limits);
    if (this.#damaged.damaged !== damaged) this.#refresh();
    return batch;
  }

  /** The clock is synchronised: this boot's wall time is its monotonic time plus `offsetMs`. Nothing waits for it any more. */
  fixClock(offsetMs: number): void {
    this.#store.setClockOffset(offsetMs);
    this.#hold.end();
  }

  /** A part of a batch as a request of its own. */
  part(leaseId: number, range: IndexRange): Batch {
    return leaseId === NO_LEASE ? this.#replaying.part(range) : this.#leasing.part(leaseId, range);
  }

  /** The ids of a batch's readings, in order. */
  ids(leaseId: number): string[] {
    return leaseId === NO_LEASE ? this.#replaying.ids() : this.#leasing.ids(leaseId);
  }

  /** The file is about to be closed: the books stay as they are, without looking into it again. */
  end(): void {
    this.#figuresAreOld = false;
    this.#hold.end();
  }

  /** Where a replay that begins now ends, and whether it can have anything to send. */
  kept(): KeptState {
    return { through: this.#kept.lastId, keeps: this.#kept.keeps, any: this.#kept.any };
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
   * Drops the delivered block that has been kept for longest, whatever its age, so that nothing that waits has to go. How many
   * readings it had: 0 where none is kept.
   */
  dropOldestKept(): number {
    return this.#transaction(() => this.#kept.dropOldest());
  }

  /** Of these, what is known without a look into the file. */
  known(): KnownBooks {
    return { lastSeq: this.#lastSeq, ledgers: this.#ledgers };
  }

  /** Numbers after the last change. */
  books(): Books {
    this.#measureIfOld();
    return this.booksSoFar();
  }

  /** As `books`, but how much the files take and what has waited longest may be as of some ms ago. */
  booksSoFar(): Books {
    return {
      ledgers: this.#ledgers,
      ...this.#queue.outlook(this.#ledgers),
      lastSeq: this.#lastSeq,
      deadLetters: this.#letters.count,
      kept: this.#kept.totals,
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

  /** A transaction, what is to be said once it is made, and a checkpoint where that is due. */
  #transaction<T>(change: () => T): T {
    const result = this.#transact(change);
    this.#store.checkpointIfDue();
    return result;
  }

  #transact<T>(change: () => T, durable?: (result: T) => void): T {
    const undo = [this.#letters.remember(), this.#kept.remember()];
    let isDurable = false;
    let result: T;
    try {
      result = this.#store.transaction(change, (stored) => {
        isDurable = true;
        durable?.(stored);
      });
    } catch (fault) {
      if (!isDurable) {
        for (const back of undo) back();
        // They may have been measured within it.
        this.#figuresAreOld = true;
      }
      if (classify(fault) === "disk-full") this.#kept.diskFull();
      throw fault;
    }
    const ids = this.#letters.takeDropped();
    if (ids.length > 0) this.#options.onNotice({ kind: "dead-letters-dropped", ids });
    return result;
  }

  /** Memory follows only what has been committed: a transaction that failed leaves leases as they were. */
  #follow(effects: readonly (() => void)[]): void {
    for (const effect of effects) effect();
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
      const room = this.#retention.makeRoom(body.length, lane);
      if (room === undefined) return { stored: index, full: true, effects };
      effects.push(...room.effects);
      const { key, lastSeq, sequence } = placeOf(Band.waiting(lane), runs);
      if (room.outranked) {
        this.#store.setLastSeq(lane, lastSeq);
        this.#store.addToLedger(lane, { accepted: count, evicted: count });
        continue;
      }
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
      this.#store.addAccepted(lane, count, lastSeq);
    }
    return { stored: blocks.length, full: false, effects };
  }

  /** Within a transaction: takes a waiting block out for a fate. Returns what to do in memory once it has been committed. */
  #takeOut(head: BlockHead, lane: number, fate: "evicted" | "expired"): () => void {
    // Its own count is believed only where its checksum matches.
    if (this.#store.block(head.key) === "damaged") return this.#damaged.setAsideWithin(head.key);
    this.#store.deleteBlock(head.key);
    this.#store.addToLedger(lane, { pending: -head.count, [fate]: head.count });
    return () => this.#queue.left(lane, head.key, head.count);
  }

  #settle(id: number, settlement: Settlement): (() => void)[] {
    const lease = this.#leasing.of(id);
    return [() => this.#leasing.end(id, lease), ...this.#settling.settle(lease, settlement)];
  }

  #refreshAfter<T>(result: T): T {
    this.#refresh();
    return result;
  }

  #measure(): Figures {
    const monotonic = this.#options.monotonic();
    let oldestSince: number | undefined;
    for (const band of BANDS) {
      const isDeferred = band >= Band.deferred(0);
      if (this.#ledgers[band % LANES]?.pending === 0 || (isDeferred && !this.#queue.hasDeferred(band % LANES)))
        continue;
      const head = this.#store.firstHead(bandStart(band), bandEnd(band));
      if (head === undefined) continue;
      const deferred = isDeferred ? this.#retention.deferredAge(band % LANES) : 0;
      const since = monotonic - Math.max(this.#ages.ageOf(head), deferred);
      oldestSince = Math.min(since, oldestSince ?? since);
    }
    const { count: pages, used } = this.#store.pages();
    const { file, wal } = this.#store.knownFileBytes();
    return {
      bytes: used * PAGE_BYTES + wal,
      walBytes: wal,
      room: this.#retention.look({ pages, used, file, wal }),
      oldestSince,
      expiresIn: oldestSince === undefined ? undefined : this.#options.retention.maxAge - (monotonic - oldestSince),
    };
  }

  #count(): void {
    this.#ledgers = this.#store.ledgers();
    this.#lastSeq = this.#store.lastSeq();
  }

  #refresh(): void {
    this.#count();
    this.look();
    this.#queue.endFinishedPasses();
  }

  #measureIfOld(): void {
    if (this.#figuresAreOld) this.look();
  }
}
