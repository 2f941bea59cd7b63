import assert from "node:assert/strict";
import { chmodSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { FileLock } from "#src/kernel/file-lock.js";
import { temporaryFolder } from "../support/temporary-folder.ts";

test("a lock is one program's at a time, and its file stays empty", (t) => {
  const path = join(temporaryFolder(t), "lock");
  const first = FileLock.tryAcquire(path);
  assert.ok(first);
  assert.equal(FileLock.tryAcquire(path), undefined);
  first.release();
  FileLock.tryAcquire(path)?.release();
  assert.equal(statSync(path).size, 0);
});

test("a file that may only be read gives no lock: two would have it", (t) => {
  const folder = temporaryFolder(t);
  const path = join(folder, "lock");
  writeFileSync(path, "");
  chmodSync(path, 0o444);
  // Root may write everything.
  const asRoot = process.getuid?.() === 0;
  chmodSync(folder, 0o755);
  if (asRoot) process.seteuid?.(65534);
  try {
    assert.throws(() => FileLock.tryAcquire(path), { code: /^SQLITE_READONLY/ });
  } finally {
    if (asRoot) process.seteuid?.(0);
  }
});
