/**
 * When the next request may go: the breaker, the back-off, what fusion asked for by `Retry-After`, and the pause while it
 * refuses everything, in one place. Pure; `now` is monotonic milliseconds throughout.
 */
import { BackOff, type BreakerSettings, type BreakerState, CircuitBreaker } from "./policies.ts";

/** Leave to deliver one batch; handed back with the news of how that went. */
export interface Permit {
  readonly admitted: "request" | "probe";
  readonly since: number;
}

export class Gate {
  readonly #breaker: CircuitBreaker;
  readonly #backOff: BackOff;
  #backOffUntil = Number.NEGATIVE_INFINITY;
  #askedUntil = Number.NEGATIVE_INFINITY;
  #pauseUntil = Number.NEGATIVE_INFINITY;
  #failedAt = Number.NEGATIVE_INFINITY;

  constructor(
    settings: { readonly retry: { initial: number; max: number }; readonly breaker: BreakerSettings },
    random: () => number,
  ) {
    this.#breaker = new CircuitBreaker(settings.breaker);
    this.#backOff = new BackOff(settings.retry, random);
  }

  breaker(now: number): BreakerState {
    return this.#breaker.state(now);
  }

  /** Milliseconds until a request may go; 0 where one may go now, unless a probe is under way. */
  waitMs(now: number): number {
    const until = Math.max(this.#backOffUntil, this.#askedUntil, this.#pauseUntil);
    return Math.max(0, until - now, this.#breaker.waitMs(now));
  }

  /** Whether nothing is waited for but what `linkUp` ends. */
  waitsForLinkOnly(now: number): boolean {
    return Math.max(this.#askedUntil, this.#pauseUntil) <= now;
  }

  /** Leave to deliver one batch, where there is any to be had now. How it went is reported by one of the below. */
  admit(now: number): Permit | undefined {
    if (this.waitMs(now) > 0) return undefined;
    const admitted = this.#breaker.admit(now);
    return admitted === undefined ? undefined : { admitted, since: now };
  }

  /** Fusion accepted something. */
  succeeded(now: number): void {
    this.#breaker.succeeded(now);
    this.#backOff.succeeded(now);
    this.#backOffUntil = now;
    this.#pauseUntil = now;
  }

  /** The batch could not be delivered. `retryAfterMs`: how long fusion asked to be left alone, 0 for not at all. */
  failed(now: number, permit: Permit, retryAfterMs: number): void {
    this.#breaker.failed(now);
    this.#askedUntil = Math.max(this.#askedUntil, now + retryAfterMs);
    // Requests that were under way together fail together: one event, one step of the back-off.
    if (permit.since < this.#failedAt) return;
    this.#failedAt = now;
    this.#backOffUntil = now + this.#backOff.failed(now);
  }

  /** The batch ended in a way that says nothing about the link. */
  abandoned(permit: Permit): void {
    this.#breaker.abandoned(permit.admitted);
  }

  /** Nothing goes for `ms`, whatever the link does. */
  pause(now: number, ms: number): void {
    this.#pauseUntil = now + ms;
  }

  /** The link is back: ends the back-off's wait (not its memory) and the breaker's; not what fusion itself asked for. */
  linkUp(now: number): void {
    this.#backOffUntil = now;
    this.#breaker.recover();
  }
}
