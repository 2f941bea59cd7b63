/**
 * How many requests each caller may make: a bucket per caller that fills at `rate` tokens a second, and holds three
 * seconds' worth. Bounded: of many callers those seen last are remembered, and a caller that is forgotten has a full bucket
 * again, which it would mostly have by then in any case.
 */
import type { Clock } from "../kernel/clock.ts";

/** Callers that are remembered. */
export const MAX_CALLERS = 1024;
/** What may come at once, in seconds of `rate`. */
const BURST_SECONDS = 3;

interface Bucket {
  tokens: number;
  /** On the monotonic clock, milliseconds. */
  filledAt: number;
}

export class RequestRates {
  readonly #rate: number;
  readonly #clock: Pick<Clock, "monotonic">;
  /** In the order in which they were last seen. */
  readonly #buckets = new Map<string, Bucket>();

  /** `rate`: requests per second; 0 for no limit. */
  constructor(rate: number, clock: Pick<Clock, "monotonic">) {
    this.#rate = rate;
    this.#clock = clock;
  }

  /** Callers remembered now. */
  get size(): number {
    return this.#buckets.size;
  }

  /** Counts one request of a caller. Returns after how many whole seconds it may ask again, or `undefined` where it may now. */
  take(caller: string): number | undefined {
    if (this.#rate === 0) return undefined;
    const bucket = this.#bucketOf(caller);
    if (bucket.tokens >= 1) {
      bucket.tokens--;
      return undefined;
    }
    return Math.max(1, Math.ceil((1 - bucket.tokens) / this.#rate));
  }

  #bucketOf(caller: string): Bucket {
    const now = this.#clock.monotonic();
    const most = this.#rate * BURST_SECONDS;
    const bucket = this.#buckets.get(caller) ?? { tokens: most, filledAt: now };
    bucket.tokens = Math.min(most, bucket.tokens + ((now - bucket.filledAt) / 1000) * this.#rate);
    bucket.filledAt = now;
    this.#buckets.delete(caller);
    this.#buckets.set(caller, bucket);
    if (this.#buckets.size > MAX_CALLERS) {
      const [oldest = caller] = this.#buckets.keys();
      this.#buckets.delete(oldest);
    }
    return bucket;
  }
}

/** The caller that an address stands for: an IPv6 network of 64 bits is one household, for whoever has one has all of it. */
export function addressCaller(address: string | undefined): string {
  const bare = (address ?? "unknown").replace(/^::ffff:(?=\d+\.)/i, "").replace(/%.*$/, "");
  if (!bare.includes(":") || bare === "::1") return bare;
  const [head = "", tail] = bare.toLowerCase().split("::");
  const groups = head === "" ? [] : head.split(":");
  const missing = tail === undefined ? 0 : 8 - groups.length - (tail === "" ? 0 : tail.split(":").length);
  const whole = [...groups, ...Array<string>(missing).fill("0"), ...(tail ? tail.split(":") : [])];
  return `${whole
    .slice(0, 4)
    .map((group) => group.replace(/^0+(?=.)/, ""))
    .join(":")}::/64`;
}
