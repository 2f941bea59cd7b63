/**
 * Watches a connection whose other end does not take what is sent to it.
 *
 * Whoever publishes to a slow reader waits for it, which evens out bursts without a loss; but not for long: a reader that
 * takes nothing must not slow down the devices. So, while the output is full:
 *  - after a moment the writers are released, once, and the reader is `lagging`: what would be forwarded to it is to be
 *    dropped until it has taken most of what waits;
 *  - one that takes nothing at all for long is cut off. One that is only slow is not, however slow its link: a write that is
 *    not done yet tells nothing, so what the receiver has acknowledged counts.
 */
import type { Clock } from "../../kernel/clock.ts";

/** How long writers wait for a reader at a time. */
export const PATIENCE_MS = 250;
/**
 * A reader that takes nothing for so long while its output is full is cut off. One that takes 4 KiB a second may be heard of
 * only twice a minute, because TCP opens a window that was closed in large steps (RFC 9293, section 3.8.6.2.2).
 */
export const STUCK_MS = 60_000;
/** A reader whose writes have come to no end for so long is watched more closely, */
const STILL_MS = 1_000;
/** so often: what is queued for it is the same again whenever the queue has been filled up to its limit. */
const SAMPLE_MS = 10_000;

export interface SlowReaderOptions {
  readonly clock: Clock;
  /** Whether so much waits that writers are told to wait as well. */
  readonly full: () => boolean;
  /** Whether the reader has taken most of what waited. */
  readonly low: () => boolean;
  /** Changes when the reader has taken something; `undefined` where nobody knows. */
  readonly queued: () => string | undefined;
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
  /** What was queued for it when that was last looked at. */
  #queued: string | undefined;
  #sampledAt = 0;

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
    this.took();
    this.#arm();
  }

  /** The socket has taken what it had. */
  took(): void {
    this.#tookAt = this.#options.clock.monotonic();
    this.#queued = undefined;
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
    const { clock, full, release, stuck, queued } = this.#options;
    this.#arm();
    if (!full()) return;
    const now = clock.monotonic();
    if (now >= this.#sampleAt && this.#tookSomething(queued())) this.#tookAt = now;
    if (now - this.#tookAt >= STUCK_MS) {
      stuck();
      return;
    }
    if (this.lagging) return;
    this.#lagging = true;
    release();
  }

  get #sampleAt(): number {
    return this.#queued === undefined
      ? this.#tookAt + STILL_MS
      : Math.min(this.#sampledAt + SAMPLE_MS, this.#tookAt + STUCK_MS);
  }

  /** Whether the reader has taken something although no write was done. */
  #tookSomething(queued: string | undefined): boolean {
    const before = this.#queued;
    this.#queued = queued;
    this.#sampledAt = this.#options.clock.monotonic();
    return before !== undefined && queued !== undefined && queued !== before;
  }
}
