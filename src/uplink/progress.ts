/** Proof of progress for the watchdog: a number that grows only while nothing is stuck. */
import type { Clock } from "../kernel/clock.ts";

export class Progress {
  readonly #clock: Pick<Clock, "monotonic">;
  readonly #longestStepMs: number;
  /** When each outstanding step began. As many as there are deliveries and settlements, which are bounded. */
  readonly #steps = new Map<object, number>();
  #tick = 0;

  /** `longestStepMs`: what a step may take before it counts as stuck. */
  constructor(clock: Pick<Clock, "monotonic">, longestStepMs: number) {
    this.#clock = clock;
    this.#longestStepMs = longestStepMs;
  }

  get tick(): number {
    return this.#tick;
  }

  /** The loop has come round. */
  advance(): void {
    const oldest = this.#clock.monotonic() - this.#longestStepMs;
    for (const since of this.#steps.values()) {
      if (since < oldest) return;
    }
    this.#tick++;
  }

  /** Watches `work` while it is outstanding; `work` says through `next` that a new step has begun. */
  async watch<T>(work: (next: () => void) => Promise<T>): Promise<T> {
    const step = {};
    const next = (): void => void this.#steps.set(step, this.#clock.monotonic());
    next();
    try {
      return await work(next);
    } finally {
      this.#steps.delete(step);
    }
  }
}
