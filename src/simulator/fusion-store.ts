/**
 * What the reference fusion service has received: every reading once, by its id, and the counts of its side of the
 * books, committed together. One request is one transaction.
 */
import Database from "better-sqlite3";
import type { ReceivedObservation } from "./fusion-envelope.ts";

export interface Lane {
  readonly gateway: string;
  readonly priority: string;
  readonly readings: number;
  readonly highestSeq: number;
  /** Readings that came after one of a higher sequence number in the same lane; copies do not count. */
  readonly outOfOrder: number;
}

export interface FusionStats {
  /** Readings received, each counted once. */
  readonly unique: number;
  /** Copies of readings that were there already. */
  readonly duplicates: number;
  /** Refusals of single readings, each time one was refused. */
  readonly rejected: number;
  /** Batches that arrived, however they were answered. */
  readonly requests: number;
  /** Of `unique`, those that came in a batch that said `replayed`. */
  readonly replayed: number;
  /** Sum over all lanes. */
  readonly outOfOrder: number;
  /** Requests whose idempotency key had been used for another set of readings; must stay 0. */
  readonly keyConflicts: number;
  readonly byClass: Readonly<Record<string, number>>;
  readonly byPriority: Readonly<Record<string, number>>;
  readonly byGateway: Readonly<Record<string, number>>;
  readonly lanes: readonly Lane[];
  /** RFC 3339; of the newest reading. */
  readonly lastReceivedAt: string | null;
}

export interface Query {
  readonly limit: number;
  readonly id?: string;
  readonly class?: string;
  readonly source?: string;
  /** RFC 3339: received at this time or later. */
  readonly since?: string;
}

type Total = "duplicates" | "rejected" | "requests" | "replayed" | "keyConflicts";

const DEFAULT_PRIORITY = "normal";

/** A change of this asks for a new file: it is test data. */
const SCHEMA = `
  CREATE TABLE IF NOT EXISTS readings (
    n INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, class TEXT NOT NULL, source TEXT, received_at TEXT NOT NULL,
    body TEXT NOT NULL
  ) STRICT;
  CREATE TABLE IF NOT EXISTS totals (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS classes (name TEXT PRIMARY KEY, readings INTEGER NOT NULL) STRICT, WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS lanes (
    gateway TEXT, priority TEXT, readings INTEGER NOT NULL, highest_seq INTEGER NOT NULL,
    out_of_order INTEGER NOT NULL, PRIMARY KEY (gateway, priority)
  ) STRICT, WITHOUT ROWID;
`;

const LANES = "SELECT gateway, priority, readings, highest_seq AS highestSeq, out_of_order AS outOfOrder FROM lanes";

const SELECT = `
  SELECT body FROM readings
  WHERE (@id IS NULL OR id = @id) AND (@class IS NULL OR class = @class)
    AND (@source IS NULL OR source = @source) AND (@since IS NULL OR received_at >= @since)
  ORDER BY n DESC LIMIT @limit
`;

export class FusionStore {
  readonly #db: Database.Database;
  readonly #insert: Database.Statement;
  readonly #addTotal: Database.Statement;
  readonly #addClass: Database.Statement;
  readonly #lane: Database.Statement<[string, string], Lane>;
  readonly #putLane: Database.Statement;
  readonly #select: Database.Statement<unknown[], { body: string }>;
  readonly #find: Database.Statement;
  readonly #receive: Database.Transaction<FusionStore["receive"]>;

  /** Opens `file`, or keeps everything in memory with `:memory:`. Throws what SQLite throws. */
  constructor(file: string) {
    const db = new Database(file);
    this.#db = db;
    db.pragma("journal_mode = WAL");
    // A killed process loses nothing by this; a power cut may, and here that costs test data only. Not an example.
    db.pragma("synchronous = OFF");
    db.exec(SCHEMA);
    this.#insert = db.prepare(
      "INSERT INTO readings (id, class, source, received_at, body) VALUES (?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING",
    );
    this.#addTotal = db.prepare(
      "INSERT INTO totals VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = value + excluded.value",
    );
    this.#addClass = db.prepare(
      "INSERT INTO classes VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET readings = readings + excluded.readings",
    );
    this.#lane = db.prepare(`${LANES} WHERE gateway = ? AND priority = ?`);
    this.#putLane = db.prepare(
      "INSERT OR REPLACE INTO lanes VALUES (@gateway, @priority, @readings, @highestSeq, @outOfOrder)",
    );
    this.#select = db.prepare(SELECT);
    this.#find = db.prepare("SELECT 1 FROM readings WHERE id = ?");
    this.#receive = db.transaction((...args) => this.#take(...args));
  }

  /** Stores the readings that are new. `rejected` of the same request are only counted. */
  receive(
    readings: readonly ReceivedObservation[],
    request: { readonly replayed: boolean; readonly rejected: number; readonly receivedAt: string },
  ): { accepted: number; duplicates: number } {
    return this.#receive(readings, request);
  }

  count(total: Total, by = 1): void {
    if (by > 0) this.#addTotal.run(total, by);
  }

  has(id: string): boolean {
    return this.#find.get(id.toLowerCase()) !== undefined;
  }

  /** The readings asked for as they arrived, the newest first. */
  find(query: Query): unknown[] {
    const { limit, id, class: wanted, source, since } = query;
    const rows = this.#select.all({
      limit,
      id: id?.toLowerCase() ?? null,
      class: wanted ?? null,
      source: source ?? null,
      since: since === undefined ? null : new Date(since).toISOString(),
    });
    return rows.map((row) => JSON.parse(row.body));
  }

  stats(): FusionStats {
    const lanes = this.#rows<Lane>(LANES);
    const totals = new Map(
      this.#rows<{ name: Total; value: number }>("SELECT name, value FROM totals").map((row) => [row.name, row.value]),
    );
    const last = this.#rows<{ at: string }>("SELECT received_at AS at FROM readings ORDER BY n DESC LIMIT 1")[0];
    const classes = this.#rows<{ name: string; readings: number }>("SELECT name, readings FROM classes");
    return {
      unique: lanes.reduce((sum, lane) => sum + lane.readings, 0),
      duplicates: totals.get("duplicates") ?? 0,
      rejected: totals.get("rejected") ?? 0,
      requests: totals.get("requests") ?? 0,
      replayed: totals.get("replayed") ?? 0,
      outOfOrder: lanes.reduce((sum, lane) => sum + lane.outOfOrder, 0),
      keyConflicts: totals.get("keyConflicts") ?? 0,
      byClass: Object.fromEntries(classes.map((row) => [row.name, row.readings])),
      byPriority: sumBy(lanes, (lane) => lane.priority),
      byGateway: sumBy(lanes, (lane) => lane.gateway),
      lanes,
      lastReceivedAt: last?.at ?? null,
    };
  }

  close(): void {
    this.#db.close();
  }

  #take(
    readings: readonly ReceivedObservation[],
    request: { readonly replayed: boolean; readonly rejected: number; readonly receivedAt: string },
  ): { accepted: number; duplicates: number } {
    const classes = new Map<string, number>();
    const lanes = new Map<string, Lane>();
    let accepted = 0;
    for (const reading of readings) {
      const { id, class: name, source, priority = DEFAULT_PRIORITY, gateway } = reading;
      const body = JSON.stringify(reading);
      if (this.#insert.run(id.toLowerCase(), name, source ?? null, request.receivedAt, body).changes === 0) continue;
      accepted++;
      classes.set(name, (classes.get(name) ?? 0) + 1);
      const key = `${priority} ${gateway.id}`;
      const lane = lanes.get(key) ?? this.#lane.get(gateway.id, priority) ?? emptyLane(gateway.id, priority);
      lanes.set(key, withArrival(lane, gateway.seq));
    }
    for (const [name, count] of classes) this.#addClass.run(name, count);
    for (const lane of lanes.values()) this.#putLane.run(lane);
    const duplicates = readings.length - accepted;
    this.count("duplicates", duplicates);
    this.count("rejected", request.rejected);
    if (request.replayed) this.count("replayed", accepted);
    return { accepted, duplicates };
  }

  #rows<Row>(sql: string): Row[] {
    return this.#db.prepare<unknown[], Row>(sql).all();
  }
}

function emptyLane(gateway: string, priority: string): Lane {
  return { gateway, priority, readings: 0, highestSeq: 0, outOfOrder: 0 };
}

function withArrival(lane: Lane, seq: number): Lane {
  return {
    ...lane,
    readings: lane.readings + 1,
    highestSeq: Math.max(lane.highestSeq, seq),
    outOfOrder: lane.outOfOrder + (seq < lane.highestSeq ? 1 : 0),
  };
}

function sumBy(lanes: readonly Lane[], key: (lane: Lane) => string): Record<string, number> {
  const sums = new Map<string, number>();
  for (const lane of lanes) sums.set(key(lane), (sums.get(key(lane)) ?? 0) + lane.readings);
  return Object.fromEntries(sums);
}
