/**
 * The outbox's face, on the main thread: where acquisition and delivery meet.
 *
 * Invariant: after an I/O error nothing more is acknowledged: `onFatal` ends the process.
 *
 * It does not decide what is sent when (the forwarder does), nor what is committed when (`GroupCommit`), and it does not touch the
 * file (the worker does).
 */
import type { Audit } from "../kernel/audit.ts";
import type { Clock } from "../kernel/clock.ts";
import type { Conditions } from "../kernel/conditions.ts";
import type { Telemetry } from "../kernel/telemetry.ts";
import { type ClockQuality, type Observation, PRIORITIES, type Priority } from "../observation/observation.ts";
import type { Batch, BatchLimits, BatchSource, IndexRange, ReplaySource, Settlement } from "./batch.ts";
import type { Books, KeptState } from "./books.ts";
import { CommitWriter } from "./commit-writer.ts";
import type { DeadLetterChange, DeadLetterSelection } from "./dead-letters.ts";
import type { BlockLimits } from "./gathering.ts";
import { GroupCommit, RECENT_IDS, type Taken } from "./group-commit.ts";
import type { PeekedReading } from "./inspection.ts";
import { KeptUpkeep } from "./kept-upkeep.ts";
import { addLedgers, type Ledger } from "./ledger.ts";
import { teller } from "./notices.ts";
import type { Operation, Operations, TendOutcome } from "./protocol.ts";
import type { ReplayBatchLimits, ReplayCount, ReplayCursor, ReplaySelection, ReplayTake } from "./replaying.ts";
import type { RetentionSettings } from "./retention.ts";
import { RoomWatch } from "./room-watch.ts";
import type { DeadLetter } from "./rows.ts";
import { largestShare } from "./sizes.ts";
import { Tending } from "./tending.ts";
import { WorkerFault, WorkerLink } from "./worker-link.ts";

/** How often the offset of the clock is offered to a file on a full disk. */
const DISK_FULL_RETRY_MS = 1000;

export interface OutboxSettings extends RetentionSettings {
  readonly gatewayId: string;
  readonly dataDir: string;
  readonly file: string;
  readonly maxDeadLetters: number;
  /** How long readings stamped by a clock that is not synchronised wait for it, ms. */
  readonly waitForClock: number;
  /** How long delivered readings are kept for replay, ms. */
  readonly keepDelivered: number;
  readonly bootId: string;
  /** Milliseconds by priority. */
  readonly commitDelay: Readonly<Record<Priority, number>>;
  /** What one request may carry: a block is never larger. */
  readonly block: BlockLimits;
}

export interface OutboxContext {
  readonly clock: Clock;
  readonly telemetry: Telemetry;
  readonly conditions: Conditions;
  /** Nobody, where this is left out. */
  readonly audit?: Audit;
  readonly clockQuality: () => ClockQuality;
  /** Whether the clock's first synchronisation may yet come; never, where this is left out. */
  readonly clockAwaited?: () => boolean;
  /** The file's state is unknown: end the process, with status 74 after an I/O error. */
  readonly onFatal: (error: Error, ioError: boolean) => void;
}

export class Outbox implements BatchSource, ReplaySource {
  readonly #settings: OutboxSettings;
  readonly #context: OutboxContext;
  readonly #group: GroupCommit;
  readonly #keptUpkeep: KeptUpkeep;
  readonly #waitingListeners = new Set<() => void>();
  readonly #room: RoomWatch;
  readonly #tending: Tending;
  #link: WorkerLink | undefined;
  #books: Books | undefined;
  #cancelDeferred: (() => void) | undefined;
  #dead = false;

  private constructor(settings: OutboxSettings, context: OutboxContext) {
    const { clock, telemetry, clockQuality } = context;
    const block = { ...settings.block, maxBytes: Math.min(settings.block.maxBytes, largestShare(settings.maxBytes)) };
    this.#settings = settings;
    this.#context = context;
    this.#room = new RoomWatch(context.conditions, clock, context.audit);
    this.#tending = new Tending(clock, () => this.#tend());
    this.#keptUpkeep = new KeptUpkeep({
      clock,
      log: telemetry.log,
      keepDelivered: settings.keepDelivered,
      purge: () => this.#ask("purgeKept", clockQuality()),
    });
    this.#group = new GroupCommit({
      ...settings,
      block,
      clock,
      clockQuality,
      clockAwaited: () => context.clockAwaited?.() === true,
      clockKnown: () => this.#known.clockKnown,
      log: telemetry.log,
      dead: () => this.#dead,
      writer: (group) => this.#commitWriter(group),
    });
  }

  #commitWriter(group: GroupCommit): CommitWriter {
    return new CommitWriter({
      clock: this.#context.clock,
      metrics: this.#context.telemetry.metrics,
      room: this.#room,
      tending: this.#tending,
      worker: () => this.#worker,
      books: () => this.#known,
      newSettlements: () => group.takeSettlements(),
      joinCritical: (underWay) => group.joinCritical(underWay),
      acknowledge: (underWay) => group.acknowledge(underWay),
      stopping: () => group.flushing,
      onFatal: (error, ioError) => this.#fatal(error, ioError),
    });
  }

  /**
   * Takes the dataDir's lock, opens or creates the file, and is ready for readings.
   * @throws GatewayError DATA_DIR_LOCKED, DATA_DIR_UNUSABLE, OUTBOX_CANNOT_OPEN, OUTBOX_IO_ERROR, OUTBOX_NOT_DURABLE,
   * OUTBOX_TOO_NEW.
   */
  static async open(settings: OutboxSettings, context: OutboxContext): Promise<Outbox> {
    const outbox = new Outbox(settings, context);
    const { commitDelay: _delays, block: _block, ...worker } = settings;
    const { link, books, recentIds } = await WorkerLink.open(
      { ...worker, recentIds: RECENT_IDS },
      {
        books: (books) => outbox.#noteBooks(books),
        notice: teller(context),
        damageFound: (detail) => outbox.#fatal(new Error(`the outbox's file is damaged: ${detail}`), true),
        putBack: (file) => outbox.#fatal(putBack(file), true),
        failed: (fault) => outbox.#fatal(fault, fault.report.fault === "io-error"),
        died: (error) => outbox.#fatal(error, false),
      },
    );
    outbox.#link = link;
    outbox.#group.goOn(books.lastSeq, recentIds);
    outbox.#noteBooks(books);
    outbox.#tending.start();
    outbox.#keptUpkeep.start();
    return outbox;
  }

  /**
   * Takes observations. `committed` is called once, never before this returns, when all of them (the copies' originals
   * included) are durable. Gives back which of them are copies of readings that were accepted before.
   */
  append(observations: readonly Observation[], receivedAt: number, committed: () => void): Taken {
    return this.#group.append(observations, receivedAt, committed);
  }

  /** Whether so much waits for its commit that a source without acknowledgements ought to pause. */
  get saturated(): boolean {
    return this.#group.saturated;
  }

  /**
   * Whether the outbox is full and refuses (`whenFull`) readings of a priority: what comes without an acknowledgement can only be counted,
   * what comes with one waits at its source. Critical readings it takes as long as there is room for them alone.
   */
  refuses(priority: Priority): boolean {
    return this.#group.refuses(priority);
  }

  /** Calls `listener` once when `saturated` and what is refused have changed for the better. */
  onceRelieved(listener: () => void): void {
    this.#group.onceRelieved(listener);
  }

  async lease(limits: BatchLimits): Promise<Batch | undefined> {
    // A lease keeps its readings from being evicted: it is never most of a small outbox.
    const maxBytes = Math.min(limits.maxBytes, largestShare(this.#settings.maxBytes));
    return await this.#ask("lease", { ...limits, maxBytes });
  }

  async part(batch: Batch, range: IndexRange): Promise<Batch> {
    return await this.#ask("part", { lease: batch.lease, range });
  }

  async ids(batch: Batch): Promise<string[]> {
    return await this.#ask("ids", { lease: batch.lease });
  }

  settle(batch: Batch, settlement: Settlement): Promise<void> {
    return this.#group.settle(batch.lease, settlement);
  }

  waiting(): { count: number; highest: Priority | undefined } {
    const available = this.#known.available;
    const highest = available.findIndex((count) => count > 0);
    return { count: sum(available), highest: PRIORITIES[highest] };
  }

  lastSeq(): number {
    return this.#known.lastSeq;
  }

  onWaiting(listener: () => void): () => void {
    this.#waitingListeners.add(listener);
    return () => this.#waitingListeners.delete(listener);
  }

  /** The books as of the last commit, over all lanes; copies as of now. */
  ledger(): Ledger {
    const ledger = this.#known.ledgers.reduce(addLedgers);
    return { ...ledger, duplicates: ledger.duplicates + this.#group.copies };
  }

  /** The books by priority. */
  ledgerOf(priority: Priority): Ledger {
    return this.#known.ledgers[PRIORITIES.indexOf(priority)] as Ledger;
  }

  /** What there is, in numbers, as of the last commit. */
  books(): Books {
    return this.#known;
  }

  /** Commits since the start. */
  get commits(): number {
    return this.#group.commits;
  }

  /**
   * The clock is synchronised: this boot's wall time is its monotonic time plus `offsetMs`. Readings that waited for that go out with their
   * times put right. Resolves once it is durable, until when a full disk is waited out.
   */
  async fixClock(offsetMs: number): Promise<void> {
    while (!this.#dead) {
      try {
        return await this.#ask("fixClock", { offsetMs });
      } catch (thrown) {
        if (!(thrown instanceof WorkerFault && thrown.report.fault === "disk-full")) throw thrown;
        await this.#context.clock.sleep(DISK_FULL_RETRY_MS);
      }
    }
  }

  /** Waiting readings in the order in which they would be sent. */
  async peek(limit: number, priority?: Priority): Promise<PeekedReading[]> {
    return await this.#ask("peek", { limit, priority });
  }

  /** Dead letters with sequence numbers after `after`, in order. */
  async deadLetters(after: number, limit: number): Promise<DeadLetter[]> {
    return await this.#ask("deadLetters", { after, limit });
  }

  async deadLettersOf(id: string): Promise<DeadLetter[]> {
    return await this.#ask("deadLettersOf", { id });
  }

  async requeue(selection: DeadLetterSelection): Promise<DeadLetterChange> {
    return await this.#ask("requeue", selection);
  }

  async drop(selection: DeadLetterSelection): Promise<DeadLetterChange> {
    return await this.#ask("drop", selection);
  }

  /** What is kept for replay. */
  async kept(): Promise<KeptState> {
    return await this.#ask("kept", undefined);
  }

  /** How many readings the next few kept blocks have of a selection. */
  async replayCount(selection: ReplaySelection, from: ReplayCursor): Promise<ReplayCount> {
    return await this.#ask("replayCount", { selection, from });
  }

  /** The next kept readings of a selection as one request, on no lease. */
  async replayTake(selection: ReplaySelection, from: ReplayCursor, limits: ReplayBatchLimits): Promise<ReplayTake> {
    return await this.#ask("replayTake", { selection, from, limits });
  }

  /** A round trip to the worker and back: proof that the outbox makes progress. */
  async ping(): Promise<void> {
    await this.#ask("ping", undefined);
  }

  /** Commits what has gathered without waiting for company; resolves when nothing is uncommitted. */
  flush(): Promise<void> {
    return this.#group.flush();
  }

  /** Commits, checkpoints, closes the file and lets go of the dataDir. */
  async close(): Promise<void> {
    await this.flush();
    this.#group.stop();
    this.#cancelDeferred?.();
    this.#keptUpkeep.stop();
    this.#tending.stop();
    this.#room.stop();
    await this.#worker.close(this.#context.clockQuality());
  }

  /** Everything but a commit. After an I/O error the file's state is unknown, whoever met it. */
  async #ask<O extends Operation>(op: O, takes: Operations[O]["takes"]): Promise<Operations[O]["gives"]> {
    try {
      return await this.#worker.call(op, takes);
    } catch (thrown) {
      if (thrown instanceof WorkerFault && thrown.report.fault === "io-error") this.#fatal(thrown, true);
      throw thrown;
    }
  }

  get #worker(): WorkerLink {
    if (this.#link === undefined) throw new Error("the outbox is not open");
    return this.#link;
  }

  get #known(): Books {
    if (this.#books === undefined) throw new Error("the outbox is not open");
    return this.#books;
  }

  async #tend(): Promise<TendOutcome> {
    try {
      const outcome = await this.#worker.call("tend", { clock: this.#context.clockQuality() });
      this.#room.diskFull(outcome.diskFull);
      return outcome;
    } catch (thrown) {
      const fault = thrown instanceof WorkerFault ? thrown.report.fault : "other";
      if (fault !== "disk-full")
        this.#fatal(thrown instanceof Error ? thrown : new Error(String(thrown)), fault === "io-error");
      return { more: false, diskFull: true };
    }
  }

  #noteBooks(books: Books): void {
    const before = this.#books?.available;
    this.#books = books;
    this.#room.note(books);
    this.#tending.note(books.expiresIn);
    this.#cancelDeferred?.();
    this.#cancelDeferred =
      books.deferredDueIn === undefined
        ? undefined
        : this.#context.clock.after(books.deferredDueIn, () => void this.#lookForDue());
    // By lane: where low readings were evicted for critical ones, fewer wait in all.
    const more = books.available.some((count, lane) => count > (before?.[lane] ?? 0));
    if (more) for (const listener of this.#waitingListeners) listener();
  }

  /** Readings put off are due: the worker's answer brings the new numbers. */
  async #lookForDue(): Promise<void> {
    if (!this.#dead) await this.ping().catch((error: Error) => this.#fatal(error, false));
  }

  #fatal(error: Error, ioError: boolean): void {
    if (this.#dead) return;
    this.#dead = true;
    this.#context.onFatal(error, ioError);
  }
}

const putBack = (file: string): Error =>
  new Error(
    `the outbox's file ${file}, or its log, was removed while it was in use; all that it held is in its place again`,
  );

function sum(counts: readonly number[]): number {
  return counts.reduce((total, count) => total + count, 0);
}
