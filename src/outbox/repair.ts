/**
 * What becomes of a damaged outbox: everything readable goes into a fresh file, which takes its place; the damaged one is kept
 * beside it, for a look; what is missing is counted as `damaged`.
 *
 * It always comes to an end: a repair that was interrupted twice before (it may have been the file that ended the program) is not
 * tried a third time; then the fresh file begins empty, and says so.
 */
import { existsSync, readFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { writeDurably } from "../kernel/durable-file.ts";
import { type Audit, audit } from "./audit.ts";
import { type KnownBooks, readState, writeState } from "./file-state.ts";
import { Pages } from "./pages.ts";
import { type Salvage, salvage } from "./salvage.ts";
import { remove, removeOldest, replace, setAside } from "./set-aside.ts";
import { Store, type StoreOptions } from "./store.ts";

/** Damaged files that are kept. Each may be as large as `outbox.maxBytes`: beyond these the oldest goes. */
const KEPT = 2;
const MAX_ATTEMPTS = 2;

export interface RepairReport extends Audit {
  /** What was found to be wrong. */
  readonly reason: string;
  /** Where the damaged file is now, its -wal and -shm beside it; `null` where there was no file any more. */
  readonly setAside: string | null;
  /** Older ones that were removed to bound what they take. */
  readonly removed: readonly string[];
  /** The disk had no room for all that could be read: the rest is in the damaged file only, and counted as damaged. */
  readonly cutShort: boolean;
  /** The repair itself had ended the program twice: nothing was salvaged. */
  readonly givenUp: boolean;
}

/** Puts a fresh file in the damaged one's place. Afterwards `options.file` can be opened. @throws the system's and SQLite's errors */
export function repair(options: StoreOptions, reason: string): RepairReport {
  const { file } = options;
  const before = readState(file);
  const known = before?.known;
  const overwritten = before?.state === "damaged" && before.overwritten === true;
  const attempts = before?.state === "damaged" ? before.attempts : 0;
  const note = (attempt: number): void =>
    writeState(file, {
      ...{ state: "damaged", reason, attempts: attempt },
      ...(known !== undefined && { known }),
      ...(overwritten && { overwritten }),
    });
  note(attempts + 1);
  const removed = removeOldest(file, "damaged", KEPT - 1);
  const fresh = `${file}.fresh`;
  try {
    remove(fresh);
    const there = existsSync(file);
    const givenUp = attempts >= MAX_ATTEMPTS;
    const salvaged = givenUp || !there ? NOTHING : fill(file, fresh, overwritten);
    const found = audited({ ...options, file: fresh }, salvaged, known);
    const aside = replace(file, fresh, "damaged", undefined);
    const { cutShort } = salvaged;
    const report = { ...found, reason, setAside: there ? aside : null, removed, cutShort, givenUp };
    if (there) writeDurably(`${aside}.report`, `${JSON.stringify(report, undefined, 2)}\n`);
    return report;
  } catch (fault) {
    // An error that was caught (a disk without room, say) is no reason to give up what can be read.
    if (readState(file)?.state === "damaged") {
      remove(fresh);
      note(attempts);
    }
    throw fault;
  }
}

function audited(options: StoreOptions, salvaged: Salvage, known: KnownBooks | undefined): Audit {
  const store = new Store(options);
  try {
    return audit(store, salvaged, known);
  } finally {
    store.close();
  }
}

const NOTHING: Salvage = { lanes: new Set(), doubtful: new Set(), cutShort: false };

/** Of a file that another program has written over, only the log is ours; its ledger is older than what was known in the end. */
function fill(file: string, fresh: string, overwritten: boolean): Salvage {
  const damaged = new Pages(file, overwritten);
  try {
    const salvaged = salvage(damaged, fresh);
    return overwritten ? { ...salvaged, lanes: NOTHING.lanes } : salvaged;
  } finally {
    damaged.close();
  }
}

/** The report of the newest damaged file that is still there; `undefined` where none is. */
export function lastRepair(file: string): RepairReport | undefined {
  const newest = setAside(file, "damaged").at(-1);
  if (newest === undefined) return undefined;
  try {
    return JSON.parse(readFileSync(join(dirname(file), `${newest}.report`), "utf8")) as RepairReport;
  } catch {
    return undefined;
  }
}

/** What an operator is told of a repair, in one sentence. */
export function repairText(report: RepairReport): string {
  const { salvaged, damaged, deadLetters, ledger, setAside: aside, reason, cutShort, givenUp } = report;
  const notes = [
    ledger === "remembered" ? "the ledger goes on from what the last start or stop had noted" : undefined,
    ledger === "lost" ? "the ledger could not be read: the books begin anew with what was salvaged" : undefined,
    cutShort
      ? "the disk had no room for all that could be read: free some, and see what is left in the damaged file"
      : undefined,
    givenUp ? "two attempts to salvage its readings did not come to their end" : undefined,
  ].filter((text) => text !== undefined);
  const outcome = `${salvaged} waiting readings and ${deadLetters} dead letters were salvaged, ${damaged} readings counted as damaged`;
  const name = aside === null ? "" : basename(aside);
  const kept =
    aside === null
      ? ""
      : `. The damaged file is kept as ${name}, with ${name}-wal, ${name}-shm and ${name}.report: check the card, then remove them all`;
  return `the outbox's file was damaged (${reason}); ${[outcome, ...notes].join("; ")}${kept}`;
}
