/**
 * Copies of the outbox, and the way back. A copy is one consistent moment in one file; nothing half-made or damaged ever has its name.
 */
import { closeSync, existsSync, openSync } from "node:fs";
import { dirname, resolve } from "node:path";
import Database from "better-sqlite3";
import { giveToFolderOwner, renameDurably, sync } from "../kernel/durable-file.ts";
import { GatewayError, messageOf } from "../kernel/errors.ts";
import { highestSeq } from "./audit.ts";
import { damagedOutbox, isDamageAtOpen, mustBeOutbox } from "./file-check.ts";
import { noteClosed, readState } from "./file-state.ts";
import type { Ledger } from "./ledger.ts";
import { finishReplacement, remove, replace } from "./set-aside.ts";
import { Store, type StoreOptions } from "./store.ts";
import { faultSeenIn, type VerifyOptions, type VerifyReport, verify } from "./verify.ts";

/** Sequence numbers that a file which could not be read may have given away since its last start. */
const UNKNOWN_MARGIN = 1_000_000_000;
/** Of a copy: for its owner alone, as the audit trail's export is. */
const READINGS_MODE = 0o600;

/**
 * Copies the outbox at `file` to `target`, with the daemon running or not (`inUse`), and verifies the copy. Durable once it has returned.
 * A copy that is not whole is kept as `FILE.partial`, which the report names; what has the name stays.
 * @throws GatewayError OUTBOX_MISSING, OUTBOX_UNREADABLE, OUTBOX_DAMAGED (a copy would leave out acknowledged readings
 * without a word), BACKUP_EXISTS (without `overwrite`), BACKUP_FAILED
 */
export function backup(
  file: string,
  target: string,
  options: { readonly overwrite: boolean } & VerifyOptions,
): VerifyReport {
  if (!existsSync(file))
    throw missing("outbox.backup", file, "Check gateway.dataDir and outbox.file in the configuration.");
  if (resolve(file) === resolve(target) || (existsSync(target) && !options.overwrite)) {
    throw new GatewayError({
      code: "BACKUP_EXISTS",
      op: "outbox.backup",
      message: `${target} is there already`,
      hint: "Choose another name, or say --overwrite.",
    });
  }
  const fault = options.inUse ? undefined : faultSeenIn(file);
  if (fault !== undefined) throw damagedOutbox("outbox.backup", file, fault);
  const partial = `${target}.partial`;
  remove(partial);
  const { onProgress } = options;
  try {
    // Made before it is filled: readings are nobody's but the gateway's, whatever the folder lets through.
    closeSync(openSync(partial, "wx", READINGS_MODE));
    copy(file, partial);
    sync(partial);
    const report = verify(partial, { inUse: false, ...(onProgress !== undefined && { onProgress }) });
    if (!report.ok) return report;
    renameDurably(partial, target);
    return { ...report, file: target };
  } catch (cause) {
    remove(partial);
    if (cause instanceof GatewayError) throw cause;
    throw new GatewayError({
      code: "BACKUP_FAILED",
      op: "outbox.backup",
      message: `cannot copy ${file} to ${target}: ${messageOf(cause)}`,
      hint: isDamageAtOpen(cause)
        ? "See what is wrong with summit-edge outbox verify; a restart of the daemon repairs it."
        : `Check that ${dirname(resolve(target))} can be written, and that its disk is not full.`,
      cause,
    });
  }
}

export interface Restored {
  /** Readings that wait now. */
  readonly pending: number;
  /** Where the files that were there are kept; `null` where there were none. */
  readonly setAside: string | null;
  /** What is kept there and waits in no outbox any more; `null` where there were no files. */
  readonly left: Held | null;
  readonly nextSeq: number;
}

/** What an outbox holds that is still to become of something; `null`: its file cannot be read, so nobody knows. */
export interface Held {
  readonly pending: number | null;
  readonly deadLetters: number | null;
}

/**
 * Puts a copy in the outbox's place. Only for whoever holds the dataDir's lock. What was there is kept; the restored file is an
 * outbox of its own, and gives no sequence number that either of them has given.
 * @throws GatewayError OUTBOX_MISSING, NOT_AN_OUTBOX, OUTBOX_UNREADABLE, BACKUP_DAMAGED, OUTBOX_TOO_NEW
 */
export function restore(
  source: string,
  options: StoreOptions,
  onProgress: VerifyOptions["onProgress"] = undefined,
): Restored {
  const { file } = options;
  if (!existsSync(source))
    throw missing("outbox.restore", source, "Check the name; summit-edge outbox backup FILE makes such a copy.");
  mustBeOutbox("outbox.restore", source);
  const fault = faultSeenIn(source);
  if (fault !== undefined) throw damagedBackup(source, fault);
  finishReplacement(file);
  const present = existsSync(file) ? stateOf(file) : undefined;
  const fresh = `${file}.fresh`;
  remove(fresh);
  try {
    takeOver(source, fresh);
    const report = adopt(fresh, options, present?.highestSeq ?? 0, onProgress);
    giveToFolderOwner(fresh);
    const aside = replace(file, fresh, "replaced", undefined);
    noteClosed(file, report.known);
    const kept = present === undefined ? { setAside: null, left: null } : { setAside: aside, left: present.held };
    return { pending: report.pending, ...kept, nextSeq: report.known.lastSeq + 1 };
  } finally {
    remove(fresh);
  }
}

/** Of what is known: `12 waiting readings and 1 dead letter`, without what there is none of. */
export function heldText({ pending, deadLetters }: Held): string {
  const waiting = pending === 1 ? "1 waiting reading" : `${pending} waiting readings`;
  const letters = deadLetters === 1 ? "1 dead letter" : `${deadLetters} dead letters`;
  return [...(pending ? [waiting] : []), ...(deadLetters ? [letters] : [])].join(" and ");
}

/** A copy with an identity of its own still to be given. */
function takeOver(source: string, fresh: string): void {
  try {
    copy(source, fresh);
    const db = new Database(fresh);
    try {
      db.exec("DELETE FROM meta WHERE name = 'outbox_id'");
    } finally {
      db.close();
    }
  } catch (cause) {
    throw isDamageAtOpen(cause) ? damagedBackup(source, messageOf(cause), cause) : cause;
  }
}

function adopt(fresh: string, options: StoreOptions, present: number, onProgress: VerifyOptions["onProgress"]) {
  const store = new Store({ ...options, file: fresh });
  let known: Parameters<typeof noteClosed>[1];
  try {
    const last = Math.max(highestSeq(store), present);
    store.transaction(() => store.setLastSeq(0, last));
    known = { lastSeq: last, ledgers: store.ledgers() };
  } finally {
    store.close();
  }
  const report = verify(fresh, { inUse: false, ...(onProgress !== undefined && { onProgress }) });
  if (!report.ok) throw damagedBackup("the copy", report.problems[0] ?? "");
  return { known, pending: pendingOf(known.ledgers) };
}

function copy(from: string, to: string): void {
  const db = new Database(from, { readonly: true, fileMustExist: true });
  try {
    db.prepare("VACUUM INTO ?").run(to);
  } finally {
    db.close();
  }
}

/** What the file in place holds, and the highest sequence number that it has given away, as far as can be known. */
function stateOf(file: string): { held: Held; highestSeq: number } {
  try {
    const store = new Store({ file, readOnly: true, maxBytes: 0, bootId: "" });
    try {
      const pending = pendingOf(store.ledgers());
      return { held: { pending, deadLetters: store.countDeadLetters() }, highestSeq: highestSeq(store) };
    } finally {
      store.close();
    }
  } catch {
    const highest = (readState(file)?.known?.lastSeq ?? 0) + UNKNOWN_MARGIN;
    return { held: { pending: null, deadLetters: null }, highestSeq: highest };
  }
}

const pendingOf = (ledgers: readonly Ledger[]): number => ledgers.reduce((sum, { pending }) => sum + pending, 0);

function missing(op: string, file: string, hint: string): GatewayError {
  return new GatewayError({ code: "OUTBOX_MISSING", op, message: `there is no file ${file}`, hint });
}

function damagedBackup(source: string, detail: string, cause?: unknown): GatewayError {
  return new GatewayError({
    code: "BACKUP_DAMAGED",
    op: "outbox.restore",
    message: `${source} is damaged, and was not put in place: ${detail}`,
    hint: "Take another copy. Or put the file in the outbox's place by hand and start the daemon, which salvages what can be read.",
    cause,
  });
}
