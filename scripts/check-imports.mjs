// Import direction and cycles: which room may import which, by DESIGN's rule that adapters import pure code, never one
// another. A type-only import crosses rooms freely (it leaves nothing behind at run time).
import { readdirSync, readFileSync, statSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const root = join(dirname(dirname(fileURLToPath(import.meta.url))), "src");

/** Room → rooms whose code it may use. `cli` and `gateway.ts` know all. */
const MAY_IMPORT = {
  kernel: [],
  codec: [],
  observation: [],
  config: ["kernel", "observation", "codec"],
  identity: ["kernel", "config"],
  outbox: ["kernel", "config", "observation"],
  uplink: ["kernel", "config", "observation"],
  sources: ["kernel", "config", "observation"],
  "sources/mqtt": ["kernel", "config", "codec", "observation", "identity", "sources"],
  "sources/serial": ["kernel", "config", "codec", "observation", "sources"],
  operations: ["kernel", "config", "observation"],
  simulator: ["kernel", "config", "codec", "observation", "identity"],
};
MAY_IMPORT["."] = [...Object.keys(MAY_IMPORT).filter((name) => name !== "simulator"), "cli"];
MAY_IMPORT.cli = [...Object.keys(MAY_IMPORT)];
/** Rooms without I/O, timers or a clock of their own, and the modules, pure as well, that they may use all the same. */
const PURE = { codec: ["cborg"], observation: ["node:crypto"] };

const sources = (folder) =>
  readdirSync(folder).flatMap((entry) => {
    const path = join(folder, entry);
    if (statSync(path).isDirectory()) return sources(path);
    return entry.endsWith(".ts") ? [path] : [];
  });

/** The innermost room that a file is in. */
const room = (path) => {
  for (let folder = relative(root, dirname(path)); folder !== ""; folder = folder.replace(/(^|\/)[^/]*$/, "")) {
    if (folder in MAY_IMPORT) return folder;
  }
  return ".";
};

const IMPORT =
  /(?:^|\n)\s*(?:import|export)\s+(type\s)?(?:[^"';]*?\sfrom\s+)?["']([^"']+)["']|import\(\s*["']([^"']+)["']/g;
const problems = [];
const graph = new Map();
for (const file of sources(root)) {
  const here = relative(root, file);
  const edges = [];
  for (const [, typeOnly, named, dynamic] of readFileSync(file, "utf8").matchAll(IMPORT)) {
    const specifier = named ?? dynamic;
    if (!specifier.startsWith(".")) {
      const pure = PURE[room(file)];
      if (pure !== undefined && !typeOnly && !pure.includes(specifier))
        problems.push(`${here} is in a pure room and imports ${specifier}`);
      continue;
    }
    const target = resolve(dirname(file), specifier);
    if (typeOnly) continue;
    if (named !== undefined) edges.push(target);
    if (room(target) !== room(file) && !MAY_IMPORT[room(file)]?.includes(room(target)))
      problems.push(`${here} may not import ${relative(root, target)}`);
  }
  graph.set(file, edges);
}

const done = new Set();
const walk = (file, trail) => {
  if (trail.includes(file)) {
    const cycle = [...trail.slice(trail.indexOf(file)), file];
    problems.push(`import cycle: ${cycle.map((path) => relative(root, path)).join(" → ")}`);
    return;
  }
  if (done.has(file)) return;
  for (const next of graph.get(file) ?? []) walk(next, [...trail, file]);
  done.add(file);
};
for (const file of graph.keys()) walk(file, []);

for (const problem of problems) console.error(problem);
if (problems.length > 0) process.exit(1);
console.log(`imports: ${graph.size} files, direction and cycles in order`);
