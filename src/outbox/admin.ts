/** What an operator may do with the outbox, the same through the running daemon and on a file without one. */
import { PRIORITIES, type Priority } from "../observation/observation.ts";
import type {
  DeadLetterAdmin,
  DeadLetter as DeadLetterView,
  OutboxAdmin,
  OutboxStats,
  StoredReading,
} from "../operations/view.ts";
import type { Books } from "./books.ts";
import type { DeadLetterChange, DeadLetterSelection } from "./dead-letters.ts";
import type { PeekedReading } from "./inspection.ts";
import { addLedgers } from "./ledger.ts";
import { HIGH_WATER, LOW_WATER } from "./room-watch.ts";
import type { DeadLetter } from "./rows.ts";

/** The outbox through its worker, or its engine in this thread. */
export interface OutboxAccess {
  books(): Books;
  monotonic(): number;
  peek(limit: number, priority?: Priority): Promise<readonly PeekedReading[]>;
  deadLetters(after: number, limit: number): Promise<readonly DeadLetter[]>;
  deadLettersOf(id: string): Promise<readonly DeadLetter[]>;
  requeue(selection: DeadLetterSelection): Promise<DeadLetterChange>;
  drop(selection: DeadLetterSelection): Promise<DeadLetterChange>;
}

/** The outbox's numbers as operators see them. */
export function statsOf(books: Books, maxBytes: number, monotonic: number): OutboxStats {
  const ledger = books.ledgers.reduce(addLedgers);
  const byPriority = PRIORITIES.map((priority, lane) => [priority, books.ledgers[lane]?.pending ?? 0]);
  const age = ledger.pending === 0 || books.oldestSince === undefined ? 0 : monotonic - books.oldestSince;
  return {
    ledger,
    pending: ledger.pending,
    pendingByPriority: Object.fromEntries(byPriority) as Record<Priority, number>,
    bytes: books.bytes,
    maxBytes,
    walBytes: books.walBytes,
    oldestAgeSeconds: Math.max(0, age) / 1000,
    deadLetters: books.deadLetters,
    kept: books.kept,
    room: { ...books.room, highWater: HIGH_WATER, lowWater: LOW_WATER },
  };
}

export function adminOf(outbox: OutboxAccess, maxBytes: number): OutboxAdmin {
  return {
    stats: async () => statsOf(outbox.books(), maxBytes, outbox.monotonic()),
    peek: async ({ limit, priority }) =>
      (await outbox.peek(limit, priority)).map(({ observation }) => observation as StoredReading),
    deadLetters: deadLetterAdminOf(outbox),
  };
}

/** The sequence number of a page's last reading. */
const CURSOR = /^\d{1,16}$/;

function deadLetterAdminOf(outbox: OutboxAccess): DeadLetterAdmin {
  const change = async (done: Promise<DeadLetterChange>) => {
    const { changed, unknown } = await done;
    return { count: changed, unknown };
  };
  return {
    list: async ({ limit, after = "0" }) => {
      if (!CURSOR.test(after)) return undefined;
      const letters = await outbox.deadLetters(Number(after), limit);
      const last = letters.at(-1);
      const page = letters.map((letter) => {
        const { problem: _problem, reading: _reading, ...summary } = viewOf(letter);
        return summary;
      });
      return letters.length < limit || last === undefined
        ? { deadLetters: page }
        : { deadLetters: page, next: String(last.seq) };
    },
    show: async (id) => {
      const letter = (await outbox.deadLettersOf(id)).at(-1);
      return letter === undefined ? undefined : viewOf(letter);
    },
    requeue: (selection) => change(outbox.requeue(selection)),
    drop: (selection) => change(outbox.drop(selection)),
  };
}

function viewOf(letter: DeadLetter): DeadLetterView {
  const reading = JSON.parse(letter.reading) as StoredReading;
  return {
    id: letter.id,
    class: reading.class,
    source: reading.source,
    priority: PRIORITIES[letter.lane] ?? reading.priority,
    ts_iso: reading.ts_iso,
    deadLetteredAt: new Date(letter.refusedAt).toISOString(),
    code: letter.code,
    detail: letter.detail,
    ...(letter.problem === null ? {} : { problem: JSON.parse(letter.problem) as unknown }),
    reading,
  };
}
