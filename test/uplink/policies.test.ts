import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { Gate } from "#src/uplink/gate.js";
import {
  BackOff,
  BatchSize,
  CircuitBreaker,
  GROW_AFTER,
  MAX_REMEMBERED_TRIES,
  REFUSALS_IN_A_ROW,
  RefusalStreak,
  SUSTAINED_SUCCESSES,
  Tries,
} from "#src/uplink/policies.js";

const SETTINGS = { consecutiveFailures: 3, failureRate: 0.5, minimumRequests: 10, window: 60_000, recovery: 30_000 };

describe("the circuit breaker", () => {
  it("opens after failures in a row, admits one probe after recovery, and closes when it succeeds", () => {
    const breaker = new CircuitBreaker(SETTINGS);
    for (let n = 0; n < 2; n++) breaker.failed(0);
    assert.equal(breaker.state(0), "closed");
    breaker.failed(0);
    assert.equal(breaker.state(29_999), "open");
    assert.equal(breaker.admit(29_999), undefined);
    assert.equal(breaker.waitMs(10_000), 20_000);
    assert.equal(breaker.state(30_000), "half-open");
    assert.equal(breaker.admit(30_000), "probe");
    assert.equal(breaker.admit(30_000), undefined);
    breaker.succeeded(30_100);
    assert.equal(breaker.state(30_100), "closed");
    assert.equal(breaker.admit(30_100), "request");
  });

  it("opens again for a whole recovery when the probe fails", () => {
    const breaker = new CircuitBreaker(SETTINGS);
    for (let n = 0; n < 3; n++) breaker.failed(0);
    assert.equal(breaker.admit(30_000), "probe");
    breaker.failed(31_000);
    assert.equal(breaker.state(60_999), "open");
    assert.equal(breaker.state(61_000), "half-open");
  });

  it("lets another probe through when one ended without saying anything about the link", () => {
    const breaker = new CircuitBreaker(SETTINGS);
    for (let n = 0; n < 3; n++) breaker.failed(0);
    assert.equal(breaker.admit(30_000), "probe");
    breaker.abandoned("probe");
    assert.equal(breaker.state(30_000), "half-open");
    assert.equal(breaker.admit(30_000), "probe");
  });

  it("opens at the failure rate once there are enough requests in the window", () => {
    const breaker = new CircuitBreaker(SETTINGS);
    for (let n = 0; n < 5; n++) breaker.succeeded(n);
    for (let n = 0; n < 2; n++) breaker.failed(10);
    breaker.succeeded(11);
    breaker.failed(12);
    assert.equal(breaker.state(12), "closed", "3 of 9");
    breaker.succeeded(13);
    for (let n = 0; n < 2; n++) breaker.failed(14);
    assert.equal(breaker.state(14), "closed", "5 of 12");
    breaker.succeeded(15);
    for (let n = 0; n < 2; n++) breaker.failed(16);
    assert.equal(breaker.state(16), "closed", "7 of 15");
    breaker.succeeded(17);
    for (let n = 0; n < 2; n++) breaker.failed(18);
    assert.equal(breaker.state(18), "open", "9 of 18");
  });

  it("forgets what is older than the window", () => {
    const breaker = new CircuitBreaker({ ...SETTINGS, consecutiveFailures: 100 });
    for (let n = 0; n < 9; n++) breaker.failed(0);
    breaker.failed(60_000);
    assert.equal(breaker.state(60_000), "closed");
  });

  it("is half-open at once when the link is known to be back", () => {
    const breaker = new CircuitBreaker({ ...SETTINGS, recovery: 3_600_000 });
    breaker.recover();
    assert.equal(breaker.state(0), "closed");
    for (let n = 0; n < 3; n++) breaker.failed(0);
    breaker.recover();
    assert.equal(breaker.waitMs(1), 0);
    assert.equal(breaker.admit(1), "probe");
  });

  it("never admits while open, and only one at a time while half-open, whatever happens", () => {
    const step = fc.record({ wait: fc.integer({ min: 0, max: 20_000 }), ok: fc.constantFrom(true, false, undefined) });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
        const breaker = new CircuitBreaker(SETTINGS);
        let now = 0;
        for (const { wait, ok } of steps) {
          now += wait;
          const state = breaker.state(now);
          const admitted = breaker.admit(now);
          assert.equal(admitted, { closed: "request", open: undefined, "half-open": "probe" }[state]);
          assert.equal(state === "open", breaker.waitMs(now) > 0);
          if (admitted === undefined) continue;
          if (admitted === "probe") assert.equal(breaker.admit(now), undefined);
          if (ok === undefined) breaker.abandoned(admitted);
          else if (ok) breaker.succeeded(now);
          else breaker.failed(now);
          if (ok === true) assert.equal(breaker.state(now), "closed");
          if (ok === false && admitted === "probe") assert.equal(breaker.state(now), "open");
        }
      }),
    );
  });
});

describe("the back-off", () => {
  const settings = { initial: 1000, max: 60_000 };
  const largest = (): number => 1 - Number.EPSILON;

  it("doubles its bound from `initial` to `max`", () => {
    const backOff = new BackOff(settings, largest);
    const bounds = Array.from({ length: 8 }, () => Math.round(backOff.failed(0)));
    assert.deepEqual(bounds, [1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000]);
  });

  it("draws from the whole range below the bound (full jitter), and never leaves it", () => {
    fc.assert(
      fc.property(
        fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
        fc.integer({ min: 1, max: 5000 }),
        (random, failures) => {
          const backOff = new BackOff(settings, () => random);
          let wait = 0;
          for (let n = 0; n < failures; n++) wait = backOff.failed(n);
          assert.equal(wait, random * Math.min(60_000, 1000 * 2 ** (failures - 1)));
        },
      ),
      { numRuns: 50 },
    );
  });

  it("is not started over by a flapping link", () => {
    const backOff = new BackOff(settings, largest);
    for (let n = 0; n < 10; n++) {
      backOff.failed(n * 10);
      for (let ok = 1; ok < SUSTAINED_SUCCESSES; ok++) backOff.succeeded(n * 10 + ok);
    }
    assert.equal(Math.round(backOff.failed(100)), 60_000);
  });

  it("is started over by several successes in a row", () => {
    const backOff = new BackOff(settings, largest);
    for (let n = 0; n < 10; n++) backOff.failed(0);
    for (let ok = 0; ok < SUSTAINED_SUCCESSES; ok++) backOff.succeeded(1);
    assert.equal(Math.round(backOff.failed(2)), 1000);
  });

  it("is started over by success that has lasted, on a link with little traffic", () => {
    const backOff = new BackOff(settings, largest);
    for (let n = 0; n < 10; n++) backOff.failed(0);
    backOff.succeeded(100_000);
    assert.equal(Math.round(backOff.failed(159_999)), 60_000);
    backOff.succeeded(200_000);
    assert.equal(Math.round(backOff.failed(260_000)), 1000);
  });
});

describe("the gate", () => {
  const gate = (): Gate =>
    new Gate(
      { retry: { initial: 3_600_000, max: 3_600_000 }, breaker: { ...SETTINGS, recovery: 3_600_000 } },
      () => 0.5,
    );
  const permit = { admitted: "request", since: 0 } as const;

  it("is opened by news that the link is back, breaker and back-off included", () => {
    const shut = gate();
    for (let n = 0; n < 3; n++) shut.failed(n, { ...permit, since: n }, 0);
    assert.ok(shut.waitMs(10) > 1_000_000);
    assert.equal(shut.admit(10), undefined);
    shut.linkUp(10);
    assert.equal(shut.breaker(10), "half-open");
    assert.equal(shut.waitMs(10), 0);
    assert.deepEqual(shut.admit(10), { admitted: "probe", since: 10 });
  });

  it("is not opened by it before the time that fusion asked for", () => {
    const shut = gate();
    shut.failed(0, permit, 500_000);
    shut.linkUp(10);
    assert.equal(shut.waitMs(10), 499_990);
    assert.equal(shut.waitMs(500_000), 0);
  });

  it("counts requests that failed together as one step of the back-off", () => {
    const patient = { ...SETTINGS, consecutiveFailures: 100, minimumRequests: 100 };
    const steps = new Gate({ retry: { initial: 1000, max: 60_000 }, breaker: patient }, () => 0.5);
    for (let n = 0; n < 3; n++) steps.failed(100, { admitted: "request", since: 50 }, 0);
    assert.equal(steps.waitMs(100), 500);
    steps.failed(700, { admitted: "request", since: 650 }, 0);
    assert.equal(steps.waitMs(700), 1000);
  });
});

describe("the size of batches", () => {
  it("falls to what was taken, and doubles after a while of acceptance", () => {
    const size = new BatchSize({ maxReadings: 500, maxBytes: 512_000 });
    size.accepted();
    size.lower(500, 125);
    assert.deepEqual([size.maxReadings, size.maxBytes], [125, 128_000]);
    for (let n = 0; n < GROW_AFTER; n++) size.accepted();
    assert.deepEqual([size.maxReadings, size.maxBytes], [250, 256_000]);
    for (let n = 0; n < 10 * GROW_AFTER; n++) size.accepted();
    assert.deepEqual([size.maxReadings, size.maxBytes], [500, 512_000]);
  });

  it("never leaves its bounds", () => {
    const event = fc.oneof(
      fc.constant(undefined),
      fc.tuple(fc.integer({ min: 2, max: 500 }), fc.integer({ min: 1, max: 499 })),
    );
    fc.assert(
      fc.property(fc.array(event, { maxLength: 300 }), (events) => {
        const size = new BatchSize({ maxReadings: 500, maxBytes: 4096 });
        for (const refused of events) {
          if (refused === undefined) size.accepted();
          else size.lower(refused[0], Math.min(refused[1], refused[0] - 1));
          assert.ok(Number.isInteger(size.maxReadings) && size.maxReadings >= 1 && size.maxReadings <= 500);
          assert.ok(size.maxBytes >= 1024 && size.maxBytes <= 4096);
        }
      }),
    );
  });
});

describe("memory of refusals and tries", () => {
  it("a streak is exhausted by refusals in a row, and ended by one acceptance", () => {
    const streak = new RefusalStreak();
    for (let n = 1; n < REFUSALS_IN_A_ROW; n++) streak.refused();
    assert.equal(streak.exhausted, false);
    streak.refused();
    assert.equal(streak.exhausted, true);
    streak.accepted();
    assert.equal(streak.exhausted, false);
  });

  it("tries are counted by id, within bounds", () => {
    const tries = new Tries();
    assert.equal(tries.add(["a", "b"]), 1);
    assert.equal(tries.add(["b", "c"]), 2);
    tries.add(Array.from({ length: MAX_REMEMBERED_TRIES }, (_, n) => `other-${n}`));
    assert.equal(tries.add(["b"]), 1, "the oldest were forgotten");
  });
});
