/** `summit-edge outbox verify`, `backup` and `restore`: what is done with the outbox's file as a whole. */
import { basename, resolve } from "node:path";
import type { Command } from "commander";
import { loadConfig } from "../config/load.ts";
import type { Config } from "../config/schema.ts";
import type { AuditEvent } from "../kernel/audit.ts";
import { bootId } from "../kernel/boot.ts";
import { codeOf, GatewayError } from "../kernel/errors.ts";
import type { Held, Restored } from "../outbox/backup.ts";
import type { VerifyReport } from "../outbox/verify.ts";
import { configFile, configOption } from "./config-file.ts";
import { pasteable } from "./failure.ts";
import { count, json, printable, table } from "./format.ts";
import type { Terminal } from "./terminal.ts";

interface FileOptions {
  readonly config?: string;
  readonly json?: true;
}
interface BackupOptions extends FileOptions {
  readonly overwrite?: true;
}

const PROGRESS_EVERY_BLOCKS = 100;
const DAMAGED_HINT =
  "If it is the outbox in use, restart the daemon: what is whole is delivered, what is not is counted as damaged. Check the card.";

/** Adds `verify`, `backup` and `restore` to `outbox`. */
export function addOutboxFileCommands(outbox: Command, terminal: Terminal): void {
  withFileOptions(outbox.command("verify [file]"))
    .description("look through the outbox, or another file of one, without changing it; the daemon may run")
    .action((file: string | undefined, options: FileOptions) => verify(file, options, terminal));
  withFileOptions(outbox.command("backup <file>"))
    .description("make a consistent copy of the outbox; the daemon may run")
    .option("--overwrite", "replace the file if it is there already")
    .action((file: string, options: BackupOptions) => backup(file, options, terminal));
  withFileOptions(outbox.command("restore <file>"))
    .description("put a copy in the outbox's place, and keep what was there beside it; the daemon must not run")
    .action((file: string, options: FileOptions) => restore(file, options, terminal));
}

function withFileOptions(command: Command): Command {
  return command
    .addOption(configOption("configuration: where the outbox is"))
    .option("--json", "print the result as JSON");
}

async function verify(named: string | undefined, options: FileOptions, terminal: Terminal): Promise<void> {
  const file = named === undefined ? undefined : resolve(named);
  const place = file === undefined || options.config !== undefined ? await placeOf(options, terminal) : undefined;
  const wanted = file ?? place?.file ?? "";
  const { verify: look } = await import("../outbox/verify.ts");
  // The outbox in its place is one, whatever somebody has written over it: the daemon salvages it.
  if (wanted !== place?.file) (await import("../outbox/file-check.ts")).mustBeOutbox("outbox.verify", wanted);
  const inUse = place !== undefined && wanted === place.file && (await isInUse(place.config.gateway.dataDir));
  const progress = progressOn(terminal, options);
  const report = look(wanted, { inUse, ...progress });
  endProgress(terminal, options);
  terminal.write(options.json ? json(report, 2) : reportText(report));
  mustBeWhole(report);
}

async function backup(target: string, options: BackupOptions, terminal: Terminal): Promise<void> {
  const { file, config } = await placeOf(options, terminal);
  const { backup: copy } = await import("../outbox/backup.ts");
  const overwrite = options.overwrite === true;
  const inUse = await isInUse(config.gateway.dataDir);
  const report = copy(file, resolve(target), { overwrite, inUse, ...progressOn(terminal, options) });
  endProgress(terminal, options);
  if (report.ok) await tell(config, terminal, { action: "outbox.backed-up", subject: report.file });
  terminal.write(options.json ? json(report, 2) : reportText(report));
  mustBeWhole(report, `${target} was left as it was; what could be copied is in the file named above. ${DAMAGED_HINT}`);
}

async function restore(source: string, options: FileOptions, terminal: Terminal): Promise<void> {
  const { file, config } = await placeOf(options, terminal);
  const { restore: put, heldText } = await import("../outbox/backup.ts");
  const { DataDirLock } = await import("../outbox/data-dir-lock.ts");
  const lock = DataDirLock.acquire(config.gateway.dataDir);
  try {
    const store = { file, maxBytes: config.outbox.maxBytes, bootId: bootId() };
    const restored = put(resolve(source), store, progressOn(terminal, options).onProgress);
    endProgress(terminal, options);
    const { pending, setAside, left } = restored;
    const detail = {
      pending,
      ...(setAside !== null && { setAside: basename(setAside) }),
      ...(left?.pending && { leftWaiting: left.pending }),
      ...(left?.deadLetters && { leftDeadLetters: left.deadLetters }),
    };
    await tell(config, terminal, { action: "outbox.restored", subject: resolve(source), detail });
    terminal.write(options.json ? json(restored, 2) : restoredText(source, restored, options, heldText));
  } finally {
    lock.release();
  }
}

async function tell(config: Config, terminal: Terminal, event: Omit<AuditEvent, "actor">): Promise<void> {
  const { openTrail } = await import("./audit-trail.ts");
  const trail = await openTrail(config, terminal);
  trail.record({ ...event, actor: trail.actor });
  await trail.close();
}

async function placeOf(options: FileOptions, terminal: Terminal): Promise<{ file: string; config: Config }> {
  const config = await loadConfig(configFile(options.config ?? terminal.installedConfig()), terminal.env);
  return { file: resolve(config.gateway.dataDir, config.outbox.file), config };
}

/** Whether a daemon, or another command, holds the folder. */
async function isInUse(dataDir: string): Promise<boolean> {
  const { DataDirLock } = await import("../outbox/data-dir-lock.ts");
  try {
    DataDirLock.acquire(dataDir).release();
    return false;
  } catch (thrown) {
    if (codeOf(thrown) === "DATA_DIR_LOCKED") return true;
    throw thrown;
  }
}

function progressOn(
  terminal: Terminal,
  { json: asJson }: FileOptions,
): { onProgress?: (done: number, total: number) => void } {
  if (!terminal.interactive || asJson) return {};
  terminal.write("Looking at the file's structure …\r");
  return {
    onProgress: (done, total) => {
      if (done % PROGRESS_EVERY_BLOCKS === 0) terminal.write(`\u001b[K${count(done)} of ${count(total)} blocks\r`);
    },
  };
}

function endProgress(terminal: Terminal, { json: asJson }: FileOptions): void {
  if (terminal.interactive && !asJson) terminal.write("\u001b[K");
}

function reportText(report: VerifyReport): string {
  const rows = [
    ["file", report.file],
    ["blocks", count(report.blocks)],
    ["readings", count(report.readings)],
    ["kept readings", count(report.kept)],
    ["dead letters", count(report.deadLetters)],
    [
      "result",
      report.ok ? "whole" : `${count(report.problemCount)} ${report.problemCount === 1 ? "problem" : "problems"}`,
    ],
  ];
  return table(rows) + report.problems.map((problem) => `  ${printable(problem)}\n`).join("");
}

function mustBeWhole({ ok, file, problemCount }: VerifyReport, hint = DAMAGED_HINT): void {
  if (ok) return;
  throw new GatewayError({
    code: "OUTBOX_DAMAGED",
    op: "outbox.verify",
    message: `${file} is damaged: ${count(problemCount)} ${problemCount === 1 ? "problem" : "problems"}`,
    hint,
  });
}

function restoredText(
  source: string,
  { pending, setAside, left, nextSeq }: Restored,
  { config }: FileOptions,
  heldText: (held: Held) => string,
): string {
  const kept = setAside === null ? "" : `What was there is kept as ${setAside}.\n`;
  const held = setAside === null || left === null ? "" : leftText(setAside, left, heldText);
  const text = `${source} is the outbox now: ${count(pending)} readings wait, sequence numbers go on from ${nextSeq}.\n${kept}${held}What has been delivered since the copy was made is sent once more, with the ids it had.\n`;
  return pasteable(text, config === undefined ? [] : ["--config", config]);
}

/** How to send what was left in the file that is no outbox any more. */
function leftText(setAside: string, left: Held, heldText: (held: Held) => string): string {
  if (left.pending === 0 && left.deadLetters === 0) return "";
  const what =
    left.pending === null ? "It cannot be read, and may hold readings that wait" : `It holds ${heldText(left)}`;
  const how =
    left.pending === null
      ? "put back in the outbox's place by hand, it is salvaged by the gateway at its start"
      : `once nothing waits in the new outbox (summit-edge outbox stats), stop the gateway, summit-edge outbox restore ${setAside}, and start it`;
  return `${what}, which nobody sends now: ${how}.\n`;
}
