/** `summit-edge audit`: who did what, and whether the trail that says so is whole. Reads its files; the daemon may run. */
import { closeSync, existsSync, fsyncSync, openSync, renameSync, rmSync, writeSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { type Command, InvalidArgumentError, Option } from "commander";
import { loadConfig } from "../config/load.ts";
import { nearest } from "../config/nearest.ts";
import { parseDuration } from "../config/units.ts";
import { AUDIT_ACTIONS } from "../kernel/audit.ts";
import { systemClock } from "../kernel/clock.ts";
import { codeOf, GatewayError, messageOf } from "../kernel/errors.ts";
import { FileLock } from "../kernel/file-lock.ts";
import type { AuditEntry, Link } from "../operations/audit/entry.ts";
import { bytesOfTrail, type EntryPage, listEntries } from "../operations/audit/list.ts";
import { LOCK, trailFolder } from "../operations/audit/segments.ts";
import { type TrailReport, verifyExport, verifyTrail } from "../operations/audit/verify.ts";
import { moment, wholeNumber } from "./arguments.ts";
import { configFile, configOption } from "./config-file.ts";
import { count, json, printable, table } from "./format.ts";
import { processTerminal, type Terminal } from "./terminal.ts";

interface Options {
  readonly config?: string;
  readonly json?: true;
}
interface ListOptions extends Options {
  readonly since?: number;
  readonly action?: string;
  readonly limit: number;
}
interface VerifyOptions extends Options {
  readonly noted?: Link;
}
interface ExportOptions extends Options {
  readonly overwrite?: true;
}

const DEFAULT_LIMIT = 100;
const MAX_LIMIT = 100_000;
/** The daemon holds the trail's lock for the length of one write. */
const LOCK_TRIES = 100;
const LOCK_RETRY_MS = 50;

/** Adds `summit-edge audit` with `list`, `verify` and `export`. */
export function addAuditCommand(program: Command, terminal: Terminal = processTerminal): void {
  const group = program.command("audit").description("who did what, and whether the trail that says so is whole");
  group.addHelpText("after", "\nExample:\n  summit-edge audit list --since 24h --action login");
  addList(group, terminal);
  addVerify(group, terminal);
  addExport(group, terminal);
}

function withOptions(command: Command): Command {
  return command
    .addOption(configOption("configuration: where the trail is"))
    .option("--json", "print the result as JSON");
}

function addList(group: Command, terminal: Terminal): void {
  withOptions(group.command("list").description("the newest entries, oldest of them first"))
    .option("--since <time>", "from then on: 2026-07-01T12:00:00Z, or 24h for as long ago", sinceOf)
    .option("--action <name>", "only this: login.refused, or login for all that begin with it")
    .addOption(
      new Option("--limit <n>", `at most so many, 1 to ${MAX_LIMIT}`)
        .argParser(wholeNumber(1, MAX_LIMIT))
        .default(DEFAULT_LIMIT),
    )
    .addHelpText(
      "after",
      `\nActions:\n${ACTIONS_TEXT}\nExample:\n  summit-edge audit list --since 7d --action dead-letter --json`,
    )
    .action(async ({ since, action, limit, ...options }: ListOptions) => {
      const folder = await folderOf(options, terminal);
      const query = { limit, ...(since !== undefined && { since }), ...(action !== undefined && { action }) };
      const page = await readable(folder, () => listEntries(folder, query));
      if (action !== undefined && page.entries.length === 0) refuseUnknown(action);
      terminal.write(options.json ? json(page, 2) : pageText(page));
    });
}

const ACTION_NAMES = Object.keys(AUDIT_ACTIONS);
const ACTIONS_TEXT = Object.entries(AUDIT_ACTIONS)
  .map(([name, meaning]) => `  ${name.padEnd(23)}${meaning}\n`)
  .join("");

/** Only where nothing was found: the trail may hold actions of another version. */
function refuseUnknown(action: string): void {
  const groups = ACTION_NAMES.map((name) => name.slice(0, name.indexOf(".")));
  const known = [...new Set([...groups, ...ACTION_NAMES])];
  if (known.includes(action)) return;
  const guess = nearest(action, known);
  throw new GatewayError({
    code: "USAGE",
    op: "audit.list",
    message: `no action is called ${printable(action)}`,
    hint: `${guess?.close ? `Did you mean ${guess.name}? ` : ""}summit-edge audit list --help has all of them.`,
  });
}

function addVerify(group: Command, terminal: Terminal): void {
  withOptions(group.command("verify [file]"))
    .description("look through the trail, or an exported file, for what was changed, taken out, moved or cut off")
    .option("--noted <seq:hash>", "an end that was noted elsewhere must be in it, too", linkOf)
    .addHelpText("after", "\nIt exits with status 1 where something is wrong.\n\nExample:\n  summit-edge audit verify")
    .action(async (file: string | undefined, { noted, ...options }: VerifyOptions) => {
      const report = await reportOf(file, noted, options, terminal);
      terminal.write(options.json ? json(report, 2) : reportText(report));
      mustBeWhole(report);
    });
}

async function reportOf(
  file: string | undefined,
  noted: Link | undefined,
  options: Options,
  terminal: Terminal,
): Promise<TrailReport> {
  if (file !== undefined) return await readable(file, () => verifyExport(resolve(file), noted));
  const folder = await folderOf(options, terminal);
  return await readable(folder, () => undisturbed(folder, terminal, () => verifyTrail(folder, noted)));
}

function addExport(group: Command, terminal: Terminal): void {
  withOptions(group.command("export [file]"))
    .description("the whole trail in one file, or on standard output: lines of JSON, which audit verify FILE can check")
    .option("--overwrite", "replace the file if it is there already")
    .addHelpText("after", "\nExample:\n  summit-edge audit export /media/usb/sierra-014-audit.jsonl")
    .action(async (file: string | undefined, options: ExportOptions) => {
      if (file === undefined) await print(options, terminal);
      else await exportTo(resolve(file), options, terminal);
    });
}

async function exportTo(target: string, options: ExportOptions, terminal: Terminal): Promise<void> {
  if (existsSync(target) && !options.overwrite) throw isThere(target);
  const folder = await folderOf(options, terminal);
  await readable(folder, () => undisturbed(folder, terminal, () => copyTo(folder, target)));
  const report = await verifyExport(target);
  const { entries, end, ok } = report;
  const result = { file: target, entries, ...(end !== undefined && { end }), ok };
  terminal.write(options.json ? json(result, 2) : exportedText(target, report));
  mustBeWhole(report);
}

/** The trail is bounded, and a reader may be slow: it is read as a whole, and nobody waits for its lock while it is written. */
async function print(options: Options, terminal: Terminal): Promise<void> {
  const folder = await folderOf(options, terminal);
  let lines = "";
  const look = async (): Promise<TrailReport> => {
    for await (const bytes of bytesOfTrail(folder)) lines += bytes;
    return await verifyTrail(folder);
  };
  const report = await readable(folder, () => undisturbed(folder, terminal, look));
  terminal.write(lines);
  mustBeWhole(report);
}

async function copyTo(folder: string, target: string): Promise<void> {
  const partial = `${target}.partial`;
  try {
    const fd = openSync(partial, "w", 0o600);
    try {
      for await (const bytes of bytesOfTrail(folder))
        for (let at = 0; at < bytes.length; ) at += writeSync(fd, bytes, at);
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
    renameSync(partial, target);
  } catch (cause) {
    rmSync(partial, { force: true });
    throw new GatewayError({
      code: "EXPORT_FAILED",
      op: "audit.export",
      message: `cannot write ${target}: ${messageOf(cause)}`,
      hint: `Check that ${dirname(target)} can be written, and that its disk is not full.`,
      cause,
    });
  }
}

async function folderOf(options: Options, terminal: Terminal): Promise<string> {
  const config = await loadConfig(configFile(options.config ?? terminal.installedConfig()), terminal.env);
  return trailFolder(config.gateway.dataDir);
}

/** While nobody writes; where this user may not take the lock, as it is. */
async function undisturbed<T>(folder: string, terminal: Terminal, look: () => Promise<T>): Promise<T> {
  let lock: FileLock | undefined;
  try {
    if (existsSync(join(folder, LOCK)))
      for (let tries = 0; tries < LOCK_TRIES && lock === undefined; tries++) {
        lock = FileLock.tryAcquire(join(folder, LOCK));
        if (lock === undefined) await terminal.pause(LOCK_RETRY_MS);
      }
  } catch {
    // To read is enough.
  }
  try {
    return await look();
  } finally {
    lock?.release();
  }
}

async function readable<T>(place: string, look: () => Promise<T>): Promise<T> {
  try {
    return await look();
  } catch (cause) {
    if (cause instanceof GatewayError) throw cause;
    const why = codeOf(cause) === "EACCES" ? "this user may not read it" : messageOf(cause);
    throw new GatewayError({
      code: "AUDIT_UNREADABLE",
      op: "audit.read",
      message: `cannot read the audit trail ${place}: ${why}`,
      hint: "Run the command as root (sudo), or as the daemon's user; see that gateway.dataDir, or the file's name, is the right one.",
      cause,
    });
  }
}

function pageText({ entries, older }: EntryPage): string {
  if (entries.length === 0) return "There are no such entries.\n";
  const rows = entries.map((entry) => [
    String(entry.seq),
    entry.clock === "synchronised" ? entry.at : `${entry.at}?`,
    entry.actor,
    entry.action,
    entry.subject ?? "",
    detailText(entry),
  ]);
  const unsure = entries.some(({ clock }) => clock !== "synchronised");
  const notes = [
    unsure ? "? by a clock that was not synchronised then\n" : "",
    older > 0 ? `There are ${count(older)} older ones: --limit\n` : "",
  ];
  return table(rows, ["seq>", "time", "who", "did", "to", "detail"]) + notes.join("");
}

const SHOWN = 160;

function detailText({ detail }: AuditEntry): string {
  const text = Object.entries(detail ?? {})
    .map(([name, value]) => `${name}=${value}`)
    .join(" ");
  return text.length > SHOWN ? `${text.slice(0, SHOWN)}…` : text;
}

function reportText({ entries, segments, first, end, problems, problemCount, notes, ok }: TrailReport): string {
  const range = first === undefined || end === undefined ? "none" : `${count(entries)}, ${first} to ${end.seq}`;
  const rows = [
    ["entries", range],
    ["files", count(segments)],
    ["end", end === undefined ? "-" : `${end.seq}:${end.hash}`],
    ["result", ok ? "whole" : problemsText(problemCount)],
  ];
  const told = problems.map(({ kind, file, line, detail }) => {
    const at = line === undefined ? file : `${file}, line ${line}`;
    return `  ${kind}: ${printable(`${detail}${at === "" ? "" : ` (${at})`}`)}\n`;
  });
  return table(rows) + told.join("") + notes.map((note) => `  note: ${printable(note)}\n`).join("");
}

function exportedText(target: string, { entries, end }: TrailReport): string {
  const noted = end === undefined ? "" : `Its end, to be noted elsewhere, is ${end.seq}:${end.hash}\n`;
  return `${entries === 1 ? "1 entry is" : `${count(entries)} entries are`} in ${target}.\n${noted}`;
}

const problemsText = (n: number): string => `${count(n)} ${n === 1 ? "problem" : "problems"}`;

function mustBeWhole({ ok, problemCount }: TrailReport): void {
  if (ok) return;
  throw new GatewayError({
    code: "AUDIT_NOT_WHOLE",
    op: "audit.verify",
    message: `the audit trail is not whole: ${problemsText(problemCount)}`,
    hint: "Keep the folder as it is for whoever looks into it; compare it with an earlier export, and check the card.",
  });
}

function isThere(target: string): GatewayError {
  return new GatewayError({
    code: "EXPORT_EXISTS",
    op: "audit.export",
    message: `${target} is there already`,
    hint: "Choose another name, or say --overwrite.",
  });
}

function linkOf(text: string): Link {
  const match = /^(\d{1,15}):([0-9a-f]{64})$/.exec(text);
  if (match === null) throw new InvalidArgumentError("Write it as verify and export print it: 1234:9f86d0….");
  return { seq: Number(match[1]), hash: match[2] ?? "" };
}

/** Wall time, milliseconds. */
function sinceOf(text: string): number {
  try {
    if (!/^\d+(\.\d+)?[a-z]+$/.test(text)) return Date.parse(moment(text));
    return systemClock.now() - parseDuration(text);
  } catch {
    throw new InvalidArgumentError("It must be a time, as 2026-07-01T12:00:00Z, or a duration, as 24h.");
  }
}
