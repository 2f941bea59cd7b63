// Compiles src/ to dist/ and test/ to dist/test/; what the compiler does not carry over (pages, styles) is copied beside it.
import { spawnSync } from "node:child_process";
import { chmodSync, cpSync, readdirSync, statSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const tsc = join(root, "node_modules", "typescript", "bin", "tsc");
const compiled = spawnSync(process.execPath, [tsc, "-b", "tsconfig.json", "test/tsconfig.json"], {
  cwd: root,
  stdio: "inherit",
});
if (compiled.status !== 0) process.exit(compiled.status ?? 1);

const ASSETS = /\.(html|css|svg|sql|js)$/;
function copyAssets(from, to) {
  for (const entry of readdirSync(from)) {
    const path = join(from, entry);
    if (statSync(path).isDirectory()) copyAssets(path, join(to, entry));
    else if (ASSETS.test(entry)) cpSync(path, join(to, entry));
  }
}
copyAssets(join(root, "src"), join(root, "dist"));
chmodSync(join(root, "dist", "main.js"), 0o755);
if (process.argv.includes("--verbose")) console.log(`built ${relative(process.cwd(), join(root, "dist")) || "dist"}`);
