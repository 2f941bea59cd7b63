/**
 * Copies what can be read of a damaged outbox into a fresh one, row by row, without SQLite reading the damaged file.
 *
 * Tables and their columns are taken from the schema's own migrations, at the version that the damaged file has; rows are
 * copied as they are where they have a table's shape. What a block is worth is decided afterwards, by the store and its checksums
 * (`audit.ts`). `meta` is not copied: the fresh file is an outbox of its own, with an id of its own.
 *
 * Where the disk has no room for all, the books and the boots are copied nevertheless (they are a page or two), then what waits, critical
 * readings first, and what has been delivered already comes last.
 */
import { statfsSync } from "node:fs";
import { dirname } from "node:path";
import Database from "better-sqlite3";
import { codeOf } from "../kernel/errors.ts";
import { MIGRATIONS } from "./migrations.ts";
import { PAGE_BYTES, type Pages } from "./pages.ts";
import { LANES } from "./rows.ts";
import { type Row, TableRows, type Value } from "./table-rows.ts";

/** What stays free on the file system for the daemon's work, a sixteenth of a small one: a salvage that comes to this ends early. */
const KEEP_FREE_BYTES = 16 * 1024 * 1024;
const KEEP_FREE_SHARE = 1 / 16;
/** As many doubtful keys are remembered; those of more blocks are believed. */
const MAX_DOUBTFUL = 200_000;
/** What is written between two looks at the disk, each a transaction: a row may be 500 KiB. */
const LOOK_EVERY_BYTES = 512 * 1024;
/** A higher number of a boot is not to be believed. */
const MAX_BOOT = 2 ** 31;
const SCHEMA_ROOT = 1;

/** In the order in which they are copied. */
const TABLES: readonly string[] = ["ledger", "boot", "block", "dead_letter", "damaged_block", "kept_block"];
/** Copied whatever room there is: without them nobody could say what is missing. */
const VITAL: readonly string[] = ["ledger", "boot"];
const DELIVERED = "kept_block";

export interface Salvage {
  /** The lanes whose ledger could be read. */
  readonly lanes: ReadonlySet<number>;
  /** Keys of blocks that were not found in their place in a sound page: some may have been deleted long ago. */
  readonly doubtful: ReadonlySet<number>;
  /** The disk has no room for more; what is left is in the damaged file only. */
  readonly cutShort: boolean;
}

interface Column {
  readonly name: string;
  readonly type: string;
  readonly notnull: number;
  readonly pk: number;
  readonly dflt_value: string | null;
}

interface Table {
  readonly name: string;
  readonly columns: readonly Column[];
  readonly insert: Database.Statement;
  /** Which column names the boot that a row's monotonic times belong to; -1 where none does. */
  readonly boot: number;
}

/**
 * Fills a fresh file at `target`, which must not be there yet, with the rows of the damaged one. Durable once it is closed and synced.
 * `isNearlyFull` is asked now and then whether to end early.
 * @throws SQLite's errors where the file cannot be written, or not even the books have room
 */
export function salvage(damaged: Pages, target: string, isNearlyFull = () => diskIsNearlyFull(target)): Salvage {
  const db = new Database(target);
  try {
    createSchema(db, damaged.schemaVersion());
    const filling = new Filling(db, isNearlyFull);
    filling.fill(damaged);
    return { lanes: filling.lanes, doubtful: filling.doubtful, cutShort: filling.cutShort };
  } finally {
    db.close();
  }
}

function createSchema(db: Database.Database, version: number): void {
  db.pragma(`page_size = ${PAGE_BYTES}`);
  // The file is nothing until it is whole: should the power go, the repair begins again.
  db.pragma("journal_mode = MEMORY");
  db.pragma("synchronous = OFF");
  const known = version >= 1 && version <= MIGRATIONS.length ? version : MIGRATIONS.length;
  for (const step of MIGRATIONS.slice(0, known)) db.exec(step);
  db.pragma(`user_version = ${known}`);
}

class Filling {
  readonly #db: Database.Database;
  readonly #isNearlyFull: () => boolean;
  readonly #tables: readonly Table[];
  readonly lanes = new Set<number>();
  readonly doubtful = new Set<number>();
  cutShort = false;
  /** Since the last look at the disk; the first row is one. */
  #bytes = LOOK_EVERY_BYTES;
  #highestBoot = 0;

  constructor(db: Database.Database, isNearlyFull: () => boolean) {
    this.#db = db;
    this.#isNearlyFull = isNearlyFull;
    this.#tables = tablesOf(db);
  }

  fill(damaged: Pages): void {
    const rows = new TableRows(damaged);
    const roots = new Map<string, number>();
    for (const { values } of rows.below(SCHEMA_ROOT)) {
      const [type, name, , root] = values;
      if (type === "table" && typeof name === "string" && typeof root === "number") roots.set(name, root);
    }
    for (const table of this.#tables) {
      const root = roots.get(table.name);
      if (root === undefined) continue;
      // What waits and is adrift goes before what has been delivered.
      if (table.name === DELIVERED) rows.pass(root);
      else this.#takeAll(rows.below(root), table);
    }
    for (const row of rows.adrift()) {
      const table = this.#tables.find((candidate) => fits(row.values, candidate, false));
      if (table !== undefined) this.#take(row, table);
    }
    const delivered = this.#tables.find(({ name }) => name === DELIVERED);
    const root = roots.get(DELIVERED);
    if (delivered !== undefined && root !== undefined && !this.cutShort)
      this.#takeAll(new TableRows(damaged).below(root), delivered);
    this.#commit(false);
    this.#keepBootNumbers();
  }

  #takeAll(rows: Iterable<Row>, table: Table): void {
    for (const row of rows) if (fits(row.values, table, true)) this.#take(row, table);
  }

  #take(row: Row, table: Table): void {
    const vital = VITAL.includes(table.name);
    if (!vital && !this.#hasRoomFor(row)) return;
    if (table.name === "ledger" && (this.lanes.has(row.rowid) || !isLedger(row, table))) return;
    if (table.name === "boot" && row.rowid > MAX_BOOT) return;
    const padded = table.columns.map((column, at) =>
      column.pk > 0 ? row.rowid : (row.values[at] ?? defaultOf(column)),
    );
    if (!this.#insert(padded, table, vital)) return;
    if (vital) this.#commit(true);
    if (table.name === "ledger") this.lanes.add(row.rowid);
    if (table.name === "block" && row.doubtful && this.doubtful.size < MAX_DOUBTFUL) this.doubtful.add(row.rowid);
    const boot = Number(padded[table.boot] ?? 0);
    if (boot <= MAX_BOOT) this.#highestBoot = Math.max(this.#highestBoot, boot);
  }

  #hasRoomFor({ values }: Row): boolean {
    if (this.cutShort) return false;
    if (this.#bytes >= LOOK_EVERY_BYTES) {
      this.#commit(false);
      this.#bytes = 0;
      this.cutShort ||= this.#isNearlyFull();
    }
    for (const value of values) this.#bytes += typeof value === "number" ? 8 : (value?.length ?? 0);
    return !this.cutShort;
  }

  #insert(values: readonly Value[], { insert }: Table, vital: boolean): boolean {
    try {
      if (!this.#db.inTransaction) this.#db.exec("BEGIN");
      return insert.run(values).changes > 0;
    } catch (fault) {
      if (codeOf(fault)?.startsWith("SQLITE_IOERR")) throw fault;
      if (isFull(fault)) this.#endEarly(fault, vital);
      return false; // Or the table itself refuses it.
    }
  }

  /** What comes after it, and may meet a full disk, takes nothing of what came before with it. */
  #commit(vital: boolean): void {
    try {
      if (this.#db.inTransaction) this.#db.exec("COMMIT");
    } catch (fault) {
      if (!isFull(fault)) throw fault;
      this.#endEarly(fault, vital);
    }
  }

  #endEarly(fault: unknown, vital: boolean): void {
    if (vital) throw fault;
    this.cutShort = true;
    if (this.#db.inTransaction) this.#db.exec("ROLLBACK");
  }

  /** A boot whose row is lost, but which blocks name, keeps its number: the next boot would pass for it, and ages be wrong. */
  #keepBootNumbers(): void {
    this.#db
      .prepare(
        "INSERT INTO boot (id, boot_id) SELECT @id, 'lost-' || @id WHERE @id > (SELECT COALESCE(MAX(id), 0) FROM boot)",
      )
      .run({ id: this.#highestBoot });
  }
}

const isFull = (fault: unknown): boolean => codeOf(fault)?.startsWith("SQLITE_FULL") === true;

function tablesOf(db: Database.Database): Table[] {
  const names = db
    .prepare(
      "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type = 'table' AND wr = 0 AND name <> 'sqlite_schema'",
    )
    .pluck()
    .all() as string[];
  names.sort((a, b) => TABLES.indexOf(a) - TABLES.indexOf(b));
  return names.map((name) => {
    const columns = db.pragma(`table_info(${name})`) as Column[];
    const places = columns.map(() => "?").join(", ");
    // The migrations have put empty rows into the ledger; elsewhere what came first stays.
    const conflict = name === "ledger" ? "REPLACE" : "IGNORE";
    const insert = db.prepare(`INSERT OR ${conflict} INTO ${name} VALUES (${places})`);
    const boot = columns.findIndex((column) => column.name === "boot" || column.name === "delivered_boot");
    return { name, columns, insert, boot };
  });
}

/** Whether values could be a row of a table. One that was written before its last columns were added has fewer: `shorter`. */
function fits(values: readonly Value[], { columns }: Table, shorter: boolean): boolean {
  if (values.length > columns.length || (values.length < columns.length && !shorter)) return false;
  return columns.every(({ type, notnull, pk, dflt_value }, at) => {
    const value = values[at];
    if (value === undefined) return dflt_value !== null || notnull === 0;
    if (value === null) return pk > 0 || notnull === 0;
    if (pk > 0 && type === "INTEGER") return false;
    if (type === "INTEGER") return typeof value === "number" && Number.isInteger(value);
    if (type === "TEXT") return typeof value === "string";
    return type === "BLOB" ? typeof value === "object" : true;
  });
}

const FATES = ["pending", "delivered", "expired", "evicted", "thinned", "dead_lettered", "damaged"];

/** A ledger's row proves itself: it is a lane's, and its fates add up. */
function isLedger(row: Row, { columns }: Table): boolean {
  if (row.rowid < 0 || row.rowid >= LANES) return false;
  const numbers = new Map(columns.map(({ name }, at) => [name, Number(row.values[at] ?? 0)]));
  if ([...numbers.values()].some((value) => value < 0)) return false;
  return FATES.reduce((rest, fate) => rest - (numbers.get(fate) ?? 0), numbers.get("accepted") ?? 0) === 0;
}

/** The migrations' defaults are plain numbers and quoted texts. */
function defaultOf({ dflt_value: text }: Column): Value {
  if (text === null) return null;
  return text.startsWith("'") ? text.slice(1, -1) : Number(text);
}

function diskIsNearlyFull(file: string): boolean {
  const { bavail, blocks, bsize } = statfsSync(dirname(file));
  return bavail * bsize < Math.min(KEEP_FREE_BYTES, blocks * bsize * KEEP_FREE_SHARE);
}
