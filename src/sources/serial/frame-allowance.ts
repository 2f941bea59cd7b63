/** How much may come in a second: what came beyond it has to be waited for. Pure. */

export interface RateBounds {
  /** Per second; 0: no limit. */
  readonly frames: number;
  /** Per second; 0: no limit. */
  readonly bytes: number;
}

/** Two allowances that fill up evenly; a second's worth may be saved up. */
export class FrameAllowance {
  readonly #bounds: RateBounds;
  readonly #left: { frames: number; bytes: number };
  #at = 0;

  constructor(bounds: RateBounds) {
    this.#bounds = bounds;
    this.#left = { ...bounds };
  }

  /** Takes note of what has come at `now`; milliseconds until so much may have come, 0 where it may. `now`: monotonic, milliseconds. */
  spend(spent: RateBounds, now: number): number {
    const seconds = (now - this.#at) / 1000;
    this.#at = now;
    return Math.max(0, ...(["frames", "bytes"] as const).map((kind) => this.#spendOf(kind, spent[kind], seconds)));
  }

  #spendOf(kind: "frames" | "bytes", spent: number, seconds: number): number {
    const rate = this.#bounds[kind];
    if (rate === 0) return 0;
    this.#left[kind] = Math.min(rate, this.#left[kind] + rate * seconds) - spent;
    return (-this.#left[kind] / rate) * 1000;
  }
}
