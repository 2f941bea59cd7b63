/**
 * A file beside the outbox whose only purpose is its space: on a full disk it is given up, so that fates can still be written
 * and delivery goes on; readings are taken again only once there is room for it.
 *
 * Invariant: while it is held, its bytes are really allocated. It is filled with noise, because a file system that
 * compresses would keep zeros for nothing.
 */
import { randomFillSync } from "node:crypto";
import { closeSync, fsyncSync, openSync, rmSync, type Stats, statfsSync, statSync, writeSync } from "node:fs";
import { constants } from "node:os";
import { dirname, join } from "node:path";
import { codeOf, messageOf } from "../kernel/errors.ts";

const FILE = "outbox.reserve";
const CHUNK_BYTES = 64 * 1024;
const STAT_BLOCK_BYTES = 512;
const LONGEST_PAUSE_MS = 60_000;

/** What the file system that holds `path` (a file, there or not) has: free for us, and in all, in bytes. */
export function diskSpace(path: string): { readonly free: number; readonly total: number } {
  try {
    const { bavail, blocks, bsize } = statfsSync(dirname(path));
    return { free: bavail * bsize, total: blocks * bsize };
  } catch {
    // Where it cannot be told, the first SQLITE_FULL tells.
    return { free: Number.POSITIVE_INFINITY, total: Number.POSITIVE_INFINITY };
  }
}

/** Whether a write of our own failed for want of space. Node.js has no name for EDQUOT: its code is UNKNOWN. */
function isForSpace(fault: unknown): boolean {
  return codeOf(fault) === "ENOSPC" || (fault as NodeJS.ErrnoException).errno === -constants.errno.EDQUOT;
}

/** More than a file system has left over where a page found no room. */
const PROBE_BYTES = 64 * 1024;

/**
 * A fault that SQLite met in the file at `path`, or beside it: it calls a disk quota that is used up (EDQUOT) what it calls a failing
 * card, and is left in the same state as by a full disk.
 */
export function quotaNamed(fault: unknown, path: string): unknown {
  if (codeOf(fault) !== "SQLITE_IOERR_WRITE" || !spaceIsUsedUp(path)) return fault;
  const full = new Error(`the disk quota is used up: ${messageOf(fault)}`, { cause: fault });
  return Object.assign(full, { code: "SQLITE_FULL" });
}

/**
 * Whether nothing more can be written beside the file at `path` for want of space, a disk quota's included, which the file system's
 * own numbers do not show. Tries it.
 */
function spaceIsUsedUp(path: string): boolean {
  const probe = `${path}.probe`;
  try {
    const fd = openSync(probe, "w", 0o600);
    try {
      const noise = randomFillSync(Buffer.alloc(PROBE_BYTES));
      for (let at = 0; at < PROBE_BYTES; ) at += writeSync(fd, noise, at, PROBE_BYTES - at, at);
      return false;
    } finally {
      closeSync(fd);
    }
  } catch (fault) {
    return isForSpace(fault);
  } finally {
    rmSync(probe, { force: true });
  }
}

export class Reserve {
  readonly #outboxFile: string;
  readonly #file: string;
  readonly bytes: number;
  #held: boolean;

  readonly #monotonic: () => number;
  #madeAt = Number.NEGATIVE_INFINITY;
  #notBefore = Number.NEGATIVE_INFINITY;
  #pauseMs = 0;

  /** For the outbox at `outboxFile`. One that is there already is taken over. */
  constructor(outboxFile: string, bytes: number, monotonic: () => number) {
    this.#monotonic = monotonic;
    this.#outboxFile = outboxFile;
    this.#file = reserveOf(outboxFile);
    this.bytes = bytes;
    this.#held = this.#isWhole();
  }

  get held(): boolean {
    return this.#held;
  }

  /** Makes it where it is not held and there is space. Returns whether it is held. Throws where the disk fails to write. */
  make(): boolean {
    if (this.#held || this.#monotonic() < this.#notBefore || !this.#affordable) return this.#held;
    try {
      this.#write();
      this.#held = true;
      this.#madeAt = this.#monotonic();
    } catch (fault) {
      rmSync(this.#file, { force: true });
      if (!isForSpace(fault)) throw fault;
    }
    return this.#held;
  }

  /** Gives its space to whoever writes next. */
  release(): void {
    if (this.#held) this.#putOff();
    this.#held = false;
    releaseReserve(this.#outboxFile);
  }

  /** Whether there is room for it, and some more for the readings that come then. */
  get #affordable(): boolean {
    return diskSpace(this.#file).free >= 1.25 * this.bytes;
  }

  /** A disk that says that it has space and then takes nothing must not be worn by making it over and over. */
  #putOff(): void {
    const now = this.#monotonic();
    this.#pauseMs = now - this.#madeAt < LONGEST_PAUSE_MS ? Math.min(LONGEST_PAUSE_MS, 2 * this.#pauseMs + 1000) : 0;
    this.#notBefore = now + this.#pauseMs;
  }

  #isWhole(): boolean {
    const stat = statOf(this.#file);
    return stat !== undefined && stat.size === this.bytes && stat.blocks * STAT_BLOCK_BYTES >= this.bytes;
  }

  #write(): void {
    const fd = openSync(this.#file, "w", 0o600);
    try {
      const chunk = Buffer.alloc(CHUNK_BYTES);
      for (let left = this.bytes; left > 0; ) {
        randomFillSync(chunk);
        left -= writeSync(fd, chunk, 0, Math.min(left, CHUNK_BYTES));
      }
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
    sync(dirname(this.#file));
  }
}

const reserveOf = (outboxFile: string): string => join(dirname(outboxFile), FILE);

/** Gives up the reserve of the outbox at `outboxFile`. Returns whether there was one. */
export function releaseReserve(outboxFile: string): boolean {
  const file = reserveOf(outboxFile);
  if (statOf(file) === undefined) return false;
  rmSync(file);
  // Until the removal itself is on the disk, some file systems keep the space.
  sync(dirname(file));
  return true;
}

function statOf(file: string): Stats | undefined {
  return statSync(file, { throwIfNoEntry: false });
}

function sync(folder: string): void {
  const fd = openSync(folder, "r");
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}
