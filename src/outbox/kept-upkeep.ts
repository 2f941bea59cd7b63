/** Sees to it that kept readings go when they have been kept for long enough. On the main thread; the worker drops them. */
import type { Clock } from "../kernel/clock.ts";
import type { Logger } from "../kernel/telemetry.ts";

/** They are looked at for their age about so many times in their life, but not more often than a card likes. */
const LOOKS = 10;
const SHORTEST_LOOK_MS = 250;
const LONGEST_LOOK_MS = 60_000;

export interface KeptUpkeepParts {
  readonly clock: Clock;
  readonly log: Logger;
  /** How long they are kept, ms; with 0, what is still there goes once. */
  readonly keepDelivered: number;
  /** Drops some that are old enough; `true`: there may be more. */
  readonly purge: () => Promise<boolean>;
}

export class KeptUpkeep {
  readonly #parts: KeptUpkeepParts;
  #stopped = false;
  #cancel: () => void = () => {};

  constructor(parts: KeptUpkeepParts) {
    this.#parts = parts;
  }

  start(): void {
    void this.#look();
  }

  stop(): void {
    this.#stopped = true;
    this.#cancel();
  }

  async #look(): Promise<void> {
    const { clock, log, keepDelivered, purge } = this.#parts;
    let nextMs = Math.min(LONGEST_LOOK_MS, Math.max(SHORTEST_LOOK_MS, keepDelivered / LOOKS));
    try {
      const more = await purge();
      if (!more && keepDelivered === 0) return;
      if (more) nextMs = SHORTEST_LOOK_MS;
    } catch (err) {
      if (this.#stopped) return;
      log.warn({ err }, "delivered readings that were kept for long enough could not be dropped; tried again");
      nextMs = LONGEST_LOOK_MS;
    }
    if (!this.#stopped) this.#cancel = clock.after(nextMs, () => void this.#look());
  }
}
