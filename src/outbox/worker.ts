/**
 * The outbox's worker thread: owns the only writing connection, so that a slow card delays acknowledgements and never
 * the event loop. It answers one request after another, in order.
 */
import { resolve } from "node:path";
import { parentPort, workerData } from "node:worker_threads";
import { systemClock } from "../kernel/clock.ts";
import { codeOf, GatewayError, messageOf } from "../kernel/errors.ts";
import type { ClockQuality } from "../observation/observation.ts";
import type { Books } from "./books.ts";
import type { Commit } from "./commit.ts";
import { DataDirLock } from "./data-dir-lock.ts";
import { Engine } from "./engine.ts";
import { quickCheckApart } from "./file-check.ts";
import { overwritten, withdrawLog } from "./file-content.ts";
import { FilePlace, type Place } from "./file-place.ts";
import { FullDisk, makeRoomToOpen } from "./full-disk.ts";
import { peek } from "./inspection.ts";
import { newestIdsApart } from "./newest-ids.ts";
import { type News, newsOf } from "./news.ts";
import { noteDamage, noteFault, noteOverwritten, openChecked } from "./opening.ts";
import type { CommitOutcome, FaultReport, Operation, Operations, Reply, Request, WorkerSettings } from "./protocol.ts";
import { repairText } from "./repair.ts";
import { diskSpace, Reserve } from "./reserve.ts";
import { NO_GROWTH } from "./retention.ts";
import type { Store } from "./store.ts";
import { classify } from "./store-fault.ts";

const port = parentPort;
if (port === null) throw new Error("the outbox's worker runs in a worker thread only");
const settings = workerData as WorkerSettings;
const file = resolve(settings.dataDir, settings.file);

/** Between two checks of the whole file while it is in use: where its time changes by itself, it is not read all day. */
const CHECK_AGAIN_MS = 600_000;

function say(reply: Reply, transfer: ArrayBuffer[] = []): void {
  port?.postMessage(reply, transfer);
}

/** The open file's. */
let place: FilePlace | undefined;

function report(thrown: unknown): FaultReport {
  // A file that another program has written over looks like a damaged one, and is repaired in another way.
  if (classify(thrown) === "io-error") place?.lookForOverwritten();
  noteFault(file, thrown);
  return { fault: classify(thrown), code: codeOf(thrown), message: messageOf(thrown) };
}

interface Built {
  readonly engine: Engine;
  readonly recentIds: Uint32Array;
  readonly disk: FullDisk;
}

async function build(store: Store): Promise<Built> {
  const reserve = new Reserve(file, store.sizes.reserveBytes, systemClock.monotonic);
  reserve.make();
  const engine = new Engine(store, {
    gatewayId: settings.gatewayId,
    monotonic: systemClock.monotonic,
    now: systemClock.now,
    maxDeadLetters: settings.maxDeadLetters,
    waitForClock: settings.waitForClock,
    keepDelivered: settings.keepDelivered,
    retention: settings,
    // Without a reserve the file does not grow, whatever the disk says.
    freeDisk: () => (reserve.held ? diskSpace(file).free : NO_GROWTH),
    onNotice: (notice) => say({ kind: "notice", notice }),
  });
  const disk = new FullDisk(engine, reserve, () => store.freeBytes());
  return { engine, recentIds: await newestIdsApart(store, { ...settings, file }, settings.recentIds), disk };
}

function damageFound(fault: string): void {
  noteDamage(file, fault);
  say({ kind: "damage-found", detail: fault });
}

/** For the repair. Where the disk has no room for it, the log stays where SQLite may bring it into the other content. */
function keepLogApart(): void {
  try {
    withdrawLog(file);
  } catch (fault) {
    if (classify(fault) === "io-error") throw fault;
  }
}

let checkedAgainAt = Number.NEGATIVE_INFINITY;

/** The whole file, because somebody else has written to it, or touched it. What they did meanwhile is looked for only the next time. */
async function checkAgain(): Promise<void> {
  const from = systemClock.monotonic();
  if (from - checkedAgainAt < CHECK_AGAIN_MS) return;
  checkedAgainAt = from;
  const check = await quickCheckApart(file, undefined);
  if (!check.done) return;
  if (check.fault !== undefined) damageFound(`another program has written to it: ${check.fault}`);
  else {
    const seconds = (systemClock.monotonic() - from) / 1000;
    say({ kind: "notice", notice: { kind: "checked", why: "touched", seconds } });
  }
}

interface Opened {
  readonly lock: DataDirLock;
  readonly store: Store;
  readonly engine: Engine;
  readonly disk: FullDisk;
  readonly place: FilePlace;
  readonly close: (ours: boolean) => void;
}

async function open(): Promise<Opened | undefined> {
  try {
    const lock = DataDirLock.acquire(settings.dataDir);
    makeRoomToOpen(file);
    const { store, built, repair, checked, close } = await openChecked({ ...settings, file }, build);
    const { engine, recentIds, disk } = built;
    if (repair !== undefined) {
      const { report, now } = repair;
      say({ kind: "notice", notice: { ...report, kind: "repaired", now, detail: repairText(report) } });
    }
    void checked.then((check) => {
      if (check === undefined) return;
      const { fault, seconds } = check;
      if (fault === undefined) {
        say({ kind: "notice", notice: { kind: "checked", why: "unclean-stop", seconds } });
        return;
      }
      damageFound(fault);
    });
    place = new FilePlace({
      file,
      store,
      monotonic: systemClock.monotonic,
      onNotice: (notice) => say({ kind: "notice", notice }),
      onOverwritten: () => {
        noteOverwritten(file, engine.known());
        keepLogApart();
      },
      onTouched: () => void checkAgain(),
      onPutBack: () => {
        putBack = true;
        say({ kind: "put-back", file });
      },
    });
    told = engine.books();
    say({ kind: "opened", books: told, recentIds }, [recentIds.buffer as ArrayBuffer]);
    return { lock, store, engine, disk, place, close };
  } catch (thrown) {
    say({ kind: "not-opened", fault: report(thrown), hint: thrown instanceof GatewayError ? thrown.hint : undefined });
    return undefined;
  }
}

/** The numbers as the main thread knows them. */
let told: Books;

/** Says what it does not know of them yet, as a part of a reply. */
function sayNews(books: Books, reply: (news: News<Books>) => Reply): void {
  say(reply(newsOf(books, told)));
  told = books;
}

/** What is written to the open file from then on would be lost: no request is performed any more. */
let putBack = false;

const opened = await open();

/** Where it is. @throws where another program has written over it: nothing of it is to be read or written any more */
function lookFor({ place }: Opened): Place {
  const found = place.look();
  if (found === "overwritten") throw overwritten(file);
  return found;
}

/** Numbers that were not known yet when a commit was answered go with the next answer; where none comes so soon, by themselves. */
const BOOKS_DELAY_MS = 5;
let cancelBooks: (() => void) | undefined;

function answer(
  { engine }: Opened,
  { id }: Request,
  gives: Operations[Operation]["gives"],
  books = engine.books(),
): void {
  cancelBooks?.();
  sayNews(books, (news) => ({ kind: "done", id, gives, books: news }));
}

/** Says the numbers by themselves. They may need a look into the file; where that fails, the process ends as for a failed request. */
function sayBooks({ engine }: Opened, { id }: Request): void {
  try {
    sayNews(engine.books(), (books) => ({ kind: "books", books }));
  } catch (thrown) {
    say({ kind: "failed", id, fault: report(thrown) });
  }
}

function commitAndAnswer(opened: Opened, request: Extract<Request, { op: "commit" }>): void {
  const from = systemClock.monotonic();
  let answered = false;
  const done = (outcome: Omit<CommitOutcome, "seconds">, books?: Books): void => {
    answered = true;
    answer(opened, request, { ...outcome, seconds: (systemClock.monotonic() - from) / 1000 }, books);
  };
  const outcome = commit(opened, request.takes, (stored) => done(stored, opened.engine.booksSoFar()));
  if (!answered) done(outcome);
  else cancelBooks = systemClock.after(BOOKS_DELAY_MS, () => sayBooks(opened, request));
}

/** Where the file is not in its place, fates are written and readings wait. */
function commit(
  opened: Opened,
  takes: Commit,
  durable: (outcome: Omit<CommitOutcome, "seconds">) => void,
): Omit<CommitOutcome, "seconds"> {
  const { disk } = opened;
  if (lookFor(opened) === "in-place") return disk.commit(takes, durable);
  const { diskFull } = disk.commit({ ...takes, blocks: [] });
  return { stored: 0, diskFull, ...(takes.blocks.length > 0 && { hold: "file-gone" as const }) };
}

/** Closes the file; where it is not in its place any more, its content is kept first. */
async function end({ lock, store, engine, disk, place, close }: Opened, clock: ClockQuality): Promise<void> {
  if (place.lookForOverwritten()) {
    engine.end();
    lock.release();
    return;
  }
  disk.noteTime(clock);
  engine.end();
  const left = await place.leave();
  if (left === "in-place" && diskSpace(file).free < store.sizes.reserveBytes) store.keepLog();
  if (!place.lookForOverwritten()) close(left !== "replaced");
  lock.release();
}

function perform(
  opened: Opened,
  request: Exclude<Request, { op: "commit" | "close" }>,
): Operations[Operation]["gives"] {
  const { store, engine, disk } = opened;
  switch (request.op) {
    case "tend":
      lookFor(opened);
      return disk.tend(request.takes.clock);
    case "lease":
      lookFor(opened);
      return disk.run(() => engine.lease(request.takes));
    case "fixClock":
      disk.run(() => engine.fixClock(request.takes.offsetMs));
      return undefined;
    case "part":
      return engine.part(request.takes.lease, request.takes.range);
    case "ids":
      return engine.ids(request.takes.lease);
    case "peek":
      return peek(store, request.takes.limit, request.takes.priority);
    case "deadLetters":
      return engine.deadLetters(request.takes.after, request.takes.limit);
    case "deadLettersOf":
      return engine.deadLettersOf(request.takes.id);
    case "requeue":
      return disk.run(() => engine.requeue(request.takes));
    case "drop":
      return disk.run(() => engine.drop(request.takes));
    case "purgeKept":
      return disk.run(() => engine.purgeKept(request.takes));
    case "kept":
      return engine.kept();
    case "replayCount":
      return engine.replayCount(request.takes.selection, request.takes.from);
    case "replayTake":
      return engine.replayTake(request.takes.selection, request.takes.from, request.takes.limits);
    case "ping":
      return undefined;
  }
}

if (opened !== undefined) {
  port.on("message", async (request: Request) => {
    if (putBack) return;
    try {
      if (request.op === "commit") commitAndAnswer(opened, request);
      else if (request.op === "close") {
        await end(opened, request.takes.clock);
        answer(opened, request, undefined);
        port.close();
      } else answer(opened, request, perform(opened, request));
    } catch (thrown) {
      say({ kind: "failed", id: request.id, fault: report(thrown) });
    }
  });
}
