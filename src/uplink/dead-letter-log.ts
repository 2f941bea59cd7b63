/** Says in the log that fusion has refused readings for good: they are kept, but nobody would come to look otherwise. */
import type { Clock } from "../kernel/clock.ts";
import { type Logger, RateLimit } from "../kernel/telemetry.ts";
import type { Settlement } from "../outbox/batch.ts";

/** Lines a minute, however much fusion refuses. */
const LINES = 5;
const WINDOW_MS = 60_000;

export class DeadLetterLog {
  readonly #log: Logger;
  readonly #limit: RateLimit;
  #untold = 0;

  constructor(log: Logger, clock: Pick<Clock, "monotonic">) {
    this.#log = log;
    this.#limit = new RateLimit(clock, LINES, WINDOW_MS);
  }

  /** Fates that the outbox has committed. One line at most, with the last one's reason and all the readings since the line before. */
  settled({ deadLettered }: Settlement): void {
    const last = deadLettered.at(-1);
    if (last === undefined) return;
    this.#untold += deadLettered.length;
    if (this.#limit.admit() === undefined) return;
    const fields = { readings: this.#untold, code: last.code, detail: last.detail };
    this.#log.warn(fields, "fusion refused readings for good; see summit-edge dead-letters list");
    this.#untold = 0;
  }
}
