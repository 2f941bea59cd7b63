/**
 * The promise, when the power goes: whatever was acknowledged reaches fusion. The dataDir lies on a disk that loses what
 * was never flushed; disk and daemon end at a random moment, under load, with fusion there or away.
 * `POWER_CUTS` sets the number of cuts, `POWER_CUTS_SEED` repeats a run's choices.
 *
 * A disk of that kind needs root, FUSE and loop devices. What needs strace only is tried everywhere: the daemon is killed,
 * and of what it wrote, all that it had not synced is undone, or any part of it. Where the disk cannot be had, that takes
 * all the rounds.
 */
import assert from "node:assert/strict";
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { rmSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { chance, seedFrom } from "../support/chance.ts";
import { Daemon } from "../support/daemon.ts";
import { noDiskFaults } from "../support/disk-fault.ts";
import { assertBalanced, Load, type Verdict } from "../support/load.ts";
import { mutantWith } from "../support/mutant.ts";
import { forgetUnsynced, recorded, recording } from "../support/recorded-writes.ts";
import { assertSound } from "../support/sound.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { VolatileDisk } from "../support/volatile-disk.ts";

const CUTS = Number(process.env.POWER_CUTS ?? 20);
const CONTROL_CUTS = 5;
const LONGEST_LIFE_MS = 600;
const noDisk = await VolatileDisk.unavailable();
const noRecord = noDiskFaults();
if (noDisk !== false) {
  const instead =
    noRecord === false ? `only what strace recorded is undone instead` : `nothing instead either: ${noRecord}`;
  console.error(`NO REAL POWER CUTS HERE: ${noDisk}; ${instead}`);
}
const CARDS = [
  { card: "a disk with a write-back cache", make: behindVolatileCache, cuts: CUTS, skip: noDisk },
  {
    card: "a card that undoes what was not synced",
    make: withRecordedWrites,
    cuts: noDisk === false ? Math.ceil(CUTS / 4) : CUTS,
    skip: noRecord,
  },
];

/** What holds the dataDir, and loses power. */
interface Card {
  readonly dataDir: string;
  powerOn(): Promise<void>;
  /** What the next life is started under. */
  under(): string[];
  /** The power goes, under the daemon as well; what was not flushed survives piece by piece where `survives` says so. */
  cut(daemon: ChildProcess, survives: () => boolean): Promise<{ survived: number; unflushed: number }>;
}

async function behindVolatileCache(t: TestContext): Promise<Card> {
  const disk = await VolatileDisk.make(t);
  return {
    dataDir: join(disk.mountPoint, "data"),
    powerOn: () => disk.powerOn(),
    under: () => [],
    cut: (daemon, survives) => disk.cut(daemon, survives),
  };
}

async function withRecordedWrites(t: TestContext): Promise<Card> {
  const folder = temporaryFolder(t);
  let life = 0;
  const log = () => join(folder, `life-${life}.log`);
  return {
    dataDir: join(folder, "data"),
    powerOn: async () => void life++,
    under: () => recording(log()),
    cut: async (daemon, survives) => {
      const ended = once(daemon, "exit");
      daemon.kill("SIGKILL");
      await ended;
      const { forgotten, unsynced } = forgetUnsynced(await recorded(log(), daemon), survives);
      rmSync(log());
      return { survived: unsynced - forgotten, unflushed: unsynced };
    },
  };
}

type MakeCard = (t: TestContext) => Promise<Card>;

async function powerCuts(t: TestContext, make: MakeCard, cuts: number, dist?: string): Promise<Verdict> {
  const seed = seedFrom("POWER_CUTS_SEED");
  t.diagnostic(`POWER_CUTS_SEED=${seed}`);
  const random = chance(seed);
  const card = await make(t);
  const folder = temporaryFolder(t);
  const load = await Load.begin(t);
  const changes = { gateway: { id: "sierra-014", dataDir: card.dataDir } };
  const common = { folder, ports: load.ports, uplinkUrl: load.fusion.url, changes, ...(dist && { dist }) };
  const start = async () => {
    await card.powerOn();
    if (load.life > 0) assertSound(t, card.dataDir, `after cut ${load.life}`);
    const daemon = await Daemon.start({ ...common, under: card.under() });
    await assertBalanced(daemon, `after cut ${load.life}`);
    return daemon;
  };
  let daemon = await start();
  t.after(() => daemon.stop("SIGKILL"));
  let fusionIsThere = true;
  let [survived, unflushed] = [0, 0];
  for (let cut = 1; cut <= cuts; cut++) {
    // Chance, not a wait for something: the power goes at any moment of the daemon's work.
    await new Promise((resolve) => setTimeout(resolve, random() * LONGEST_LIFE_MS));
    // Of what was not flushed nothing is left, or any part.
    const share = random() < 0.5 ? 0 : random();
    const pieces = await card.cut(daemon.child, () => random() < share);
    survived += pieces.survived;
    unflushed += pieces.unflushed;
    load.life = cut;
    if (random() < 0.5) {
      await (fusionIsThere ? load.fusion.stop() : load.fusion.listen());
      fusionIsThere = !fusionIsThere;
    }
    daemon = await start();
  }
  if (!fusionIsThere) await load.fusion.listen();
  const verdict = await load.end(daemon);
  assert.ok(verdict.acknowledged > cuts, "there was load");
  t.diagnostic(`${cuts} power cuts, ${verdict.summary}; ${survived} of ${unflushed} unflushed pieces survived`);
  return verdict;
}

function withoutFullSync(t: TestContext): string {
  return mutantWith(t, "outbox/store-setup.js", [
    ['db.pragma("synchronous = FULL");', 'db.pragma("synchronous = NORMAL");'],
    ["const SYNCHRONOUS_FULL = 2;", "const SYNCHRONOUS_FULL = 1;"],
  ]);
}

for (const { card, make, cuts, skip } of CARDS) {
  test(`no acknowledged reading is lost in ${cuts} power cuts of ${card}, the file is sound and the books balance after each`, {
    skip,
  }, async (t) => {
    assert.deepEqual((await powerCuts(t, make, cuts)).lost, []);
  });

  test(`control: with synchronous=NORMAL power cuts of ${card} lose acknowledged readings`, { skip }, async (t) => {
    assert.notEqual((await powerCuts(t, make, CONTROL_CUTS, withoutFullSync(t))).lost.length, 0);
  });
}
