import assert from "node:assert/strict";
import { cpSync, existsSync } from "node:fs";
import { join } from "node:path";
import type { TestContext } from "node:test";
import Database from "better-sqlite3";
import { temporaryFolder } from "./temporary-folder.ts";

/** SQLite's own opinion of what a crash has left; of a copy, so that the daemon meets the original untouched. */
export function assertSound(t: Pick<TestContext, "after">, dataDir: string, when: string): void {
  const folder = temporaryFolder(t);
  for (const name of ["outbox.db", "outbox.db-journal", "outbox.db-wal"]) {
    if (existsSync(join(dataDir, name))) cpSync(join(dataDir, name), join(folder, name));
  }
  const db = new Database(join(folder, "outbox.db"));
  assert.equal(db.pragma("quick_check", { simple: true }), "ok", `quick_check ${when}`);
  db.close();
}
