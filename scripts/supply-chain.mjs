// What comes with the program that others have written: licences, install scripts, reasons, and versions with known flaws.
import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));

/** SPDX ids that ask for no more than to be named. */
export const PERMISSIVE = new Set([
  "0BSD",
  "Apache-2.0",
  "BSD-2-Clause",
  "BSD-3-Clause",
  "BlueOak-1.0.0",
  "CC0-1.0",
  "ISC",
  "MIT",
  "MIT-0",
  "Python-2.0",
  "Unlicense",
  "Zlib",
]);

/** Versions below these, or from `below` on, have flaws that were met in the field or that advisories tell of. */
export const ADVISORIES = [
  {
    name: "aedes",
    least: "1.2.0",
    below: "2.0.0-0",
    why: "QoS 2 and prototype-name flaws; 2.0.0-beta.1 dies on a repeated PUBREL",
  },
  { name: "aedes-persistence", least: "11.0.0", why: "QoS 2 and prototype-name flaws" },
  { name: "better-sqlite3", least: "12.8.0", why: "its SQLite has the fix of the WAL reset" },
  { name: "node-forge", least: "1.4.0", why: "GHSA-2328-f5f3-gj25: any leaf certificate is accepted as an authority" },
];

/** The lock file's packages that are installed with the program, each with the name by which it is imported. */
export function productionPackages(lock) {
  return Object.entries(lock.packages)
    .filter(([path, entry]) => path !== "" && entry.dev !== true && entry.link !== true)
    .map(([path, entry]) => ({
      ...entry,
      path,
      name: path.slice(path.lastIndexOf("node_modules/") + "node_modules/".length),
    }));
}

/** Whether one may choose a permissive licence. `A AND B`: all of them, `A OR B`: any. */
export function isPermissive(expression) {
  if (typeof expression !== "string" || expression === "") return false;
  const bare = expression.replace(/[()]/g, " ").trim();
  // No licence in use mixes both in a way that the parentheses would matter for; one that does is looked at by hand.
  if (/\bAND\b/.test(bare) && /\bOR\b/.test(bare)) return false;
  if (/\bAND\b/.test(bare)) return bare.split(/\s+AND\s+/).every((id) => PERMISSIVE.has(id.trim()));
  return bare.split(/\s+OR\s+/).some((id) => PERMISSIVE.has(id.trim()));
}

/** The licence that a package states itself; the lock file's word where it is not installed. */
export function licenceOf(entry, folder = root) {
  const file = join(folder, entry.path, "package.json");
  const stated = existsSync(file) ? JSON.parse(readFileSync(file, "utf8")).license : undefined;
  return (typeof stated === "object" ? stated?.type : stated) ?? entry.license;
}

export function licenceProblems(lock, folder = root) {
  return productionPackages(lock)
    .filter((entry) => !isPermissive(licenceOf(entry, folder)))
    .map(
      (entry) => `${entry.name} ${entry.version}: licence ${licenceOf(entry, folder) ?? "unknown"} is not on the list`,
    );
}

/** Packages that run a script at installation, and those that package.json lets (npm reads `allowScripts` from version 11.16 on). */
export function scriptProblems(lock, manifest) {
  const entries = Object.entries(lock.packages).filter(
    ([path, entry]) => path !== "" && entry.hasInstallScript === true,
  );
  const names = new Set(
    entries.map(([path]) => path.slice(path.lastIndexOf("node_modules/") + "node_modules/".length)),
  );
  const allowed = manifest.allowScripts ?? {};
  return [
    ...[...names]
      .filter((name) => !(name in allowed))
      .map((name) => `${name} runs an install script, and nobody has looked at it`),
    ...Object.keys(allowed)
      .filter((name) => !names.has(name))
      .map((name) => `${name} is in allowScripts and runs no install script`),
  ];
}

const ROW = /^\|\s*`([^`]+)`[^|]*\|\s*([^|]*?)\s*\|/gm;

/** Each production dependency has a line in docs/dependencies.md that says why, and no line is left over. */
export function reasonProblems(manifest, text) {
  const reasons = new Map([...text.matchAll(ROW)].map(([, name, why]) => [name, why]));
  const wanted = Object.keys(manifest.dependencies);
  return [
    ...wanted
      .filter((name) => !reasons.has(name))
      .map((name) => `${name} has no line in docs/dependencies.md that says why it is there`),
    ...wanted
      .filter((name) => reasons.get(name) === "")
      .map((name) => `${name} has an empty line in docs/dependencies.md`),
    ...[...reasons.keys()]
      .filter((name) => !wanted.includes(name))
      .map((name) => `docs/dependencies.md tells of ${name}, which is not a dependency`),
  ];
}

/** What is installed, and what package.json would let in. */
export function advisoryProblems(lock, manifest) {
  return ADVISORIES.flatMap(({ name, least, below, why }) => {
    const isBad = (version) => compare(version, least) < 0 || (below !== undefined && compare(version, below) >= 0);
    const installed = productionPackages(lock)
      .filter((entry) => entry.name === name && isBad(entry.version))
      .map(({ path, version }) => `${path} is ${version}: ${why}`);
    const range = manifest.dependencies?.[name] ?? manifest.overrides?.[name];
    const isThere = productionPackages(lock).some((entry) => entry.name === name);
    if (range === undefined)
      return isThere ? [...installed, `${name} has no minimum version in package.json: ${why}`] : installed;
    const lowest = /^[\^~]?(\d+\.\d+\.\d+)$/.exec(range)?.[1];
    const letsIn = lowest === undefined || isBad(lowest);
    return letsIn ? [...installed, `package.json lets in ${name} ${range}, below ${least}: ${why}`] : installed;
  });
}

/** By semantic versioning; a version before its release comes before it. */
function compare(one, other) {
  const [a, b] = [one, other].map((version) => {
    const [numbers, ...rest] = version.split("-");
    return [...numbers.split(".").map(Number), rest.length === 0 ? 1 : 0];
  });
  for (const [index, number] of a.entries()) if (number !== b[index]) return number - b[index];
  return 0;
}

function main() {
  const read = (name) => readFileSync(join(root, name), "utf8");
  const lock = JSON.parse(read("package-lock.json"));
  const manifest = JSON.parse(read("package.json"));
  const problems = [
    ...licenceProblems(lock),
    ...scriptProblems(lock, manifest),
    ...reasonProblems(manifest, read(join("docs", "dependencies.md"))),
    ...advisoryProblems(lock, manifest),
  ];
  for (const problem of problems) console.error(problem);
  if (problems.length > 0) process.exit(1);
  console.log(
    `supply chain: ${productionPackages(lock).length} packages, licences, scripts, reasons and versions in order`,
  );
}

if (process.argv[1] === fileURLToPath(import.meta.url)) main();
