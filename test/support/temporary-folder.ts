import { accessSync, constants, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestContext } from "node:test";

const MEMORY = "/dev/shm";

/** An empty folder that goes when the test ends. */
export function temporaryFolder(t: Pick<TestContext, "after">, within = tmpdir()): string {
  const folder = mkdtempSync(join(within, "summit-edge-test-"));
  // Again where a program that has not ended yet puts another file in.
  t.after(() => rmSync(folder, { recursive: true, force: true, maxRetries: 10 }));
  return folder;
}

/** One in memory, where that can be had: for what is written and synced much, and need not survive the machine. */
export function folderInMemory(t: Pick<TestContext, "after">): string {
  try {
    accessSync(MEMORY, constants.W_OK);
  } catch {
    return temporaryFolder(t);
  }
  return temporaryFolder(t, MEMORY);
}
