/**
 * Whose turn it is on a bus. Pure.
 *
 * Each has its turn every so often. Who does not answer is asked ever less often, and never before one that does: so that what
 * answers waits for one slot of the dead at most, however many of them there are.
 */

/** Who does not answer is asked no less often than this, or than usual where that is less often, in milliseconds. */
export const MOST_PAUSE_MS = 60_000;

/** How a turn ended. `later`: it is to go on after so many milliseconds. */
export type TurnEnd = "answered" | "failed" | { readonly later: number };

interface Entry {
  readonly every: number;
  /** When its turn was to begin. */
  planned: number;
  /** When it is to begin, or to go on. */
  due: number;
  failures: number;
}

export class Turns {
  readonly #entries: Entry[];

  /** `every`: how often each has its turn, in milliseconds. All are due at once, in this order. `now`: of the monotonic clock. */
  constructor(every: readonly number[], now: number) {
    this.#entries = every.map((ms) => ({ every: ms, planned: now, due: now, failures: 0 }));
  }

  /** Who is next, and in how many milliseconds. */
  next(now: number): { readonly index: number; readonly wait: number } {
    const due = this.#first(({ due: at, failures }) => at <= now && (failures === 0 || now - at >= MOST_PAUSE_MS));
    const index = due ?? this.#first(() => true) ?? 0;
    return { index, wait: Math.max(0, (this.#entries[index]?.due ?? now) - now) };
  }

  /** Whether it did not answer the last time. */
  isFailing(index: number): boolean {
    return (this.#entries[index]?.failures ?? 0) > 0;
  }

  ended(index: number, end: TurnEnd, now: number): void {
    const entry = this.#entries[index];
    if (entry === undefined) return;
    if (typeof end === "object") {
      entry.due = now + end.later;
      return;
    }
    if (end === "answered") {
      entry.failures = 0;
      // On the grid of its first turn; turns for which the bus had no time are left out.
      entry.planned += entry.every * Math.max(1, Math.floor((now - entry.planned) / entry.every) + 1);
    } else {
      const pause = Math.min(entry.every * 2 ** entry.failures, Math.max(entry.every, MOST_PAUSE_MS));
      entry.planned = now + pause;
      entry.failures++;
    }
    entry.due = entry.planned;
  }

  /** The one that has been due for longest among those that `fits`. */
  #first(fits: (entry: Entry) => boolean): number | undefined {
    let first: number | undefined;
    for (const [index, entry] of this.#entries.entries()) {
      if (fits(entry) && (first === undefined || entry.due < (this.#entries[first]?.due ?? 0))) first = index;
    }
    return first;
  }
}
