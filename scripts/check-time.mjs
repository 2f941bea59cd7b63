// Time is handed in (`Clock`): nothing in src reads a clock or sets a timer of its own, because a wait that is measured by wall
// time ends thirty days late when the clock is set back. This refuses what Node.js offers for it, and wall time in arithmetic.
import { readdirSync, readFileSync, statSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";

const root = join(dirname(dirname(fileURLToPath(import.meta.url))), "src");

const CLOCK = "take the time from the Clock that is handed in (src/kernel/clock.ts)";
const TIMER = "wait with the Clock that is handed in: `after` or `sleep`";
/** What is refused: a name, a pattern, and what to do instead. */
export const RULES = [
  ["Date.now", /\bDate\s*(?:\?\.|\.)\s*now\b/, CLOCK],
  ["new Date()", /\bnew\s+Date\s*(?:\(\s*\)|(?![\w(\s.]|\s*\())/, CLOCK],
  ["Date()", /(?<!new\s+|[.\w$])Date\s*\(/, CLOCK],
  ["performance.now", /\bperformance\s*\.\s*(?:now|timeOrigin|mark|measure)\b/, CLOCK],
  ["process.hrtime", /\bprocess\s*\.\s*(?:hrtime|uptime)\b/, CLOCK],
  ["os.uptime", /\bos\s*\.\s*uptime\b|\buptime\b[^;]*from\s+"node:os"/, CLOCK],
  ["timer", /(?<![.\w$])(?:globalThis\s*\.\s*)?set(?:Timeout|Interval)\s*\(/, TIMER],
  ["timers module", /from\s+"(?:node:)?timers(?:\/promises)?"/, TIMER],
  ["AbortSignal.timeout", /\bAbortSignal\s*\.\s*timeout\b/, TIMER],
  [
    "wall time in arithmetic",
    /\.now\(\)\s*(?:[-+](?!\+)|[<>]=?)|(?:[\w)\]]\s*-|[<>]=?)\s*[\w.#?]*[cC]lock\.now\(\)/,
    "a duration or a deadline is a matter of `clock.monotonic()`; wall time is for records",
  ],
];

/** File → rules that do not hold there, and why. */
const ALLOWED = {
  "kernel/clock.ts": {
    rules: ["Date.now", "performance.now", "process.hrtime", "timer"],
    because: "it is the Clock",
  },
  "kernel/telemetry.ts": { rules: ["new Date()"], because: "a log line's time is a record" },
  "cli/audit.ts": {
    rules: ["wall time in arithmetic"],
    because: "entries of the last day are looked for by the wall time that stands in them",
  },
  "cli/terminal.ts": {
    rules: ["timers module"],
    because: "a command that watches has nothing else that keeps it alive, and the Clock's timers do not",
  },
  "cli/api-call.ts": {
    rules: ["AbortSignal.timeout"],
    because: "a command's one request; the limit is kept on the monotonic clock by Node.js",
  },
};

/** The source without its comments, line for line. Strings stay: a template may hold code. */
const code = (source) =>
  source.replace(/\/\*[\s\S]*?\*\/|(?<=^|\s)\/\/[^\n]*/g, (comment) => comment.replace(/[^\n]/g, " "));

/** What is wrong with one file's text, each with its line; `allowed` names rules that do not hold. */
export function findings(source, allowed = []) {
  return code(source)
    .split("\n")
    .flatMap((line, index) =>
      RULES.filter(([name, pattern]) => !allowed.includes(name) && pattern.test(line)).map(([name, , advice]) => ({
        line: index + 1,
        name,
        advice,
      })),
    );
}

const files = (folder) =>
  readdirSync(folder).flatMap((entry) => {
    const path = join(folder, entry);
    if (statSync(path).isDirectory()) return files(path);
    return entry.endsWith(".ts") ? [path] : [];
  });

function main() {
  const problems = [];
  const all = files(root);
  for (const file of all) {
    const here = relative(root, file);
    const source = readFileSync(file, "utf8");
    const allowed = ALLOWED[here]?.rules ?? [];
    for (const { line, name, advice } of findings(source, allowed))
      problems.push(`src/${here}:${line}: ${name}; ${advice}`);
    const found = new Set(findings(source).map(({ name }) => name));
    for (const rule of allowed.filter((name) => !found.has(name)))
      problems.push(`src/${here} needs no exception from "${rule}" any more: remove it from scripts/check-time.mjs`);
  }
  for (const problem of problems) console.error(problem);
  if (problems.length > 0) process.exit(1);
  console.log(`time: ${all.length} files, none reads a clock of its own`);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) main();
