// Text that is generated and kept in the repository: printed, written (--write), or compared (--check).
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { relative } from "node:path";

/** `text` is the generated part; `insert` makes the whole file of it and of what the file holds now. */
export function generated(file, text, insert = () => text) {
  const [, , mode] = process.argv;
  if (mode === undefined) {
    process.stdout.write(text);
    return;
  }
  const now = existsSync(file) ? readFileSync(file, "utf8") : "";
  const wanted = insert(now);
  if (mode === "--write") writeFileSync(file, wanted);
  else if (mode !== "--check") throw new Error(`unknown option ${mode}: --write or --check`);
  else if (now !== wanted) {
    console.error(`${relative(process.cwd(), file)} is not what the schema says: run this script with --write`);
    process.exitCode = 1;
  }
}
