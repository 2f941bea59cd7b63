/**
 * One program at a time per dataDir. The lock is SQLite's own exclusive lock on an empty file: the kernel lets go of it
 * when the process ends, however it ends, so nothing stale is ever left behind.
 */
import { existsSync, mkdirSync } from "node:fs";
import { dirname, join } from "node:path";
import Database from "better-sqlite3";
import { codeOf, GatewayError, messageOf } from "../kernel/errors.ts";

export class DataDirLock {
  readonly #db: Database.Database;

  private constructor(db: Database.Database) {
    this.#db = db;
  }

  /**
   * Takes the lock, making the folder where it is missing.
   * @throws GatewayError DATA_DIR_LOCKED where another program holds it, DATA_DIR_UNUSABLE where it cannot be written.
   */
  static acquire(dataDir: string): DataDirLock {
    let db: Database.Database | undefined;
    try {
      makeFolder(dataDir);
      db = new Database(join(dataDir, "lock"), { timeout: 0 });
      // A journal on the disk would be a file that a full disk has no space for.
      db.pragma("journal_mode = MEMORY");
      db.exec("BEGIN EXCLUSIVE");
      return new DataDirLock(db);
    } catch (fault) {
      db?.close();
      throw codeOf(fault)?.startsWith("SQLITE_BUSY") ? locked(dataDir) : unusable(dataDir, fault);
    }
  }

  release(): void {
    this.#db.close();
  }
}

/** Level by level: where a file system refuses new folders (as /proc does), `mkdir` with `recursive` never returns. */
function makeFolder(path: string): void {
  if (existsSync(path)) return;
  makeFolder(dirname(path));
  mkdirSync(path);
}

function locked(dataDir: string): GatewayError {
  return new GatewayError({
    code: "DATA_DIR_LOCKED",
    op: "outbox.lock",
    message: `another Summit Edge is using ${dataDir}`,
    hint: "stop that one first (systemctl stop summit-edge), or give this one a gateway.dataDir of its own",
  });
}

function unusable(dataDir: string, fault: unknown): GatewayError {
  return new GatewayError({
    code: "DATA_DIR_UNUSABLE",
    op: "outbox.lock",
    message: `cannot use ${dataDir}: ${messageOf(fault)}`,
    hint: "check that gateway.dataDir can be made and written by the daemon's user, that it is this user who asks (or root), and that the disk is not full",
    cause: fault,
  });
}
