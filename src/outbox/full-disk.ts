/**
 * What the outbox does when the disk is full: it gives up its reserve, so that fates can be written and delivery goes on,
 * and stores no readings until there is space for the reserve again, on the disk or in pages of the file that delivery has
 * freed.
 *
 * Invariant: readings are stored only while such a reserve is there; its space is for fates.
 */
import type { ClockQuality } from "../observation/observation.ts";
import type { Commit, Committed } from "./commit.ts";
import type { Engine } from "./engine.ts";
import type { CommitOutcome, TendOutcome } from "./protocol.ts";
import { diskSpace, type Reserve, releaseReserve } from "./reserve.ts";
import { classify } from "./store-fault.ts";

const ENOUGH_TO_OPEN = 1024 * 1024;

/** On a full disk gives up the reserve that the last run left: opening the outbox at `file` takes some space of its own. */
export function makeRoomToOpen(file: string): void {
  if (diskSpace(file).free < ENOUGH_TO_OPEN) releaseReserve(file);
}

export class FullDisk {
  readonly #engine: Engine;
  readonly #reserve: Reserve;
  /** Bytes of the outbox's file that are free for use again. */
  readonly #freeInFile: () => number;

  constructor(engine: Engine, reserve: Reserve, freeInFile: () => number) {
    this.#engine = engine;
    this.#reserve = reserve;
    this.#freeInFile = freeInFile;
  }

  /**
   * `Engine#commit`; on a full disk the fates alone. Throws SQLite's own error where not even they could be written. `durable` is told
   * of a commit that stored all as soon as it has, before what is then left to do.
   */
  commit(commit: Commit, durable?: (outcome: Omit<CommitOutcome, "seconds">) => void): Omit<CommitOutcome, "seconds"> {
    if (commit.blocks.length > 0 && !this.#secured()) return this.#fatesOnly(commit);
    let committed: Committed;
    let isDurable = false;
    try {
      committed = this.#engine.commit(commit, ({ stored }) => {
        isDurable = true;
        if (stored < commit.blocks.length || !this.#reserve.held) return;
        durable?.({ stored, diskFull: false });
      });
    } catch (fault) {
      if (isDurable || classify(fault) !== "disk-full") throw fault;
      return this.#fatesOnly(commit);
    }
    const { stored, full } = committed;
    const diskFull = !this.#secured();
    if (stored === commit.blocks.length) return { stored, diskFull };
    if (full) return { stored, diskFull, hold: "outbox-full" };
    return diskFull ? { stored, diskFull, hold: "disk-full" } : { stored, diskFull };
  }

  /** Anything else that writes; on a full disk once more, in the space of the reserve. */
  run<T>(change: () => T): T {
    try {
      return change();
    } catch (fault) {
      if (classify(fault) !== "disk-full") throw fault;
      this.#reserve.release();
      // The next commit writes over the WAL from its beginning, and needs no space for it.
      this.#engine.checkpoint();
      return change();
    }
  }

  /** `Engine#tend`; where the disk does not take even that, it is left to the next time. */
  tend(quality: ClockQuality): TendOutcome {
    let more = false;
    try {
      more = this.run(() => this.#engine.tend(quality));
    } catch (fault) {
      if (classify(fault) !== "disk-full") throw fault;
    }
    return { more, diskFull: !this.#secured() };
  }

  /** Whether there is a reserve. Where there is none on the disk, free pages of the file, written in place, are as good. */
  #secured(): boolean {
    const { held } = this.#reserve;
    if (!this.#reserve.make()) return this.#enoughInFile();
    // With the reserve made again the file may grow again.
    if (!held) this.#engine.look();
    return true;
  }

  /** What is kept for replay gives way to what is to come, as far as the disk still takes that. */
  #enoughInFile(): boolean {
    try {
      while (this.#freeInFile() < this.#reserve.bytes) {
        if (this.run(() => this.#engine.dropOldestKept()) === 0) return false;
      }
      return true;
    } catch (fault) {
      if (classify(fault) !== "disk-full") throw fault;
      return false;
    }
  }

  /** Notes until when the machine ran, before the file is closed. Without it a restart counts a little less. */
  noteTime(quality: ClockQuality): void {
    try {
      this.#engine.noteTime(quality);
    } catch (fault) {
      if (classify(fault) !== "disk-full") throw fault;
    }
  }

  #fatesOnly(commit: Commit): Omit<CommitOutcome, "seconds"> {
    if (commit.settlements.length > 0 || commit.duplicates > 0) {
      this.run(() => this.#engine.commit({ ...commit, blocks: [] }));
    }
    return { stored: 0, diskFull: true, ...(commit.blocks.length > 0 && { hold: "disk-full" }) };
  }
}
