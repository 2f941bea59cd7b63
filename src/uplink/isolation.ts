/**
 * Finding the readings at fault in a batch that fusion refused (contract, section 5): halve, in order, until each stands
 * alone, and deliver the rest. Collects fates; settles nothing itself, so that a batch is settled once, with everything
 * that is known by then.
 */
import type { Batch, DeadLetterReason, IndexRange, Settlement } from "../outbox/batch.ts";
import type { Failure, Refusal, Rejection } from "./outcome.ts";
import type { RefusalStreak } from "./policies.ts";

/** A rejection, and which reading of the whole lease it is about. */
export type Located = Rejection & { readonly index: number };

/** An outcome in which rejected ids have been found among those that were sent; in the order of the batch. */
export type SendResult =
  | { readonly kind: "accepted"; readonly rejected: readonly Located[]; readonly retryAfterMs: number }
  | Refusal
  | Failure
  | { readonly kind: "aborted" };

type DeadLetter = DeadLetterReason & { readonly index: number };

/** The fates of one lease's readings as they become known. What is never named goes back to waiting. */
export class Fates {
  readonly #delivered: IndexRange[] = [];
  readonly #deadLettered: DeadLetter[] = [];
  readonly #later: Located[] = [];
  #retryAfterMs = 0;
  #named = 0;

  /** How many readings have a fate. */
  get named(): number {
    return this.#named;
  }

  /** Readings that fusion wants again later. */
  get later(): readonly Located[] {
    return this.#later;
  }

  get retryAfterMs(): number {
    return this.#retryAfterMs;
  }

  /** The readings of `range` are delivered, but for those that were rejected by name. */
  accept({ from, to }: IndexRange, rejected: readonly Located[], retryAfterMs: number): void {
    let next = from;
    for (const one of rejected) {
      if (one.index > next) this.#delivered.push({ from: next, to: one.index });
      next = one.index + 1;
      if (one.retriable) this.#later.push(one);
      else this.#deadLettered.push({ ...one.reason, index: one.index });
    }
    if (next < to) this.#delivered.push({ from: next, to });
    this.#retryAfterMs = Math.max(this.#retryAfterMs, retryAfterMs);
    this.#named += to - from;
  }

  deadLetter(letters: readonly DeadLetter[]): void {
    this.#deadLettered.push(...letters);
    this.#named += letters.length;
  }

  /** `delayMs`: when those that fusion wants again later may go. */
  settlement(delayMs: number): Settlement {
    const known = { delivered: this.#delivered, deadLettered: this.#deadLettered };
    if (this.#later.length === 0) return known;
    return { ...known, retryLater: { indexes: this.#later.map(({ index }) => index), delayMs } };
  }
}

export interface Isolated {
  /** Why halving stopped before every reading had a fate. */
  readonly ended: Failure | { readonly kind: "aborted" } | { readonly kind: "refuses-everything" } | undefined;
  /** Readings in the largest part that was accepted. */
  readonly largestAccepted: number;
  /** Readings in the part that was tried last. */
  readonly lastTried: number;
}

/**
 * Halves `whole`, which was refused as `refusal` says, down to the readings at fault; `send` sends a part of it. Dead
 * letters of a streak of refusals that turns out to be about no reading in particular are not written; those that were
 * followed by an acceptance are.
 */
export async function isolate(
  whole: Batch,
  refusal: Refusal,
  road: {
    readonly fates: Fates;
    readonly streak: RefusalStreak;
    readonly send: (range: IndexRange) => Promise<SendResult>;
  },
): Promise<Isolated> {
  const { fates, streak, send } = road;
  const ahead: IndexRange[] = [];
  let range = whole.range;
  let result: SendResult = refusal;
  let largestAccepted = 0;
  let unconfirmed: DeadLetter[] = [];
  const confirm = (): void => {
    fates.deadLetter(unconfirmed);
    unconfirmed = [];
  };
  for (;;) {
    const size = range.to - range.from;
    if (result.kind === "accepted") {
      confirm();
      fates.accept(range, result.rejected, result.retryAfterMs);
      largestAccepted = Math.max(largestAccepted, size);
    } else if (result.kind === "failed" || result.kind === "aborted") {
      confirm();
      return { ended: result, largestAccepted, lastTried: size };
    } else if (size > 1) {
      const middle = range.from + Math.ceil(size / 2);
      ahead.push({ from: middle, to: range.to }, { from: range.from, to: middle });
    } else if (result.kind === "too-large") {
      fates.deadLetter([{ ...result.reason, index: range.from }]);
    } else {
      streak.refused();
      unconfirmed.push({ ...result.reason, index: range.from });
      if (streak.exhausted) {
        // Unless one of those not tried yet is accepted, it is not the readings.
        const probe = takeLast(ahead);
        const verdict = probe === undefined ? undefined : await send(probe);
        if (probe === undefined || verdict?.kind !== "accepted") {
          const failed = verdict?.kind === "failed" || verdict?.kind === "aborted";
          return { ended: failed ? verdict : { kind: "refuses-everything" }, largestAccepted, lastTried: size };
        }
        confirm();
        fates.accept(probe, verdict.rejected, verdict.retryAfterMs);
      }
    }
    const next = ahead.pop();
    if (next === undefined) break;
    range = next;
    result = await send(range);
  }
  confirm();
  return { ended: undefined, largestAccepted, lastTried: range.to - range.from };
}

/** Takes the last reading out of the ranges that are still ahead (the first range of the stack is the last to be tried). */
function takeLast(ahead: IndexRange[]): IndexRange | undefined {
  const last = ahead.shift();
  if (last === undefined) return undefined;
  if (last.to - last.from > 1) ahead.unshift({ from: last.from, to: last.to - 1 });
  return { from: last.to - 1, to: last.to };
}
