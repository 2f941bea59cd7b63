/**
 * Whether the open file still holds what this process has written: SQLite does not notice when another program overwrites it in place
 * (`cp other.db outbox.db`, `dd`), goes on with what it has in memory, and brings its log into the other content.
 *
 * Nobody but a checkpoint writes to the file while the log is in use, and nearly all checkpoints are ours. So between two of them the
 * file's size and time of change stay, and its first page, which names how large it is and what is free, is as the last one left it.
 *
 * Another program may bring the log in through SQLite as well (`PRAGMA wal_checkpoint` before somebody copies the file), which is no harm.
 * That leaves a trace which no overwriting leaves: the index of the log says that more of it is in the file than we have brought in, or
 * that there is less of it than we have written, or it has begun anew although we had not brought in all.
 *
 * It does not tell of what is written during a checkpoint, in milliseconds; nor of what gives the file its old time back.
 */
import { type BigIntStats, closeSync, copyFileSync, fstatSync, ftruncateSync, openSync, readSync } from "node:fs";
import { renameDurably, sync } from "../kernel/durable-file.ts";
import { PAGE_BYTES } from "./sizes.ts";
import { logGeneration, readWal } from "./wal-file.ts";

/** `touched`: somebody has written to it, and its beginning is ours. `overwritten`: not even that. */
export type Content = "ours" | "touched" | "overwritten";

/** An I/O error, as far as the daemon is concerned: nothing that was stored can be relied on. */
export function overwritten(file: string): Error {
  const error = new Error(`${OVERWRITTEN}: ${file}`);
  return Object.assign(error, { code: "SQLITE_IOERR_OVERWRITTEN" });
}

export const OVERWRITTEN = "another program has written over the outbox's file";

/** How many frames the log has, and how many of them are in the file, as its index says. */
export interface WalFrames {
  readonly log: number;
  readonly checkpointed: number;
}

/** The log after our last commit or checkpoint. */
interface KnownLog extends WalFrames {
  /** Another one each time that it begins anew; `undefined` where it holds nothing yet. */
  readonly generation: string | undefined;
}

/** Frames that one commit has at most, by far: a log that is longer has begun anew only if it is shorter afterwards. */
const LONGEST_COMMIT = 1024;

export class FileContent {
  readonly #file: string;
  readonly #frames: () => WalFrames;
  /** Stays open: to close any descriptor of the file would give up SQLite's locks on it (fcntl(2)). */
  readonly #fd: number;
  #isOpen = true;
  #size = 0n;
  #changed = 0n;
  readonly #firstPage = Buffer.alloc(PAGE_BYTES);
  #log: KnownLog = { log: 0, checkpointed: 0, generation: undefined };
  /** A commit of ours has found the log brought in, or begun anew, by others. */
  #foundBroughtIn = false;

  /** Of a file that has just been opened, and is ours; `frames` looks into the index of its log. */
  constructor(file: string, frames: () => WalFrames) {
    this.#file = file;
    this.#frames = frames;
    this.#fd = openSync(file, "r");
    this.note();
  }

  /** The file is as it should be: this process has written to it, or what somebody else did has been looked at, and is no harm. */
  note(): void {
    const { size, mtimeNs } = fstatSync(this.#fd, { bigint: true });
    this.#size = size;
    this.#changed = mtimeNs;
    this.#read(this.#firstPage);
    this.#noteLog();
  }

  /** `stat`: of the open file, where the caller has just asked for it. */
  look({ size, mtimeNs }: BigIntStats = fstatSync(this.#fd, { bigint: true })): Content {
    if (size === this.#size && mtimeNs === this.#changed) return "ours";
    const page = Buffer.alloc(PAGE_BYTES);
    this.#read(page);
    const ours = page.equals(this.#firstPage) || this.#isInLog(page);
    if (ours && size >= this.#size) return "touched";
    // Asked last: another program may be about to empty the log that it has brought in.
    return this.#othersBroughtIn() ? "touched" : "overwritten";
  }

  /** After SQLite has closed the file; once more does nothing, as there. */
  close(): void {
    if (this.#isOpen) closeSync(this.#fd);
    this.#isOpen = false;
  }

  /**
   * This process has committed, and the log is this long now; to be told of each commit, or what it wrote is taken for another program's.
   * `wrote`: whether the commit changed anything.
   */
  noteCommit({ log, checkpointed }: WalFrames, wrote: boolean): void {
    const before = this.#log;
    const mayBeAnew = log <= before.log || before.log < LONGEST_COMMIT || before.generation === undefined;
    // None: it has been emptied behind SQLite's back, which is not to begin anew.
    const generation = (mayBeAnew ? logGeneration(`${this.#file}-wal`) : undefined) ?? before.generation;
    const anew = generation !== before.generation;
    // Once all is in, our own next commit begins the log anew.
    const emptied = log < before.log || (wrote && log === 0);
    if (anew ? before.log > before.checkpointed : emptied || checkpointed > before.checkpointed) {
      this.#foundBroughtIn = true;
    }
    this.#log = { log, checkpointed: anew ? 0 : before.checkpointed, generation };
  }

  #noteLog(): void {
    this.#log = { ...this.#frames(), generation: logGeneration(`${this.#file}-wal`) };
    this.#foundBroughtIn = false;
  }

  /** Whether another connection has brought in what we have not, or has written. */
  #othersBroughtIn(): boolean {
    const { log, checkpointed } = this.#frames();
    return this.#foundBroughtIn || log !== this.#log.log || checkpointed > this.#log.checkpointed;
  }

  /** Whether the page is the first one as it was after one of our commits that are in the log: somebody may be about to bring that in. */
  #isInLog(page: Buffer): boolean {
    const path = `${this.#file}-wal`;
    return (
      logGeneration(path) === this.#log.generation && readWal(path)?.first.some((own) => own.equals(page)) === true
    );
  }

  #read(page: Buffer): void {
    page.fill(0);
    readSync(this.#fd, page, 0, PAGE_BYTES, 0);
  }
}

/**
 * Keeps the log of an overwritten file for the repair: SQLite would bring it into the other content when it closes the file. The open
 * connection is left with an empty one, of which it cannot read a frame.
 */
export function withdrawLog(file: string): void {
  const log = `${file}-wal`;
  const copy = `${log}.copy`;
  const opened = openSync(log, "r+");
  try {
    copyFileSync(log, copy);
    sync(copy);
    renameDurably(copy, log);
    ftruncateSync(opened);
  } finally {
    closeSync(opened);
  }
}
