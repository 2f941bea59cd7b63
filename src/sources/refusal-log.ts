/** The log of those who were turned away: each kind of reason has a rate of its own, so that one does not hide another. */
import type { Clock } from "../kernel/clock.ts";
import { type Logger, RateLimit } from "../kernel/telemetry.ts";

/** Lines of one kind in each window. */
const LINES = 10;
const WINDOW_MS = 60_000;
/** Kinds that are told apart; whatever comes beyond them shares one rate. */
const MAX_KINDS = 64;
const OTHERS = "others";

export class RefusalLog {
  readonly #log: Logger;
  readonly #clock: Pick<Clock, "monotonic">;
  readonly #rates = new Map<string, RateLimit>();

  constructor(log: Logger, clock: Pick<Clock, "monotonic">) {
    this.#log = log;
    this.#clock = clock;
  }

  /** Writes one line, with how many of its kind were held back since the last; or holds it back. Whether it was written. */
  refused(kind: string, message: string, fields: Readonly<Record<string, string | undefined>>): boolean {
    const heldBack = this.#rateOf(kind).admit();
    if (heldBack === undefined) return false;
    this.#log.warn({ ...fields, heldBack }, message);
    return true;
  }

  #rateOf(kind: string): RateLimit {
    const known = this.#rates.get(kind);
    if (known !== undefined) return known;
    if (this.#rates.size >= MAX_KINDS && kind !== OTHERS) return this.#rateOf(OTHERS);
    const rate = new RateLimit(this.#clock, LINES, WINDOW_MS);
    this.#rates.set(kind, rate);
    return rate;
  }
}
