/**
 * Writes one commit after another, however long that takes: where there is no room for readings they wait, and fates and critical
 * readings are written meanwhile, so that delivery goes on and its deletions make room.
 */
import { Histogram, type Registry } from "prom-client";
import type { Clock } from "../kernel/clock.ts";
import type { Settlement } from "./batch.ts";
import type { Books } from "./books.ts";
import type { NewBlock } from "./commit.ts";
import type { CommitOutcome } from "./protocol.ts";
import type { Hold, RoomWatch } from "./room-watch.ts";
import type { Tending } from "./tending.ts";
import type { UnderWay } from "./under-way.ts";
import { WorkerFault, type WorkerLink } from "./worker-link.ts";

/** How often readings that found no room are tried again; fates that come meanwhile are tried with them at once. */
const NO_ROOM_RETRY_MS = 1000;
const COMMIT_SECONDS_BUCKETS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5];

/** A settlement, and whom to tell once it is durable. */
export interface PendingSettlement {
  readonly lease: number;
  readonly settlement: Settlement;
  readonly committed: () => void;
}

export interface CommitWriterParts {
  readonly clock: Clock;
  readonly metrics: Registry;
  readonly room: RoomWatch;
  readonly tending: Tending;
  readonly worker: () => WorkerLink;
  readonly books: () => Books;
  /** Settlements that have come since the commit began; they are the writer's from then on. */
  readonly newSettlements: () => PendingSettlement[];
  /** Critical readings that have come meanwhile go with the group; whether there were any. */
  readonly joinCritical: (group: UnderWay) => boolean;
  /** Some of the group is stored. */
  readonly acknowledge: (group: UnderWay) => void;
  /** Whether the daemon stops: then nothing waits for room any more. */
  readonly stopping: () => boolean;
  readonly onFatal: (error: Error, ioError: boolean) => void;
}

export class CommitWriter {
  readonly #parts: CommitWriterParts;
  readonly #commitSeconds: Histogram;
  #commits = 0;
  #hold: Hold | undefined;
  #tryAgain: () => void = () => {};

  constructor(parts: CommitWriterParts) {
    this.#parts = parts;
    this.#commitSeconds = new Histogram({
      name: "summit_edge_outbox_commit_seconds",
      help: "Duration of a commit, fsync included.",
      buckets: COMMIT_SECONDS_BUCKETS,
      registers: [parts.metrics],
    });
  }

  /** Commits since the start. */
  get commits(): number {
    return this.#commits;
  }

  /** Why the readings of the commit under way wait; `undefined` where they do not. */
  get hold(): Hold | undefined {
    return this.#hold;
  }

  /** There are fates to write, or the daemon stops: no need to wait longer before the next try. */
  tryAgain(): void {
    this.#tryAgain();
  }

  /**
   * Resolves once all is durable; `given-up` where the daemon stops before there is room for the readings, `dead` where the
   * process ends.
   */
  async write(
    group: UnderWay,
    settlements: readonly PendingSettlement[],
    copies: number,
  ): Promise<"written" | "given-up" | "dead"> {
    let owed = settlements;
    let duplicates = copies;
    for (;;) {
      const outcome = await this.#try(group.blocks, owed, duplicates);
      if (outcome === "dead") return "dead";
      if (outcome === "disk-full") this.#holdFor(outcome);
      else {
        group.stored(outcome.stored);
        owed = [];
        duplicates = 0;
        this.#holdFor(outcome.hold);
        if (group.blocks.length === 0) return "written";
        this.#parts.acknowledge(group);
      }
      if (this.#hold !== undefined && this.#parts.stopping()) return giveUp(owed);
      let more = this.#parts.newSettlements();
      const joined = this.#parts.joinCritical(group);
      if (this.#hold !== undefined && more.length === 0 && !joined) {
        await this.#roomOrTime();
        more = this.#parts.newSettlements();
        this.#parts.joinCritical(group);
      }
      owed = [...owed, ...more];
    }
  }

  #holdFor(hold: Hold | undefined): void {
    this.#hold = hold;
    this.#parts.room.hold(hold);
    this.#parts.room.note(this.#parts.books());
  }

  /** Until it is worth trying again: after a while, or when there are fates to write, or the daemon stops. */
  #roomOrTime(): Promise<void> {
    return new Promise((resolve) => {
      const cancel = this.#parts.clock.after(NO_ROOM_RETRY_MS, () => this.#tryAgain());
      this.#tryAgain = () => {
        this.#tryAgain = () => {};
        cancel();
        resolve();
      };
    });
  }

  /** What the worker made of it; `disk-full` where not even the fates could be written. */
  async #try(
    blocks: readonly NewBlock[],
    settlements: readonly PendingSettlement[],
    duplicates: number,
  ): Promise<CommitOutcome | "disk-full" | "dead"> {
    try {
      const fates = settlements.map(({ lease, settlement }) => ({ lease, settlement }));
      const outcome = await this.#parts.worker().call("commit", { blocks, settlements: fates, duplicates });
      this.#commitSeconds.observe(outcome.seconds);
      this.#parts.room.diskFull(outcome.diskFull);
      if (outcome.diskFull) this.#parts.tending.watchDisk();
      this.#commits++;
      for (const { committed } of settlements) committed();
      return outcome;
    } catch (thrown) {
      const fault = thrown instanceof WorkerFault ? thrown.report.fault : "other";
      if (fault === "disk-full") return "disk-full";
      this.#parts.onFatal(thrown instanceof Error ? thrown : new Error(String(thrown)), fault === "io-error");
      return "dead";
    }
  }
}

/** Fates that could not be written are forgotten: what was sent is sent again. */
function giveUp(settlements: readonly PendingSettlement[]): "given-up" {
  for (const { committed } of settlements) committed();
  return "given-up";
}
