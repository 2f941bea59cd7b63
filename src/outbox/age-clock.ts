/**
 * How long blocks have waited, across restarts of the machine, whatever its wall clock says.
 *
 * Ages are told on a clock of the outbox's own: it runs with the monotonic clock, each boot goes on where the last one was
 * seen, and the time between them, when the machine was off, is added once the wall clock is known to be synchronised, if it
 * was so before as well. Setting a wrong clock right therefore ages nothing.
 */
import type { ClockQuality } from "../observation/observation.ts";
import type { BlockHead, BootTimes } from "./rows.ts";
import type { Store } from "./store.ts";

/** How often the boot's last moment is noted: what a power cut can shift from running time to time switched off. */
export const NOTE_EVERY_MS = 600_000;

/** A wall clock that was set by less is not worth a write. */
const SET_BY_MS = 60_000;

export interface AgeTimes {
  readonly monotonic: () => number;
  /** Wall time. */
  readonly now: () => number;
}

/** What has an age: since it was accepted; for a kept block, since it was delivered. */
export type Aged = Pick<BlockHead, "boot" | "acceptedMonotonic">;

export class AgeClock {
  readonly #store: Store;
  readonly #times: AgeTimes;
  /** By boot: what this clock showed when its monotonic clock was 0. Boots are few; none is forgotten while the file lasts. */
  readonly #bases = new Map<number, number>();
  /** On the monotonic clock. */
  readonly #openedAt: number;
  #boot: BootTimes;
  #previous: BootTimes | undefined;
  #notedAt = Number.NEGATIVE_INFINITY;

  constructor(store: Store, times: AgeTimes) {
    this.#store = store;
    this.#times = times;
    this.#openedAt = times.monotonic();
    const boots = store.boots();
    this.#previous = boots.findLast(({ id }) => id < store.boot);
    this.#boot = boots.find(({ id }) => id === store.boot) ?? beginAfter(store.boot, this.#previous);
    for (const { id, base } of [...boots, this.#boot]) this.#bases.set(id, base);
  }

  /** Since a block's acceptance, ms, at least 0. */
  ageOf(head: Aged): number {
    const base = this.#bases.get(head.boot);
    // Of a boot that was never watched, or whose row a repair has lost, nothing is known but that it is over, perhaps only just before the
    // file was opened: the block's wait begins there, for nothing is to expire early.
    const accepted = base === undefined ? this.#boot.base + this.#openedAt : base + head.acceptedMonotonic;
    return Math.max(0, this.#boot.base + this.#times.monotonic() - accepted);
  }

  /** Whether `note` has something to write. */
  isDue(quality: ClockQuality): boolean {
    if (this.#times.monotonic() - this.#notedAt >= NOTE_EVERY_MS || this.#wasSet()) return true;
    return quality === "synchronised" && (!this.#boot.offCounted || !this.#boot.seenSynchronised);
  }

  /** Notes the moment, within a transaction; counts the time switched off where that is known by now. */
  note(quality: ClockQuality): void {
    const monotonic = Math.floor(this.#times.monotonic());
    const wall = Math.floor(this.#times.now());
    const synchronised = quality === "synchronised";
    const off = !this.#boot.offCounted && synchronised ? this.#switchedOff(wall - monotonic) : 0;
    const boot = {
      ...this.#boot,
      base: this.#boot.base + off,
      seenMonotonic: monotonic,
      seenWall: wall,
      seenSynchronised: synchronised,
      offCounted: this.#boot.offCounted || synchronised,
    };
    this.#store.setBoot(boot);
    this.#boot = boot;
    this.#bases.set(boot.id, boot.base);
    this.#notedAt = monotonic;
  }

  /** Whether the wall clock was set since the last note: at the next start that would pass for time switched off. */
  #wasSet(): boolean {
    const { seenWall, seenMonotonic } = this.#boot;
    const lasted = this.#times.monotonic() - seenMonotonic;
    const wall = this.#times.now();
    return seenWall > 0 && Math.abs(wall - seenWall - lasted) >= SET_BY_MS;
  }

  #switchedOff(startedAt: number): number {
    if (this.#previous === undefined || !this.#previous.seenSynchronised) return 0;
    return Math.max(0, startedAt - this.#previous.seenWall);
  }
}

/** A boot of which nothing has been noted yet goes on where the one before was last seen. */
function beginAfter(id: number, previous: BootTimes | undefined): BootTimes {
  const base = previous === undefined ? 0 : previous.base + previous.seenMonotonic;
  return { id, base, seenMonotonic: 0, seenWall: 0, seenSynchronised: false, offCounted: previous === undefined };
}
