/**
 * One batch on its way: from its first request to the fates of all its readings. Says what became of it; when the next
 * may go is the line's matter, and settling it the forwarder's.
 *
 * On the success path nothing is done per reading: ids are asked for only where fusion rejected some, or where the log is
 * to name them (level debug), parts only where it refused the whole.
 */
import { randomBytes } from "node:crypto";
import type { Clock } from "../kernel/clock.ts";
import type { Logger } from "../kernel/telemetry.ts";
import type { Batch, BatchSource, DeadLetterReason, IndexRange, Settlement } from "../outbox/batch.ts";
import type { Permit } from "./gate.ts";
import { Fates, isolate, type SendResult } from "./isolation.ts";
import type { Line } from "./line.ts";
import { locate, type Outcome, outcomeOf, type Refusal } from "./outcome.ts";
import type { BackOff, BatchSize, Tries } from "./policies.ts";
import type { Transport } from "./transport.ts";
import type { UplinkMetrics } from "./uplink-metrics.ts";

/** What a delivery asks of the line, and tells it. */
export type DeliveryLine = Pick<
  Line,
  "streak" | "refusing" | "accepted" | "failed" | "abandoned" | "answered" | "refusesEverything" | "pickAlone"
>;

export interface DeliveryParts {
  readonly source: Pick<BatchSource, "part" | "ids">;
  readonly transport: Transport;
  readonly line: DeliveryLine;
  readonly size: BatchSize;
  readonly tries: Tries;
  /** Draws the wait of readings that fusion wants again later. */
  readonly backOff: BackOff;
  readonly clock: Clock;
  readonly log: Logger;
  readonly metrics: UplinkMetrics;
  /** Ends requests under way. */
  readonly signal: AbortSignal;
}

export interface Delivered {
  readonly settlement: Settlement;
  /** Whether some readings have no fate and go back to waiting. */
  readonly returning: boolean;
}

/** Nothing is known of any reading: all go back to waiting. */
export const NOTHING_KNOWN: Settlement = { delivered: [], deadLettered: [] };

export class Delivery {
  readonly #parts: DeliveryParts;
  readonly #batch: Batch;
  readonly #permit: Permit;
  /** Told at each step, for the watchdog. */
  readonly #onProgress: () => void;
  #ids: readonly string[] | undefined;
  /** Whether the line has been told of a success, or a failure, of this delivery. */
  #accepted = false;
  #failed = false;

  constructor(parts: DeliveryParts, batch: Batch, permit: Permit, onProgress: () => void) {
    this.#parts = parts;
    this.#batch = batch;
    this.#permit = permit;
    this.#onProgress = onProgress;
  }

  /** Delivers as much as can be. Rejects only where the outbox does. */
  async run(): Promise<Delivered> {
    try {
      const result = await this.#send(this.#batch);
      if (result.kind !== "refused" && result.kind !== "too-large") return this.#whole(result);
      if (result.kind === "refused" && this.#parts.line.refusing) return await this.#tryAlone(result.reason);
      return await this.#isolate(result);
    } finally {
      if (!this.#accepted && !this.#failed) this.#parts.line.abandoned(this.#permit);
    }
  }

  #whole(result: Exclude<SendResult, Refusal>): Delivered {
    const fates = new Fates();
    if (result.kind === "accepted") {
      fates.accept(this.#batch.range, result.rejected, result.retryAfterMs);
      this.#parts.size.accepted();
    }
    return this.#delivered(fates);
  }

  async #isolate(refusal: Refusal): Promise<Delivered> {
    const { line, size } = this.#parts;
    const fates = new Fates();
    const { ended, largestAccepted, lastTried } = await isolate(this.#batch, refusal, {
      fates,
      streak: line.streak,
      send: (range) => this.#sendPart(range),
    });
    if (refusal.kind === "too-large" && largestAccepted > 0) size.lower(this.#batch.count, largestAccepted);
    // What was being halved is at the head of the next batch: going on from there, a link that fails after every few
    // requests still finds the reading at fault in the end.
    if (ended?.kind === "failed") size.lower(this.#batch.count, lastTried);
    if (ended?.kind === "refuses-everything") line.refusesEverything(refusal.reason);
    return this.#delivered(fates);
  }

  /** While fusion refuses everything: one reading by itself, in case it is the others that are at fault. */
  async #tryAlone(reason: DeadLetterReason): Promise<Delivered> {
    const { line } = this.#parts;
    const { from, to } = this.#batch.range;
    const index = from + line.pickAlone(to - from);
    const range = { from: index, to: index + 1 };
    const fates = new Fates();
    const result = to - from > 1 ? await this.#sendPart(range) : undefined;
    if (result?.kind === "accepted") fates.accept(range, result.rejected, result.retryAfterMs);
    else if (result?.kind !== "failed" && result?.kind !== "aborted") line.refusesEverything(reason);
    return this.#delivered(fates);
  }

  #delivered(fates: Fates): Delivered {
    const { tries, backOff } = this.#parts;
    let delayMs = 0;
    if (fates.later.length > 0) {
      delayMs = Math.max(fates.retryAfterMs, backOff.delay(tries.add(fates.later.map(({ id }) => id))));
    }
    return { settlement: fates.settlement(delayMs), returning: fates.named < this.#batch.count };
  }

  async #sendPart(range: IndexRange): Promise<SendResult> {
    return this.#send(await this.#parts.source.part(this.#batch, range));
  }

  /** Sends the batch or a part of it, and tells the line how that went. */
  async #send(batch: Batch): Promise<SendResult> {
    const { transport, clock, log, metrics, signal } = this.#parts;
    const trace = randomBytes(16).toString("hex");
    const named = log.isLevelEnabled("debug") ? { readings: await this.#idsOf(batch.range) } : {};
    const started = clock.monotonic();
    this.#onProgress();
    const exchange = await transport.post(
      {
        body: batch.body,
        contentEncoding: batch.contentEncoding,
        idempotencyKey: batch.idempotencyKey,
        traceparent: `00-${trace}-${randomBytes(8).toString("hex")}-01`,
      },
      signal,
    );
    const ms = clock.monotonic() - started;
    this.#onProgress();
    const result = await this.#located(outcomeOf(exchange, clock.now()), batch.range);
    const outcome = labelOf(result);
    metrics.request(outcome, ms);
    this.#log(batch, { trace, outcome, ms: Math.round(ms), ...reasonOf(result), ...named });
    this.#report(result);
    return result;
  }

  /** Finds rejected readings among those that were sent. */
  async #located(outcome: Outcome, range: IndexRange): Promise<SendResult> {
    if (outcome.kind === "accepted") return { kind: "accepted", rejected: [], retryAfterMs: 0 };
    if (outcome.kind !== "partial") return outcome;
    const located = locate(outcome.rejected, await this.#idsOf(range));
    if (!Array.isArray(located)) return located;
    const rejected = located.map((one) => ({ ...one, index: one.index + range.from }));
    return { kind: "accepted", rejected, retryAfterMs: outcome.retryAfterMs };
  }

  async #idsOf(range: IndexRange): Promise<readonly string[]> {
    this.#ids ??= await this.#parts.source.ids(this.#batch);
    const offset = this.#batch.range.from;
    return this.#ids.slice(range.from - offset, range.to - offset);
  }

  #report(result: SendResult): void {
    const { line, transport } = this.#parts;
    if (result.kind === "failed") {
      if (result.fault === "credentials") transport.forgetCredentials();
      this.#failed = true;
      line.failed(this.#permit, result);
    } else if (result.kind === "refused" || result.kind === "too-large") {
      line.answered();
    } else if (result.kind === "accepted" && !this.#accepted) {
      // Once for each batch: halving must not count as a run of successes.
      this.#accepted = true;
      line.accepted();
    } else if (result.kind === "accepted") {
      line.streak.accepted();
    }
  }

  #log(batch: Batch, request: object): void {
    const { idempotencyKey, firstSeq, lastSeq, count, replayed } = batch;
    this.#parts.log.debug({ batch: idempotencyKey, firstSeq, lastSeq, count, replayed, ...request }, "request ended");
  }
}

function labelOf(result: SendResult): string {
  if (result.kind === "failed") return result.fault;
  return result.kind === "accepted" && result.rejected.length > 0 ? "partial" : result.kind;
}

function reasonOf(result: SendResult): { code?: string; detail?: string } {
  if (result.kind === "failed") return { code: result.code, detail: result.detail };
  if (result.kind !== "refused" && result.kind !== "too-large") return {};
  return { code: result.reason.code, detail: result.reason.detail };
}
