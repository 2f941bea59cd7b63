/**
 * A lock between processes: SQLite's own exclusive lock on an empty file. The kernel lets go of it when the process ends,
 * however it ends, so nothing stale is ever left behind.
 */
import Database from "better-sqlite3";
import { codeOf } from "./errors.ts";

export class FileLock {
  readonly #db: Database.Database;

  private constructor(db: Database.Database) {
    this.#db = db;
  }

  /** Takes the lock, making its file where it is missing; `undefined` where somebody else holds it. @throws SQLite's errors */
  static tryAcquire(path: string): FileLock | undefined {
    let db: Database.Database | undefined;
    try {
      db = new Database(path, { timeout: 0 });
      // A journal on the disk would be a file that a full disk has no space for.
      db.pragma("journal_mode = MEMORY");
      // A file that may only be read is opened as well, and a lock on that keeps nobody out: writing to it, which is never
      // committed, finds out.
      db.exec("BEGIN EXCLUSIVE; CREATE TABLE held (by)");
      return new FileLock(db);
    } catch (fault) {
      db?.close();
      if (codeOf(fault)?.startsWith("SQLITE_BUSY")) return undefined;
      throw fault;
    }
  }

  release(): void {
    this.#db.close();
  }
}
