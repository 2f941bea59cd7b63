import { accessSync, constants, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { codeOf } from "#src/kernel/errors.js";

const MEMORY = "/dev/shm";

/** Folders into which a program that had not ended yet put another file while they were removed. */
const left = new Set<string>();
process.once("exit", () => {
  for (const folder of left) rmSync(folder, REMOVAL);
});

const REMOVAL = { recursive: true, force: true, maxRetries: 10 } as const;

/** An empty folder that goes when the test ends, or with the last test of its file where a program still writes into it. */
export function temporaryFolder(t: Pick<TestContext, "after">, within = tmpdir()): string {
  const folder = mkdtempSync(join(within, "summit-edge-test-"));
  t.after(() => {
    try {
      rmSync(folder, REMOVAL);
    } catch (thrown) {
      if (codeOf(thrown) !== "ENOTEMPTY") throw thrown;
      left.add(folder);
    }
  });
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
