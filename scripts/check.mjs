// The static checks: types, format and lint, import direction and cycles, time, supply chain.
import { spawnSync } from "node:child_process";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const node = process.execPath;
const STEPS = [
  ["types", [join(root, "scripts", "build.mjs")]],
  [
    "format and lint",
    [join(root, "node_modules", "@biomejs", "biome", "bin", "biome"), "ci", "--error-on-warnings", "."],
  ],
  ["imports", [join(root, "scripts", "check-imports.mjs")]],
  ["time", [join(root, "scripts", "check-time.mjs")]],
  ["supply chain", [join(root, "scripts", "supply-chain.mjs")]],
  ["licences", [join(root, "scripts", "licences.mjs"), "--check"]],
];
for (const [name, args] of STEPS) {
  const step = spawnSync(node, args, { cwd: root, stdio: "inherit" });
  if (step.status !== 0) {
    console.error(`check: ${name} failed`);
    process.exit(1);
  }
}
console.log("check: all in order");
