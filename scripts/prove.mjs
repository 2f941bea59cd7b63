// The long form of the proofs: each is a test that takes its number of rounds from the environment, and ends like one.
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

/** By name: the compiled test, the variable with the number, and what is counted. */
const PROOFS = {
  model: { test: "outbox/engine.model", variable: "MODEL_RUNS", counts: "runs of random operations against a model" },
  kill: { test: "system/kill", variable: "KILL_ROUNDS", counts: "kills of the daemon under load" },
  "power-cuts": {
    test: "system/power-cuts",
    variable: "POWER_CUTS",
    counts: "power cuts under load (root, nbdkit, nbdfuse)",
  },
  faults: {
    test: "system/disk-faults",
    variable: "FAULTS",
    counts: "fsyncs, each failing once and killed at once (strace)",
  },
};

function usage(fault) {
  if (fault !== undefined) console.error(`error: ${fault}\n`);
  const rows = Object.entries(PROOFS).map(([name, { counts }]) => `  ${name.padEnd(14)} ROUNDS: ${counts}`);
  (fault === undefined ? console.log : console.error)(["npm run prove -- PROOF ROUNDS", ...rows].join("\n"));
  process.exit(fault === undefined ? 0 : 2);
}

const [name, rounds, ...more] = process.argv.slice(2);
if (name === undefined || name === "--help") usage();
if (!Object.hasOwn(PROOFS, name)) usage(`there is no proof ${name}`);
if (!/^[1-9]\d*$/.test(rounds ?? "") || more.length > 0) usage(`${name} takes one number of rounds`);

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const { test, variable } = PROOFS[name];
const file = join(root, "dist", "test", `${test}.test.js`);
if (!existsSync(file)) usage(`${file} is missing: npm run build`);
const run = spawnSync(process.execPath, ["--test", "--test-reporter=spec", file], {
  cwd: root,
  stdio: "inherit",
  env: { ...process.env, [variable]: rounds },
});
process.exit(run.status ?? 1);
