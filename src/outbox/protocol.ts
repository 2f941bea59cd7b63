/** What the main thread and the outbox's worker say to each other. Types only. */
import type { ClockQuality, Priority } from "../observation/observation.ts";
import type { Batch, BatchLimits, IndexRange } from "./batch.ts";
import type { Books, KeptState, Notice } from "./books.ts";
import type { Commit } from "./commit.ts";
import type { DeadLetterChange, DeadLetterSelection } from "./dead-letters.ts";
import type { PeekedReading } from "./inspection.ts";
import type { News } from "./news.ts";
import type { ReplayBatchLimits, ReplayCount, ReplayCursor, ReplaySelection, ReplayTake } from "./replaying.ts";
import type { RetentionSettings } from "./retention.ts";
import type { DeadLetter } from "./rows.ts";
import type { StoreFault } from "./store-fault.ts";

/** What the worker is started with. */
export interface WorkerSettings extends RetentionSettings {
  readonly dataDir: string;
  /** Relative to dataDir. */
  readonly file: string;
  readonly maxDeadLetters: number;
  /** Milliseconds. */
  readonly waitForClock: number;
  readonly keepDelivered: number;
  readonly gatewayId: string;
  readonly bootId: string;
  /** How many ids to hand back for the recognition of copies. */
  readonly recentIds: number;
}

/** Each operation with what it takes and gives. */
export interface Operations {
  commit: { takes: Commit; gives: CommitOutcome };
  tend: { takes: { clock: ClockQuality }; gives: TendOutcome };
  lease: { takes: BatchLimits; gives: Batch | undefined };
  fixClock: { takes: { offsetMs: number }; gives: undefined };
  part: { takes: { lease: number; range: IndexRange }; gives: Batch };
  ids: { takes: { lease: number }; gives: string[] };
  peek: { takes: { limit: number; priority: Priority | undefined }; gives: PeekedReading[] };
  deadLetters: { takes: { after: number; limit: number }; gives: DeadLetter[] };
  deadLettersOf: { takes: { id: string }; gives: DeadLetter[] };
  requeue: { takes: DeadLetterSelection; gives: DeadLetterChange };
  drop: { takes: DeadLetterSelection; gives: DeadLetterChange };
  purgeKept: { takes: ClockQuality; gives: boolean };
  kept: { takes: undefined; gives: KeptState };
  replayCount: { takes: { selection: ReplaySelection; from: ReplayCursor }; gives: ReplayCount };
  replayTake: {
    takes: { selection: ReplaySelection; from: ReplayCursor; limits: ReplayBatchLimits };
    gives: ReplayTake;
  };
  ping: { takes: undefined; gives: undefined };
  close: { takes: { clock: ClockQuality }; gives: undefined };
}

export type Operation = keyof Operations;

export interface CommitOutcome {
  /** How long it took, fsync included. */
  readonly seconds: number;
  /** How many of the blocks, from the first on, are durable. The settlements are in any case. */
  readonly stored: number;
  /** What has to change before the next block can be stored; where there is nothing of that kind, the others go next. */
  readonly hold?: "outbox-full" | "disk-full" | "file-gone";
  /** The reserve has been given up, and there is no space to make it again. */
  readonly diskFull: boolean;
}

export interface TendOutcome {
  /** There is more to be done at once. */
  readonly more: boolean;
  readonly diskFull: boolean;
}

export type Request = {
  [O in Operation]: { readonly id: number; readonly op: O; readonly takes: Operations[O]["takes"] };
}[Operation];

/** How the worker says what went wrong; an Error's code would not survive the way. */
export interface FaultReport {
  readonly fault: StoreFault;
  readonly code: string | undefined;
  readonly message: string;
}

export type Reply =
  | { readonly kind: "opened"; readonly books: Books; readonly recentIds: Uint32Array }
  | { readonly kind: "not-opened"; readonly fault: FaultReport; readonly hint: string | undefined }
  /** The file was removed, and its content put back in another one: the process ends, and the next start opens that. */
  | { readonly kind: "put-back"; readonly file: string }
  /** The file was found damaged: the process ends, and the next start repairs it. */
  | { readonly kind: "damage-found"; readonly detail: string }
  | { readonly kind: "done"; readonly id: number; readonly gives: unknown; readonly books: News<Books> }
  /** Numbers that have changed since the last answer. */
  | { readonly kind: "books"; readonly books: News<Books> }
  /** The operation may have been answered already: a commit is, before all that it brings is done. */
  | { readonly kind: "failed"; readonly id: number; readonly fault: FaultReport }
  | { readonly kind: "notice"; readonly notice: Notice };
