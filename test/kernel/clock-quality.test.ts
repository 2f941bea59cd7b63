import assert from "node:assert/strict";
import { test } from "node:test";
import { type ClockStatus, ClockWatch } from "#src/kernel/clock-quality.js";
import type { ClockSource } from "#src/kernel/clock-source.js";
import { TestClock } from "../support/test-clock.ts";

const HOUR_MS = 3_600_000;

interface Scene {
  readonly clock: TestClock;
  readonly watch: ClockWatch;
  readonly changes: ClockStatus[];
  readonly offsets: number[];
  /** What the source says; `undefined`: it is not here. */
  answer: boolean | undefined;
  /** How often it was asked. */
  asked: number;
}

async function watched(answer: boolean | undefined): Promise<Scene> {
  const clock = new TestClock();
  const source: ClockSource = {
    name: "oracle",
    ask: async () => {
      scene.asked++;
      return scene.answer;
    },
  };
  const absent: ClockSource = { name: "absent", ask: async () => undefined };
  const watch = new ClockWatch(clock, [absent, source]);
  const scene: Scene = { clock, watch, changes: [], offsets: [], answer, asked: 0 };
  const started = watch.start((status) => scene.changes.push(status));
  watch.onceSynchronised((offset) => scene.offsets.push(offset));
  await clock.advance(0);
  await started;
  return scene;
}

test("the first source that can tell decides, and is named", async () => {
  const { watch, changes } = await watched(true);
  assert.equal(watch.quality(), "synchronised");
  assert.equal(watch.status().source, "oracle");
  assert.deepEqual(
    changes.map(({ quality }) => quality),
    ["synchronised"],
  );
  assert.equal(watch.awaited, false, "there is nothing to wait for");
});

test("where nobody can tell the clock is not synchronised, and no synchronisation is waited for", async () => {
  const { watch, changes } = await watched(undefined);
  assert.equal(watch.quality(), "unsynchronised");
  assert.equal(watch.status().source, undefined);
  assert.equal(watch.awaited, false);
  assert.equal(changes.length, 1);
});

test("the first synchronisation is seen within ten seconds, said once, and its offset is wall less monotonic time", async () => {
  const scene = await watched(false);
  const { clock, watch, changes, offsets } = scene;
  assert.equal(watch.awaited, true);
  await clock.advance(60_000);
  scene.answer = true;
  await clock.advance(10_000);
  assert.equal(watch.quality(), "synchronised");
  assert.equal(watch.awaited, false);
  assert.deepEqual(offsets, [clock.now() - clock.monotonic()]);
  await clock.advance(10 * HOUR_MS);
  assert.equal(changes.length, 2);
  assert.equal(offsets.length, 1);
});

test("a clock that was stepped and that nobody calls synchronised stays so called", async () => {
  const { clock, watch } = await watched(undefined);
  clock.setWall(0);
  await clock.advance(2000);
  assert.equal(watch.quality(), "stepped");
  await clock.advance(10 * HOUR_MS);
  assert.equal(watch.quality(), "stepped");
});

test("a step that comes with the synchronisation belongs to the offset", async () => {
  const scene = await watched(false);
  await scene.clock.advance(5000);
  scene.clock.setWall(scene.clock.now() + 30 * 24 * HOUR_MS);
  scene.answer = true;
  await scene.clock.advance(10_000);
  assert.equal(scene.watch.quality(), "synchronised");
  assert.deepEqual(scene.offsets, [scene.clock.now() - scene.clock.monotonic()]);
});

test("a late listener hears of the synchronisation as well", async () => {
  const { watch, offsets } = await watched(true);
  const late: number[] = [];
  watch.onceSynchronised((offset) => late.push(offset));
  assert.deepEqual(late, offsets);
});

for (const byMs of [-30 * 24 * HOUR_MS, 48 * HOUR_MS, 1500]) {
  test(`a step by ${byMs / 1000} s is noticed within two seconds, although somebody calls the clock synchronised`, async () => {
    const scene = await watched(true);
    const { clock, watch, changes } = scene;
    await clock.advance(HOUR_MS + 15_000);
    clock.setWall(clock.now() + byMs);
    await clock.advance(2000);
    assert.equal(watch.status().lastStep?.byMs, byMs);
    assert.equal(watch.quality(), "synchronised", "somebody was asked at once, and says that it is right now");
    assert.deepEqual(
      changes.map(({ quality }) => quality),
      ["synchronised", "stepped", "synchronised"],
    );
    assert.equal(watch.status().steps, 1, "the step is remembered");
  });
}

test("an answer to a question that was asked before a step does not cover it up", async () => {
  const clock = new TestClock();
  let reply: (answer: boolean) => void = () => {};
  const watch = new ClockWatch(clock, [{ name: "slow", ask: () => new Promise((resolve) => (reply = resolve)) }]);
  const started = watch.start(() => {});
  await clock.advance(1000);
  clock.setWall(0);
  reply(true);
  await started;
  assert.equal(watch.quality(), "stepped");
  await clock.advance(10_000);
  reply(true);
  await clock.advance(0);
  assert.equal(watch.quality(), "synchronised");
});

test("slewing is no step", async () => {
  const { clock, watch } = await watched(true);
  for (let second = 0; second < 600; second++) {
    clock.setWall(clock.now() + 100);
    await clock.advance(1000);
  }
  assert.equal(watch.status().steps, 0);
});

test("a synchronisation that is lost is noticed within a minute", async () => {
  const scene = await watched(true);
  scene.answer = false;
  await scene.clock.advance(60_000);
  assert.equal(scene.watch.quality(), "unsynchronised");
  assert.equal(scene.watch.awaited, false, "it is the first one that is waited for");
});

test("programs are asked every ten seconds for ten minutes, else once a minute, however often the clock is stepped", async () => {
  const scene = await watched(false);
  const { clock } = scene;
  const askedWithin = async (ms: number): Promise<number> => {
    const before = scene.asked;
    await clock.advance(ms);
    return scene.asked - before;
  };
  assert.equal(await askedWithin(600_000), 60);
  assert.equal(await askedWithin(600_000), 10);
  scene.answer = true;
  await askedWithin(60_000);
  assert.equal(await askedWithin(600_000), 10);
  const before = scene.asked;
  for (let step = 0; step < 300; step++) {
    clock.setWall(step * HOUR_MS);
    await clock.advance(2000);
  }
  assert.ok(scene.asked - before <= 61, `asked ${scene.asked - before} times within ten minutes of steps`);
});

test("the start does not wait longer than three seconds for an answer, and counts the clock as awaited meanwhile", async () => {
  const clock = new TestClock();
  const watch = new ClockWatch(clock, [{ name: "hangs", ask: () => new Promise(() => {}) }]);
  let started = false;
  void watch.start(() => {}).then(() => (started = true));
  await clock.advance(2999);
  assert.equal(started, false);
  await clock.advance(1);
  assert.equal(started, true);
  assert.equal(watch.awaited, true);
  watch.stop();
  assert.equal(clock.waiting, 0, "no timer is left");
});
