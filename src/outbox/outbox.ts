/**
 * The outbox's face, on the main thread: where acquisition and delivery meet.
 *
 * Invariants:
 * - `committed` is called only after the transaction that holds the readings has returned from `COMMIT` with
 *   `synchronous=FULL`; a copy's, only after the original's.
 * - One commit is under way at a time; what arrives meanwhile gathers and is committed next, without waiting further.
 * - After an I/O error nothing more is acknowledged: `onFatal` ends the process.
 *
 * It does not decide what is sent when (the forwarder does), and it does not touch the file (the worker does).
 */
import type { Audit } from "../kernel/audit.ts";
import type { Clock } from "../kernel/clock.ts";
import type { Conditions } from "../kernel/conditions.ts";
import type { Telemetry } from "../kernel/telemetry.ts";
import { type ClockQuality, type Observation, PRIORITIES, type Priority } from "../observation/observation.ts";
import type { Batch, BatchLimits, BatchSource, IndexRange, ReplaySource, Settlement } from "./batch.ts";
import type { Books, KeptState } from "./books.ts";
import { CommitWriter, type PendingSettlement } from "./commit-writer.ts";
import type { DeadLetterChange, DeadLetterSelection } from "./dead-letters.ts";
import { type Acceptance, type BlockLimits, BlockMemory, Gathering } from "./gathering.ts";
import type { PeekedReading } from "./inspection.ts";
import { KeptUpkeep } from "./kept-upkeep.ts";
import { addLedgers, type Ledger } from "./ledger.ts";
import { teller } from "./notices.ts";
import { ObservationWriter } from "./observation-text.ts";
import type { Operation, Operations, TendOutcome } from "./protocol.ts";
import { RecentIds } from "./recent-ids.ts";
import type { ReplayBatchLimits, ReplayCount, ReplayCursor, ReplaySelection, ReplayTake } from "./replaying.ts";
import type { ProvisionalStamp } from "./restamp.ts";
import type { RetentionSettings } from "./retention.ts";
import { RoomWatch } from "./room-watch.ts";
import { largestShare } from "./sizes.ts";
import type { DeadLetter } from "./store.ts";
import { Tending } from "./tending.ts";
import { WorkerFault, WorkerLink } from "./worker-link.ts";

/** Copies are recognised among as many readings accepted last (contract, section 1.2). */
const RECENT_IDS = 100_000;
/** Readings that wait for their commit, in characters of JSON; above it sources without acknowledgements pause. */
const MAX_UNCOMMITTED = 8 * 1024 * 1024;
/** How long a settlement may wait for readings to be committed with it, to spare the card; a crash meanwhile costs a copy. */
const SETTLE_DELAY_MS = 500;
/** As many settlements do not wait. */
const MANY_SETTLEMENTS = 4;
/** How often the offset of the clock is offered to a file on a full disk. */
const DISK_FULL_RETRY_MS = 1000;
const NO_COPIES: readonly Observation[] = [];

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
  readonly #writer: ObservationWriter;
  readonly #recent = new RecentIds(RECENT_IDS);
  readonly #memory = new BlockMemory();
  readonly #delays: Readonly<Record<Priority, number>>;
  readonly #committer: CommitWriter;
  readonly #keptUpkeep: KeptUpkeep;
  readonly #waitingListeners = new Set<() => void>();
  readonly #reliefListeners: (() => void)[] = [];
  readonly #room: RoomWatch;
  readonly #tending: Tending;
  #link: WorkerLink | undefined;
  #books: Books | undefined;
  #gathering: Gathering;
  #committing: Gathering | undefined;
  #settlements: PendingSettlement[] = [];
  #settleDueAt = Number.POSITIVE_INFINITY;
  #duplicates = 0;
  #duplicatesCommitting = 0;
  #nextSeq = 1;
  #cancelTimer: (() => void) | undefined;
  #cancelDeferred: (() => void) | undefined;
  #soon = false;
  /** The daemon stops, and readings were given up that nobody may take for stored. */
  #gaveUp = false;
  #flushing = false;
  #dead = false;
  #idle: (() => void)[] = [];

  private constructor(settings: OutboxSettings, context: OutboxContext) {
    const largest = largestShare(settings.maxBytes);
    const block = { ...settings.block, maxBytes: Math.min(settings.block.maxBytes, largest) };
    this.#settings = { ...settings, block };
    this.#context = context;
    this.#room = new RoomWatch(context.conditions, context.clock, context.audit);
    this.#tending = new Tending(context.clock, () => this.#tend());
    this.#writer = new ObservationWriter(settings.gatewayId);
    this.#delays = settings.commitDelay;
    this.#gathering = new Gathering(block, this.#memory);
    this.#keptUpkeep = new KeptUpkeep({
      clock: context.clock,
      log: context.telemetry.log,
      keepDelivered: settings.keepDelivered,
      purge: () => this.#ask("purgeKept", context.clockQuality()),
    });
    this.#committer = new CommitWriter({
      clock: context.clock,
      metrics: context.telemetry.metrics,
      room: this.#room,
      tending: this.#tending,
      worker: () => this.#worker,
      books: () => this.#known,
      newSettlements: () => this.#settlements.splice(0),
      stopping: () => this.#flushing,
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
        died: (error) => outbox.#fatal(error, false),
      },
    );
    outbox.#link = link;
    outbox.#recent.addAll(recentIds);
    outbox.#nextSeq = books.lastSeq + 1;
    outbox.#noteBooks(books);
    outbox.#tending.start();
    outbox.#keptUpkeep.start();
    return outbox;
  }

  /**
   * Takes observations. `committed` is called once, never before this returns, when all of them (the copies' originals
   * included) are durable. Gives back which of them are copies of readings that were accepted before.
   */
  append(
    observations: readonly Observation[],
    receivedAt: number,
    committed: () => void,
  ): { accepted: number; duplicates: number; copies: readonly Observation[] } {
    const { clock, clockQuality } = this.#context;
    const now = clock.monotonic();
    const quality = clockQuality();
    const provisional = this.#provisional(quality, now);
    let accepted = 0;
    let copies: Observation[] | undefined;
    for (const observation of observations) {
      if (!this.#recent.add(observation.id)) {
        copies ??= [];
        copies.push(observation);
        continue;
      }
      const seq = this.#nextSeq++;
      const text = this.#writer.write(observation, receivedAt, quality, seq, provisional);
      const toRestamp = provisional !== undefined && observation.timedByGateway === true;
      this.#gathering.add(observation, text, seq, now + this.#delays[observation.priority], toRestamp);
      accepted++;
    }
    const duplicates = observations.length - accepted;
    if (duplicates > 0) this.#countCopies(duplicates, now);
    // A copy's original may still be on its way to the card: the copy then waits for the newest group, which is no earlier.
    const group = accepted > 0 || this.#gathering.count > 0 ? this.#gathering : this.#committing;
    const taken = { accepted, duplicates, copies: copies ?? NO_COPIES };
    if (this.#gaveUp) return taken;
    if (group === undefined) setImmediate(committed);
    else group.waiters.push(committed);
    this.#schedule();
    return taken;
  }

  /** Whether so much waits for its commit that a source without acknowledgements ought to pause. */
  get saturated(): boolean {
    return this.#gathering.size + (this.#committing?.size ?? 0) > MAX_UNCOMMITTED;
  }

  /**
   * Whether the outbox is full and refuses (`whenFull`): what comes without an acknowledgement can only be counted, what
   * comes with one waits at its source.
   */
  get refusing(): boolean {
    return this.#committer.hold === "outbox-full" && this.#settings.whenFull === "refuse";
  }

  /** Calls `listener` once when `saturated` and `refusing` have become false. */
  onceRelieved(listener: () => void): void {
    this.#reliefListeners.push(listener);
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
    // After `#giveUp` fates are no longer written: what was sent is sent again.
    if (this.#dead) return Promise.resolve();
    return new Promise((committed) => {
      this.#settlements.push({ lease: batch.lease, settlement, committed });
      const givesBack = settlement.delivered.length === 0 && settlement.deadLettered.length === 0;
      const dueAt = this.#context.clock.monotonic() + (givesBack ? 0 : SETTLE_DELAY_MS);
      this.#settleDueAt = Math.min(this.#settleDueAt, dueAt);
      this.#schedule();
      this.#committer.tryAgain();
    });
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
    return { ...ledger, duplicates: ledger.duplicates + this.#duplicates + this.#duplicatesCommitting };
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
    return this.#committer.commits;
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
    return new Promise((resolve) => {
      this.#idle.push(resolve);
      this.#flushing = true;
      if (this.#dead) this.#becomeIdle();
      else this.#schedule();
      this.#committer.tryAgain();
    });
  }

  /** Commits, checkpoints, closes the file and lets go of the dataDir. */
  async close(): Promise<void> {
    await this.flush();
    this.#cancelTimer?.();
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

  /** Copies are counted with the next commit, or with one of their own when nothing else comes. */
  #countCopies(count: number, now: number): void {
    this.#duplicates += count;
    this.#settleDueAt = Math.min(this.#settleDueAt, now + SETTLE_DELAY_MS);
  }

  /** Sees to it that what has gathered is committed when it is due, and not later. */
  #schedule(): void {
    if (this.#committing !== undefined || this.#soon || this.#dead) return;
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
    const dueAt = Math.min(this.#gathering.dueAt, this.#settleDueAt);
    if (dueAt === Number.POSITIVE_INFINITY) {
      this.#becomeIdle();
      return;
    }
    const wait = dueAt - this.#context.clock.monotonic();
    const now = this.#flushing || this.#gathering.full || this.#settlements.length >= MANY_SETTLEMENTS || wait <= 0;
    if (!now) {
      this.#cancelTimer = this.#context.clock.after(wait, () => this.#commitSoon());
      return;
    }
    this.#commitSoon();
  }

  /** After what else has arrived in this turn of the event loop. */
  #commitSoon(): void {
    if (this.#soon) return;
    this.#soon = true;
    setImmediate(() => {
      this.#soon = false;
      void this.#commit();
    });
  }

  async #commit(): Promise<void> {
    const group = this.#gathering;
    const settlements = this.#settlements;
    const duplicates = this.#duplicates;
    this.#duplicatesCommitting = duplicates;
    this.#gathering = new Gathering(this.#settings.block, this.#memory);
    this.#settlements = [];
    this.#settleDueAt = Number.POSITIVE_INFINITY;
    this.#duplicates = 0;
    this.#committing = group;
    const written = await this.#committer.write(group.seal(this.#acceptance()), settlements, duplicates);
    if (written === "dead") return;
    group.release();
    this.#committing = undefined;
    this.#duplicatesCommitting = 0;
    if (written === "given-up") this.#giveUp();
    // What has gathered meanwhile has waited long enough: the card writes it while acknowledgements go out.
    if (this.#gathering.count > 0) void this.#commit();
    else this.#schedule();
    if (written === "given-up") return;
    for (const waiter of group.waiters) waiter();
    if (!this.saturated) for (const listener of this.#reliefListeners.splice(0)) listener();
  }

  /** The daemon stops and there is no room: what was never acknowledged is left to its senders. */
  #giveUp(): void {
    this.#context.telemetry.log.warn("stops without room for more: readings that were not acknowledged are not kept");
    this.#gaveUp = true;
    this.#gathering = new Gathering(this.#settings.block, this.#memory);
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

  /** What readings without a time of their own are stored with while the clock's first synchronisation may yet come. */
  #provisional(quality: ClockQuality, monotonic: number): ProvisionalStamp | undefined {
    if (quality === "synchronised" || this.#known.clockKnown || this.#context.clockAwaited?.() !== true)
      return undefined;
    return { boot: this.#settings.bootId, uptime_ms: Math.round(monotonic) };
  }

  #acceptance(): Acceptance {
    const { clock, clockQuality } = this.#context;
    return { acceptedAt: clock.now(), acceptedMonotonic: Math.floor(clock.monotonic()), clock: clockQuality() };
  }

  #becomeIdle(): void {
    this.#flushing = false;
    for (const resolve of this.#idle.splice(0)) resolve();
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
