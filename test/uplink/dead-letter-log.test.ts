import assert from "node:assert/strict";
import { test } from "node:test";
import { createLog } from "#src/kernel/telemetry.js";
import { DeadLetterLog } from "#src/uplink/dead-letter-log.js";
import { TestClock } from "../support/test-clock.ts";

test("the first refusals are told at once, the others together a minute later, and none is left out", async () => {
  const lines: { level: string; readings: number; code: string; detail: string }[] = [];
  const sink = { write: (line: string) => lines.push(JSON.parse(line)) };
  const clock = new TestClock();
  const log = new DeadLetterLog(await createLog({ level: "info", format: "json" }, {}, sink), clock);
  const refuse = (count: number, code = "bad"): void => {
    const deadLettered = Array.from({ length: count }, (_, index) => ({ index, code, detail: `reading ${index}` }));
    log.settled({ delivered: [], deadLettered });
  };

  refuse(0);
  refuse(3);
  for (let n = 0; n < 1000; n++) refuse(2, "worse");
  refuse(0);
  assert.equal(lines.length, 1);
  await clock.advance(60_000);
  await clock.advance(3_600_000);
  refuse(1);
  refuse(4);
  log.stop();
  assert.deepEqual(
    lines.map(({ level, readings, code, detail }) => [level, readings, code, detail]),
    [
      ["warn", 3, "bad", "reading 2"],
      ["warn", 2000, "worse", "reading 1"],
      ["warn", 1, "bad", "reading 0"],
      ["warn", 4, "bad", "reading 3"],
    ],
  );
  assert.equal(clock.waiting, 0);
});
