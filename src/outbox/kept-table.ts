/**
 * The table of delivered blocks that are kept for a while, and all the SQL on it. A table of its own, so that nothing that looks at
 * what waits ever meets what has been delivered (docs/decisions/0009-kept-blocks.md).
 *
 * Ids grow in the order of delivery: the oldest block is the first row, and rows are added at the end only.
 */
import type Database from "better-sqlite3";
import type { ClockQuality } from "../observation/observation.ts";
import type { Aged } from "./age-clock.ts";
import type { KeptTotals } from "./books.ts";

/** When a block was delivered. Its age goes by the boot and the monotonic time (age-clock.ts); the rest is for the record. */
export interface DeliveredWhen {
  /** Wall time, ms. */
  readonly at: number;
  /** Milliseconds since the start of boot `boot`. */
  readonly monotonic: number;
  readonly boot: number;
  readonly clock: ClockQuality;
}

/** What of a kept block can be read without its body. */
export interface KeptHead {
  readonly id: number;
  readonly count: number;
  /** Wall time of the oldest and newest observation, ms. */
  readonly observedFrom: number;
  readonly observedTo: number;
}

export interface KeptBlock extends KeptHead {
  readonly lane: number;
  readonly firstSeq: number;
  readonly lastSeq: number;
  /** As `BlockHead.sequence`. */
  readonly sequence: string | null;
  readonly rawBytes: number;
  readonly rawCrc: number;
  readonly body: Uint8Array;
}

const HEAD_COLUMNS = "id, count, observed_from AS observedFrom, observed_to AS observedTo";
/** What a kept block's age goes by, as `AgeClock` asks for it. */
const AGE_COLUMNS = "delivered_monotonic AS acceptedMonotonic, delivered_boot AS boot";

/** Everything but the rows' order is the caller's matter: transactions, ids, ages. */
export class KeptTable {
  readonly #statements: ReturnType<typeof prepare>;

  constructor(db: Database.Database) {
    this.#statements = prepare(db);
  }

  insert(block: KeptBlock, when: DeliveredWhen): void {
    this.#statements.insert.run({ ...block, ...when });
  }

  /** As `insert`, of a block of the queue as it lies there: its body does not pass through JavaScript. Returns what it has. */
  insertWaiting(id: number, key: number, place: { lane: number; firstSeq: number }, when: DeliveredWhen): KeptTotals {
    this.#statements.insertWaiting.run({ id, key, ...place, ...when });
    return (this.#statements.totalsOf.get(id) as KeptTotals | undefined) ?? { readings: 0, bytes: 0 };
  }

  delete(id: number): void {
    this.#statements.delete.run(id);
  }

  /** The block that was delivered first, and when; `undefined` where none is kept. */
  oldest(): (KeptHead & Aged & { readonly bytes: number }) | undefined {
    return this.#statements.oldest.get() as ReturnType<KeptTable["oldest"]>;
  }

  /** Of all rows, which it looks through: for the start. */
  totals(): KeptTotals {
    return this.#statements.totals.get() as KeptTotals;
  }

  /** 0 where none is kept. */
  lastId(): number {
    return (this.#statements.lastId.get() as { id: number | null }).id ?? 0;
  }

  /** In the order of delivery: at most `limit`, from `from` to `through`, both included. */
  heads(from: number, through: number, limit: number): KeptHead[] {
    return this.#statements.heads.all(from, through, limit) as KeptHead[];
  }

  /** Of the block that was delivered last before block `before`. */
  headBefore(before: number): Pick<KeptBlock, "id" | "lastSeq" | "count"> | undefined {
    return this.#statements.headBefore.get(before) as ReturnType<KeptTable["headBefore"]>;
  }

  block(id: number): KeptBlock | undefined {
    return this.#statements.block.get(id) as KeptBlock | undefined;
  }
}

function prepare(db: Database.Database) {
  return {
    insert: db.prepare(`INSERT INTO kept_block VALUES (@id, @at, @monotonic, @boot, @clock, @lane, @firstSeq, @lastSeq,
      @count, @sequence, @observedFrom, @observedTo, @rawBytes, @rawCrc, @body)`),
    insertWaiting: db.prepare(`INSERT INTO kept_block SELECT @id, @at, @monotonic, @boot, @clock, @lane, @firstSeq,
      last_seq, count, sequence, observed_from, observed_to, raw_bytes, raw_crc, body FROM block WHERE key = @key`),
    delete: db.prepare("DELETE FROM kept_block WHERE id = ?"),
    totals: db.prepare(
      "SELECT COALESCE(SUM(count), 0) AS readings, COALESCE(SUM(LENGTH(body)), 0) AS bytes FROM kept_block",
    ),
    totalsOf: db.prepare("SELECT count AS readings, LENGTH(body) AS bytes FROM kept_block WHERE id = ?"),
    oldest: db.prepare(
      `SELECT ${HEAD_COLUMNS}, ${AGE_COLUMNS}, LENGTH(body) AS bytes FROM kept_block ORDER BY id LIMIT 1`,
    ),
    lastId: db.prepare("SELECT MAX(id) AS id FROM kept_block"),
    heads: db.prepare(`SELECT ${HEAD_COLUMNS} FROM kept_block WHERE id >= ? AND id <= ? ORDER BY id LIMIT ?`),
    headBefore: db.prepare(
      "SELECT id, last_seq AS lastSeq, count FROM kept_block WHERE id < ? ORDER BY id DESC LIMIT 1",
    ),
    block: db.prepare(`SELECT ${HEAD_COLUMNS}, lane, first_seq AS firstSeq, last_seq AS lastSeq, sequence,
      raw_bytes AS rawBytes, raw_crc AS rawCrc, body FROM kept_block WHERE id = ?`),
  };
}
