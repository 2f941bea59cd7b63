/**
 * Whether and how much to send: the breaker, the back-off, and what is remembered of sizes and retries. Pure: monotonic
 * time in milliseconds and chance are handed in, so a wall clock that steps back thirty days holds nothing open. Each
 * policy's memory is bounded.
 */

export type BreakerState = "closed" | "open" | "half-open";

export interface BreakerSettings {
  /** Opens after as many failures in a row. */
  readonly consecutiveFailures: number;
  /** Opens at this share of failures (0..1] over `window`, once `minimumRequests` are in it. */
  readonly failureRate: number;
  readonly minimumRequests: number;
  /** Milliseconds. */
  readonly window: number;
  /** Milliseconds from opening until one probe may go through. */
  readonly recovery: number;
}

/** Requests and failures over the last `windowMs`, to a tenth of it, in constant space. */
class RollingCount {
  static readonly BUCKETS = 10;
  readonly #bucketMs: number;
  #buckets: { slot: number; requests: number; failures: number }[] = [];

  constructor(windowMs: number) {
    this.#bucketMs = Math.max(1, windowMs / RollingCount.BUCKETS);
  }

  add(now: number, failed: boolean): void {
    const slot = Math.floor(now / this.#bucketMs);
    let newest = this.#buckets.at(-1);
    if (newest?.slot !== slot) {
      newest = { slot, requests: 0, failures: 0 };
      this.#buckets.push(newest);
      if (this.#buckets.length > RollingCount.BUCKETS) this.#buckets.shift();
    }
    newest.requests++;
    if (failed) newest.failures++;
  }

  totals(now: number): { requests: number; failures: number } {
    const oldest = Math.floor(now / this.#bucketMs) - RollingCount.BUCKETS;
    let requests = 0;
    let failures = 0;
    for (const bucket of this.#buckets) {
      if (bucket.slot <= oldest) continue;
      requests += bucket.requests;
      failures += bucket.failures;
    }
    return { requests, failures };
  }

  clear(): void {
    this.#buckets = [];
  }
}

/** The circuit breaker (contract, section 5). While half-open it admits one request at a time. */
export class CircuitBreaker {
  readonly #settings: BreakerSettings;
  readonly #window: RollingCount;
  #consecutive = 0;
  /** When it opened, or was last confirmed open; `undefined` while closed. */
  #openedAt: number | undefined;
  #recovered = false;
  #probing = false;

  constructor(settings: BreakerSettings) {
    this.#settings = settings;
    this.#window = new RollingCount(settings.window);
  }

  state(now: number): BreakerState {
    if (this.#openedAt === undefined) return "closed";
    return this.#recovered || now - this.#openedAt >= this.#settings.recovery ? "half-open" : "open";
  }

  /** Milliseconds until it can admit anything; 0 while closed or half-open. */
  waitMs(now: number): number {
    if (this.#openedAt === undefined || this.#recovered) return 0;
    return Math.max(0, this.#openedAt + this.#settings.recovery - now);
  }

  /** Asks to send one request: `probe` where it is the one that half-open lets through, `undefined` where it may not. */
  admit(now: number): "request" | "probe" | undefined {
    const state = this.state(now);
    if (state === "closed") return "request";
    if (state === "open" || this.#probing) return undefined;
    this.#probing = true;
    return "probe";
  }

  /** A request that says nothing about the link has ended; where it was the probe, another may follow. */
  abandoned(admitted: "request" | "probe"): void {
    if (admitted === "probe") this.#probing = false;
  }

  succeeded(now: number): void {
    this.#consecutive = 0;
    if (this.#openedAt === undefined) {
      this.#window.add(now, false);
      return;
    }
    this.#openedAt = undefined;
    this.#recovered = false;
    this.#probing = false;
    this.#window.clear();
  }

  failed(now: number): void {
    this.#window.add(now, true);
    this.#consecutive++;
    if (this.#openedAt !== undefined || this.#overThreshold(now)) {
      this.#openedAt = now;
      this.#recovered = false;
      this.#probing = false;
    }
  }

  /** The link is known to be back: half-open without waiting for `recovery`. Does nothing while closed. */
  recover(): void {
    if (this.#openedAt !== undefined) this.#recovered = true;
  }

  #overThreshold(now: number): boolean {
    if (this.#consecutive >= this.#settings.consecutiveFailures) return true;
    const { requests, failures } = this.#window.totals(now);
    return requests >= this.#settings.minimumRequests && failures / requests >= this.#settings.failureRate;
  }
}

/** As many successes in a row are sustained success. */
export const SUSTAINED_SUCCESSES = 5;

/**
 * Exponential back-off with full jitter: the n-th wait is drawn from 0 to `initial` × 2ⁿ⁻¹, at most `max`. A single
 * success between failures does not start it over, or a flapping link would be hammered: only `SUSTAINED_SUCCESSES` in a
 * row do, or success that has lasted for `max`.
 */
export class BackOff {
  readonly #initial: number;
  readonly #max: number;
  readonly #random: () => number;
  #attempt = 0;
  #streak = 0;
  #streakSince = 0;

  /** `initial` and `max` in milliseconds; `random` gives [0, 1). */
  constructor(settings: { readonly initial: number; readonly max: number }, random: () => number) {
    this.#initial = settings.initial;
    this.#max = settings.max;
    this.#random = random;
  }

  /** After a failure: how long to wait, in milliseconds. */
  failed(now: number): number {
    if (this.#streak > 0 && now - this.#streakSince >= this.#max) this.#attempt = 0;
    this.#streak = 0;
    return this.delay(++this.#attempt);
  }

  succeeded(now: number): void {
    if (this.#streak++ === 0) this.#streakSince = now;
    if (this.#streak >= SUSTAINED_SUCCESSES || now - this.#streakSince >= this.#max) this.#attempt = 0;
  }

  reset(): void {
    this.#attempt = 0;
    this.#streak = 0;
  }

  /** A wait for the `attempt`-th try in a row (1 for the first), without remembering it. */
  delay(attempt: number): number {
    // 2³² × any initial is beyond any max; more would overflow to infinity.
    const bound = Math.min(this.#max, this.#initial * 2 ** Math.min(attempt - 1, 32));
    return this.#random() * bound;
  }
}

/** Batches accepted in a row before a lowered limit is doubled. */
export const GROW_AFTER = 16;
const SMALLEST_BYTES = 1024;

/**
 * The size of batches. After a 413 it remembers what fusion took, so that the next batch is not refused as well, and
 * feels its way back up, because what stood in the way (a proxy's setting, one monstrous reading) may be gone.
 */
export class BatchSize {
  readonly #configured: { readonly maxReadings: number; readonly maxBytes: number };
  #share = 1;
  #maxReadings: number;
  #accepted = 0;

  constructor(configured: { readonly maxReadings: number; readonly maxBytes: number }) {
    this.#configured = configured;
    this.#maxReadings = configured.maxReadings;
  }

  get maxReadings(): number {
    return this.#maxReadings;
  }

  /** JSON bytes before compression. */
  get maxBytes(): number {
    return Math.min(this.#configured.maxBytes, Math.max(SMALLEST_BYTES, this.#configured.maxBytes * this.#share));
  }

  /** A batch of `sent` readings was too much; `wanted` of them (1 or more) would be right. */
  lower(sent: number, wanted: number): void {
    this.#accepted = 0;
    this.#maxReadings = Math.min(this.#maxReadings, wanted);
    this.#share = Math.min(this.#share, (this.#share * wanted) / sent);
  }

  accepted(): void {
    if (this.#share === 1 && this.#maxReadings === this.#configured.maxReadings) return;
    if (++this.#accepted < GROW_AFTER) return;
    this.#accepted = 0;
    this.#share = Math.min(1, this.#share * 2);
    this.#maxReadings = Math.min(this.#configured.maxReadings, this.#maxReadings * 2);
  }
}

/** Single readings refused in a row, with none accepted, after which it is not the readings (contract, section 5). */
export const REFUSALS_IN_A_ROW = 20;

/** Tells refused readings from a fusion that refuses everything. Counts across batches. */
export class RefusalStreak {
  #length = 0;

  /** Whether so many were refused that the readings cannot be at fault. */
  get exhausted(): boolean {
    return this.#length >= REFUSALS_IN_A_ROW;
  }

  refused(): void {
    this.#length++;
  }

  accepted(): void {
    this.#length = 0;
  }
}

/** Readings whose tries are remembered; beyond it the one rejected longest ago starts over. */
export const MAX_REMEMBERED_TRIES = 10_000;

/** How often fusion asked for a reading to be sent again later. */
export class Tries {
  readonly #tries = new Map<string, number>();

  /** Counts one more try for each id; returns the highest count among them. */
  add(ids: readonly string[]): number {
    let highest = 0;
    for (const id of ids) {
      const tries = (this.#tries.get(id) ?? 0) + 1;
      this.#tries.delete(id);
      this.#tries.set(id, tries);
      highest = Math.max(highest, tries);
    }
    for (const id of this.#tries.keys()) {
      if (this.#tries.size <= MAX_REMEMBERED_TRIES) break;
      this.#tries.delete(id);
    }
    return highest;
  }
}
