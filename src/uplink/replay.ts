/**
 * Sends a past range of delivered readings to fusion again, behind live traffic and at a stated rate.
 *
 * Invariants: one replay at a time, and one request of it; it goes only when the forwarder offers what live readings leave, in a
 * request beside theirs, so that none of them waits for it; how it fares tells the line nothing and changes no reading's fate. It
 * lives in memory: with the daemon it ends, and says so.
 */
import type { UplinkConfig } from "../config/schema.ts";
import type { Audit } from "../kernel/audit.ts";
import type { Clock } from "../kernel/clock.ts";
import { messageOf } from "../kernel/errors.ts";
import type { Logger } from "../kernel/telemetry.ts";
import type { Batch, IndexRange, ReplaySource, Settlement } from "../outbox/batch.ts";
import type { ReplayCursor, ReplaySelection } from "../outbox/replaying.ts";
import { Delivery, type DeliveryParts } from "./delivery.ts";
import { BackOff, BatchSize, Tries } from "./policies.ts";
import { leftOf, ReplayLine } from "./replay-line.ts";
import type { Transport } from "./transport.ts";
import type { UplinkMetrics } from "./uplink-metrics.ts";

/** A replay that fails is tried again at the latest after as long: nobody looks whether fusion is back on its behalf. */
const MAX_BACK_OFF_MS = 15_000;
/** After the outbox could not say what comes next. */
const OUTBOX_RETRY_MS = 1000;
/** A reading that fusion still wants again later after as many tries of its batch counts as refused. */
const MAX_ASKED = 20;
/** Live traffic has gone first for as long: the progress says that the replay waits. */
const WAITS_AFTER_MS = 1500;

export interface ReplayRequest {
  /** Observed from then to then, both included; wall time, ms. */
  readonly from: number;
  readonly to: number;
  readonly class?: string;
  readonly source?: string;
  /** Readings per second, at most. */
  readonly rate: number;
}

/** `waiting`: for live readings, for the link, or for fusion. */
export type ReplayState = "counting" | "sending" | "waiting" | "done" | "stopped" | "failed";

export interface ReplayProgress extends ReplayRequest {
  readonly state: ReplayState;
  /** Readings that were found; `undefined` while they are being counted. */
  readonly total: number | undefined;
  /** Readings that fusion took. */
  readonly sent: number;
  /** Readings that fusion refused for good. They stay delivered; the log says why. */
  readonly refused: number;
  /** Readings that could not be read back. */
  readonly damaged: number;
  /** Wall time, ms. */
  readonly startedAt: number;
  readonly endedAt?: number;
  /** What went wrong last. */
  readonly lastFailure?: { readonly code: string; readonly detail: string };
}

/** Why no replay was begun. */
export type ReplayRefusal = "running" | "nothing-kept";

export interface ReplayParts {
  readonly source: ReplaySource;
  readonly transport: Transport;
  readonly config: Pick<UplinkConfig, "batch" | "retry">;
  readonly clock: Clock;
  /** [0, 1) */
  readonly random: () => number;
  readonly log: Logger;
  readonly metrics: UplinkMetrics;
  /** Called when `offer` is worth another call. */
  readonly onReady: () => void;
  /** Hears how each ended. */
  readonly audit?: Audit;
}

/** What one batch has left to send. */
interface Outstanding {
  readonly batch: Batch;
  readonly ranges: readonly IndexRange[];
  /** How often fusion has asked for some of it to be sent again later. */
  readonly asked: number;
}

interface Run {
  readonly request: ReplayRequest;
  readonly selection: ReplaySelection;
  readonly startedAt: number;
  readonly abort: AbortController;
  /** What is sent by, and what it remembers of how fusion answers. */
  readonly delivery: DeliveryParts;
  readonly line: ReplayLine;
  readonly backOff: BackOff;
  cursor: ReplayCursor;
  exhausted: boolean;
  outstanding: Outstanding | undefined;
  /** Monotonic time at which the next request may go. */
  dueAt: number;
  busy: boolean;
  total: number | undefined;
  sent: number;
  refused: number;
  damaged: number;
  lastFailure: ReplayProgress["lastFailure"];
  ended: { readonly state: "done" | "stopped" | "failed"; readonly at: number } | undefined;
}

const BEGINNING: ReplayCursor = { block: 0, taken: 0 };

export class Replay {
  readonly #parts: ReplayParts;
  #run: Run | undefined;
  #starting = false;
  #work: Promise<void> = Promise.resolve();

  constructor(parts: ReplayParts) {
    this.#parts = parts;
  }

  /** Begins a replay, and does not wait for it. */
  async start(request: ReplayRequest): Promise<ReplayProgress | ReplayRefusal> {
    if (this.#starting || (this.#run !== undefined && this.#run.ended === undefined)) return "running";
    this.#starting = true;
    try {
      const { through, any, keeps } = await this.#parts.source.kept();
      if (!any && !keeps) return "nothing-kept";
      const run = this.#runOf(request, { ...request, through });
      this.#run = run;
      this.#parts.log.info(described(request), "a replay has begun");
      this.#work = this.#count(run);
      return this.#progressOf(run);
    } finally {
      this.#starting = false;
    }
  }

  /** How the replay fares, or how the last one ended; `undefined` where there has been none. */
  progress(): ReplayProgress | undefined {
    return this.#run && this.#progressOf(this.#run);
  }

  /** Ends the replay, a request under way included; returns how far it came. `why` is for the log. */
  async stop(why = "it was asked to stop"): Promise<ReplayProgress | undefined> {
    const run = this.#run;
    if (run === undefined) return undefined;
    if (run.ended === undefined) {
      this.#end(run, "stopped", why);
      run.abort.abort();
      await this.#work;
    }
    return this.#progressOf(run);
  }

  /** Live readings leave room for a request now: sends one where it is time. Returns how long until another offer is of use, ms. */
  offer(): number {
    const run = this.#run;
    if (run === undefined || run.busy || run.ended !== undefined) return Number.POSITIVE_INFINITY;
    const waitMs = run.dueAt - this.#parts.clock.monotonic();
    if (waitMs > 0) return waitMs;
    run.busy = true;
    this.#work = this.#step(run);
    return Number.POSITIVE_INFINITY;
  }

  #runOf(request: ReplayRequest, selection: ReplaySelection): Run {
    const { source, transport, config, clock, random, log, metrics } = this.#parts;
    const abort = new AbortController();
    const line = new ReplayLine();
    const retry = { initial: config.retry.initial, max: Math.min(config.retry.max, MAX_BACK_OFF_MS) };
    const size = new BatchSize({ ...config.batch, maxReadings: Math.min(config.batch.maxReadings, request.rate) });
    const road = {
      part: (batch: Batch, range: IndexRange) => source.part(batch, range),
      // A batch may be what was left of a larger one.
      ids: async (batch: Batch) => (await source.ids(batch)).slice(batch.range.from, batch.range.to),
    };
    const policies = { line, size, tries: new Tries(), backOff: new BackOff(retry, random) };
    return {
      request,
      selection,
      startedAt: clock.now(),
      abort,
      delivery: { source: road, transport, ...policies, clock, log, metrics, signal: abort.signal },
      line,
      backOff: new BackOff(retry, random),
      cursor: BEGINNING,
      exhausted: false,
      outstanding: undefined,
      dueAt: clock.monotonic(),
      busy: true,
      total: undefined,
      sent: 0,
      refused: 0,
      damaged: 0,
      lastFailure: undefined,
      ended: undefined,
    };
  }

  async #count(run: Run): Promise<void> {
    let total = 0;
    let cursor = BEGINNING;
    while (run.ended === undefined) {
      const step = await this.#ask(run, () => this.#parts.source.replayCount(run.selection, cursor));
      if (step === undefined) continue;
      total += step.readings;
      cursor = step.next;
      if (!step.done) continue;
      run.total = total;
      run.dueAt = this.#parts.clock.monotonic();
      if (total === 0) this.#end(run, "done");
      break;
    }
    this.#free(run);
  }

  /** One request, or the next look for what it could carry. */
  async #step(run: Run): Promise<void> {
    const { monotonic } = this.#parts.clock;
    const from = monotonic();
    if (run.outstanding === undefined) await this.#take(run);
    const { outstanding } = run;
    if (outstanding !== undefined && run.ended === undefined) {
      const before = run.sent + run.refused;
      await this.#deliver(run, outstanding);
      const paceMs = ((run.sent + run.refused - before) / run.request.rate) * 1000;
      run.dueAt = Math.max(run.dueAt, from + paceMs);
    }
    if (run.exhausted && run.outstanding === undefined && run.ended === undefined) this.#end(run, "done");
    this.#free(run);
  }

  #free(run: Run): void {
    run.busy = false;
    this.#parts.onReady();
  }

  async #take(run: Run): Promise<void> {
    const { size } = run.delivery;
    const { compression } = this.#parts.config.batch;
    const limits = { maxReadings: size.maxReadings, maxBytes: size.maxBytes, compression };
    const taken = await this.#ask(run, () => this.#parts.source.replayTake(run.selection, run.cursor, limits));
    if (taken === undefined) return;
    run.cursor = taken.next;
    run.exhausted = taken.done;
    run.damaged += taken.damaged;
    if (taken.damaged > 0) this.#parts.log.warn({ readings: taken.damaged }, "kept readings could not be read back");
    if (taken.batch !== undefined) run.outstanding = { batch: taken.batch, ranges: [taken.batch.range], asked: 0 };
  }

  /** Sends some of what a batch has left; what fusion could not be reached for, or wants again later, stays outstanding. */
  async #deliver(run: Run, { batch, ranges, asked }: Outstanding): Promise<void> {
    const [range, ...others] = ranges;
    if (range === undefined) return;
    const { clock, source } = this.#parts;
    const whole = range.from === batch.range.from && range.to === batch.range.to;
    try {
      const part = whole ? batch : await source.part(batch, range);
      run.line.begin();
      const permit = { admitted: "request", since: clock.monotonic() } as const;
      const { settlement } = await new Delivery(run.delivery, part, permit, () => {}).run();
      this.#note(run, settlement);
      const asks = asked + (settlement.retryLater === undefined ? 0 : 1);
      const left = [...others, ...leftOf(range, settlement)];
      if (asks > MAX_ASKED) {
        run.refused += left.reduce((sum, { from, to }) => sum + to - from, 0);
        run.outstanding = undefined;
      } else run.outstanding = left.length === 0 ? undefined : { batch, ranges: left, asked: asks };
      this.#judge(run, settlement.retryLater?.delayMs ?? 0);
    } catch (error) {
      this.#outboxFailed(run, error);
    }
  }

  #note(run: Run, { delivered, deadLettered }: Settlement): void {
    run.sent += delivered.reduce((sum, { from, to }) => sum + to - from, 0);
    run.refused += deadLettered.length;
    for (const { code, detail } of deadLettered) {
      run.lastFailure = { code, detail };
      this.#parts.log.warn({ code, detail }, "fusion refused a replayed reading; it stays delivered in the books");
    }
  }

  /** What the delivery learnt of the way to fusion: when to go on, or that there is no use. */
  #judge(run: Run, laterMs: number): void {
    const now = this.#parts.clock.monotonic();
    const { failure, refusal } = run.line;
    if (refusal !== undefined) {
      const { code, detail } = refusal;
      run.lastFailure = { code, detail };
      if (run.ended === undefined)
        this.#end(run, "failed", `fusion refuses every replayed reading (${code}: ${detail})`);
    } else if (failure === undefined) {
      run.backOff.succeeded(now);
      run.dueAt = Math.max(run.dueAt, now + laterMs);
    } else {
      const { code, detail, retryAfterMs } = failure;
      run.lastFailure = { code, detail };
      run.dueAt = now + Math.max(retryAfterMs, run.backOff.failed(now));
      this.#parts.log.debug({ code, detail }, "a replayed batch could not be delivered; it is tried again");
    }
  }

  /** What the outbox answers; `undefined` where it cannot, after a pause. */
  async #ask<T>(run: Run, question: () => Promise<T>): Promise<T | undefined> {
    try {
      return await question();
    } catch (error) {
      this.#outboxFailed(run, error);
      if (run.total === undefined) await this.#parts.clock.sleep(OUTBOX_RETRY_MS, run.abort.signal);
      return undefined;
    }
  }

  #outboxFailed(run: Run, error: unknown): void {
    run.lastFailure = { code: "outbox-unavailable", detail: messageOf(error) };
    run.dueAt = this.#parts.clock.monotonic() + OUTBOX_RETRY_MS;
    this.#parts.log.warn({ err: error }, "the outbox could not hand out kept readings; tried again");
  }

  #end(run: Run, state: "done" | "stopped" | "failed", why?: string): void {
    run.ended = { state, at: this.#parts.clock.now() };
    const { sent, total, refused, damaged } = run;
    const fields = { ...described(run.request), sent, total, refused, damaged };
    const { log, audit } = this.#parts;
    audit?.({ action: "replay.ended", actor: "gateway", detail: { state, sent, refused, damaged } });
    if (state === "done") log.info(fields, "the replay is done");
    else if (state === "stopped") log.info(fields, `the replay has ended early: ${why}`);
    else log.warn(fields, `the replay has ended early: ${why}`);
  }

  #progressOf(run: Run): ReplayProgress {
    const { request, startedAt, total, sent, refused, damaged, lastFailure, ended } = run;
    return {
      ...request,
      state: ended?.state ?? this.#stateOf(run),
      total,
      sent,
      refused,
      damaged,
      startedAt,
      ...(ended !== undefined && { endedAt: ended.at }),
      ...(lastFailure !== undefined && { lastFailure }),
    };
  }

  #stateOf(run: Run): ReplayState {
    if (run.total === undefined) return "counting";
    const overdue = this.#parts.clock.monotonic() - run.dueAt > WAITS_AFTER_MS;
    return run.line.failure !== undefined || (overdue && !run.busy) ? "waiting" : "sending";
  }
}

function described({ from, to, ...request }: ReplayRequest): object {
  return { ...request, from: new Date(from).toISOString(), to: new Date(to).toISOString() };
}
