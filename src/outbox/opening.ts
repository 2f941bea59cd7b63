/**
 * How the outbox's file is opened by whoever holds the dataDir: checked where the last stop was not a clean one, repaired where
 * it is damaged, and only then written to.
 */
import { existsSync } from "node:fs";
import { systemClock } from "../kernel/clock.ts";
import { GatewayError, messageOf } from "../kernel/errors.ts";
import { contradiction } from "./audit.ts";
import {
  damagedOutbox,
  emptyLog,
  faultInBytes,
  isDamage,
  isDamageAtOpen,
  isUnreadable,
  quickCheckApart,
} from "./file-check.ts";
import { OVERWRITTEN } from "./file-content.ts";
import {
  type FileState,
  isUntouched,
  type KnownBooks,
  noteClosed,
  readState,
  sizeOf,
  writeState,
} from "./file-state.ts";
import { lastRepair, type RepairReport, repair } from "./repair.ts";
import { finishReplacement } from "./set-aside.ts";
import { Store, type StoreOptions } from "./store.ts";

/** How long a start waits for the check of the file; a larger file, or a slower card, is checked on while the daemon works. */
const CHECK_WAIT_MS = 2000;

/** What a check of the whole file came to. */
export interface FileCheck {
  /** What is damaged; `undefined` where nothing is. */
  readonly fault: string | undefined;
  /** How long it took. */
  readonly seconds: number;
}

export interface Opened<T> {
  readonly store: Store;
  readonly built: T;
  /** The repair of this start, or an earlier one whose damaged file is still there. */
  readonly repair: { readonly report: RepairReport; readonly now: boolean } | undefined;
  /**
   * Resolves with what the check of the file came to, once it has come to its end; `undefined` where the last stop was clean, so that
   * there was none, or the file has been repaired since.
   */
  readonly checked: Promise<FileCheck | undefined>;
  /**
   * Closes the file, and notes that it was closed properly, unless that check has not come to its end, or another file is in its place
   * (`ours`: false): then the next start checks.
   */
  readonly close: (ours?: boolean) => void;
}

/**
 * Opens or creates the file. `build` is what first reads it; where that meets damage, the file is repaired and it is called
 * again. The check of a file of which it is not known that it was closed properly is waited for `checkWaitMs`.
 * @throws GatewayError OUTBOX_NOT_DURABLE, OUTBOX_TOO_NEW, OUTBOX_BEYOND_REPAIR; SQLite's and the system's own errors pass through.
 */
export async function openChecked<T>(
  options: StoreOptions,
  build: Build<T>,
  checkWaitMs = CHECK_WAIT_MS,
): Promise<Opened<T>> {
  const { file } = options;
  finishReplacement(file);
  const state = readState(file);
  const { fault, check, later } = await look(file, state, checkWaitMs);
  const { report, ...opened } =
    fault === undefined ? await tryOpen(options, build, state) : await mend(options, build, fault, state);
  const earlier = lastRepair(file);
  noteOpen(file, known(opened.store));
  // Of a file that has been repaired meanwhile, what is found in the damaged one says nothing.
  let checking = later !== undefined && report === undefined;
  if (checking)
    void later?.then(() => {
      checking = false;
    });
  return {
    ...opened,
    repair: report !== undefined ? { report, now: true } : earlier && { report: earlier, now: false },
    checked: report === undefined ? (later ?? Promise.resolve(check)) : Promise.resolve(undefined),
    close: (ours = true) => closeProperly(opened.store, file, ours && !checking),
  };
}

interface Built<T> {
  readonly store: Store;
  readonly built: T;
  readonly report?: RepairReport;
}

type Build<T> = (store: Store) => T | Promise<T>;

async function tryOpen<T>(options: StoreOptions, build: Build<T>, state: FileState | undefined): Promise<Built<T>> {
  try {
    return await openAndBuild(options, build);
  } catch (thrown) {
    if (!(thrown instanceof Contradiction) && !isDamageAtOpen(thrown)) throw thrown;
    return await mend(options, build, messageOf(thrown), state);
  }
}

/** Repairs and opens. What cannot be opened even then is not copied again and again: the card has no use for that. */
async function mend<T>(
  options: StoreOptions,
  build: Build<T>,
  fault: string,
  state: FileState | undefined,
): Promise<Built<T>> {
  if (state?.state === "repaired-in-vain") throw inVain(options.file, fault);
  const report = repair(options, fault);
  try {
    return { ...(await openAndBuild(options, build)), report };
  } catch (thrown) {
    writeState(options.file, { state: "repaired-in-vain", reason: messageOf(thrown) });
    throw inVain(options.file, messageOf(thrown));
  }
}

function inVain(file: string, reason: string): GatewayError {
  return new GatewayError({
    code: "OUTBOX_BEYOND_REPAIR",
    op: "outbox.open",
    message: `the outbox ${file} was repaired, and still cannot be opened: ${reason}`,
    hint: "Replace the card. To begin with an empty outbox on this one, move the file and its .state away.",
  });
}

/**
 * Opens the file for a command. Damage that its bytes show is refused before SQLite opens it: that would replay a damaged log as far as it
 * goes, and throw the rest away. The check of the whole file is left to the daemon's next start, unless the last stop was clean
 * (`wasClean`) and the command closes it properly too.
 * @throws GatewayError OUTBOX_DAMAGED, the file untouched; else as `openChecked`
 */
export function openUnchecked(options: StoreOptions): { store: Store; wasClean: boolean } {
  const { file } = options;
  finishReplacement(file);
  const state = readState(file);
  const fault = faultAtSight(file, state);
  if (fault !== undefined) throw damagedOutbox("outbox.open", file, fault);
  const wasClean = isUntouched(file, state);
  try {
    return { store: new Store(options), wasClean };
  } catch (thrown) {
    if (!isDamageAtOpen(thrown)) throw thrown;
    throw damagedOutbox("outbox.open", file, messageOf(thrown), thrown);
  }
}

/** Closes the file, and notes that it was closed properly where it is `sound` as far as is known; else the next start looks. */
export function closeProperly(store: Store, file: string, sound = true): void {
  const books = known(store);
  store.close();
  const state = readState(file)?.state;
  if (state === "damaged" || state === "suspect") return;
  if (sound) asFarAsPossible(() => noteClosed(file, books));
  else noteOpen(file, books);
}

function noteOpen(file: string, books: KnownBooks): void {
  asFarAsPossible(() => writeState(file, { state: "open", known: books }));
}

/**
 * On a full disk, or a card that takes nothing any more, an older state stays, which promises nothing: it names the file as it was, and
 * any write makes another of it.
 */
function asFarAsPossible(note: () => void): void {
  try {
    note();
  } catch {
    // The next start checks.
  }
}

/** Sees to it that a fault which SQLite met in the file while it was in use is mended, or looked for, at the next start. */
export function noteFault(file: string, thrown: unknown): void {
  if (isDamage(thrown)) noteDamage(file, messageOf(thrown));
  else if (isUnreadable(thrown)) note(file, { state: "suspect", reason: messageOf(thrown) });
}

/** The file in use is damaged: the next start repairs it. */
export function noteDamage(file: string, reason: string): void {
  note(file, { state: "damaged", reason, attempts: 0 });
}

/** Another program has written over the file in use, whose books were these: the next start makes a new one of what the log holds. */
export function noteOverwritten(file: string, books: KnownBooks): void {
  const state = { state: "damaged", reason: OVERWRITTEN, attempts: 0, known: books, overwritten: true } as const;
  asFarAsPossible(() => writeState(file, state));
}

function note(file: string, state: FileState): void {
  const before = readState(file);
  if (before?.state !== "open") return;
  asFarAsPossible(() => writeState(file, before.known === undefined ? state : { ...state, known: before.known }));
}

class Contradiction extends Error {}

async function openAndBuild<T>(options: StoreOptions, build: Build<T>): Promise<{ store: Store; built: T }> {
  const store = new Store(options);
  try {
    const wrong = contradiction(store);
    if (wrong !== undefined) throw new Contradiction(wrong);
    return { store, built: await build(store) };
  } catch (fault) {
    store.close();
    throw fault;
  }
}

const known = (store: Store) => ({ lastSeq: store.lastSeq(), ledgers: store.ledgers() });

interface Look {
  readonly fault?: string | undefined;
  /** What the check came to, or will, where it takes its time. */
  readonly check?: FileCheck;
  readonly later?: Promise<FileCheck>;
}

async function look(file: string, state: FileState | undefined, waitMs: number): Promise<Look> {
  const fault = faultAtSight(file, state);
  if (fault !== undefined) return { fault };
  if (isYetToBeMade(file, state) || isUntouched(file, state)) return {};
  const from = systemClock.monotonic();
  const timed = (found: string | undefined) => ({ fault: found, seconds: (systemClock.monotonic() - from) / 1000 });
  try {
    emptyLog(file);
  } catch (thrown) {
    if (isDamageAtOpen(thrown)) return { fault: messageOf(thrown) };
    throw thrown;
  }
  const check = await quickCheckApart(file, state?.state === "suspect" ? undefined : waitMs);
  return check.done ? { fault: check.fault, check: timed(check.fault) } : { later: check.later.then(timed) };
}

/** What is wrong as far as can be told without SQLite, and without changing anything. */
function faultAtSight(file: string, state: FileState | undefined): string | undefined {
  if (state?.state === "damaged") return state.reason;
  if (isYetToBeMade(file, state) || isUntouched(file, state)) return undefined;
  return existsSync(file) ? faultInBytes(file) : "it is gone";
}

/**
 * A file that is not there, or has no byte, and has no past; or that is not there and was closed with nothing waiting in it: then
 * nothing is lost, and whoever removed it wanted to begin anew.
 */
function isYetToBeMade(file: string, state: FileState | undefined): boolean {
  const nothingWaited =
    state?.state === "closed" && state.known?.ledgers.every(({ pending }) => pending === 0) === true;
  if (nothingWaited && !existsSync(file)) return true;
  if (!existsSync(file)) return state?.known === undefined;
  return state === undefined && sizeOf(file) === 0 && sizeOf(`${file}-wal`) === 0;
}
