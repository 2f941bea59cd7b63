import assert from "node:assert/strict";
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { TestContext } from "node:test";

const DIST = new URL("../../", import.meta.url).pathname;

/**
 * A copy of the compiled program with one protection removed: the control that shows that a test can fail. `from` must
 * stand in the file exactly once, so that a control whose protection has moved says so.
 */
export function mutant(t: Pick<TestContext, "after">, file: string, from: string, to: string): string {
  const folder = mkdtempSync(join(DIST, "..", "dist", "mutant-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  cpSync(DIST, folder, { recursive: true, filter: (path) => !/\/dist\/(test|mutant-)/.test(path) });
  cpSync(join(DIST, "..", "package.json"), join(folder, "package.json"));
  const path = join(folder, file);
  const text = readFileSync(path, "utf8");
  assert.equal(text.split(from).length, 2, `the protection to remove stands exactly once in ${file}`);
  writeFileSync(path, text.replace(from, to));
  return folder;
}
