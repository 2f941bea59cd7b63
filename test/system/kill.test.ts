/**
 * The promise, under SIGKILL: whatever was acknowledged reaches fusion, whenever the daemon is killed. `KILL_ROUNDS` sets
 * the number of kills, `KILL_SEED` repeats a run's moments.
 */
import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { chance, seedFrom } from "../support/chance.ts";
import { Daemon, type DaemonOptions } from "../support/daemon.ts";
import { assertBalanced, Load, type Verdict } from "../support/load.ts";
import { mutant } from "../support/mutant.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

const ROUNDS = Number(process.env.KILL_ROUNDS ?? 20);
const LONGEST_LIFE_MS = 600;

async function killRounds(t: TestContext, rounds: number, options: Partial<DaemonOptions>): Promise<Verdict> {
  const seed = seedFrom("KILL_SEED");
  t.diagnostic(`KILL_SEED=${seed}`);
  const random = chance(seed);
  const folder = temporaryFolder(t);
  const load = await Load.begin(t);
  const start = () => Daemon.start({ folder, ports: load.ports, uplinkUrl: load.fusion.url, ...options });
  let daemon = await start();
  t.after(() => daemon.stop("SIGKILL"));
  for (let round = 1; round <= rounds; round++) {
    // Chance, not a wait for something: the kill is to come at any moment of the daemon's work.
    await new Promise((resolve) => setTimeout(resolve, random() * LONGEST_LIFE_MS));
    await daemon.stop("SIGKILL");
    load.life = round;
    daemon = await start();
    await assertBalanced(daemon, `after kill ${round}`);
  }
  const verdict = await load.end(daemon);
  assert.ok(verdict.acknowledged > rounds, "there was load");
  t.diagnostic(`${rounds} kills, ${verdict.summary}`);
  return verdict;
}

test(`no acknowledged reading is lost in ${ROUNDS} kills, and the books balance after each`, async (t) => {
  assert.deepEqual((await killRounds(t, ROUNDS, {})).lost, []);
});

test("control: a gateway that acknowledges before its commit loses readings under the same kills", async (t) => {
  const dist = mutant(t, "outbox/under-way.js", "this.#only.waiters.push(committed);", "setImmediate(committed);");
  const outbox = { commitDelay: { critical: "250ms", high: "250ms", normal: "250ms", low: "250ms" } };
  assert.notEqual((await killRounds(t, 5, { dist, changes: { outbox } })).lost.length, 0);
});
