/**
 * The outbox's schema, step by step: step n brings `user_version` from n to n + 1. Steps that have been released are never
 * edited; a new one is added.
 *
 * A block's `key` is its place: band × 2^48 + the first sequence number, so that the table itself is in the order in which
 * readings are sent and needs no index (each index costs another page written per commit). Bands are named in
 * `rows.ts`. The last sequence number given away stands in the ledger, which every commit writes anyway: a table of its own would be
 * another page. `block.body` stands last, so that reading the columns before it touches no overflow page.
 */
export const MIGRATIONS: readonly string[] = [
  `CREATE TABLE meta (name TEXT PRIMARY KEY, value ANY) STRICT, WITHOUT ROWID;

   CREATE TABLE boot (id INTEGER PRIMARY KEY, boot_id TEXT NOT NULL UNIQUE) STRICT;

   CREATE TABLE ledger (
     lane INTEGER PRIMARY KEY,
     accepted INTEGER NOT NULL DEFAULT 0,
     pending INTEGER NOT NULL DEFAULT 0,
     delivered INTEGER NOT NULL DEFAULT 0,
     expired INTEGER NOT NULL DEFAULT 0,
     evicted INTEGER NOT NULL DEFAULT 0,
     thinned INTEGER NOT NULL DEFAULT 0,
     dead_lettered INTEGER NOT NULL DEFAULT 0,
     damaged INTEGER NOT NULL DEFAULT 0,
     duplicates INTEGER NOT NULL DEFAULT 0,
     last_seq INTEGER NOT NULL DEFAULT 0
   ) STRICT;
   INSERT INTO ledger (lane) VALUES (0), (1), (2), (3);

   CREATE TABLE block (
     key INTEGER PRIMARY KEY,
     last_seq INTEGER NOT NULL,
     count INTEGER NOT NULL,
     sequence TEXT,
     observed_from INTEGER NOT NULL,
     observed_to INTEGER NOT NULL,
     accepted_at INTEGER NOT NULL,
     accepted_monotonic INTEGER NOT NULL,
     boot INTEGER NOT NULL,
     clock TEXT NOT NULL,
     raw_bytes INTEGER NOT NULL,
     raw_crc INTEGER NOT NULL,
     row_crc INTEGER NOT NULL,
     body BLOB NOT NULL
   ) STRICT;

   CREATE TABLE dead_letter (
     seq INTEGER PRIMARY KEY,
     id TEXT NOT NULL,
     lane INTEGER NOT NULL,
     code TEXT NOT NULL,
     detail TEXT NOT NULL,
     problem TEXT,
     refused_at INTEGER NOT NULL,
     reading TEXT NOT NULL
   ) STRICT;
   CREATE INDEX dead_letter_id ON dead_letter (id);

   CREATE TABLE damaged_block (
     key INTEGER PRIMARY KEY,
     count INTEGER NOT NULL,
     found_at INTEGER NOT NULL,
     detail TEXT NOT NULL,
     body BLOB NOT NULL
   ) STRICT;`,
  // Wall time less monotonic time at the boot's first synchronisation, ms: what provisional readings are restamped by.
  "ALTER TABLE boot ADD COLUMN clock_offset INTEGER;",

  // Ages across boots: see age-clock.ts. Old boots were not watched; they end where they began.
  `ALTER TABLE boot ADD COLUMN base INTEGER NOT NULL DEFAULT 0;
   ALTER TABLE boot ADD COLUMN seen_monotonic INTEGER NOT NULL DEFAULT 0;
   ALTER TABLE boot ADD COLUMN seen_wall INTEGER NOT NULL DEFAULT 0;
   ALTER TABLE boot ADD COLUMN seen_synchronised INTEGER NOT NULL DEFAULT 0;
   ALTER TABLE boot ADD COLUMN off_counted INTEGER NOT NULL DEFAULT 0;`,

  `CREATE TABLE kept_block (
     id INTEGER PRIMARY KEY,
     delivered_at INTEGER NOT NULL,
     delivered_monotonic INTEGER NOT NULL,
     delivered_boot INTEGER NOT NULL,
     delivered_clock TEXT NOT NULL,
     lane INTEGER NOT NULL,
     first_seq INTEGER NOT NULL,
     last_seq INTEGER NOT NULL,
     count INTEGER NOT NULL,
     sequence TEXT,
     observed_from INTEGER NOT NULL,
     observed_to INTEGER NOT NULL,
     raw_bytes INTEGER NOT NULL,
     raw_crc INTEGER NOT NULL,
     body BLOB NOT NULL
   ) STRICT;`,
];
