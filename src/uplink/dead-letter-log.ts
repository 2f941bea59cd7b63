/** Says in the log that fusion has refused readings for good: they are kept, but nobody would come to look otherwise. */
import type { Clock } from "../kernel/clock.ts";
import type { Logger } from "../kernel/telemetry.ts";
import type { DeadLetterReason, Settlement } from "../outbox/batch.ts";

/** The first are told at once, and those that follow together, so long after the line before. */
const QUIET_MS = 60_000;

export class DeadLetterLog {
  readonly #log: Logger;
  readonly #clock: Pick<Clock, "after">;
  #untold = 0;
  #last: DeadLetterReason | undefined;
  #cancel: (() => void) | undefined;

  constructor(log: Logger, clock: Pick<Clock, "after">) {
    this.#log = log;
    this.#clock = clock;
  }

  /** Fates that the outbox has committed. */
  settled({ deadLettered }: Settlement): void {
    this.#untold += deadLettered.length;
    this.#last = deadLettered.at(-1) ?? this.#last;
    if (this.#cancel === undefined) this.#tell();
  }

  /** Tells of the rest; to be called when nothing more is settled. */
  stop(): void {
    this.#tell();
    this.#cancel?.();
  }

  #tell(): void {
    this.#cancel?.();
    this.#cancel = undefined;
    if (this.#untold === 0 || this.#last === undefined) return;
    const { code, detail } = this.#last;
    this.#log.warn({ readings: this.#untold, code, detail }, TEXT);
    this.#untold = 0;
    this.#cancel = this.#clock.after(QUIET_MS, () => this.#tell());
  }
}

const TEXT = "fusion refused readings for good; see summit-edge dead-letters list";
