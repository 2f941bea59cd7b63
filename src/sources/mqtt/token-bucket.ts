import type { Clock } from "../../kernel/clock.ts";

/** What is above its rate passes in portions of so many milliseconds' worth. */
const PORTION_MS = 50;

/**
 * So many a second in the long run, a second's worth at once. It is filled up only when it is empty: the clock is not asked
 * for each one. Rate 0 is no limit.
 */
export class TokenBucket {
  readonly #rate: number;
  readonly #clock: Pick<Clock, "monotonic">;
  #allowance: number;
  #allowedAt: number;

  constructor(rate: number, clock: Pick<Clock, "monotonic">) {
    this.#rate = rate;
    this.#clock = clock;
    this.#allowance = rate;
    this.#allowedAt = clock.monotonic();
  }

  /** Takes one: 0 where it may pass, else the milliseconds after which to ask again. */
  take(): number {
    if (this.#rate === 0) return 0;
    if (this.#allowance < 1) {
      const wait = this.#fill();
      if (wait > 0) return wait;
    }
    this.#allowance--;
    return 0;
  }

  #fill(): number {
    const rate = this.#rate;
    const now = this.#clock.monotonic();
    this.#allowance = Math.min(rate, this.#allowance + ((now - this.#allowedAt) * rate) / 1000);
    this.#allowedAt = now;
    const portion = Math.min(rate, Math.max(1, (rate * PORTION_MS) / 1000));
    return this.#allowance >= portion ? 0 : Math.max(1, ((portion - this.#allowance) * 1000) / rate);
  }
}
