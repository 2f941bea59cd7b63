import { EventEmitter, once } from "node:events";
import type { Observation, Priority } from "#src/observation/observation.js";
import type { ReadingsOutbox } from "#src/sources/readings-intake.js";

/** An outbox in memory that keeps what it was given, and commits when the test says so. */
export class RecordingOutbox implements ReadingsOutbox {
  readonly readings: Observation[] = [];
  readonly #events = new EventEmitter().setMaxListeners(0);
  readonly #known = new Set<string>();
  #held: (() => void)[] | undefined;
  #relieved: (() => void)[] = [];
  #saturated = false;
  #refusing = false;

  append(readings: readonly Observation[], _receivedAt: number, committed: () => void) {
    const fresh = readings.filter(({ id }) => !this.#known.has(id));
    for (const { id } of fresh) this.#known.add(id);
    this.readings.push(...fresh);
    if (this.#held === undefined) process.nextTick(committed);
    else this.#held.push(committed);
    this.#events.emit("append");
    const copies = readings.filter((reading) => !fresh.includes(reading));
    return { accepted: fresh.length, duplicates: copies.length, copies };
  }

  /** From now on nothing is committed until `release`. */
  hold(): void {
    this.#held ??= [];
  }

  /** Commits what was held, in order, and commits at once again. */
  release(): void {
    const held = this.#held ?? [];
    this.#held = undefined;
    for (const committed of held) committed();
  }

  /** Commits that are held. */
  get waiting(): number {
    return this.#held?.length ?? 0;
  }

  get saturated(): boolean {
    return this.#saturated;
  }

  set saturated(saturated: boolean) {
    this.#saturated = saturated;
    if (!saturated) this.#relieve();
  }

  /** Whether it refuses all that is not critical. */
  set refusing(refusing: boolean) {
    this.#refusing = refusing;
    if (!refusing) this.#relieve();
  }

  refuses(priority: Priority): boolean {
    return this.#refusing && priority !== "critical";
  }

  #relieve(): void {
    const relieved = this.#relieved;
    this.#relieved = [];
    for (const listener of relieved) listener();
  }

  onceRelieved(listener: () => void): void {
    this.#relieved.push(listener);
    this.#events.emit("awaited");
  }

  /** Resolves once `count` readings were taken (copies not counted). */
  async taken(count: number): Promise<void> {
    while (this.readings.length < count) await once(this.#events, "append");
  }

  /** Resolves once `count` commits are held. */
  async heldUp(count: number): Promise<void> {
    while (this.waiting < count) await once(this.#events, "append");
  }

  /** Resolves once somebody waits for relief. */
  async awaited(): Promise<void> {
    if (this.#relieved.length === 0) await once(this.#events, "awaited");
  }
}
