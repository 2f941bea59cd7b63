import assert from "node:assert/strict";
import { test } from "node:test";
import { pino } from "pino";
import { Registry } from "prom-client";
import { Conditions } from "#src/kernel/conditions.js";
import { teller } from "#src/outbox/notices.js";

test("each damaged block is one line in the log, and the condition adds them up", () => {
  const lines: string[] = [];
  const log = pino({ level: "info" }, { write: (line: string) => lines.push(line) });
  const conditions = new Conditions({ now: () => 0 }, log);
  const tell = teller({ telemetry: { log, metrics: new Registry() }, conditions });
  tell({ kind: "damaged", readings: 19, detail: "checksum of the block at sequence number 1 does not match" });
  tell({ kind: "damaged", readings: 19, detail: "checksum of the block at sequence number 20 does not match" });
  assert.equal(lines.length, 2);
  assert.match(conditions.list()[0]?.detail ?? "", /^38 stored readings/);
});

test("a repair is told to the log once, and an earlier one whose damaged file is still there as a condition", () => {
  for (const now of [true, false]) {
    const lines: string[] = [];
    const log = pino({ level: "info" }, { write: (line: string) => lines.push(line) });
    const conditions = new Conditions({ now: () => 0 }, log);
    const tell = teller({ telemetry: { log, metrics: new Registry() }, conditions });
    tell({ kind: "repaired", now, damaged: 1, salvaged: 2, setAside: "outbox.db.damaged-1", detail: "it was damaged" });
    assert.equal(lines.length, 1);
    assert.equal(JSON.parse(lines[0] ?? "{}").level, now ? 50 : 40);
    assert.equal(conditions.list().length, 1);
  }
});
