/** How the outbox's file is set up when it is opened: what makes it durable, and its schema's steps. */
import type Database from "better-sqlite3";
import { GatewayError } from "../kernel/errors.ts";
import { MIGRATIONS } from "./migrations.ts";
import { PAGE_BYTES, type Sizes } from "./sizes.ts";

/** Pages in memory: some commits' worth. What waits is read once, and need not be remembered. */
const CACHE_KIB = 4096;
const SYNCHRONOUS_FULL = 2;

/** Sets a writing connection up, and reads back what durability depends on. @throws GatewayError OUTBOX_NOT_DURABLE */
export function configure(db: Database.Database, sizes: Sizes): void {
  db.pragma(`page_size = ${PAGE_BYTES}`);
  // Read back in a statement of its own: the one that sets it answers "wal" before its own commit, which may fail yet.
  db.pragma("journal_mode = WAL");
  const journal = db.pragma("journal_mode", { simple: true });
  db.pragma("synchronous = FULL");
  const synchronous = db.pragma("synchronous", { simple: true });
  if (journal !== "wal" || synchronous !== SYNCHRONOUS_FULL) {
    throw new GatewayError({
      code: "OUTBOX_NOT_DURABLE",
      op: "outbox.open",
      message: `the outbox cannot be made durable (journal_mode ${journal}, synchronous ${synchronous})`,
      hint: "put gateway.dataDir on a local file system that SQLite's WAL mode works on",
    });
  }
  db.pragma("wal_autocheckpoint = 0");
  db.pragma(`journal_size_limit = ${sizes.walBytes}`);
  db.pragma("mmap_size = 0");
  db.pragma(`cache_size = -${CACHE_KIB}`);
  db.pragma("temp_store = MEMORY");
}

/** Brings the schema up to date, step by step. @throws GatewayError OUTBOX_TOO_NEW */
export function migrate(db: Database.Database): void {
  const version = db.pragma("user_version", { simple: true }) as number;
  if (version > MIGRATIONS.length) throw tooNew(version);
  for (let step = version; step < MIGRATIONS.length; step++) {
    db.transaction(() => {
      db.exec(MIGRATIONS[step] ?? "");
      db.pragma(`user_version = ${step + 1}`);
    })();
  }
}

/** A file that is only looked at is not brought up to date. @throws GatewayError OUTBOX_TOO_OLD, OUTBOX_TOO_NEW */
export function mustBeCurrent(db: Database.Database): void {
  const version = db.pragma("user_version", { simple: true }) as number;
  if (version > MIGRATIONS.length) throw tooNew(version);
  if (version === MIGRATIONS.length) return;
  throw new GatewayError({
    code: "OUTBOX_TOO_OLD",
    op: "outbox.open",
    message: `the outbox has schema version ${version}, this program looks into version ${MIGRATIONS.length} only`,
    hint: "Start the daemon once, or restore the file: both bring it up to date.",
  });
}

function tooNew(version: number): GatewayError {
  return new GatewayError({
    code: "OUTBOX_TOO_NEW",
    op: "outbox.open",
    message: `the outbox has schema version ${version}, this program knows versions up to ${MIGRATIONS.length}`,
    hint: "start the newer version of Summit Edge that wrote it, or choose another outbox.file",
  });
}
