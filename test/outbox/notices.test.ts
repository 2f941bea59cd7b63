import assert from "node:assert/strict";
import { test } from "node:test";
import { pino } from "pino";
import { Registry } from "prom-client";
import type { AuditEvent } from "#src/kernel/audit.js";
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

test("an unclean stop whose file is whole is told to the log, and is no condition", () => {
  const lines: string[] = [];
  const log = pino({ level: "info" }, { write: (line: string) => lines.push(line) });
  const conditions = new Conditions({ now: () => 0 }, log);
  teller({ telemetry: { log, metrics: new Registry() }, conditions })({
    kind: "checked",
    why: "unclean-stop",
    seconds: 1.23456,
  });
  const { level, seconds, msg } = JSON.parse(lines[0] ?? "{}");
  assert.deepEqual([lines.length, level, seconds], [1, 30, 1.235]);
  assert.match(msg, /not a clean one.*checked.*whole/);
  assert.deepEqual(conditions.list(), []);
});

test("a file that another program has touched, or written over, is told to the log, the latter as a condition", () => {
  const lines: string[] = [];
  const log = pino({ level: "info" }, { write: (line: string) => lines.push(line) });
  const conditions = new Conditions({ now: () => 0 }, log);
  const tell = teller({ telemetry: { log, metrics: new Registry() }, conditions });
  tell({ kind: "checked", why: "touched", seconds: 1 });
  const { level, msg } = JSON.parse(lines[0] ?? "{}");
  assert.equal(level, 40);
  assert.match(msg, /another program has written to the outbox's file, or touched it.*whole/);
  tell({ kind: "file-place", file: "/data/outbox.db", place: "overwritten" });
  assert.match(conditions.list()[0]?.detail ?? "", /written over the outbox's file \/data\/outbox.db.*outbox restore/);
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

test("what is set aside, and dead letters that had to go, are told to the audit trail; an earlier repair is not again", () => {
  const log = pino({ level: "silent" });
  const audited: AuditEvent[] = [];
  const audit = (event: AuditEvent) => void audited.push(event);
  const conditions = new Conditions({ now: () => 0 }, log);
  const tell = teller({ telemetry: { log, metrics: new Registry() }, conditions, audit });
  const repaired = {
    kind: "repaired",
    damaged: 1,
    salvaged: 2,
    setAside: "outbox.db.damaged-1",
    detail: "why",
  } as const;
  tell({ ...repaired, now: true });
  tell({ ...repaired, now: false });
  tell({ kind: "damaged", readings: 19, detail: "checksum" });
  tell({ kind: "dead-letters-dropped", ids: ["a", "b"] });
  assert.deepEqual(
    audited.map(({ action, subject, detail }) => [action, subject ?? detail?.ids ?? detail?.count]),
    [
      ["file.set-aside", "outbox.db.damaged-1"],
      ["block.set-aside", 19],
      ["dead-letter.dropped", "a b"],
    ],
  );
});
