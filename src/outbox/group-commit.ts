/**
 * Gathers readings and fates on the main thread, and commits them together: when they are due, when there are many, or as soon as the
 * commit before them is done.
 *
 * Invariants:
 * - `committed` is called only after the transaction that holds the readings has returned from `COMMIT` with
 *   `synchronous=FULL`; a copy's, only after the original's.
 * - One commit is under way at a time; what arrives meanwhile gathers and is committed next, without waiting further.
 * - Critical readings wait for no others: where those find no room, they join the commit under way, and are acknowledged on their own.
 *
 * It does not touch the file (the worker does), and writes no commit itself (`CommitWriter`).
 */
import type { Clock } from "../kernel/clock.ts";
import type { Logger } from "../kernel/telemetry.ts";
import type { ClockQuality, Observation, Priority } from "../observation/observation.ts";
import type { Settlement } from "./batch.ts";
import type { CommitWriter, PendingSettlement } from "./commit-writer.ts";
import { type Acceptance, type BlockLimits, BlockMemory, Gathering } from "./gathering.ts";
import { ObservationWriter } from "./observation-text.ts";
import { CRITICAL_LANE } from "./order.ts";
import { RecentIds } from "./recent-ids.ts";
import type { ProvisionalStamp } from "./restamp.ts";
import { UnderWay, Waits } from "./under-way.ts";

/** Copies are recognised among as many readings accepted last (contract, section 1.2). */
export const RECENT_IDS = 100_000;
/** Readings that wait for their commit, in characters of JSON; above it sources without acknowledgements pause. */
const MAX_UNCOMMITTED = 8 * 1024 * 1024;
/** How long a settlement may wait for readings to be committed with it, to spare the card; a crash meanwhile costs a copy. */
const SETTLE_DELAY_MS = 500;
/** As many settlements do not wait. */
const MANY_SETTLEMENTS = 4;
const NO_COPIES: readonly Observation[] = [];

/** What became of readings that were handed over; `copies` are those of readings that were accepted before. */
export interface Taken {
  readonly accepted: number;
  readonly duplicates: number;
  readonly copies: readonly Observation[];
}

export interface GroupCommitParts {
  readonly gatewayId: string;
  readonly bootId: string;
  readonly whenFull: "evict" | "refuse";
  /** Milliseconds by priority. */
  readonly commitDelay: Readonly<Record<Priority, number>>;
  /** What one request may carry: a block is never larger. */
  readonly block: BlockLimits;
  readonly clock: Clock;
  readonly clockQuality: () => ClockQuality;
  /** Whether the clock's first synchronisation may yet come. */
  readonly clockAwaited: () => boolean;
  /** Whether the offset of this boot's clock is known. */
  readonly clockKnown: () => boolean;
  readonly log: Logger;
  /** Whether the process is about to end, and nothing is committed any more. */
  readonly dead: () => boolean;
  readonly writer: (group: GroupCommit) => CommitWriter;
}

export class GroupCommit {
  readonly #parts: GroupCommitParts;
  readonly #committer: CommitWriter;
  readonly #writer: ObservationWriter;
  readonly #recent = new RecentIds(RECENT_IDS);
  readonly #memory = new BlockMemory();
  readonly #reliefListeners: (() => void)[] = [];
  #gathering: Gathering;
  #underWay: UnderWay | undefined;
  #settlements: PendingSettlement[] = [];
  #settleDueAt = Number.POSITIVE_INFINITY;
  #duplicates = 0;
  #duplicatesCommitting = 0;
  #nextSeq = 1;
  #cancelTimer: (() => void) | undefined;
  #soon = false;
  #triesCritical = false;
  /** The daemon stops, and readings were given up that nobody may take for stored. */
  #gaveUp = false;
  #flushing = false;
  #idle: (() => void)[] = [];

  constructor(parts: GroupCommitParts) {
    this.#parts = parts;
    this.#writer = new ObservationWriter(parts.gatewayId);
    this.#gathering = new Gathering(parts.block, this.#memory);
    this.#committer = parts.writer(this);
  }

  /** Goes on after the last sequence number that was given away, and recognises copies of these readings (four words each). */
  goOn(lastSeq: number, recentIds: Uint32Array): void {
    this.#recent.addAll(recentIds);
    this.#nextSeq = lastSeq + 1;
  }

  /**
   * Takes observations. `committed` is called once, never before this returns, when all of them (the copies' originals
   * included) are durable. Gives back which of them are copies of readings that were accepted before.
   */
  append(observations: readonly Observation[], receivedAt: number, committed: () => void): Taken {
    const { clock, clockQuality } = this.#parts;
    const now = clock.monotonic();
    const quality = clockQuality();
    const provisional = this.#provisional(quality, now);
    let accepted = 0;
    let copies: Observation[] | undefined;
    const waits = new Waits();
    for (const observation of observations) {
      if (!this.#recent.add(observation.id)) {
        copies ??= [];
        copies.push(observation);
        // Its original may still be on its way to the card.
        const seq = this.#nextSeq - 1 - this.#recent.ageOf(observation.id);
        waits.on(this.#gathering.blockOf(seq) ?? this.#underWay?.blockOf(seq));
        continue;
      }
      const seq = this.#nextSeq++;
      const text = this.#writer.write(observation, receivedAt, quality, seq, provisional);
      const toRestamp = provisional !== undefined && observation.timedByGateway === true;
      const dueAt = now + this.#parts.commitDelay[observation.priority];
      waits.on(this.#gathering.add(observation, text, seq, dueAt, toRestamp));
      accepted++;
    }
    const duplicates = observations.length - accepted;
    if (duplicates > 0) this.#countCopies(duplicates, now);
    const taken = { accepted, duplicates, copies: copies ?? NO_COPIES };
    if (this.#gaveUp) return taken;
    waits.call(committed);
    this.#schedule();
    return taken;
  }

  /** Whether so much waits for its commit that a source without acknowledgements ought to pause. */
  get saturated(): boolean {
    return this.#gathering.size + (this.#underWay?.size ?? 0) > MAX_UNCOMMITTED;
  }

  /**
   * Whether the outbox is full and refuses (`whenFull`) readings of a priority: what comes without an acknowledgement can only be counted,
   * what comes with one waits at its source. Critical readings it takes as long as there is room for them alone.
   */
  refuses(priority: Priority): boolean {
    const full = this.#committer.hold === "outbox-full" && this.#parts.whenFull === "refuse";
    return full && (priority !== "critical" || this.#underWay?.criticalIsNext === true);
  }

  /** Calls `listener` once when `saturated` and what is refused have changed for the better. */
  onceRelieved(listener: () => void): void {
    this.#reliefListeners.push(listener);
  }

  /** Resolves once the fates are durable. */
  settle(lease: number, settlement: Settlement): Promise<void> {
    // After `#giveUp` fates are no longer written: what was sent is sent again.
    if (this.#parts.dead()) return Promise.resolve();
    return new Promise((committed) => {
      this.#settlements.push({ lease, settlement, committed });
      const givesBack = settlement.delivered.length === 0 && settlement.deadLettered.length === 0;
      const dueAt = this.#parts.clock.monotonic() + (givesBack ? 0 : SETTLE_DELAY_MS);
      this.#settleDueAt = Math.min(this.#settleDueAt, dueAt);
      this.#schedule();
      this.#committer.tryAgain();
    });
  }

  /** Copies recognised, that are not in the books yet. */
  get copies(): number {
    return this.#duplicates + this.#duplicatesCommitting;
  }

  /** Fates that have come since the commit under way began; they are the caller's from then on. */
  takeSettlements(): PendingSettlement[] {
    return this.#settlements.splice(0);
  }

  /** Whether all is to be committed that is here, because the daemon stops: then nothing waits for room any more. */
  get flushing(): boolean {
    return this.#flushing;
  }

  /** Commits since the start. */
  get commits(): number {
    return this.#committer.commits;
  }

  /** Commits what has gathered without waiting for company; resolves when nothing is uncommitted. */
  flush(): Promise<void> {
    return new Promise((resolve) => {
      this.#idle.push(resolve);
      this.#flushing = true;
      if (this.#parts.dead()) this.#becomeIdle();
      else this.#schedule();
      this.#committer.tryAgain();
    });
  }

  /** Commits nothing by itself any more. */
  stop(): void {
    this.#cancelTimer?.();
  }

  /** Copies are counted with the next commit, or with one of their own when nothing else comes. */
  #countCopies(count: number, now: number): void {
    this.#duplicates += count;
    this.#settleDueAt = Math.min(this.#settleDueAt, now + SETTLE_DELAY_MS);
  }

  /** Sees to it that what has gathered is committed when it is due, and not later. */
  #schedule(): void {
    if (this.#soon || this.#parts.dead()) return;
    if (this.#underWay !== undefined) {
      if (this.#committer.hold !== undefined && this.#gathering.holdsCritical) this.#tryCriticalSoon();
      return;
    }
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
    const dueAt = Math.min(this.#gathering.dueAt, this.#settleDueAt);
    if (dueAt === Number.POSITIVE_INFINITY) {
      this.#becomeIdle();
      return;
    }
    const wait = dueAt - this.#parts.clock.monotonic();
    const now = this.#flushing || this.#gathering.full || this.#settlements.length >= MANY_SETTLEMENTS || wait <= 0;
    if (!now) {
      this.#cancelTimer = this.#parts.clock.after(wait, () => this.#commitSoon());
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

  /** Critical readings do not wait for what finds no room: there may be some for them alone. */
  #tryCriticalSoon(): void {
    if (this.#triesCritical) return;
    this.#triesCritical = true;
    setImmediate(() => {
      this.#triesCritical = false;
      this.#committer.tryAgain();
    });
  }

  async #commit(): Promise<void> {
    const settlements = this.#settlements;
    const duplicates = this.#duplicates;
    const group = new UnderWay(this.#gathering.seal(this.#acceptance()), this.#memory);
    this.#duplicatesCommitting = duplicates;
    this.#gathering = new Gathering(this.#parts.block, this.#memory);
    this.#settlements = [];
    this.#settleDueAt = Number.POSITIVE_INFINITY;
    this.#duplicates = 0;
    this.#underWay = group;
    const written = await this.#committer.write(group, settlements, duplicates);
    if (written === "dead") return;
    this.#underWay = undefined;
    this.#duplicatesCommitting = 0;
    if (written === "given-up") this.#giveUp(group);
    // What has gathered meanwhile has waited long enough: the card writes it while acknowledgements go out.
    if (this.#gathering.count > 0) void this.#commit();
    else this.#schedule();
    this.acknowledge(group);
  }

  /** Tells those whose readings are stored by now. */
  acknowledge(group: UnderWay): void {
    for (const waiter of group.takeWaiters()) waiter();
    if (this.#gaveUp || this.saturated) return;
    for (const listener of this.#reliefListeners.splice(0)) listener();
  }

  /** Critical readings that have come since the commit under way began go with it. Returns whether there were any. */
  joinCritical(group: UnderWay): boolean {
    if (!this.#gathering.holdsCritical) return false;
    group.join(this.#gathering.sealLane(CRITICAL_LANE, this.#acceptance()));
    return true;
  }

  /** The daemon stops and there is no room: what was never acknowledged is left to its senders. */
  #giveUp(group: UnderWay): void {
    group.giveUp();
    this.#parts.log.warn("stops without room for more: readings that were not acknowledged are not kept");
    this.#gaveUp = true;
    this.#gathering = new Gathering(this.#parts.block, this.#memory);
  }

  /** What readings without a time of their own are stored with while the clock's first synchronisation may yet come. */
  #provisional(quality: ClockQuality, monotonic: number): ProvisionalStamp | undefined {
    if (quality === "synchronised" || this.#parts.clockKnown() || !this.#parts.clockAwaited()) return undefined;
    return { boot: this.#parts.bootId, uptime_ms: Math.round(monotonic) };
  }

  #acceptance(): Acceptance {
    const { clock, clockQuality } = this.#parts;
    return { acceptedAt: clock.now(), acceptedMonotonic: Math.floor(clock.monotonic()), clock: clockQuality() };
  }

  #becomeIdle(): void {
    this.#flushing = false;
    for (const resolve of this.#idle.splice(0)) resolve();
  }
}
