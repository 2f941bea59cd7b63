import assert from "node:assert/strict";
import { test } from "node:test";
import { isSuspect, latestBelieved } from "#src/observation/suspect.js";

const NOON = Date.UTC(2026, 6, 1, 12);
const DAY_MS = 86_400_000;
const iso = (ms: number) => new Date(ms).toISOString();

test("a time before 2020 is suspect, whatever the gateway's clock", () => {
  for (const clock of ["synchronised", "unsynchronised", "stepped"] as const) {
    const latest = latestBelieved(NOON, clock);
    assert.equal(isSuspect("2019-12-31T23:59:59.999Z", latest), true);
    assert.equal(isSuspect("2020-01-01T00:00:00.000Z", latest), false);
    assert.equal(isSuspect("1980-01-06T00:00:00.000Z", latest), true);
    assert.equal(isSuspect("0000-01-01T00:00:00.000Z", latest), true);
  }
});

test("a time more than a day ahead is suspect, where the gateway's clock is synchronised", () => {
  const latest = latestBelieved(NOON, "synchronised");
  assert.equal(isSuspect(iso(NOON + DAY_MS), latest), false);
  assert.equal(isSuspect(iso(NOON + DAY_MS + 1), latest), true);
  assert.equal(isSuspect("9999-12-31T23:59:59.999Z", latest), true);
});

test("a clock that is not synchronised says nothing about who is ahead", () => {
  for (const clock of ["unsynchronised", "stepped"] as const) {
    assert.equal(isSuspect(iso(NOON + 100 * DAY_MS), latestBelieved(0, clock)), false);
    assert.equal(isSuspect("9999-12-31T23:59:59.999Z", latestBelieved(0, clock)), false);
  }
});
