import assert from "node:assert/strict";
import { test } from "node:test";
import { lifeState, renewalDueAt, validityFrom } from "#src/identity/certificate-life.js";

const NOON = Date.UTC(2026, 6, 1, 12);
const DAY_MS = 86_400_000;

test("renewal is due at two thirds of the lifetime, and not a moment before", () => {
  const validity = { notBefore: NOON, notAfter: NOON + 90 * DAY_MS };
  const due = NOON + 60 * DAY_MS;
  assert.equal(renewalDueAt(validity), due);
  assert.equal(lifeState(validity, due - 1), "valid");
  assert.equal(lifeState(validity, due), "renewal-due");
  assert.equal(lifeState(validity, validity.notAfter - 1), "renewal-due");
  assert.equal(lifeState(validity, validity.notAfter), "expired");
  assert.equal(lifeState(validity, NOON - 1), "not-yet-valid");
});

test("a certificate is backdated by a tenth of its lifetime at most, and ends with its authority", () => {
  assert.deepEqual(validityFrom(NOON, 365 * DAY_MS, 30 * DAY_MS), {
    notBefore: NOON - 30 * DAY_MS,
    notAfter: NOON + 365 * DAY_MS,
  });
  assert.equal(validityFrom(NOON, 10 * DAY_MS, 30 * DAY_MS).notBefore, NOON - DAY_MS);
  assert.equal(validityFrom(NOON, 365 * DAY_MS, 0, NOON + DAY_MS).notAfter, NOON + DAY_MS);
});
