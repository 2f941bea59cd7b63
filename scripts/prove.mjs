// The long form of the proofs: each is a test that takes its number of rounds from the environment, and ends like one.
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

/** By name: the compiled tests, the variable with the number, what is counted, and how few of them prove something. */
const PROOFS = {
  model: {
    tests: ["outbox/engine.model", "outbox/leases"],
    variable: "MODEL_RUNS",
    counts: "lives of an outbox beside a model, and as many of its leases alone",
  },
  kill: { tests: ["system/kill"], variable: "KILL_ROUNDS", counts: "kills of the daemon under load" },
  fuzz: { tests: ["system/fuzz"], variable: "FUZZ_CONNECTIONS", counts: "MQTT connections that send anything at all" },
  "power-cuts": {
    tests: ["system/power-cuts"],
    variable: "POWER_CUTS",
    counts: "power cuts under load (root, nbdkit, nbdfuse)",
  },
  faults: {
    tests: ["system/disk-faults"],
    variable: "FAULTS",
    counts: "fsyncs, each failing once and killed at once (strace)",
  },
  flips: {
    tests: ["outbox/damage", "outbox/wal-damage"],
    variable: "FLIP_ROUNDS",
    counts: "bits flipped in the outbox's file, and as many in its log",
  },
  "flips-daemon": {
    tests: ["system/damage"],
    variable: "FLIP_DAEMON_ROUNDS",
    counts: "starts of the daemon on an outbox with twenty flipped bits",
  },
  clock: {
    tests: ["system/clock"],
    variable: "CLOCK_JUMPS",
    counts: "jumps of the wall clock in an outage (libfaketime)",
  },
  traffic: {
    tests: ["outbox/days-of-traffic"],
    variable: "TRAFFIC_DAYS",
    counts: "days of traffic and outages, three at least",
    least: 3,
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
const { tests, variable, least = 1 } = PROOFS[name];
if (Number(rounds) < least) usage(`${name} takes ${least} rounds at least`);
const files = tests.map((test) => join(root, "dist", "test", `${test}.test.js`));
for (const file of files) if (!existsSync(file)) usage(`${file} is missing: npm run build`);
const run = spawnSync(process.execPath, ["--test", "--test-reporter=spec", ...files], {
  cwd: root,
  stdio: "inherit",
  env: { ...process.env, [variable]: rounds },
});
process.exit(run.status ?? 1);
