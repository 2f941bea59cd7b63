/**
 * When the outbox is tended: at once after the start, when the next reading has waited too long, while the disk is full every
 * second to see whether there is space again, and every minute in any case, to see that its file is still there. One timer,
 * however much waits.
 */
import type { Clock } from "../kernel/clock.ts";
import type { TendOutcome } from "./protocol.ts";

/** How late a reading may expire; so many readings that age one after the other go together. */
const SHORTEST_MS = 250;
const LONGEST_MS = 60_000;
const DISK_FULL_MS = 1000;

export class Tending {
  readonly #clock: Clock;
  readonly #tend: () => Promise<TendOutcome>;
  #cancel: () => void = () => {};
  #dueAt = Number.POSITIVE_INFINITY;
  #expiresIn: number | undefined;
  #running = false;
  #stopped = false;

  /** `tend` never rejects. */
  constructor(clock: Clock, tend: () => Promise<TendOutcome>) {
    this.#clock = clock;
    this.#tend = tend;
  }

  /** Tends for the first time. */
  start(): void {
    void this.#run();
  }

  stop(): void {
    this.#stopped = true;
    this.#cancel();
  }

  /** Until the next reading is too old, as of now; `undefined` where none waits. */
  note(expiresIn: number | undefined): void {
    this.#expiresIn = expiresIn;
    if (!this.#running && expiresIn !== undefined) this.#within(clamp(expiresIn));
  }

  /** The disk was found full: looks soon, and then as long as it stays so, whether there is space again. */
  watchDisk(): void {
    if (!this.#running) this.#within(DISK_FULL_MS);
  }

  /** Sees to it that it runs after `delayMs` or sooner. */
  #within(delayMs: number): void {
    const dueAt = this.#clock.monotonic() + delayMs;
    if (this.#stopped || dueAt >= this.#dueAt) return;
    this.#cancel();
    this.#dueAt = dueAt;
    this.#cancel = this.#clock.after(delayMs, () => void this.#run());
  }

  async #run(): Promise<void> {
    this.#running = true;
    const { more, diskFull } = await this.#tend();
    this.#running = false;
    this.#dueAt = Number.POSITIVE_INFINITY;
    if (more) this.#within(0);
    else if (diskFull) this.#within(DISK_FULL_MS);
    else this.#within(clamp(this.#expiresIn ?? LONGEST_MS));
  }
}

function clamp(delayMs: number): number {
  return Math.max(SHORTEST_MS, Math.min(LONGEST_MS, delayMs));
}
