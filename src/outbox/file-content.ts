/**
 * Whether the open file still holds what this process has written: SQLite does not notice when another program overwrites it in place
 * (`cp other.db outbox.db`, `dd`), goes on with what it has in memory, and brings its log into the other content.
 *
 * Nobody but a checkpoint writes to the file while the log is in use, and the checkpoints are ours. So between two of them the file's
 * size and time of change stay, and its first page, which names how large it is and what is free, is as the last one left it.
 *
 * It does not tell of what is written during a checkpoint, in milliseconds; nor of what gives the file its old time back.
 */
import { closeSync, copyFileSync, fstatSync, ftruncateSync, openSync, readSync } from "node:fs";
import { renameDurably, sync } from "../kernel/durable-file.ts";
import { PAGE_BYTES } from "./sizes.ts";
import { readWal } from "./wal-file.ts";

/** `touched`: somebody has written to it, and its beginning is ours. `overwritten`: not even that. */
export type Content = "ours" | "touched" | "overwritten";

/** An I/O error, as far as the daemon is concerned: nothing that was stored can be relied on. */
export function overwritten(file: string): Error {
  const error = new Error(`${OVERWRITTEN}: ${file}`);
  return Object.assign(error, { code: "SQLITE_IOERR_OVERWRITTEN" });
}

export const OVERWRITTEN = "another program has written over the outbox's file";

export class FileContent {
  readonly #file: string;
  /** Stays open: to close any descriptor of the file would give up SQLite's locks on it (fcntl(2)). */
  readonly #fd: number;
  #isOpen = true;
  #size = 0n;
  #changed = 0n;
  readonly #firstPage = Buffer.alloc(PAGE_BYTES);

  /** Of a file that has just been opened, and is ours. */
  constructor(file: string) {
    this.#file = file;
    this.#fd = openSync(file, "r");
    this.noteWritten();
  }

  /** This process has written to the file: it is as it should be. */
  noteWritten(): void {
    this.noteTouched();
    this.#read(this.#firstPage);
  }

  /** What somebody else did to it has been looked at, and is no harm. */
  noteTouched(): void {
    const { size, mtimeNs } = fstatSync(this.#fd, { bigint: true });
    this.#size = size;
    this.#changed = mtimeNs;
  }

  /** Costs one `fstat`, as long as all is well. */
  look(): Content {
    const { size, mtimeNs } = fstatSync(this.#fd, { bigint: true });
    if (size === this.#size && mtimeNs === this.#changed) return "ours";
    const page = Buffer.alloc(PAGE_BYTES);
    this.#read(page);
    // Somebody may have had SQLite bring the log in.
    const ours = page.equals(this.#firstPage) || readWal(`${this.#file}-wal`)?.pages.get(1)?.equals(page) === true;
    return ours && size >= this.#size ? "touched" : "overwritten";
  }

  /** After SQLite has closed the file; once more does nothing, as there. */
  close(): void {
    if (this.#isOpen) closeSync(this.#fd);
    this.#isOpen = false;
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
