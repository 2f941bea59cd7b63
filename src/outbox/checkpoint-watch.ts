import { statSync } from "node:fs";
import type Database from "better-sqlite3";

/**
 * SQLite checkpoints by itself after a commit, and keeps to itself what goes wrong there: nothing is lost, since the log
 * is kept until a checkpoint has succeeded, but the log grows and nobody is told of a card that fails. A log that grows
 * beyond its bound says so: then the checkpoint is asked for once more, and this time its error is thrown.
 */
export class CheckpointWatch {
  readonly #db: Database.Database;
  readonly #log: string;
  readonly #bound: number;
  #seen = 0;

  /** `bound` in bytes: what the log stays below while checkpoints succeed and no reader holds them up. */
  constructor(db: Database.Database, log: string, bound: number) {
    this.#db = db;
    this.#log = log;
    this.#bound = bound;
  }

  /** To be called after each commit. @throws SQLite's own error where a checkpoint meets one. */
  look(): void {
    const bytes = statSync(this.#log, { throwIfNoEntry: false })?.size ?? 0;
    // The log is reused in place and keeps its length: only growth says that there was no room at its beginning.
    if (bytes > this.#bound && bytes > this.#seen) this.#db.pragma("wal_checkpoint(PASSIVE)");
    this.#seen = bytes;
  }
}
