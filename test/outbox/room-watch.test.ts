import assert from "node:assert/strict";
import { test } from "node:test";
import type { AuditEvent } from "#src/kernel/audit.js";
import { Conditions } from "#src/kernel/conditions.js";
import { createLog } from "#src/kernel/telemetry.js";
import { EMPTY_LEDGER } from "#src/outbox/ledger.js";
import { RoomWatch } from "#src/outbox/room-watch.js";
import { TestClock } from "../support/test-clock.ts";

interface Line {
  readonly level: string;
  readonly code: string;
  readonly msg: string;
  readonly readings?: number;
}

/** A watch, the lines that it writes, and its conditions. */
async function watching() {
  const lines: Line[] = [];
  const sink = { write: (line: string) => lines.push(JSON.parse(line)) };
  const log = await createLog({ level: "info", format: "json" }, {}, sink);
  const clock = new TestClock();
  const audited: AuditEvent[] = [];
  const conditions = new Conditions(clock, log);
  const watch = new RoomWatch(conditions, clock, (event) => audited.push(event));
  const note = (fill: number, evicted = 0, expired = 0): void =>
    watch.note({ room: { fill, limitedBy: "maxBytes" }, ledgers: [{ ...EMPTY_LEDGER, evicted, expired }] });
  return { lines, clock, conditions, watch, note, audited };
}

test("what was evicted and what expired is said once, with how many there were, when it is over", async () => {
  const { lines, clock, conditions, note, audited } = await watching();
  note(0.1, 100, 50);
  for (const evicted of [119, 138]) note(1, evicted, 50);
  note(0.1, 138, 50);
  note(0.1, 138, 57);
  note(0.1, 138, 60);
  for (const { severity } of conditions.list()) assert.equal(severity, "degraded", "an outage is no failure");
  await clock.advance(30_000);
  note(1, 139, 60);
  note(0.1, 139, 60);
  assert.deepEqual(
    lines.map(({ level, code, readings }) => [level, code, readings]),
    [
      ["error", "evicting", undefined],
      ["info", "evicting", 38],
      ["error", "expiring", undefined],
      ["info", "expiring", 10],
      ["error", "evicting", undefined],
      ["info", "evicting", 1],
    ],
  );
  assert.deepEqual(
    audited.map(({ action, detail }) => [action, detail?.count]),
    [
      ["eviction.began", undefined],
      ["eviction.ended", 38],
      ["eviction.began", undefined],
      ["eviction.ended", 1],
    ],
  );
});

test("the outbox is in one state at a time, and each change of it is one line", async () => {
  const { lines, conditions, watch, note } = await watching();
  const state = () => conditions.list().map(({ code }) => code);
  note(0.79);
  assert.deepEqual(state(), []);
  for (const fill of [0.8, 0.9, 0.7, 0.85]) note(fill);
  assert.deepEqual(state(), ["filling"]);
  watch.hold("outbox-full");
  for (const fill of [1, 0.98]) note(fill);
  assert.deepEqual(state(), ["full"]);
  for (const evicted of [10, 20]) note(1, evicted);
  watch.hold(undefined);
  note(0.95, 20);
  assert.deepEqual(state(), ["evicting"], "at its limit it does not change with each commit");
  for (const fill of [0.79, 0.61]) note(fill, 20);
  assert.deepEqual(state(), ["filling"]);
  assert.match(conditions.list()[0]?.detail ?? "", /well again below 60 %/);
  note(0.59, 20);
  assert.deepEqual(state(), []);
  assert.deepEqual(
    lines.map(({ level, code, readings, msg }) => [level, code, readings, msg === "well again"]),
    [
      ["warn", "filling", undefined, false],
      ["warn", "full", undefined, false],
      ["error", "evicting", undefined, false],
      ["warn", "filling", 20, false],
      ["info", "filling", undefined, true],
    ],
  );
});
