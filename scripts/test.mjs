// Runs every compiled test, or those whose path contains one of the arguments: `npm test -- outbox uplink`.
import { spawnSync } from "node:child_process";
import { readdirSync, rmSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const wanted = process.argv.slice(2);

// A compiled test whose source is gone would go on passing.
function compiledTests(folder) {
  return readdirSync(folder).flatMap((entry) => {
    const path = join(folder, entry);
    if (statSync(path).isDirectory()) return compiledTests(path);
    if (!entry.endsWith(".test.js")) return [];
    const source = join(root, "test", path.slice(join(root, "dist", "test").length + 1)).replace(/\.js$/, ".ts");
    if (statSync(source, { throwIfNoEntry: false }) === undefined) {
      rmSync(path);
      return [];
    }
    return [path];
  });
}

const files = compiledTests(join(root, "dist", "test")).filter(
  (file) => wanted.length === 0 || wanted.some((part) => file.slice(root.length).includes(part)),
);
if (files.length === 0) {
  console.error(`no test matches ${wanted.join(" ")}`);
  process.exit(1);
}
const concurrency = process.env.TEST_CONCURRENCY ?? "2";
const run = spawnSync(
  process.execPath,
  [
    "--test",
    `--test-concurrency=${concurrency}`,
    "--test-timeout=300000",
    ...["spec", join(root, "scripts", "slowest-files.mjs")].flatMap((reporter) => [
      `--test-reporter=${reporter}`,
      "--test-reporter-destination=stdout",
    ]),
    ...files,
  ],
  {
    cwd: root,
    stdio: "inherit",
  },
);
process.exit(run.status ?? 1);
