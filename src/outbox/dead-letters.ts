/** Readings that fusion refused for good: kept with their reasons, up to a bound, until somebody requeues or drops them. */
import type { ClockQuality } from "../observation/observation.ts";
import type { DeadLetterReason } from "./batch.ts";
import type { Queue } from "./queue.ts";
import { Band, type Block, bandStart, type DeadLetter, LANES } from "./rows.ts";
import { segmentOf } from "./segment.ts";
import type { Store } from "./store.ts";

/** Ids of dead letters, or all of them. */
export type DeadLetterSelection = readonly string[] | "all";

/** How many dead letters were changed, and which ids are none. */
export interface DeadLetterChange {
  readonly changed: number;
  readonly unknown: readonly string[];
}

const PER_TRANSACTION = 500;

/** From when on a requeued reading waits: whoever asked for it again did not want it to expire at once. */
type Moment = Pick<Block, "boot" | "acceptedMonotonic">;

export class DeadLetters {
  readonly #store: Store;
  readonly #queue: Queue;
  readonly #max: number;
  readonly #transaction: <T>(change: () => T) => T;
  readonly #moment: () => Moment;
  #count: number;
  /** Ids of those that the transaction under way has dropped to make room. */
  #dropped: string[] = [];

  /** Keeps at most `max`. `transaction` is the engine's, which knows `remember` and `takeDropped`; `moment` is now. */
  constructor(store: Store, queue: Queue, max: number, transaction: <T>(change: () => T) => T, moment: () => Moment) {
    this.#moment = moment;
    this.#store = store;
    this.#queue = queue;
    this.#max = max;
    this.#transaction = transaction;
    this.#count = store.countDeadLetters();
  }

  get count(): number {
    return this.#count;
  }

  /** Within a transaction that also changes the ledger. */
  bury(letter: Pick<DeadLetter, "seq" | "id" | "lane" | "reading" | "refusedAt">, reason: DeadLetterReason): void {
    const problem = reason.problem === undefined ? null : JSON.stringify(reason.problem);
    this.#store.insertDeadLetter({ ...letter, code: reason.code, detail: reason.detail, problem });
    this.#count++;
    const excess = this.#count - this.#max;
    if (excess <= 0) return;
    this.dropOldest(excess);
  }

  /** Drops the oldest, at most so many, within a transaction; returns how many. */
  dropOldest(most: number): number {
    const oldest = this.#store.deadLetters(0, most);
    if (oldest.length === 0) return 0;
    for (const { seq } of oldest) this.#store.deleteDeadLetter(seq);
    this.#count -= oldest.length;
    this.#dropped.push(...oldest.map(({ id }) => id));
    return oldest.length;
  }

  /** At the beginning of a transaction; what is returned puts things back where that was rolled back. */
  remember(): () => void {
    const count = this.#count;
    return () => {
      this.#count = count;
      this.#dropped = [];
    };
  }

  /** Ids of those that a transaction, committed by now, has dropped to make room; they are given once. */
  takeDropped(): readonly string[] {
    return this.#dropped.splice(0);
  }

  /** Puts dead letters back into the queue, ahead of what waits in their lanes. */
  requeue(selection: DeadLetterSelection): DeadLetterChange {
    return this.#change(
      selection,
      (letter) => {
        this.#store.insertBlock({ ...blockOf(letter), ...this.#moment() });
        this.#store.addToLedger(letter.lane, { pending: 1, deadLettered: -1 });
      },
      ({ lane }) => this.#queue.defer(lane, 1, 0),
    );
  }

  /** Forgets dead letters; they stay counted as dead-lettered. */
  drop(selection: DeadLetterSelection): DeadLetterChange {
    return this.#change(
      selection,
      () => {},
      () => {},
    );
  }

  #change(
    selection: DeadLetterSelection,
    within: (letter: DeadLetter) => void,
    after: (letter: DeadLetter) => void,
  ): DeadLetterChange {
    const unknown = selection === "all" ? [] : selection.filter((id) => this.#store.deadLettersOf(id).length === 0);
    let changed = 0;
    for (const letters of this.#selected(selection)) {
      this.#transaction(() => {
        for (const letter of letters) {
          this.#store.deleteDeadLetter(letter.seq);
          within(letter);
        }
        this.#count -= letters.length;
      });
      for (const letter of letters) after(letter);
      changed += letters.length;
    }
    return { changed, unknown };
  }

  /** Selected dead letters, a transaction's worth at a time. */
  *#selected(selection: DeadLetterSelection): Generator<readonly DeadLetter[]> {
    if (selection !== "all") {
      yield [...new Set(selection)].flatMap((id) => this.#store.deadLettersOf(id));
      return;
    }
    for (;;) {
      const letters = this.#store.deadLetters(0, PER_TRANSACTION);
      if (letters.length === 0) return;
      yield letters;
    }
  }
}

/** Whether a dead letter is what `bury` made, so that it can be shown, and be sent again. */
export function isWhole({ id, lane, reading, problem }: DeadLetter): boolean {
  try {
    const { id: named, ts_iso, gateway } = JSON.parse(reading) as DeadReading & { readonly id: string };
    if (problem !== null) JSON.parse(problem);
    const times = [Date.parse(ts_iso), Date.parse(gateway.received_at)];
    return named === id && lane >= 0 && lane < LANES && times.every((time) => Number.isFinite(time));
  } catch {
    return false;
  }
}

interface DeadReading {
  readonly ts_iso: string;
  readonly gateway: { readonly received_at: string; readonly clock: ClockQuality; readonly boot?: string };
}

function blockOf(letter: DeadLetter): Omit<Block, keyof Moment> {
  const { body, rawBytes, rawCrc } = segmentOf([letter.reading]);
  const reading = JSON.parse(letter.reading) as DeadReading;
  const observedAt = Date.parse(reading.ts_iso);
  return {
    key: bandStart(Band.deferred(letter.lane)) + letter.seq,
    lastSeq: letter.seq,
    count: 1,
    sequence: null,
    observedFrom: observedAt,
    observedTo: observedAt,
    acceptedAt: Date.parse(reading.gateway.received_at),
    clock: reading.gateway.boot === undefined ? reading.gateway.clock : "provisional",
    rawBytes,
    rawCrc,
    body,
  };
}
