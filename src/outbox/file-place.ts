/**
 * Whether the outbox's file still is where it was opened, and what is done where it is not: somebody has removed it, or put another file
 * in its place. SQLite goes on with the open one, which is lost with the process.
 *
 * - Removed: its content is put back, as a copy of the open file, and the process ends, to be started afresh on the copy.
 * - Replaced: the other file is somebody's, and never overwritten. The content is kept beside it as `outbox.db.replaced-N`, at once and
 *   again at the stop; once the other file is moved away, the content is put back as above. The open file's log goes at once: SQLite
 *   would replay it over the other file.
 * - The log alone was removed: what it holds is written to the file, and the process ends.
 *
 * Invariants: nothing is acknowledged into a file that is not in its place; deliveries go on, and are in the copy. The copy is
 * made some pages at a time, so that a large file does not hold up the worker; it takes its name only when it is whole.
 *
 * A file that another program has written over in place (`file-content.ts`) cannot be put back: what is in memory and in the log is noted and
 * kept for the next start, and the process ends.
 */
import { type BigIntStats, existsSync, linkSync, rmSync, statSync } from "node:fs";
import { basename, dirname } from "node:path";
import { renameDurably, sync } from "../kernel/durable-file.ts";
import { codeOf, messageOf } from "../kernel/errors.ts";
import type { FilePlaceNotice } from "./books.ts";
import { nextName, remove } from "./set-aside.ts";
import type { Store } from "./store.ts";

/** Before another try where the copy could not be made: a full disk is not to be filled over and over. */
const RETRY_MS = 10_000;
/**
 * For so long a log that is there is taken for the one that was seen. To ask for its identity is to ask for its times as well, which from
 * Linux 6.13 on makes the next write change them: each commit would sync the inode too, and take half as long again.
 */
const LOG_SEEN_MS = 50;

export type Place = FilePlaceNotice["place"];

export interface FilePlaceParts {
  readonly file: string;
  readonly store: Pick<Store, "copyTo" | "bringLogIn" | "content">;
  readonly monotonic: () => number;
  readonly onNotice: (notice: FilePlaceNotice) => void;
  /** Another program has written over it: it is not ours any more. */
  readonly onOverwritten: () => void;
  /** Another program has written to it, or only touched it: it may be damaged. */
  readonly onTouched: () => void;
  /** The content is back in its place, in another file than the open one: nothing may be written any more. */
  readonly onPutBack: () => void;
}

export class FilePlace {
  readonly #parts: FilePlaceParts;
  readonly #identity: string | undefined;
  readonly #logIdentity: string | undefined;
  readonly #copy: string;
  /** The name of the copy beside another file. */
  #keptAs: string | undefined;
  #said = JSON.stringify({ place: "in-place" });
  #working: Promise<void> | undefined;
  /** The open file is about to be closed: its content is kept as it is in the end. */
  #leaving = false;
  #notBefore = Number.NEGATIVE_INFINITY;
  #gaveUp = false;
  /** When the log was last known by its identity. */
  #logSeenAt = Number.NEGATIVE_INFINITY;

  /** Of a file that has just been opened. */
  constructor(parts: FilePlaceParts) {
    this.#parts = parts;
    this.#identity = identityOf(statOf(parts.file));
    this.#logIdentity = identityOf(statOf(`${parts.file}-wal`));
    this.#copy = `${parts.file}.copy`;
    remove(this.#copy);
  }

  /** Looks, and sees to it that something is done where the file is not in its place. Costs a `stat`, and one of the log now and then. */
  look(): Place {
    const place = this.#place();
    if (place === "in-place") {
      this.#forget();
      this.#say({ place });
    } else if (place === "overwritten") this.#giveUp();
    else this.#rescue(place);
    return place;
  }

  /** As `look`, for that alone: whether another program has written over it. */
  lookForOverwritten(): boolean {
    if (this.#place() !== "overwritten") return false;
    this.#giveUp();
    return true;
  }

  /** Before the open file is closed: resolves once its content is kept, as far as that can be. Returns where the file was. */
  async leave(): Promise<Place> {
    await this.#working;
    const place = this.#place();
    if (place === "in-place" || place === "overwritten") return place;
    this.#notBefore = Number.NEGATIVE_INFINITY;
    this.#leaving = true;
    this.#rescue(place);
    await this.#working;
    return place;
  }

  #place(): Place {
    try {
      const stat = statOf(this.#parts.file);
      if (stat === undefined) return "gone";
      if (identityOf(stat) !== this.#identity) return "replaced";
      if (!this.#logIsInPlace()) return "log-gone";
      return this.#contentIsOurs(stat) ? "in-place" : "overwritten";
    } catch {
      // A folder that may not be looked into says nothing of the file.
      return "in-place";
    }
  }

  /** That the log was removed is seen at every look; that another one is there instead, where none was taken just before. */
  #logIsInPlace(): boolean {
    const now = this.#parts.monotonic();
    if (now - this.#logSeenAt < LOG_SEEN_MS && existsSync(`${this.#parts.file}-wal`)) return true;
    const ours = this.#logIsOurs();
    this.#logSeenAt = ours ? now : Number.NEGATIVE_INFINITY;
    return ours;
  }

  #logIsOurs(): boolean {
    return this.#logIdentity === undefined || identityOf(statOf(`${this.#parts.file}-wal`)) === this.#logIdentity;
  }

  #contentIsOurs(stat: BigIntStats): boolean {
    const { content } = this.#parts.store;
    const found = content?.look(stat);
    if (found === "touched") {
      content?.note();
      this.#parts.onTouched();
    }
    return found !== "overwritten";
  }

  #giveUp(): void {
    if (this.#gaveUp) return;
    this.#gaveUp = true;
    this.#parts.onOverwritten();
    this.#say({ place: "overwritten" });
  }

  #rescue(place: Exclude<Place, "in-place" | "overwritten">): void {
    const keptAlready = place === "replaced" && this.#keptAs !== undefined && !this.#leaving;
    if (this.#working !== undefined || keptAlready || this.#parts.monotonic() < this.#notBefore) return;
    if (place !== "replaced") this.#say({ place });
    this.#working = this.#keep(place)
      .catch((fault: unknown) => {
        this.#notBefore = this.#parts.monotonic() + RETRY_MS;
        this.#say({ place, fault: messageOf(fault) });
      })
      .finally(() => {
        remove(this.#copy);
        this.#working = undefined;
      });
  }

  async #keep(place: Exclude<Place, "in-place" | "overwritten">): Promise<void> {
    if (place === "replaced") await this.#keepBeside();
    else if (place === "gone") await this.#putBack();
    else {
      this.#parts.store.bringLogIn();
      this.#removeLog();
      this.#settled();
    }
  }

  async #putBack(): Promise<void> {
    const { file, store } = this.#parts;
    await store.copyTo(this.#copy);
    sync(this.#copy);
    if (this.#place() !== "gone") return;
    // The removed file's: it would be replayed over the copy.
    this.#removeLog();
    try {
      linkSync(this.#copy, file);
    } catch (fault) {
      // Somebody was quicker: the next look finds that file.
      if (codeOf(fault) === "EEXIST") return;
      throw fault;
    }
    remove(this.#copy);
    sync(dirname(file));
    this.#settled();
  }

  #settled(): void {
    this.#forget();
    if (!this.#leaving) this.#parts.onPutBack();
  }

  #removeLog(): void {
    for (const part of ["-wal", "-shm"]) rmSync(this.#parts.file + part, { force: true });
  }

  async #keepBeside(): Promise<void> {
    const { file, store } = this.#parts;
    if (this.#logIsOurs()) this.#removeLog();
    await store.copyTo(this.#copy);
    sync(this.#copy);
    this.#keptAs ??= `${dirname(file)}/${nextName(file, "replaced")}`;
    renameDurably(this.#copy, this.#keptAs);
    this.#say({ place: "replaced", keptAs: basename(this.#keptAs) });
  }

  /** The content is in its place again: what was kept beside another file is of no use any more. */
  #forget(): void {
    if (this.#keptAs !== undefined) remove(this.#keptAs);
    this.#keptAs = undefined;
  }

  /** Once for each change. */
  #say(notice: Omit<FilePlaceNotice, "kind" | "file">): void {
    const said = JSON.stringify(notice);
    if (said === this.#said) return;
    this.#said = said;
    this.#parts.onNotice({ kind: "file-place", file: this.#parts.file, ...notice });
  }
}

/** Of the file that has this name; `undefined` where none has. */
function statOf(path: string): BigIntStats | undefined {
  try {
    return statSync(path, { bigint: true });
  } catch (fault) {
    if (codeOf(fault) === "ENOENT" || codeOf(fault) === "ENOTDIR") return undefined;
    throw fault;
  }
}

/** Which file that is; `undefined` for none. */
function identityOf(stat: BigIntStats | undefined): string | undefined {
  return stat && `${stat.dev}:${stat.ino}`;
}
