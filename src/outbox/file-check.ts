/**
 * Whether an outbox's file is whole, before anything is written to it: its header, its write-ahead log, and SQLite's own
 * `quick_check`. Flipped bits inside a block's row are not looked for here: its checksum tells when it is read.
 */
import { closeSync, existsSync, openSync, readSync } from "node:fs";
import { Worker } from "node:worker_threads";
import Database from "better-sqlite3";
import { systemClock } from "../kernel/clock.ts";
import { codeOf, GatewayError, messageOf } from "../kernel/errors.ts";
import { MIGRATIONS } from "./migrations.ts";
import { PAGE_BYTES } from "./pages.ts";
import { diskSpace, quotaNamed } from "./reserve.ts";
import { LARGEST_RESERVE } from "./sizes.ts";
import { readWal } from "./wal-file.ts";

const BUSY_TIMEOUT_MS = 5000;
const HEADER_BYTES = 100;
/** A version further ahead than this was not written by a newer program. */
const VERSIONS_AHEAD = 100;

/** What must stand in the header of a file that this program made, whatever it holds; [offset, bytes]. */
const FIXED: readonly (readonly [number, readonly number[]])[] = [
  [0, [...Buffer.from("SQLite format 3\0")]],
  [16, [PAGE_BYTES >> 8, PAGE_BYTES & 0xff]],
  [20, [0, 64, 32, 32]],
  [52, [0, 0, 0, 0]],
  [64, new Array<number>(28).fill(0)],
];
const HEADER_JOURNAL = 18;
/** With a write-ahead log, or without one as a backup is. */
const JOURNALS = [0x0202, 0x0101];
const HEADER_USER_VERSION = 60;

/** What the bytes themselves show; `undefined` where nothing is wrong. A file without pages has lost them. */
export function faultInBytes(file: string): string | undefined {
  let header: Buffer;
  try {
    header = firstBytes(file);
  } catch (fault) {
    // Neither a file that may not be opened nor somebody's folder is a card that fails.
    if (codeOf(fault) === "EISDIR" || isOpening(fault)) throw fault;
    return `its first page cannot be read: ${messageOf(fault)}`;
  }
  if (header.length < HEADER_BYTES) return "the file is cut off before the end of its header";
  const wrong = FIXED.some(([at, bytes]) => !header.subarray(at, at + bytes.length).equals(Buffer.from(bytes)));
  if (wrong || !JOURNALS.includes(header.readUInt16BE(HEADER_JOURNAL))) return "its header is not one of an outbox";
  if (header.readUInt32BE(HEADER_USER_VERSION) > MIGRATIONS.length + VERSIONS_AHEAD)
    return "its header gives an impossible schema version";
  const wal = readWal(`${file}-wal`)?.fault;
  return wal === undefined ? undefined : `the write-ahead log: ${wal}`;
}

/**
 * @throws GatewayError NOT_AN_OUTBOX for a file of another kind that was named by mistake: nothing in its header is as in every outbox. A damaged
 * one, an empty or a zeroed one included, is not refused, nor what cannot be read: `faultInBytes` says more of those.
 */
export function mustBeOutbox(op: string, file: string): void {
  let header: Buffer;
  try {
    header = firstBytes(file);
  } catch {
    return;
  }
  const isLike = FIXED.some(([at, bytes]) => header.subarray(at, at + bytes.length).equals(Buffer.from(bytes)));
  if (header.length === 0 || isLike) return;
  throw new GatewayError({
    code: "NOT_AN_OUTBOX",
    op,
    message: `${file} is no outbox, nor a copy of one`,
    hint: "Name a copy that summit-edge outbox backup FILE has made; summit-edge outbox verify without a file looks at the gateway's own outbox.",
  });
}

const isOpening = (fault: unknown): boolean => (fault as { syscall?: unknown }).syscall === "open";

function firstBytes(file: string): Buffer {
  const header = Buffer.alloc(HEADER_BYTES);
  const fd = openSync(file, "r");
  try {
    return header.subarray(0, readSync(fd, header, 0, HEADER_BYTES, 0));
  } finally {
    closeSync(fd);
  }
}

/** The refusal of a command that would make damage worse, or miss it: only the daemon repairs. */
export function damagedOutbox(op: string, file: string, reason: string, cause?: unknown): GatewayError {
  return new GatewayError({
    code: "OUTBOX_DAMAGED",
    op,
    message: `the outbox ${file} is damaged: ${reason}`,
    hint: "Start the daemon: it sets the file aside, salvages what can be read, and says what it found.",
    cause,
  });
}

/** Whether what SQLite threw says that the file is not what it should be. */
export function isDamage(thrown: unknown): boolean {
  return /^SQLITE_(CORRUPT|NOTADB)/.test(codeOf(thrown) ?? "");
}

/** Whether it says that a place in the file could not be read: for the moment, or for good. */
export function isUnreadable(thrown: unknown): boolean {
  return /^SQLITE_IOERR_(READ|SHORT_READ|CORRUPTFS|DATA)/.test(codeOf(thrown) ?? "");
}

/** The same of a file that is being opened: nothing else explains a table or a column that is missing, or there already. */
export function isDamageAtOpen(thrown: unknown): boolean {
  return isDamage(thrown) || isUnreadable(thrown) || /^SQLITE_(ERROR|CONSTRAINT|MISMATCH)/.test(codeOf(thrown) ?? "");
}

/**
 * SQLite's own check of the whole file, in one read. `undefined` where nothing is wrong, or where the file cannot be opened for
 * another reason, which whoever opens it next will meet.
 */
export function quickCheck(file: string): string | undefined {
  let db: Database.Database | undefined;
  try {
    db = new Database(file, { readonly: true, timeout: BUSY_TIMEOUT_MS });
    const found = (db.pragma("quick_check(1)") as { quick_check: string }[])[0]?.quick_check;
    return found === "ok" ? undefined : `quick_check: ${found?.replace(/^\*\*\* in database main \*\*\*\s*/, "")}`;
  } catch (fault) {
    return isDamageAtOpen(fault) ? messageOf(fault) : undefined;
  } finally {
    db?.close();
  }
}

/**
 * `quickCheck` in a thread of its own: resolves with its result, or, where that takes longer than `waitMs`, with the promise of it
 * (the thread goes on). Without `waitMs` it waits.
 */
export function quickCheckApart(
  file: string,
  waitMs: number | undefined,
): Promise<{ done: true; fault: string | undefined } | { done: false; later: Promise<string | undefined> }> {
  const later = new Promise<string | undefined>((resolve) => {
    const thread = new Worker(new URL("./check-thread.js", import.meta.url), {
      workerData: file,
      // It computes nothing of its own, and what it takes is not given back to the system.
      resourceLimits: { maxYoungGenerationSizeMb: 2, maxOldGenerationSizeMb: 32 },
    });
    thread.once("message", resolve);
    thread.once("error", () => resolve(undefined));
  });
  return new Promise((resolve) => {
    if (waitMs !== undefined) systemClock.after(waitMs, () => resolve({ done: false, later }));
    void later.then((fault) => resolve({ done: true, fault }));
  });
}

/**
 * Brings what an unclean stop left in the log into the file, and empties the log: no torn end of it lies there to be
 * mistaken for damage next time. On a full disk, and on one that has hardly a reserve's space left, it stays: its space is for
 * fates, and somebody else would take it.
 */
export function emptyLog(file: string): void {
  if (!existsSync(`${file}-wal`) || diskSpace(file).free < LARGEST_RESERVE) return;
  const db = new Database(file, { timeout: BUSY_TIMEOUT_MS });
  try {
    db.pragma("synchronous = FULL");
    db.pragma("wal_checkpoint(TRUNCATE)");
  } catch (fault) {
    if (codeOf(quotaNamed(fault, file))?.startsWith("SQLITE_FULL") !== true) throw fault;
  } finally {
    db.close();
  }
}
