/** Root looks after a gateway that runs as a user of its own: what its commands make is that user's to go on with. */
import assert from "node:assert/strict";
import { chownSync, lstatSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { backup, restore } from "#src/outbox/backup.js";
import { DataDirLock } from "#src/outbox/data-dir-lock.js";
import { writeState } from "#src/outbox/file-state.js";
import { fill } from "../support/damage.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

const skip = process.getuid?.() === 0 ? false : "wants root";
const DAEMON = 65534;

test("an outbox that root restores, and its lock, are the daemon's", { skip }, async (t) => {
  const { folder } = await fill(temporaryFolder(t), 60);
  const copy = join(folder, "copy.db");
  backup(join(folder, "outbox.db"), copy, { inUse: false, overwrite: false });
  const dataDir = temporaryFolder(t);
  chownSync(dataDir, DAEMON, DAEMON);
  const lock = DataDirLock.acquire(dataDir);
  restore(copy, { file: join(dataDir, "outbox.db"), maxBytes: 2 ** 30, bootId: "boot" });
  lock.release();
  const names = readdirSync(dataDir).sort();
  assert.ok(names.includes("lock") && names.includes("outbox.db"), names.join());
  for (const name of names) assert.equal(lstatSync(join(dataDir, name)).uid, DAEMON, name);
});

test("a link in the daemon's folder leads nothing that root writes elsewhere", (t) => {
  const folder = temporaryFolder(t);
  const precious = join(temporaryFolder(t), "precious");
  writeFileSync(precious, "as it was");
  symlinkSync(precious, join(folder, "outbox.db.state.partial"));
  assert.throws(() => writeState(join(folder, "outbox.db"), { state: "open" }), { code: "ELOOP" });
  assert.equal(readFileSync(precious, "utf8"), "as it was");
});
