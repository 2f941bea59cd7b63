import assert from "node:assert/strict";
import { test } from "node:test";
import { Conditions } from "#src/kernel/conditions.js";
import { createLog } from "#src/kernel/telemetry.js";
import { RoomWatch } from "#src/outbox/room-watch.js";
import { TestClock } from "../support/test-clock.ts";

const NOTHING = {
  accepted: 0,
  pending: 0,
  delivered: 0,
  expired: 0,
  evicted: 0,
  thinned: 0,
  deadLettered: 0,
  damaged: 0,
  duplicates: 0,
};

test("what was evicted and what expired is said once, with how many there were, when it is over", async () => {
  const lines: { code: string; msg: string; readings?: number }[] = [];
  const sink = { write: (line: string) => lines.push(JSON.parse(line)) };
  const log = await createLog({ level: "info", format: "json" }, {}, sink);
  const clock = new TestClock();
  const watch = new RoomWatch(new Conditions(clock, log), clock);
  const note = (fill: number, evicted: number, expired: number): void =>
    watch.note({ room: { fill, limitedBy: "maxBytes" }, ledgers: [{ ...NOTHING, evicted, expired }] });

  note(0.1, 100, 50);
  for (const evicted of [119, 138]) note(1, evicted, 50);
  note(0.7, 138, 50);
  note(0.7, 138, 57);
  note(0.7, 138, 60);
  await clock.advance(30_000);
  note(1, 139, 60);
  note(0.1, 139, 60);
  assert.deepEqual(
    lines.filter(({ code }) => code !== "filling").map(({ code, readings }) => [code, readings]),
    [
      ["evicting", undefined],
      ["evicting", 38],
      ["expiring", undefined],
      ["expiring", 10],
      ["evicting", undefined],
      ["evicting", 1],
    ],
  );
});
