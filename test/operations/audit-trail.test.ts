import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import {
  cpSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import type { AuditEvent } from "#src/kernel/audit.js";
import { lineOf } from "#src/operations/audit/entry.js";
import { writeHead } from "#src/operations/audit/head.js";
import { bytesOfTrail, listEntries } from "#src/operations/audit/list.js";
import { AuditTrail, MAX_WAITING } from "#src/operations/audit/trail.js";
import { type TrailReport, verifyExport, verifyTrail } from "#src/operations/audit/verify.js";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { TestClock } from "../support/test-clock.ts";

const WRITER = new URL("../support/audit-writer.js", import.meta.url).pathname;

interface Rig {
  readonly trail: AuditTrail;
  readonly folder: string;
  readonly clock: TestClock;
  /** What `onFault` and `onDamage` said. */
  readonly said: (string | undefined)[];
}

function rig(parent: string, maxBytes = 2 ** 24): Rig {
  const folder = join(parent, "audit");
  const clock = new TestClock();
  const said: (string | undefined)[] = [];
  const trail = new AuditTrail({
    folder,
    maxBytes,
    clock,
    bootId: "boot",
    clockQuality: () => "unsynchronised",
    onFault: (why) => said.push(why),
    onDamage: () => said.push("damaged"),
  });
  return { trail, folder, clock, said };
}

const created = (n: number): AuditEvent => ({ action: "key.created", actor: "cli:alice", subject: `key-${n}` });

async function write(parent: string, count: number, from = 1): Promise<string> {
  const { trail, folder } = rig(parent);
  trail.start();
  for (let n = from; n < from + count; n++) {
    trail.record(created(n));
    await trail.flush();
  }
  await trail.close();
  return folder;
}

/** The only segment's file. */
const segmentOf = (folder: string): string =>
  join(folder, readdirSync(folder).find((name) => name.endsWith(".jsonl")) ?? "");

/** The report of a copy to which something was done. */
async function after(t: TestContext, folder: string, damage: (copy: string) => void): Promise<TrailReport> {
  const copy = temporaryFolder(t);
  cpSync(folder, copy, { recursive: true });
  damage(copy);
  const report = await verifyTrail(copy);
  rmSync(copy, { recursive: true });
  return report;
}

test("what was recorded is there in order, with who, what and both times, and the chain is whole", async (t) => {
  const folder = await write(temporaryFolder(t), 3);
  const { entries } = await listEntries(folder, { limit: 10 });
  assert.deepEqual(
    entries.map(({ seq, actor, action, subject, boot, clock }) => [seq, actor, action, subject, boot, clock]),
    [1, 2, 3].map((n) => [n, "cli:alice", "key.created", `key-${n}`, "boot", "unsynchronised"]),
  );
  assert.equal(entries[0]?.at, "2026-07-01T12:00:00.000Z");
  assert.equal(entries[0]?.uptime_ms, 1000);
  const { ok, problems, notes, end } = await verifyTrail(folder);
  assert.deepEqual({ ok, problems, notes, seq: end?.seq }, { ok: true, problems: [], notes: [], seq: 3 });
});

test("a changed byte is found, wherever in the trail it is", async (t) => {
  const folder = await write(temporaryFolder(t), 3);
  const segment = segmentOf(folder);
  const bytes = readFileSync(segment);
  for (let at = 0; at < bytes.length; at++) {
    const changed = Buffer.from(bytes);
    changed[at] = (changed[at] ?? 0) ^ 1;
    writeFileSync(segment, changed);
    assert.equal((await verifyTrail(folder)).ok, false, `byte ${at}`);
  }
});

test("a line that is taken out, doubled, or changes places is found and named, in the middle as at the ends", async (t) => {
  const folder = await write(temporaryFolder(t), 5);
  const lines = readFileSync(segmentOf(folder), "utf8").trimEnd().split("\n");
  const withLines = (changed: readonly string[]) =>
    after(t, folder, (copy) => writeFileSync(segmentOf(copy), changed.map((line) => `${line}\n`).join("")));
  for (let at = 0; at < lines.length; at++) {
    const gone = await withLines(lines.toSpliced(at, 1));
    assert.match(
      gone.problems.map(({ detail }) => detail).join("; "),
      new RegExp(`entr(y|ies before entry) ${at === 0 ? 2 : at + 1}\\b`),
    );
    assert.equal((await withLines(lines.toSpliced(at, 0, lines[at] ?? ""))).ok, false, `line ${at} twice`);
    for (let other = at + 1; other < lines.length; other++) {
      const swapped = lines.with(at, lines[other] ?? "").with(other, lines[at] ?? "");
      assert.equal((await withLines(swapped)).ok, false, `lines ${at} and ${other} swapped`);
    }
  }
});

test("a trail cut off at any byte is found; without the anchor a cut between two lines is not", async (t) => {
  const folder = await write(temporaryFolder(t), 3);
  const segment = segmentOf(folder);
  const bytes = readFileSync(segment);
  for (let length = 0; length < bytes.length; length++) {
    writeFileSync(segment, bytes.subarray(0, length));
    assert.equal((await verifyTrail(folder)).ok, false, `${length} bytes`);
  }
  writeFileSync(segment, bytes);
  assert.equal((await after(t, folder, (copy) => rmSync(segmentOf(copy)))).ok, false, "no file at all");
  const lines = readFileSync(segmentOf(folder), "utf8").split("\n");
  const shorter = join(temporaryFolder(t), "export.jsonl");
  writeFileSync(shorter, lines.slice(0, 2).join("\n").concat("\n"));
  assert.equal((await verifyExport(shorter)).ok, true);
});

test("an anchor that was taken away is found missing", async (t) => {
  const folder = await write(temporaryFolder(t), 3);
  const without = await after(t, folder, (copy) => {
    for (const name of ["head.0", "head.1"]) rmSync(join(copy, name));
  });
  assert.deepEqual(
    without.problems.map(({ kind }) => kind),
    ["anchor"],
  );
});

test("what a power cut leaves of an unfinished entry is no tampering, and the trail goes on behind it", async (t) => {
  const parent = temporaryFolder(t);
  const folder = await write(parent, 2);
  const durable = readFileSync(segmentOf(folder));
  const next = lineOf(created(3), { at: "2026", boot: "b", uptime_ms: 1, clock: "stepped" }, 3, "f".repeat(64)).line;
  for (const rest of [next.slice(0, 1), next.slice(0, -1), "\0".repeat(300), `\0\0\n${next}`, "{}\n\n"]) {
    const torn = await after(t, folder, (copy) =>
      writeFileSync(segmentOf(copy), Buffer.concat([durable, Buffer.from(rest)])),
    );
    assert.deepEqual([torn.ok, torn.notes.length, torn.entries], [true, 1, 2], JSON.stringify(rest));
    const copy = join(temporaryFolder(t), "audit");
    cpSync(folder, copy, { recursive: true });
    writeFileSync(segmentOf(copy), Buffer.concat([durable, Buffer.from(rest)]));
    await write(join(copy, ".."), 1, 3);
    const resumed = await verifyTrail(copy);
    assert.deepEqual([resumed.ok, resumed.entries, resumed.notes.length], [true, 4, 1], JSON.stringify(rest));
    // The remains are part of the chain now.
    const changed = await after(t, copy, (again) => {
      const bytes = readFileSync(segmentOf(again));
      bytes[durable.length] = (bytes[durable.length] ?? 0) ^ 1;
      writeFileSync(segmentOf(again), bytes);
    });
    assert.equal(changed.ok, false);
  }
});

test("an anchor spoilt by a power cut while it was written is no tampering", async (t) => {
  const folder = await write(temporaryFolder(t), 4);
  const report = await after(t, folder, (copy) => writeFileSync(join(copy, "head.0"), "\0".repeat(160)));
  assert.equal(report.ok, true);
});

test("entries that were cut off stay missing for verify, and the daemon's health, when the trail has gone on", async (t) => {
  const parent = temporaryFolder(t);
  const folder = await write(parent, 4);
  const lines = readFileSync(segmentOf(folder), "utf8").split("\n");
  writeFileSync(segmentOf(folder), lines.slice(0, 2).join("\n").concat("\n"));
  const { trail, said } = rig(parent);
  trail.start();
  trail.record(created(9));
  await trail.close();
  assert.ok(said.includes("damaged"));
  const report = await verifyTrail(folder);
  assert.match(report.problems[0]?.detail ?? "", /entries 3 to 4 had been written/);
  assert.equal(report.end?.seq, 6);
});

test("a trail made anew as a whole is found by an end that was noted elsewhere, and by nothing else", async (t) => {
  const parent = temporaryFolder(t);
  const folder = await write(parent, 3);
  const noted = (await verifyTrail(folder)).end;
  rmSync(folder, { recursive: true });
  await write(parent, 3, 7);
  assert.equal((await verifyTrail(folder)).ok, true);
  assert.ok(noted !== undefined);
  assert.deepEqual(
    (await verifyTrail(folder, noted)).problems.map(({ kind }) => kind),
    ["noted"],
  );
  // One who leaves the anchor as it was is found without.
  const forged = temporaryFolder(t);
  cpSync(folder, forged, { recursive: true });
  await writeHead(forged, noted, async () => {});
  assert.deepEqual(
    (await verifyTrail(forged)).problems.map(({ kind }) => kind),
    ["anchor"],
  );
});

test("processes that write at the same time make one chain, with every entry of each", async (t) => {
  const parent = temporaryFolder(t);
  const folder = join(parent, "audit");
  const writers = ["a", "b", "c"].map((name) =>
    spawn(process.execPath, [WRITER, folder, name, "40"], { stdio: ["ignore", "ignore", "inherit"] }),
  );
  const statuses = await Promise.all(writers.map(async (writer) => (await once(writer, "exit"))[0]));
  assert.deepEqual(statuses, [0, 0, 0]);
  const { ok, entries } = await verifyTrail(folder);
  assert.deepEqual({ ok, entries }, { ok: true, entries: 120 });
  const subjects = new Set((await listEntries(folder, { limit: 1000 })).entries.map(({ subject }) => subject));
  assert.equal(subjects.size, 120);
});

test("a writer killed at any moment leaves a whole trail, with every entry that it had called durable", async (t) => {
  const parent = temporaryFolder(t);
  const folder = join(parent, "audit");
  const told: string[] = [];
  for (let round = 0; round < 12; round++) {
    const writer = spawn(process.execPath, [WRITER, folder, `r${round}`, "100000"], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    let text = "";
    for await (const chunk of writer.stdout) {
      text += chunk;
      if (text.split("\n").length > 3 + round) writer.kill("SIGKILL");
    }
    told.push(...text.split("\n").slice(0, -1));
    const report = await verifyTrail(folder);
    assert.deepEqual(report.problems, []);
  }
  const subjects = new Set((await listEntries(folder, { limit: 100_000 })).entries.map(({ subject }) => subject));
  assert.deepEqual(
    told.filter((each) => !subjects.has(each)),
    [],
  );
});

test("the trail keeps to its size, stays verifiable without its oldest part, and says what went", async (t) => {
  const parent = temporaryFolder(t);
  const maxBytes = 64 * 1024;
  const { trail, folder } = rig(parent, maxBytes);
  trail.start();
  for (let n = 1; n <= 600; n++) {
    trail.record(created(n));
    if (n % 5 === 0) await trail.flush();
  }
  await trail.close();
  const names = readdirSync(folder).filter((name) => name.endsWith(".jsonl"));
  const bytes = names.reduce((sum, name) => sum + statSync(join(folder, name)).size, 0);
  assert.ok(bytes < 1.3 * maxBytes, `${bytes} bytes`);
  const report = await verifyTrail(folder);
  assert.deepEqual([report.ok, report.problems], [true, []]);
  assert.ok((report.first ?? 0) > 100);
  assert.match(report.notes.join(), /went by audit\.maxBytes/);
  const byHand = await after(t, folder, (copy) => rmSync(join(copy, names.sort()[0] ?? "")));
  assert.match(byHand.problems.map(({ detail }) => detail).join(), /no entry says that they had to go/);
  const inTheMiddle = await after(t, folder, (copy) => rmSync(join(copy, names.sort()[3] ?? "")));
  assert.equal(inTheMiddle.ok, false);
});

test("ten thousand refused logins are twenty entries and a sum, and push nothing else out", async (t) => {
  const { trail, folder, clock } = rig(temporaryFolder(t));
  trail.start();
  for (let n = 0; n < 10_000; n++)
    trail.record({ action: "login.refused", actor: `device:d${n}`, subject: "mqtt", detail: { reason: "no" } });
  trail.record(created(1));
  await clock.advance(60_000);
  await trail.close();
  const { entries } = await listEntries(folder, { limit: 1000 });
  assert.equal(entries.filter(({ action }) => action === "key.created").length, 1);
  const refused = entries.filter(({ action }) => action === "login.refused");
  assert.equal(refused.length, 21);
  assert.equal(refused.at(-1)?.detail?.times, 9_980);
});

test("an attack that goes on for a day takes less than a megabyte of the trail", async (t) => {
  const { trail, folder, clock } = rig(temporaryFolder(t));
  trail.start();
  const name = "x".repeat(4000);
  for (let minute = 0; minute < 24 * 60; minute++) {
    for (let n = 0; n < 25; n++) trail.record({ action: "login.refused", actor: `device:${name}`, subject: "mqtt" });
    await clock.advance(60_000);
  }
  await trail.close();
  let size = 0;
  for await (const bytes of bytesOfTrail(folder)) size += bytes.length;
  assert.ok(size < 1_000_000, `${size} bytes`);
  assert.equal((await verifyTrail(folder)).ok, true);
});

test("a trail that cannot be written says so, keeps what comes within a bound, and counts the rest", async (t) => {
  const parent = temporaryFolder(t);
  const missing = join(parent, "not-yet");
  const { trail, folder, said, clock } = rig(missing);
  trail.start();
  for (let n = 1; n <= MAX_WAITING + 7; n++) trail.record(created(n));
  await trail.flush();
  assert.match(said.at(-1) ?? "", /ENOENT/);
  mkdirSync(missing);
  await clock.advance(10_000);
  await trail.close();
  assert.equal(said.at(-1), undefined);
  const { entries } = await listEntries(folder, { limit: 2000 });
  assert.equal(entries.length, MAX_WAITING + 1);
  assert.deepEqual([entries.at(-1)?.action, entries.at(-1)?.detail?.count], ["trail.lost", 7]);
  assert.equal((await verifyTrail(folder)).ok, true);
});

test("no link in the trail's folder leads an entry elsewhere", async (t) => {
  const parent = temporaryFolder(t);
  const folder = await write(parent, 2);
  const elsewhere = join(parent, "elsewhere");
  for (const path of [segmentOf(folder), join(folder, "head.0"), join(folder, "head.1")]) {
    renameSync(path, elsewhere);
    symlinkSync(elsewhere, path);
    const before = readFileSync(elsewhere, "utf8");
    const { trail, said } = rig(parent);
    trail.start();
    for (const n of [3, 4]) {
      trail.record(created(n));
      await trail.flush();
    }
    await trail.close();
    assert.match(said.join(), /ELOOP/, path);
    assert.equal(readFileSync(elsewhere, "utf8"), before);
    rmSync(path);
    renameSync(elsewhere, path);
  }
});

test("a full disk tears nothing that verify would call tampering", async (t) => {
  // As a write that came to an end half-way: bytes without a line feed behind the last entry, twice.
  const parent = temporaryFolder(t);
  const folder = await write(parent, 1);
  for (const n of [2, 3]) {
    writeFileSync(segmentOf(folder), '{"seq":', { flag: "a" });
    await write(parent, 1, n);
  }
  const report = await verifyTrail(folder);
  assert.deepEqual([report.ok, report.entries, report.notes.length], [true, 5, 2]);
});
