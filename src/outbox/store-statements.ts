/** The store's SQL, and how a block becomes a row. What the statements are for is the store's matter. */
import { crc32 } from "node:zlib";
import type { Database, Statement } from "better-sqlite3";
import { type BlockHead, LANES } from "./rows.ts";

const LETTER_COLUMNS = "seq, id, lane, code, detail, problem, refused_at AS refusedAt, reading";

/** A block's columns but the last two, in their order. */
const HEAD_FIELDS = [
  "key",
  "lastSeq",
  "count",
  "sequence",
  "observedFrom",
  "observedTo",
  "acceptedAt",
  "acceptedMonotonic",
  "boot",
  "clock",
  "rawBytes",
  "rawCrc",
] as const satisfies readonly (keyof BlockHead)[];

const HEAD_COLUMNS = HEAD_FIELDS.map((field) => `${field.replace(/[A-Z]/g, "_$&").toLowerCase()} AS ${field}`).join();

const SQL = {
  walFrames: "PRAGMA wal_checkpoint(NOOP)",
  checkpoint: "PRAGMA wal_checkpoint(PASSIVE)",
  changes: "SELECT total_changes()",
  begin: "BEGIN IMMEDIATE",
  commit: "COMMIT",
  meta: "SELECT value FROM meta WHERE name = ?",
  setMeta: "INSERT INTO meta VALUES (?, ?)",
  lastSeq: "SELECT MAX(last_seq) AS seq FROM ledger",
  setLastSeq: "UPDATE ledger SET last_seq = ? WHERE lane = ?",
  addAccepted: "UPDATE ledger SET accepted = accepted + ?, pending = pending + ?, last_seq = ? WHERE lane = ?",
  boot: "SELECT id FROM boot WHERE boot_id = ?",
  setOffset: "UPDATE boot SET clock_offset = ? WHERE id = ? AND clock_offset IS NULL",
  offsets: "SELECT boot_id AS bootId, clock_offset AS offset FROM boot WHERE clock_offset IS NOT NULL",
  boots: `SELECT id, base, seen_monotonic AS seenMonotonic, seen_wall AS seenWall,
    seen_synchronised AS seenSynchronised, off_counted AS offCounted FROM boot WHERE seen_wall > 0 ORDER BY id`,
  setBoot: `UPDATE boot SET base = @base, seen_monotonic = @seenMonotonic, seen_wall = @seenWall,
    seen_synchronised = @seenSynchronised, off_counted = @offCounted WHERE id = @id`,
  lastBoot: "SELECT COALESCE(MAX(id), 0) FROM boot",
  addBoot: "INSERT INTO boot (id, boot_id) VALUES (?, ?)",
  insertBlock: `INSERT INTO block VALUES (${"?, ".repeat(HEAD_FIELDS.length)}?, ?)`,
  deleteBlock: "DELETE FROM block WHERE key = ?",
  firstHead: `SELECT ${HEAD_COLUMNS} FROM block WHERE key >= ? AND key < ? ORDER BY key LIMIT 1`,
  headBefore: `SELECT ${HEAD_COLUMNS} FROM block WHERE key < ? AND key >= ? ORDER BY key DESC LIMIT 1`,
  block: `SELECT ${HEAD_COLUMNS}, row_crc AS rowCrc, body FROM block WHERE key = ?`,
  setAside: "INSERT OR REPLACE INTO damaged_block SELECT key, count, ?, ?, body FROM block WHERE key = ?",
  countIn: "SELECT SUM(count) AS count FROM block WHERE key >= ? AND key < ?",
  addToLedger: `UPDATE ledger SET accepted = accepted + @accepted, pending = pending + @pending,
    delivered = delivered + @delivered, expired = expired + @expired, evicted = evicted + @evicted,
    thinned = thinned + @thinned, dead_lettered = dead_lettered + @deadLettered, damaged = damaged + @damaged,
    duplicates = duplicates + @duplicates WHERE lane = @lane`,
  ledgers: `SELECT accepted, pending, delivered, expired, evicted, thinned, dead_lettered AS deadLettered,
    damaged, duplicates FROM ledger WHERE lane >= 0 AND lane < ${LANES} ORDER BY lane`,
  insertLetter: `INSERT OR REPLACE INTO dead_letter
    VALUES (@seq, @id, @lane, @code, @detail, @problem, @refusedAt, @reading)`,
  deleteLetter: "DELETE FROM dead_letter WHERE seq = ?",
  letters: `SELECT ${LETTER_COLUMNS} FROM dead_letter WHERE seq > ? ORDER BY seq LIMIT ?`,
  lettersOf: `SELECT ${LETTER_COLUMNS} FROM dead_letter WHERE id = ? ORDER BY seq`,
  pageCount: "PRAGMA page_count",
  freePages: "PRAGMA freelist_count",
  countBlocks: "SELECT COUNT(*) AS count FROM block",
  countLetters: "SELECT COUNT(*) AS count FROM dead_letter",
} as const;

/** Of these the first column is wanted, alone. */
const PLUCKED: readonly string[] = ["changes", "lastBoot", "pageCount", "freePages"] satisfies (keyof typeof SQL)[];

export type Statements = { readonly [name in keyof typeof SQL]: Statement<unknown[]> };

/** All statements, compiled for an open file. */
export function prepare(db: Database): Statements {
  const compiled = Object.entries(SQL).map(([name, sql]) => {
    const statement = db.prepare(sql);
    return [name, PLUCKED.includes(name) ? statement.pluck() : statement] as const;
  });
  return Object.fromEntries(compiled) as Statements;
}

/** The values of `HEAD_FIELDS`, for the statement and the checksum. */
export function headOf(block: BlockHead): (string | number | null)[] {
  return HEAD_FIELDS.map((field) => block[field]);
}

/** Over the whole row, because SQLite's own integrity check does not notice a flipped bit in a payload. */
export function rowCrc(head: readonly (string | number | null)[], body: Uint8Array): number {
  return crc32(body, crc32(head.join("|")));
}
