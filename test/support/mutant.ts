import assert from "node:assert/strict";
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { TestContext } from "node:test";

const DIST = new URL("../../", import.meta.url).pathname;

/**
 * A copy of the compiled program with one protection removed: the control that shows that a test can fail. `from` must
 * stand in the file exactly once, so that a control whose protection has moved says so.
 */
export function mutant(t: Pick<TestContext, "after">, file: string, from: string, to: string): string {
  return mutantWith(t, file, [[from, to]]);
}

/** The same with several changes in one file, each `[from, to]`: for a protection that guards itself. */
export function mutantWith(
  t: Pick<TestContext, "after">,
  file: string,
  changes: readonly (readonly [from: string, to: string])[],
): string {
  const folder = mkdtempSync(join(DIST, "mutant-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const dist = join(folder, "dist");
  for (const entry of readdirSync(DIST)) {
    if (entry === "test" || entry.startsWith("mutant-")) continue;
    cpSync(join(DIST, entry), join(dist, entry), { recursive: true });
  }
  cpSync(join(DIST, "..", "package.json"), join(folder, "package.json"));
  const path = join(dist, file);
  let text = readFileSync(path, "utf8");
  for (const [from, to] of changes) {
    assert.equal(text.split(from).length, 2, `the protection to remove stands exactly once in ${file}`);
    text = text.replace(from, to);
  }
  writeFileSync(path, text);
  return dist;
}
