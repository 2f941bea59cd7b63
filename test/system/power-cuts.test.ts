/**
 * The promise, when the power goes: whatever was acknowledged reaches fusion. The dataDir lies on a disk that loses what
 * was never flushed; disk and daemon end at a random moment, under load, with fusion there or away.
 * `POWER_CUTS` sets the number of cuts, `POWER_CUTS_SEED` repeats a run's choices.
 */
import assert from "node:assert/strict";
import { cpSync, existsSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import Database from "better-sqlite3";
import { chance, seedFrom } from "../support/chance.ts";
import { Daemon, type DaemonOptions } from "../support/daemon.ts";
import { assertBalanced, Load, type Verdict } from "../support/load.ts";
import { mutantWith } from "../support/mutant.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { VolatileDisk } from "../support/volatile-disk.ts";

const CUTS = Number(process.env.POWER_CUTS ?? 20);
const CONTROL_CUTS = 5;
const LONGEST_LIFE_MS = 600;
const cannot = await VolatileDisk.unavailable();

/** SQLite's own opinion of what the cut has left; of a copy, so that the daemon meets the original untouched. */
function assertSound(t: TestContext, dataDir: string, when: string): void {
  const folder = temporaryFolder(t);
  for (const name of ["outbox.db", "outbox.db-wal"]) {
    if (existsSync(join(dataDir, name))) cpSync(join(dataDir, name), join(folder, name));
  }
  const db = new Database(join(folder, "outbox.db"));
  assert.equal(db.pragma("quick_check", { simple: true }), "ok", `quick_check ${when}`);
  db.close();
}

async function powerCuts(t: TestContext, cuts: number, options: Partial<DaemonOptions>): Promise<Verdict> {
  const seed = seedFrom("POWER_CUTS_SEED");
  t.diagnostic(`POWER_CUTS_SEED=${seed}`);
  const random = chance(seed);
  const disk = await VolatileDisk.make(t);
  const folder = temporaryFolder(t);
  const dataDir = join(disk.mountPoint, "data");
  const load = await Load.begin(t);
  const changes = { gateway: { id: "sierra-014", dataDir } };
  const start = () => Daemon.start({ folder, ports: load.ports, uplinkUrl: load.fusion.url, changes, ...options });
  await disk.powerOn();
  let daemon = await start();
  t.after(() => daemon.stop("SIGKILL"));
  let fusionIsThere = true;
  let [survived, unflushed] = [0, 0];
  for (let cut = 1; cut <= cuts; cut++) {
    // Chance, not a wait for something: the power goes at any moment of the daemon's work.
    await new Promise((resolve) => setTimeout(resolve, random() * LONGEST_LIFE_MS));
    // Of what was not flushed nothing is left, or any part.
    const share = random() < 0.5 ? 0 : random();
    const blocks = await disk.cut(daemon.child, () => random() < share);
    survived += blocks.survived;
    unflushed += blocks.unflushed;
    load.life = cut;
    if (random() < 0.5) {
      await (fusionIsThere ? load.fusion.stop() : load.fusion.listen());
      fusionIsThere = !fusionIsThere;
    }
    await disk.powerOn();
    assertSound(t, dataDir, `after cut ${cut}`);
    daemon = await start();
    await assertBalanced(daemon, `after cut ${cut}`);
  }
  if (!fusionIsThere) await load.fusion.listen();
  const verdict = await load.end(daemon);
  assert.ok(verdict.acknowledged > cuts, "there was load");
  t.diagnostic(`${cuts} power cuts, ${verdict.summary}; ${survived} of ${unflushed} unflushed blocks survived`);
  return verdict;
}

test(`no acknowledged reading is lost in ${CUTS} power cuts, the file is sound and the books balance after each`, {
  skip: cannot,
}, async (t) => {
  assert.deepEqual((await powerCuts(t, CUTS, {})).lost, []);
});

test("control: with synchronous=NORMAL the same power cuts lose acknowledged readings", { skip: cannot }, async (t) => {
  const dist = mutantWith(t, "outbox/store.js", [
    ['db.pragma("synchronous = FULL");', 'db.pragma("synchronous = NORMAL");'],
    ["const SYNCHRONOUS_FULL = 2;", "const SYNCHRONOUS_FULL = 1;"],
  ]);
  assert.notEqual((await powerCuts(t, CONTROL_CUTS, { dist })).lost.length, 0);
});
