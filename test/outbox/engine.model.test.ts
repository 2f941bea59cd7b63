/**
 * The outbox against a model that keeps every reading in a plain list (test/support/outbox-model.ts): whatever comes in, is
 * sent, answered or not, and whatever happens to the machine meanwhile, both agree on every reading's fate after every step.
 * `MODEL_RUNS` sets the number of lives, `MODEL_SEED` repeats a run's.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import fc from "fast-check";
import { Engine } from "#src/outbox/engine.js";
import { FullDisk } from "#src/outbox/full-disk.js";
import { Store } from "#src/outbox/store.js";
import { seedFrom } from "../support/chance.ts";
import type { MachineSettings, OutboxModules } from "../support/model-machine.ts";
import { mutant } from "../support/mutant.ts";
import { DAY, HOUR, KIB, type Life, live, lives, MINUTE } from "../support/outbox-lives.ts";
import { folderInMemory } from "../support/temporary-folder.ts";

const RUNS = Number(process.env.MODEL_RUNS ?? 100);
/** In so many lives everything happens that can. */
const ENOUGH_RUNS = 100;
/** Making a failure smaller takes a while; what is smallest by then is printed. */
const MOST_MS_FOR_LESS = 100_000;
const CONTROL_RUNS = 40;
/** With it each control is found out within some lives. */
const CONTROL_SEED = 3;
/** Without these the lives prove less than they say. */
const HAPPENS = [
  ...["append", "commit", "lease", "settle", "reject", "put off", "lose the reply", "crash", "reopen", "power cut"],
  ...["fill the disk", "disk-full", "outbox-full", "step the clock", "expire", "evict", "replay"],
  ...["evicted, lane 0", "evicted, lane 3", "part", "requeue", "dead letters dropped", "kept blocks gave way", "purge"],
];

const REAL: OutboxModules = { Store, Engine, FullDisk };

/** Lives so many, until one fails: how that ended, and how often what happened in all of them. */
function explore(t: TestContext, modules: OutboxModules, numRuns: number, seed: number) {
  const folder = folderInMemory(t);
  const total: Record<string, number> = {};
  const lived = fc.property(lives, (life) => {
    const tally = live(folder, life, modules);
    for (const [what, times] of Object.entries(tally)) total[what] = (total[what] ?? 0) + times;
  });
  return { lived, total, end: fc.check(lived, { numRuns, seed, endOnFailure: true }) };
}

test("the outbox and the model agree on every fate, whatever happens", (t) => {
  const seed = seedFrom("MODEL_SEED");
  t.diagnostic(`MODEL_SEED=${seed}`);
  const { lived, total, end } = explore(t, REAL, RUNS, seed);
  if (end.failed) {
    const path = end.counterexamplePath ?? "";
    fc.assert(lived, { seed, path, interruptAfterTimeLimit: MOST_MS_FOR_LESS, markInterruptAsFailure: true });
  }
  t.diagnostic(`in ${RUNS} lives: ${JSON.stringify(total)}`);
  if (RUNS < ENOUGH_RUNS) return;
  for (const what of HAPPENS) assert.ok((total[what] ?? 0) > 0, `in ${RUNS} lives it never happened: ${what}`);
});

const SMALL: MachineSettings = {
  maxBytes: 256 * KIB,
  maxAge: HOUR,
  whenFull: "evict",
  reserveFreeDisk: 0,
  keepDelivered: 0,
  maxDeadLetters: 1000,
  waitForClock: 0,
};

/** What the model found, as small as it was made; each failed once. */
const FOUND: Record<string, Life> = {
  "a block of a lower priority does not displace a critical one": {
    settings: SMALL,
    steps: [
      ...Array.from(
        { length: 12 },
        () =>
          [
            ["append", 0, 7, 1500, false],
            ["commit", 0],
          ] as const,
      ).flat(),
      ["append", 1, 4, 3000, false],
      ["commit", 0],
    ],
  },
  "what is due of a block that was put off and then split is there for the next lease": {
    settings: SMALL,
    steps: [
      ["append", 0, 6, 300, false],
      ["commit", 0],
      ["lease", 500, true],
      ["settle", 0, "l"],
      ["crash", "now", 1],
      ["lease", 1, true],
      ["lease", 500, true],
    ],
  },
  "a dead letter that is requeued does not wait for the answer to another one": {
    settings: SMALL,
    steps: [
      ["append", 2, 10, 300, false],
      ["commit", 0],
      ["lease", 500, false],
      ["settle", 0, "x"],
      ["requeue", 0],
      ["lease", 500, false],
      ["lease", 7, true],
      ["requeue", 3],
      ["lease", 1, true],
    ],
  },
  "what was put off and is on lease is not said to be available while its lane waits for the clock": {
    settings: { ...SMALL, waitForClock: 2 * MINUTE },
    steps: [
      ["append", 2, 9, 300, true],
      ["commit", 0],
      ["lease", 3, false],
      ["settle", 0, "x"],
      ["step", -30 * DAY],
      ["append", 2, 10, 300, false],
      ["requeue", 1],
      ["commit", 0],
      ["lease", 7, true],
      ["lease", 3, true],
    ],
  },
};

for (const [outcome, life] of Object.entries(FOUND)) {
  test(outcome, (t) => {
    live(folderInMemory(t), life, REAL);
  });
}

/** Each with one protection removed, and what the model says to it. */
for (const [outcome, verdict, file, from, to] of [
  [
    "evicts the most important first",
    /is not the oldest|went before a lower one/,
    "outbox/retention.js",
    "lane = LANES - 1; lane >= CRITICAL_LANE; lane--",
    "lane = 0; lane < LANES; lane++",
  ],
  [
    "sends what is on lease once more",
    /in the order of acceptance/,
    "outbox/queue.js",
    "if (this.#leasedKeys.has(head.key)) {",
    "if (false) {",
  ],
  [
    "tells ages by the wall clock",
    /ought to have expired/,
    "outbox/age-clock.js",
    "this.#boot.base + this.#times.monotonic() - accepted",
    "this.#times.now() - this.#boot.seenWall",
  ],
  [
    "forgets the books when it settles",
    /does not balance/,
    "outbox/settling.js",
    "{ pending: -block.count, delivered: block.count }",
    "{ pending: -block.count }",
  ],
  [
    "forgets what a lost reply leaves waiting",
    /in the order of acceptance|nothing was leased although readings wait/,
    "outbox/settling.js",
    "effects.push(() => this.#queue.lookAgainFrom(block.lane, block.key));",
    "effects.push(() => {});",
  ],
  ["does not give up its reserve", /database or disk is full/, "outbox/full-disk.js", "this.#reserve.release();", ""],
  [
    "keeps nothing of what is delivered in parts",
    /kept nothing, with \d+ of \d+ pages used/,
    "outbox/settling.js",
    "delivered > 0 && this.#kept.keeps",
    "false",
  ],
  [
    "gives a number twice",
    /a sequence number would be given away twice/,
    "outbox/engine.js",
    "this.#store.setLastSeq(lane, lastSeq);",
    "",
  ],
  [
    "leaves readings out of a replay",
    /a replay brings what was delivered and kept, all of it once/,
    "outbox/replaying.js",
    "{ taken: already + added }",
    "{ taken: already + added + 1 }",
  ],
] as const) {
  test(`control: an outbox that ${outcome} is found out`, async (t) => {
    const dist = mutant(t, file, from, to);
    const modules: OutboxModules = {
      ...(await import(join(dist, "outbox/store.js"))),
      ...(await import(join(dist, "outbox/engine.js"))),
      ...(await import(join(dist, "outbox/full-disk.js"))),
    };
    const { end } = explore(t, modules, CONTROL_RUNS, CONTROL_SEED);
    assert.match(String(end.errorInstance), verdict);
  });
}
