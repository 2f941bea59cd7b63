/** What the outbox tells of itself: its numbers, and what an operator ought to know. Types only. */
import type { Ledger } from "./ledger.ts";
import type { Room } from "./retention.ts";

/** What there is, in numbers, after a change. */
export interface Books {
  /** By lane. */
  readonly ledgers: readonly Ledger[];
  /** Readings that could be leased at once, by lane. */
  readonly available: readonly number[];
  /** Until readings that wait for a later try, or for the clock, are due, ms; `undefined` where none do. */
  readonly deferredDueIn: number | undefined;
  readonly lastSeq: number;
  readonly deadLetters: number;
  /** Delivered, and kept for replay; no part of the ledger. */
  readonly kept: KeptTotals;
  /** Whether the wall time of this boot is known, so that what is read from the file is restamped. */
  readonly clockKnown: boolean;
  /** In use: used pages × page size + WAL. */
  readonly bytes: number;
  readonly walBytes: number;
  readonly room: Room;
  /** Until the next reading has waited for `maxAge`, ms; `undefined` where none waits. */
  readonly expiresIn: number | undefined;
  /** When the oldest waiting reading was accepted, on this boot's monotonic clock (ms); `undefined` where none waits. */
  readonly oldestSince: number | undefined;
}

/** The file was repaired: at this start (`now`), or earlier, and the damaged one is still there. */
export interface RepairNotice {
  readonly kind: "repaired";
  readonly now: boolean;
  readonly damaged: number;
  readonly salvaged: number;
  readonly setAside: string | null;
  readonly detail: string;
}

/** The outbox's file is no longer where it was opened, or is there again. */
export interface FilePlaceNotice {
  readonly kind: "file-place";
  readonly file: string;
  readonly place: "in-place" | "gone" | "replaced" | "log-gone" | "overwritten";
  /** Why its content could not be kept. */
  readonly fault?: string;
  /** Under which name its content is kept beside the other file. */
  readonly keptAs?: string;
}

/** How much is kept for replay. */
export interface KeptTotals {
  readonly readings: number;
  /** Of compressed bodies. */
  readonly bytes: number;
}

/** What is kept for replay. */
export interface KeptState {
  /** The id of the block kept last. */
  readonly through: number;
  /** Delivered readings are being kept now. */
  readonly keeps: boolean;
  readonly any: boolean;
}

export type Notice =
  | { readonly kind: "damaged"; readonly readings: number; readonly detail: string }
  | { readonly kind: "dead-letters-dropped"; readonly ids: readonly string[] }
  /** The last stop was not a clean one, or another program has touched the file: it was looked through, and is whole. */
  | { readonly kind: "checked"; readonly why: "unclean-stop" | "touched"; readonly seconds: number }
  | FilePlaceNotice
  | RepairNotice;
