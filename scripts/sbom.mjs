// What the program consists of, as CycloneDX JSON, in a file: `npm run sbom -- FILE`; or on standard output: `npm run --silent sbom`,
// for npm says there what it runs unless it is told not to.
// From the lock file alone: nothing is downloaded, and nothing need be installed.
import { spawnSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const { name, version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
const args = ["sbom", "--sbom-format=cyclonedx", "--sbom-type=application", "--omit=dev", "--package-lock-only"];
const made = spawnSync("npm", args, { cwd: root, encoding: "utf8", maxBuffer: 64 * 1024 * 1024 });
if (made.status !== 0) {
  process.stderr.write(made.stderr || `npm cannot be run: ${made.error?.message}\n`);
  process.exit(1);
}
const bom = JSON.parse(made.stdout);
// npm takes the name from the folder.
Object.assign(bom.metadata.component, { name, version });
const text = `${JSON.stringify(bom, undefined, 2)}\n`;
const [file] = process.argv.slice(2);
if (file === undefined) process.stdout.write(text);
else {
  writeFileSync(file, text);
  console.error(`${bom.components.length} components are in ${file}`);
}
