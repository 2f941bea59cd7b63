import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { MOST_PAUSE_MS, Turns } from "#src/sources/serial/polling/turns.js";

describe("turns on a bus", () => {
  test("each has its turn on its own grid; those for which there was no time are left out", () => {
    const turns = new Turns([100, 100], 0);
    assert.deepEqual(turns.next(0), { index: 0, wait: 0 });
    turns.ended(0, "answered", 30);
    assert.deepEqual(turns.next(30), { index: 1, wait: 0 });
    turns.ended(1, "answered", 40);
    assert.deepEqual(turns.next(40), { index: 0, wait: 60 });
    turns.ended(0, "answered", 350);
    turns.ended(1, "answered", 390);
    assert.deepEqual(turns.next(390), { index: 0, wait: 10 });
  });

  test("who does not answer is asked ever less often, and as before once it does", () => {
    const turns = new Turns([1000], 0);
    const pauses: number[] = [];
    let now = 0;
    for (let turn = 0; turn < 9; turn++) {
      now += turns.next(now).wait;
      turns.ended(0, "failed", now);
      pauses.push(turns.next(now).wait);
    }
    assert.deepEqual(pauses, [1000, 2000, 4000, 8000, 16_000, 32_000, MOST_PAUSE_MS, MOST_PAUSE_MS, MOST_PAUSE_MS]);
    now += MOST_PAUSE_MS;
    turns.ended(0, "answered", now);
    assert.equal(turns.next(now).wait, 1000);
  });

  test("who is asked rarely anyhow is asked no less often for not answering", () => {
    const turns = new Turns([5 * MOST_PAUSE_MS], 0);
    for (let turn = 0; turn < 4; turn++) {
      turns.ended(0, "failed", 0);
      assert.equal(turns.next(0).wait, 5 * MOST_PAUSE_MS);
    }
  });

  test("one that is busy goes on in its own time, and keeps its grid", () => {
    const turns = new Turns([100, 1000], 0);
    turns.ended(0, { later: 30 }, 5);
    turns.ended(1, "answered", 6);
    assert.deepEqual(turns.next(6), { index: 0, wait: 29 });
    turns.ended(0, "answered", 40);
    assert.deepEqual(turns.next(40), { index: 0, wait: 60 });
  });

  test("whoever is dead: while one that answers is due, nobody who failed has a turn", () => {
    const bus = fc.array(fc.record({ every: fc.integer({ min: 50, max: 2000 }), dead: fc.boolean() }), {
      minLength: 2,
      maxLength: 12,
    });
    fc.assert(
      fc.property(bus, fc.integer({ min: 1, max: 400 }), (devices, slot) => {
        const turns = new Turns(
          devices.map(({ every }) => every),
          0,
        );
        const due = devices.map(({ dead }) => (dead ? Number.POSITIVE_INFINITY : 0));
        const asked = new Map<number, number>();
        for (let now = 0; now < MOST_PAUSE_MS; ) {
          const { index, wait } = turns.next(now);
          now += wait;
          if (wait > 0) continue;
          const { every, dead } = devices[index] as { every: number; dead: boolean };
          if (dead && asked.has(index)) assert.ok(Math.min(...due) > now, `${index} at ${now}`);
          asked.set(index, (asked.get(index) ?? 0) + 1);
          now += dead ? slot : 1;
          turns.ended(index, dead ? "failed" : "answered", now);
          if (!dead) due[index] = every * (Math.floor(now / every) + 1);
        }
        assert.equal(asked.size, devices.length);
      }),
    );
  });

  test("on a bus that is never idle, who failed has a turn all the same, once a minute", () => {
    const turns = new Turns([10, 10], 0);
    const failed: number[] = [];
    for (let now = 0; now < 5 * MOST_PAUSE_MS; now += 20) {
      const { index } = turns.next(now);
      if (index === 1) failed.push(now);
      turns.ended(index, index === 1 ? "failed" : "answered", now + 20);
    }
    assert.ok(failed.length >= 4, String(failed));
  });
});
