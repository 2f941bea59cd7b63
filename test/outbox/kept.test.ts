/** Delivered readings that are kept: which, for how long, and how they are found again. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { gunzipSync } from "node:zlib";
import Database from "better-sqlite3";
import fc from "fast-check";
import { type ClockQuality, type Observation, PRIORITIES } from "#src/observation/observation.js";
import type { Batch, Settlement } from "#src/outbox/batch.js";
import { Engine, type EngineOptions } from "#src/outbox/engine.js";
import { Gathering } from "#src/outbox/gathering.js";
import { MIGRATIONS } from "#src/outbox/migrations.js";
import { ObservationWriter } from "#src/outbox/observation-text.js";
import type { ReplayCursor, ReplaySelection } from "#src/outbox/replaying.js";
import { Store } from "#src/outbox/store.js";
import { type EngineModules, EngineRig } from "../support/engine-rig.ts";
import { mutant } from "../support/mutant.ts";
import { observation } from "../support/observations.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

const NOON = Date.UTC(2026, 6, 1, 12);
const HOUR = 3_600_000;
const NORMAL = 2;
const LIMITS = { maxReadings: 500, maxBytes: 512 * 1024, compression: "gzip" as const };
const ALL: Omit<ReplaySelection, "through"> = { from: 0, to: Number.MAX_SAFE_INTEGER };

interface Sent {
  readonly key: string;
  readonly replayed: boolean;
  readonly observations: readonly (Observation & { readonly gateway: { readonly seq: number } })[];
}

const sentIn = (batch: Batch): Sent => ({
  ...(JSON.parse(gunzipSync(batch.body).toString()) as Omit<Sent, "key">),
  key: batch.idempotencyKey,
});

/** An engine on a file, and time to move. */
class Kept {
  readonly file: string;
  now = 1_000_000;
  store: Store;
  engine: Engine;
  readonly #writer = new ObservationWriter("sierra");
  readonly #keepDelivered: number;

  constructor(file: string, keepDelivered = HOUR, bootId = "boot") {
    this.file = file;
    this.#keepDelivered = keepDelivered;
    [this.store, this.engine] = this.#open(bootId);
  }

  #open(bootId: string): [Store, Engine] {
    const store = new Store({ file: this.file, maxBytes: 2 ** 30, bootId });
    const options: EngineOptions = {
      gatewayId: "sierra",
      monotonic: () => this.now,
      now: () => NOON + this.now,
      maxDeadLetters: 1000,
      keepDelivered: this.#keepDelivered,
      retention: { maxBytes: 2 ** 30, maxAge: Number.POSITIVE_INFINITY, whenFull: "refuse", reserveFreeDisk: 0 },
      freeDisk: () => Number.POSITIVE_INFINITY,
      onNotice: () => assert.fail("no notice is expected"),
    };
    return [store, new Engine(store, options)];
  }

  restart(bootId = "boot"): void {
    this.store.close();
    [this.store, this.engine] = this.#open(bootId);
  }

  /** Accepts readings of one lane as one block. */
  accept(observations: readonly Observation[]): void {
    const group = new Gathering({ maxReadings: 10_000, maxBytes: 2 ** 30 });
    observations.forEach((each, n) => {
      const seq = this.engine.books().lastSeq + 1 + n;
      group.add(each, this.#writer.write(each, NOON, "synchronised", seq), seq, 0);
    });
    const blocks = group
      .seal({ acceptedAt: NOON, acceptedMonotonic: 1, clock: "synchronised" })
      .map(({ block }) => block);
    this.engine.commit({ blocks, settlements: [], duplicates: 0 });
  }

  /** Leases and settles until nothing waits; returns the batches. */
  deliver(fates: (batch: Batch) => Settlement = whole): Sent[] {
    const sent: Sent[] = [];
    for (;;) {
      const batch = this.engine.lease({ ...LIMITS, heldBackThrough: 0 });
      if (batch === undefined) return sent;
      sent.push(sentIn(batch));
      const settlement = fates(batch);
      this.engine.commit({ blocks: [], settlements: [{ lease: batch.lease, settlement }], duplicates: 0 });
    }
  }

  replay(selection: Partial<ReplaySelection> = {}, limits = LIMITS): Sent[] {
    const wanted = { ...ALL, through: this.engine.kept().through, ...selection };
    const sent: Sent[] = [];
    let from: ReplayCursor = { block: 0, taken: 0 };
    for (;;) {
      const { batch, next, done } = this.engine.replayTake(wanted, from, limits);
      if (batch !== undefined) sent.push(sentIn(batch));
      if (done) return sent;
      from = next;
    }
  }

  count(selection: Partial<ReplaySelection> = {}): number {
    const wanted = { ...ALL, through: this.engine.kept().through, ...selection };
    let from: ReplayCursor = { block: 0, taken: 0 };
    let readings = 0;
    for (;;) {
      const step = this.engine.replayCount(wanted, from);
      readings += step.readings;
      if (step.done) return readings;
      from = step.next;
    }
  }

  purge(clock: ClockQuality = "synchronised"): void {
    while (this.engine.purgeKept(clock));
  }
}

const whole = (batch: Batch): Settlement => ({ delivered: [{ from: 0, to: batch.count }], deadLettered: [] });
const DEAD_LAST = { index: 9, code: "c", detail: "d" };
const many = (count: number, changes: Partial<Observation> = {}): Observation[] =>
  Array.from({ length: count }, () => observation(changes));
const idsOf = (sent: readonly Sent[]): string[] => sent.flatMap(({ observations }) => observations.map(({ id }) => id));

function kept(t: TestContext, keepDelivered?: number): Kept {
  const world = new Kept(join(temporaryFolder(t), "outbox.db"), keepDelivered);
  t.after(() => world.store.close());
  return world;
}

test("what was delivered is found again, as it was, under the same key, and the books do not move", (t) => {
  const world = kept(t);
  world.accept(many(300));
  world.accept(many(20, { priority: "critical" }));
  const live = world.deliver();
  const { ledgers } = world.engine.books();
  assert.equal(world.count(), 320);
  const again = world.replay();
  assert.ok(again.every(({ replayed }) => replayed));
  assert.deepEqual(
    again.map(({ key, observations }) => ({ key, observations })),
    live.map(({ key, observations }) => ({ key, observations })),
  );
  assert.deepEqual(world.engine.books().ledgers, ledgers);
  world.restart();
  assert.deepEqual(idsOf(world.replay()), idsOf(live), "and after a restart");
});

test("how much is kept is counted along, and the same after a restart", (t) => {
  const world = kept(t);
  const counted = () => {
    const { kept: along } = world.engine.books();
    assert.deepEqual(along, world.store.kept.totals());
    return along.readings;
  };
  assert.deepEqual(world.engine.books().kept, { readings: 0, bytes: 0 });
  world.accept(many(300));
  world.deliver();
  assert.equal(counted(), 300);
  world.now += HOUR / 2;
  world.accept(many(10));
  world.deliver((batch) => ({ delivered: [{ from: 0, to: batch.count - 1 }], deadLettered: [DEAD_LAST] }));
  assert.equal(counted(), 309);
  world.restart();
  assert.equal(counted(), 309);
  world.now += HOUR / 2;
  world.purge();
  assert.equal(counted(), 9);
  world.engine.dropOldestKept();
  assert.deepEqual(world.engine.books().kept, { readings: 0, bytes: 0 });
});

test("with nothing to keep, nothing is kept and nothing is written for it", (t) => {
  const without = kept(t, 0);
  const with_ = kept(t, HOUR);
  const readings = many(500);
  const bytes = [without, with_].map((world) => {
    world.accept(readings);
    const before = world.store.fileBytes().wal;
    world.deliver();
    return world.store.fileBytes().wal - before;
  });
  assert.equal(without.store.kept.lastId(), 0);
  assert.deepEqual(without.engine.kept(), { through: 0, keeps: false, any: false });
  assert.ok((bytes[0] ?? 0) < 8 * 4120, `${bytes[0]} bytes for settling a block`);
  assert.ok((bytes[1] ?? 0) > (bytes[0] ?? 0));
});

test("only delivered readings are kept: not those that were refused, put off, or wait", (t) => {
  const world = kept(t);
  world.accept(many(10));
  const [live] = world.deliver((batch) =>
    batch.count < 10
      ? whole(batch)
      : {
          delivered: [
            { from: 1, to: 3 },
            { from: 5, to: 9 },
          ],
          deadLettered: [{ index: 0, code: "c", detail: "d" }],
          retryLater: { indexes: [9], delayMs: HOUR },
        },
  );
  const ids = live?.observations.map(({ id }) => id) ?? [];
  assert.deepEqual(
    idsOf(world.replay()),
    [1, 2, 5, 6, 7, 8, 3, 4].map((index) => ids[index]),
  );
});

test("a range is by the readings' own time, both ends included, and can be narrowed to a class and a source", (t) => {
  const world = kept(t);
  const at = (second: number) => new Date(NOON + second * 1000).toISOString();
  for (let block = 0; block < 5; block++) {
    world.accept(
      Array.from({ length: 100 }, (_, n) =>
        observation({
          ts_iso: at(block * 100 + n),
          class: n % 2 === 0 ? "smoke" : "weather",
          source: n % 4 === 0 ? "mast-0" : "mast-1",
        }),
      ),
    );
  }
  world.deliver();
  const range = { from: NOON + 150_000, to: NOON + 349_000 };
  const expected = (count: number, selection: Partial<ReplaySelection>) => {
    const sent = world.replay(selection);
    assert.equal(idsOf(sent).length, count);
    assert.equal(world.count(selection), count);
    for (const { ts_iso } of sent.flatMap(({ observations }) => observations)) {
      const time = Date.parse(ts_iso);
      assert.ok(time >= (selection.from ?? 0) && time <= (selection.to ?? Number.POSITIVE_INFINITY));
    }
  };
  expected(200, range);
  expected(100, { ...range, class: "weather" });
  expected(50, { ...range, class: "smoke", source: "mast-0" });
  expected(0, { ...range, class: "weather", source: "mast-0" });
  expected(1, { from: NOON, to: NOON });
  expected(0, { from: NOON + 1, to: NOON + 999 });
});

test("however batches are cut, each selected reading comes once, and a part has the key of its set", (t) => {
  fc.assert(
    fc.property(
      fc.array(fc.integer({ min: 1, max: 30 }), { minLength: 1, maxLength: 40 }),
      fc.integer({ min: 1, max: 50 }),
      fc.integer({ min: 1000, max: 20_000 }),
      (blocks, maxReadings, maxBytes) => {
        const world = kept(t);
        blocks.forEach((count, n) => {
          world.accept(many(count, { priority: PRIORITIES[n % 4] ?? "low", source: `mast-${n % 2}` }));
        });
        const live = world.deliver();
        const limits = { ...LIMITS, maxReadings, maxBytes };
        const again = world.replay({}, limits);
        assert.deepEqual(idsOf(again).sort(), idsOf(live).sort());
        assert.ok(again.every(({ observations }) => observations.length <= maxReadings));
        const one = world.replay({ source: "mast-1" }, limits);
        const wanted = live.flatMap(({ observations }) => observations).filter(({ source }) => source === "mast-1");
        assert.deepEqual(idsOf(one).sort(), wanted.map(({ id }) => id).sort());
      },
    ),
    { numRuns: 15 },
  );
});

test("parts and ids of a replayed batch are those of its readings", (t) => {
  const world = kept(t);
  world.accept(many(10));
  world.deliver();
  const selection = { ...ALL, through: world.engine.kept().through };
  const { batch } = world.engine.replayTake(selection, { block: 0, taken: 0 }, LIMITS);
  assert.ok(batch);
  const ids = idsOf([sentIn(batch)]);
  assert.deepEqual(world.engine.ids(batch.lease), ids);
  const part = world.engine.part(batch.lease, { from: 3, to: 7 });
  assert.deepEqual(idsOf([sentIn(part)]), ids.slice(3, 7));
  const again = world.engine.replayTake(selection, { block: 1, taken: 3 }, { ...LIMITS, maxReadings: 4 });
  assert.equal(again.batch?.idempotencyKey, part.idempotencyKey);
});

test("what is delivered after a replay has begun is not part of it", (t) => {
  const world = kept(t);
  world.accept(many(5));
  const before = world.deliver();
  const { through } = world.engine.kept();
  world.accept(many(5));
  world.deliver();
  assert.deepEqual(idsOf(world.replay({ through })), idsOf(before));
});

test("kept readings go when they are old enough, oldest first, whatever the wall clock says, and also once keeping is switched off", (t) => {
  const world = kept(t);
  for (let n = 0; n < 100; n++) {
    world.accept(many(2));
    world.deliver();
    world.now += 60_000;
  }
  world.purge();
  // The oldest were delivered 100 minutes ago.
  assert.equal(world.count(), 2 * 59);
  world.now += HOUR;
  world.purge("unsynchronised");
  assert.equal(world.count(), 0);
  assert.equal(world.engine.kept().any, false);
});

/** An outbox that keeps for an hour, in which three readings have just been delivered; `goesOn` is its upkeep. */
function keeping(t: TestContext, modules?: EngineModules) {
  const rig = new EngineRig(t, join(temporaryFolder(t), "outbox.db"), {}, modules, { keepDelivered: HOUR });
  const goesOn = () => {
    rig.tend();
    while (rig.engine.purgeKept(rig.quality));
    return rig.engine.books().kept.readings;
  };
  goesOn();
  rig.commit(NORMAL, 3);
  assert.equal(rig.deliver(), 3);
  return { rig, goesOn };
}

for (const [before, after, goes] of [
  ["synchronised", "synchronised", true],
  ["unsynchronised", "synchronised", false],
  ["synchronised", "unsynchronised", false],
  ["stepped", "stepped", false],
] as const) {
  test(`what is kept: time switched off, ${before} before and ${after} after, counts: ${goes}`, (t) => {
    const { rig, goesOn } = keeping(t);
    rig.quality = before;
    rig.pass(HOUR / 4);
    assert.equal(goesOn(), 3);
    rig.powerCut(2 * HOUR, after);
    assert.equal(goesOn(), goes ? 0 : 3);
    rig.pass((3 * HOUR) / 4);
    assert.equal(goesOn(), 0, "the time that it was on counts, in both boots");
  });
}

test("a step of the clock does not drop what is kept, in the same boot or after a restart of the machine", (t) => {
  const { rig, goesOn } = keeping(t);
  rig.wall += 400 * 24 * HOUR;
  assert.equal(goesOn(), 3);
  rig.powerCut(0);
  assert.equal(goesOn(), 3);
  rig.wall += 400 * 24 * HOUR;
  assert.equal(goesOn(), 3);
  rig.wall = Date.UTC(1980, 0, 1);
  rig.pass(HOUR - rig.monotonic - 1);
  assert.equal(goesOn(), 3);
  rig.pass(1);
  assert.equal(goesOn(), 0, "nor does one keep it longer");
});

test("control: kept blocks that age by the wall clock are dropped by a step of it", async (t) => {
  const wallAge = "this.#options.now() - Date.UTC(2026, 6, 1)";
  const dist = mutant(t, "outbox/kept.js", "this.#options.ages.ageOf(oldest)", wallAge);
  const modules = {
    ...(await import(join(dist, "outbox/store.js"))),
    ...(await import(join(dist, "outbox/engine.js"))),
  };
  const { rig, goesOn } = keeping(t, modules);
  rig.wall += 400 * 24 * HOUR;
  assert.equal(goesOn(), 0);
});

test("the oldest kept block can be dropped to make room, one at a time, and what waits stays", (t) => {
  const world = kept(t);
  for (const count of [3, 4]) {
    world.accept(many(count));
    world.deliver();
  }
  world.accept(many(5));
  assert.deepEqual(
    [1, 2, 3].map(() => world.engine.dropOldestKept()),
    [3, 4, 0],
  );
  assert.equal(world.count(), 0);
  assert.equal(idsOf(world.deliver()).length, 5);
});

test("a kept block that cannot be read back is left out and counted", (t) => {
  const world = kept(t);
  world.accept(many(3));
  world.deliver();
  world.accept(many(4));
  const rest = world.deliver();
  const beside = new Database(world.file);
  beside.exec("UPDATE kept_block SET body = zeroblob(length(body)) WHERE id = 1");
  beside.close();
  const selection = { ...ALL, through: world.engine.kept().through };
  const { batch, damaged, done } = world.engine.replayTake(selection, { block: 0, taken: 0 }, LIMITS);
  assert.equal(damaged, 3);
  assert.equal(done, true);
  assert.ok(batch);
  assert.deepEqual(idsOf([sentIn(batch)]), idsOf(rest));
});

test("a file of the version before keeps what waits and its books", (t) => {
  const file = join(temporaryFolder(t), "outbox.db");
  const old = new Database(file);
  old.pragma("journal_mode = WAL");
  old.exec(MIGRATIONS[0] ?? "");
  old.pragma("user_version = 1");
  old.exec("UPDATE ledger SET accepted = 7, delivered = 7, last_seq = 7 WHERE lane = 2");
  old.close();
  const world = new Kept(file);
  t.after(() => world.store.close());
  assert.equal(world.engine.books().lastSeq, 7);
  world.accept(many(2));
  world.deliver();
  assert.equal(world.count(), 2);
  assert.equal(world.engine.books().ledgers[2]?.delivered, 9);
});
