/** Which blocks wait for the clock: those that hold provisional readings of this boot, for a bounded time. */
import { PRIORITIES } from "../observation/observation.ts";
import type { BlockHead } from "./rows.ts";

const CRITICAL_LANE = PRIORITIES.indexOf("critical");

/**
 * The wait lasts for `waitMs` after the outbox was opened, and once more when the link to
 * fusion first comes back, because that is when a time server comes into reach as well. Critical
 * readings never wait: a smoke alarm with a wrong time is better than one that is late.
 */
export class ClockHold {
  readonly #boot: number;
  readonly #waitMs: number;
  readonly #monotonic: () => number;
  #until: number;
  #linkBackAt: number | undefined;

  /** Holds blocks of boot `boot`; `waitMs` of 0 holds none. */
  constructor(boot: number, waitMs: number, monotonic: () => number) {
    this.#boot = boot;
    this.#waitMs = waitMs;
    this.#monotonic = monotonic;
    this.#until = monotonic() + waitMs;
  }

  /** Whether a block of this lane waits for the clock now. */
  holds(block: Pick<BlockHead, "clock" | "boot">, lane: number): boolean {
    return block.clock === "provisional" && block.boot === this.#boot && lane !== CRITICAL_LANE && this.active;
  }

  /** Whether anything can be held. */
  get active(): boolean {
    return this.remainingMs > 0;
  }

  /** Until nothing is held any more, at the latest; 0 where nothing is held now. */
  get remainingMs(): number {
    return Math.max(0, this.#until - this.#monotonic());
  }

  /** The link came back at this monotonic time. The first time counts. */
  linkBack(at: number): void {
    if (this.#linkBackAt !== undefined || this.#until === Number.NEGATIVE_INFINITY) return;
    this.#linkBackAt = at;
    this.#until = Math.max(this.#until, at + this.#waitMs);
  }

  /** The boot's offset is known: nothing waits for it any more. */
  end(): void {
    this.#until = Number.NEGATIVE_INFINITY;
  }
}
