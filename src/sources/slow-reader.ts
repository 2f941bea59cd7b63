/**
 * Watches a connection whose other end does not take what is sent to it.
 *
 * Whoever publishes to a slow reader waits for it, which evens out bursts without a loss; but not for long: a reader that
 * takes nothing must not slow down the devices. So, while the output is full:
 *  - after a moment the writers are released, once, and the reader is `lagging`: what would be forwarded to it is to be
 *    dropped until it has taken most of what waits;
 *  - one that takes nothing at all for longer is cut off.
 */
import type { Clock } from "../kernel/clock.ts";

/** How long writers wait for a reader at a time. */
export const PATIENCE_MS = 250;
/** A reader that takes nothing for so long while its output is full is cut off. */
export const STUCK_MS = 5_000;

export interface SlowReaderOptions {
  readonly clock: Clock;
  /** Whether so much waits that writers are told to wait as well. */
  readonly full: () => boolean;
  /** Whether the reader has taken most of what waited. */
  readonly low: () => boolean;
  /** Lets writers go on. */
  readonly release: () => void;
  readonly stuck: () => void;
}

export class SlowReader {
  readonly #options: SlowReaderOptions;
  #cancel: (() => void) | undefined;
  #lagging = false;
  /** When it last took something. */
  #tookAt = 0;

  constructor(options: SlowReaderOptions) {
    this.#options = options;
  }

  /** Whether what would be forwarded is to be dropped. */
  get lagging(): boolean {
    if (this.#lagging && this.#options.low()) this.#lagging = false;
    return this.#lagging;
  }

  /** The socket takes no more for now. */
  clogged(): void {
    if (this.#cancel !== undefined) return;
    this.#tookAt = this.#options.clock.monotonic();
    this.#arm();
  }

  /** The socket has taken what it had. */
  took(): void {
    this.#tookAt = this.#options.clock.monotonic();
  }

  /** Nothing waits any more, or the connection has ended. */
  stop(): void {
    this.#cancel?.();
    this.#cancel = undefined;
    this.#lagging = false;
  }

  #arm(): void {
    this.#cancel = this.#options.clock.after(PATIENCE_MS, () => this.#look());
  }

  #look(): void {
    const { clock, full, release, stuck } = this.#options;
    this.#arm();
    if (!full()) return;
    if (clock.monotonic() - this.#tookAt >= STUCK_MS) stuck();
    else if (!this.lagging) {
      this.#lagging = true;
      release();
    }
  }
}
