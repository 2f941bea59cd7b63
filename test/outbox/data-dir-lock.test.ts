import assert from "node:assert/strict";
import { statSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { DataDirLock } from "#src/outbox/data-dir-lock.js";
import { temporaryFolder } from "../support/temporary-folder.ts";

test("a dataDir that is made is nobody else's to look into or change, whatever the umask", (t) => {
  const parent = join(temporaryFolder(t), "var");
  const before = process.umask(0);
  t.after(() => process.umask(before));
  DataDirLock.acquire(join(parent, "summit-edge")).release();
  assert.equal(statSync(join(parent, "summit-edge")).mode & 0o777, 0o750);
  assert.equal(statSync(parent).mode & 0o777, 0o755);
});
