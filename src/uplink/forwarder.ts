/**
 * The forwarder pulls batches from the outbox and delivers them to fusion at the uplink's own pace. An outage is not a
 * mode of its own: it is the forwarder not settling.
 *
 * One loop takes one decision at a time from what is so at that moment, and then sleeps until something has happened or
 * `LONGEST_PAUSE_MS` is over. So no wake-up that got lost can hold a backlog for longer than that, and a loop that no
 * longer turns shows in `tick`.
 *
 * Invariants: with a concurrency of 1, no lease is taken while readings of an earlier one are on their way back to
 * waiting, so order within a lane is kept; at most one batch is fetched ahead; at most `MAX_SETTLING` settlements are
 * outstanding. It never drops a reading: what has no fate goes back to waiting.
 */
import type { Registry } from "prom-client";
import type { UplinkConfig } from "../config/schema.ts";
import type { Audit } from "../kernel/audit.ts";
import type { Clock } from "../kernel/clock.ts";
import type { Conditions } from "../kernel/conditions.ts";
import { messageOf } from "../kernel/errors.ts";
import type { Logger } from "../kernel/telemetry.ts";
import { PRIORITIES, type Priority } from "../observation/observation.ts";
import type { Batch, BatchLimits, BatchSource, ReplaySource, Settlement } from "../outbox/batch.ts";
import { DeadLetterLog } from "./dead-letter-log.ts";
import { type Delivered, Delivery, type DeliveryParts, NOTHING_KNOWN } from "./delivery.ts";
import type { Permit } from "./gate.ts";
import { type LastFailure, Line } from "./line.ts";
import { BackOff, BatchSize, type BreakerState, Tries } from "./policies.ts";
import { Progress } from "./progress.ts";
import { Replay } from "./replay.ts";
import type { Transport } from "./transport.ts";
import { type Turn, Turns } from "./turns.ts";
import { UplinkMetrics } from "./uplink-metrics.ts";

/** How long the loop sleeps at most, whatever it waits for. */
const LONGEST_PAUSE_MS = 5000;
/** Settlements handed to the outbox and not yet committed; beyond it nothing more is sent. */
export const MAX_SETTLING = 8;
/** After the outbox failed to give or take a batch. */
const OUTBOX_RETRY_MS = 1000;
/** What one step of a delivery or a settlement may take beyond the transport's own limits before it counts as stuck. */
const STUCK_MARGIN_MS = 60_000;
const OUTBOX_CONDITION = "outbox-unavailable";

export interface ForwarderParts {
  readonly source: BatchSource;
  /** Where delivered readings are kept; without it nothing is sent again. */
  readonly kept?: ReplaySource;
  readonly transport: Transport;
  readonly config: UplinkConfig;
  readonly clock: Clock;
  /** [0, 1) */
  readonly random: () => number;
  readonly conditions: Conditions;
  readonly log: Logger;
  readonly metrics: Registry;
  /** Hears how a replay ended; nobody, where this is left out. */
  readonly audit?: Audit;
}

export type ForwarderState = "stopped" | "idle" | "sending" | "waiting" | "refusing";

export interface ForwarderStatus {
  readonly state: ForwarderState;
  readonly breaker: BreakerState;
  /** Wall time in milliseconds. */
  readonly lastSuccessAt: number | null;
  readonly lastFailure: LastFailure | null;
  /** Until the next try, unless the link is seen to be back earlier; `null` while nothing is waited for. */
  readonly nextTryInSeconds: number | null;
  /** While the next try comes as soon as fusion can be connected to: how often that is looked at. Otherwise `null`. */
  readonly looksEverySeconds: number | null;
  /** Since the start of the daemon, as are the following. */
  readonly requests: number;
  readonly readingsDelivered: number;
  readonly readingsDeadLettered: number;
}

/** A batch that was leased while others were under way. */
interface Ahead {
  readonly batch: Batch;
  readonly heldBackThrough: number;
  /** Whose turn it was. */
  readonly turn: Turn;
}

export class Forwarder {
  readonly #parts: ForwarderParts;
  readonly #line: Line;
  readonly #size: BatchSize;
  readonly #metrics: UplinkMetrics;
  readonly #deadLetterLog: DeadLetterLog;
  readonly #delivery: DeliveryParts;
  readonly #stopping = new AbortController();
  readonly #abort = new AbortController();
  readonly #inFlight = new Set<Promise<void>>();
  readonly #settling = new Set<Promise<void>>();
  readonly #progress: Progress;
  readonly #turns: Turns;
  /** Sends a past range again, with what live readings leave of the link. */
  readonly replay: Replay | undefined;
  #ahead: Ahead | undefined;
  /** A request of critical readings alone, beside the others. */
  #express: Promise<void> | undefined;
  /** Requests under way that hold critical readings. */
  #criticalUnderWay = 0;
  /** Since when readings have been waiting for company. */
  #lingerSince: number | undefined;
  /** Held-back readings may still be waiting. */
  #backlog = true;
  /** Up to where the outbox knows readings as held back: it counts those that may go past them only then. */
  #toldThrough: number | undefined;
  #woken = false;
  #wakePause: () => void = () => {};
  #unsubscribe: () => void = () => {};
  #loop: Promise<void> | undefined;
  #stopped: Promise<void> | undefined;
  #outboxRetryAt = Number.NEGATIVE_INFINITY;

  /** Inert until `start`. Readings that are in the outbox by now count as held back. */
  constructor(parts: ForwarderParts) {
    const { source, transport, config, clock, random, conditions, log } = parts;
    this.#parts = parts;
    this.#line = new Line({
      config,
      endpoint: transport.endpoint,
      clock,
      random,
      conditions,
      log,
      lastSeq: () => source.lastSeq(),
      onChange: () => this.#wake(),
    });
    transport.onRenewed(() => this.#line.renewed());
    this.#size = new BatchSize(config.batch);
    this.#progress = new Progress(clock, transport.longestPostMs + STUCK_MARGIN_MS);
    this.#deadLetterLog = new DeadLetterLog(log, clock);
    this.#metrics = new UplinkMetrics(parts.metrics, () => this.#line.breaker !== "closed");
    this.#delivery = {
      source,
      transport,
      line: this.#line,
      size: this.#size,
      tries: new Tries(),
      backOff: new BackOff(config.retry, random),
      clock,
      log,
      metrics: this.#metrics,
      signal: this.#abort.signal,
    };
    this.#turns = new Turns(config);
    const onReady = (): void => this.#wake();
    this.replay = parts.kept && new Replay({ ...parts, source: parts.kept, metrics: this.#metrics, onReady });
  }

  /** Begins to deliver. Does not wait for fusion. */
  start(): void {
    if (this.#loop !== undefined) return;
    this.#unsubscribe = this.#parts.source.onWaiting(() => this.#wake());
    this.#loop = this.#run();
  }

  /**
   * Takes nothing new, lets what is in flight end for at most `deadlineMs`, then aborts it. Every lease is settled when
   * this resolves. Closes the transport.
   */
  stop(deadlineMs: number): Promise<void> {
    this.#stopped ??= this.#stop(deadlineMs);
    return this.#stopped;
  }

  /** Grows as long as the forwarder does its work, waiting for fusion included; stands still when it is stuck. */
  get tick(): number {
    return this.#progress.tick;
  }

  status(): ForwarderStatus {
    const waitMs = this.#line.waitMs();
    const { lookInterval } = this.#line;
    return {
      state: this.#state(waitMs),
      breaker: this.#line.breaker,
      lastSuccessAt: this.#line.lastSuccessAt,
      lastFailure: this.#line.lastFailure,
      nextTryInSeconds: waitMs > 0 ? waitMs / 1000 : null,
      looksEverySeconds: waitMs > 0 && lookInterval !== undefined ? lookInterval / 1000 : null,
      ...this.#metrics.totals,
    };
  }

  #state(waitMs: number): ForwarderState {
    if (this.#loop === undefined || this.#stopping.signal.aborted) return "stopped";
    if (this.#line.refusing) return "refusing";
    if (waitMs > 0) return "waiting";
    return this.#inFlight.size > 0 ? "sending" : "idle";
  }

  async #stop(deadlineMs: number): Promise<void> {
    this.#stopping.abort();
    this.#unsubscribe();
    this.#wake();
    await this.replay?.stop("the daemon stops; it does not go on by itself");
    const cancel = this.#parts.clock.after(deadlineMs, () => this.#abort.abort());
    await this.#loop;
    await Promise.all(this.#inFlight);
    cancel();
    await Promise.all(this.#settling);
    this.#deadLetterLog.stop();
    this.#line.close();
    this.#parts.transport.close();
  }

  async #run(): Promise<void> {
    const obstacle = await this.#parts.transport.prepare();
    if (obstacle !== undefined) this.#line.raise(obstacle.fault, obstacle.detail);
    while (!this.#stopping.signal.aborted) {
      this.#progress.advance();
      await this.#pause(await this.#turn());
    }
    await this.#giveBackAhead();
  }

  /** Takes one decision. Returns how long there is nothing to decide unless something happens; 0 to go on at once. */
  async #turn(): Promise<number> {
    if (this.#settling.size >= MAX_SETTLING) return LONGEST_PAUSE_MS;
    const outboxMs = this.#outboxRetryAt - this.#parts.clock.monotonic();
    if (outboxMs > 0) return outboxMs;
    const busy = this.#inFlight.size - (this.#express === undefined ? 0 : 1) >= this.#parts.config.concurrency;
    if (await this.#sendCriticalBeside(busy)) return 0;
    if (busy) return this.#fetchAhead();
    const waitMs = this.#line.waitMs();
    if (waitMs > 0) {
      await this.#giveBackAhead();
      return waitMs;
    }
    if (this.#ahead !== undefined && !this.#aheadIsNext(this.#ahead)) await this.#giveBackAhead();
    const lingerMs = this.#ahead === undefined ? this.#lingerMs() : 0;
    if (lingerMs > 0) return this.#spare(lingerMs);
    if (this.#ahead === undefined) await this.#lease();
    if (this.#ahead === undefined)
      return this.#spare(this.#turns.waitMs(this.#parts.clock.monotonic()) || LONGEST_PAUSE_MS);
    const permit = this.#stopping.signal.aborted ? undefined : this.#line.admit();
    if (permit === undefined) return LONGEST_PAUSE_MS;
    const { batch } = this.#ahead;
    this.#ahead = undefined;
    this.#dispatch(batch, permit);
    return 0;
  }

  /** While requests are under way, leases the batch after them, so that the line need not wait for the outbox. */
  async #fetchAhead(): Promise<number> {
    if (this.#line.outage) return LONGEST_PAUSE_MS;
    if (this.#ahead === undefined) {
      const lingerMs = this.#lingerMs();
      if (lingerMs > 0) return this.#spare(lingerMs);
      await this.#lease();
    }
    // Live readings that fit into the next request are not held up by another one beside it.
    return this.#parts.source.waiting().count === 0 ? this.#spare(LONGEST_PAUSE_MS) : LONGEST_PAUSE_MS;
  }

  /**
   * Critical readings do not wait for requests that hold none: they get one of their own beside those. In order all the same: no two
   * requests hold critical readings at once, unless `concurrency` allows it.
   */
  async #sendCriticalBeside(busy: boolean): Promise<boolean> {
    const { heldBackTurn } = this.#turns.next(this.#parts.clock.monotonic(), this.#line.outage);
    const inTheWay = busy || heldBackTurn === true;
    const critical = this.#parts.source.waiting().highest === "critical";
    const earlierOnes = this.#criticalUnderWay > 0 || this.#ahead?.batch.priority === "critical";
    if (!inTheWay || !critical || earlierOnes || this.#line.outage || this.#line.waitMs() > 0) return false;
    const leased = await this.#leaseOf({ lanes: "critical" });
    if (leased === undefined) return false;
    const permit = this.#stopping.signal.aborted ? undefined : this.#line.admit();
    if (permit === undefined) {
      await this.#settle(leased.batch, NOTHING_KNOWN);
      return false;
    }
    this.#express = this.#dispatch(leased.batch, permit);
    return true;
  }

  /** Live readings have nothing to send for `ms`: a replay may. Returns when to look again. */
  #spare(ms: number): number {
    const well = this.#line.breaker === "closed" && !this.#line.outage && this.#line.waitMs() === 0;
    return well && !this.#stopping.signal.aborted ? Math.min(ms, this.replay?.offer() ?? ms) : ms;
  }

  /** Whether the batch that was leased ahead is still what a fresh lease would bring, or near enough. */
  #aheadIsNext({ batch, heldBackThrough, turn }: Ahead): boolean {
    const { highest } = this.#parts.source.waiting();
    if (heldBackThrough !== this.#line.heldBackThrough || batch.count > this.#size.maxReadings) return false;
    if (highest === undefined || batch.priority === "critical") return true;
    if (highest === "critical") return this.#express !== undefined;
    const itsTurn = turn.laneTurn !== undefined || (turn.heldBackTurn === true && batch.replayed);
    return itsTurn || rank(highest) >= rank(batch.priority);
  }

  /** How long the readings that wait should go on waiting for company, in milliseconds; infinite where none wait. */
  #lingerMs(): number {
    const { count, highest } = this.#parts.source.waiting();
    const now = this.#parts.clock.monotonic();
    this.#turns.waiting(now, count > 0);
    if (count === 0) {
      this.#lingerSince = undefined;
      const told = this.#parts.config.backlog !== "live-first" || this.#toldThrough === this.#line.heldBackThrough;
      return told ? Number.POSITIVE_INFINITY : 0;
    }
    this.#lingerSince ??= now;
    // While the backlog has had its share, the count says nothing of how many may go.
    const full = count >= this.#size.maxReadings && this.#turns.waitMs(now) === 0;
    if (full || highest === "critical" || this.#line.outage || this.#backlog) return 0;
    return Math.max(0, this.#lingerSince + this.#parts.config.batch.linger - now);
  }

  /** Leases the next batch into `#ahead`, where readings wait. */
  async #lease(): Promise<void> {
    // Beside a request of critical readings alone, those behind them wait for it: order within the lane.
    this.#ahead = await this.#leaseOf(this.#express === undefined ? {} : { lanes: "others" });
    if (this.#ahead !== undefined) this.#lingerSince = undefined;
  }

  async #leaseOf(choice: Pick<BatchLimits, "lanes">): Promise<Ahead | undefined> {
    const { heldBackThrough, outage } = this.#line;
    const turn = this.#turns.next(this.#parts.clock.monotonic(), outage);
    const limits = {
      maxReadings: this.#size.maxReadings,
      maxBytes: this.#size.maxBytes,
      compression: this.#parts.config.batch.compression,
      heldBackThrough,
      ...turn,
      ...choice,
      linkBackAt: this.#line.linkBackAt,
    };
    try {
      const batch = await this.#progress.watch(() => this.#parts.source.lease(limits));
      this.#toldThrough = heldBackThrough;
      if (choice.lanes !== "critical") this.#backlog = batch?.replayed ?? false;
      return batch && { batch, heldBackThrough, turn };
    } catch (error) {
      this.#outboxFailed(error);
      return undefined;
    }
  }

  async #giveBackAhead(): Promise<void> {
    const ahead = this.#ahead;
    this.#ahead = undefined;
    if (ahead !== undefined) await this.#settle(ahead.batch, NOTHING_KNOWN);
  }

  #dispatch(batch: Batch, permit: Permit): Promise<void> {
    this.#turns.sent(this.#parts.clock.monotonic(), batch);
    const critical = batch.priority === "critical" ? 1 : 0;
    this.#criticalUnderWay += critical;
    const delivery = this.#deliver(batch, permit).finally(() => {
      this.#criticalUnderWay -= critical;
      if (this.#express === delivery) this.#express = undefined;
      this.#inFlight.delete(delivery);
      this.#wake();
    });
    this.#inFlight.add(delivery);
    return delivery;
  }

  /** Resolves when the next batch may go: what has a fate need not be committed by then, what has none is back. */
  async #deliver(batch: Batch, permit: Permit): Promise<void> {
    let delivered: Delivered;
    try {
      delivered = await this.#progress.watch((next) => new Delivery(this.#delivery, batch, permit, next).run());
    } catch (error) {
      this.#outboxFailed(error);
      delivered = { settlement: NOTHING_KNOWN, returning: true };
    }
    const settled = this.#settle(batch, delivered.settlement);
    if (delivered.returning) await settled;
  }

  /** Hands the fates to the outbox. Never rejects. */
  #settle(batch: Batch, settlement: Settlement): Promise<void> {
    const settled = this.#progress
      .watch(() => this.#parts.source.settle(batch, settlement))
      .then(() => {
        this.#metrics.settled(settlement);
        this.#deadLetterLog.settled(settlement);
        if (settlement !== NOTHING_KNOWN) this.#parts.conditions.clear("uplink", OUTBOX_CONDITION);
      })
      .catch((error: unknown) => this.#outboxFailed(error))
      .finally(() => {
        this.#settling.delete(settled);
        this.#wake();
      });
    this.#settling.add(settled);
    return settled;
  }

  #outboxFailed(error: unknown): void {
    this.#outboxRetryAt = this.#parts.clock.monotonic() + OUTBOX_RETRY_MS;
    const detail = `The outbox could not give or take a batch: ${messageOf(error)}. It is tried again; see the outbox.`;
    this.#parts.conditions.raise("uplink", OUTBOX_CONDITION, "degraded", detail);
  }

  #wake(): void {
    this.#woken = true;
    this.#wakePause();
  }

  /** Sleeps for `ms`, at most `LONGEST_PAUSE_MS`, or until something has happened since the last sleep. */
  async #pause(ms: number): Promise<void> {
    if (ms > 0 && !this.#woken) {
      await new Promise<void>((resolve) => {
        const cancel = this.#parts.clock.after(Math.min(ms, LONGEST_PAUSE_MS), resolve);
        this.#wakePause = () => {
          cancel();
          resolve();
        };
      });
    }
    this.#woken = false;
    this.#wakePause = () => {};
  }
}

function rank(priority: Priority): number {
  return PRIORITIES.indexOf(priority);
}
