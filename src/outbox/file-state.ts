/**
 * What is known of the outbox's file without reading it: a small JSON file beside it, `outbox.db.state`. It is written when
 * the outbox opens and when it closes, never with a commit.
 *
 * It tells whether the last stop was clean (and the file still is as that stop left it), carries what the books said then, and
 * keeps a repair or a replacement that a power cut interrupted from being forgotten. A state that is missing or cannot be
 * read is no fault: then the file is checked.
 */
import { readFileSync, statSync } from "node:fs";
import { writeDurably } from "../kernel/durable-file.ts";
import type { Ledger } from "./ledger.ts";

/** The books as of an opening or a closing. */
export interface KnownBooks {
  readonly lastSeq: number;
  /** By lane. */
  readonly ledgers: readonly Ledger[];
}

export type FileState = { readonly known?: KnownBooks } & (
  | { readonly state: "open" }
  /** As the last stop left the file: its size in bytes, and its time of change in ns. */
  | { readonly state: "closed"; readonly size: number; readonly changed: string }
  /** An unreadable place was met: the next start looks through the whole file before anything else. */
  | { readonly state: "suspect"; readonly reason: string }
  /** Damaged for certain: the next start repairs it. `attempts` counts the repairs that did not come to their end. */
  | {
      readonly state: "damaged";
      readonly reason: string;
      readonly attempts: number;
      /** By another program: what is in it is not ours, but for its log, and the books are as `known` has them. */
      readonly overwritten?: true;
    }
  /** A repaired file could not be opened either: no more is copied, until it can be. */
  | { readonly state: "repaired-in-vain"; readonly reason: string }
  /** A fresh file stands ready as `fresh`: the one in place is to be set aside under the name `aside`. */
  | { readonly state: "replacing"; readonly fresh: string; readonly aside: string }
);

const pathOf = (file: string): string => `${file}.state`;

/** The state beside `file`; `undefined` where there is none that can be read. */
export function readState(file: string): FileState | undefined {
  try {
    const state = JSON.parse(readFileSync(pathOf(file), "utf8")) as FileState;
    return typeof state.state === "string" ? state : undefined;
  } catch {
    return undefined;
  }
}

export function writeState(file: string, state: FileState): void {
  writeDurably(pathOf(file), `${JSON.stringify(state)}\n`);
}

/** Notes a clean stop: the file is closed, and nothing has touched it since. */
export function noteClosed(file: string, known: KnownBooks): void {
  writeState(file, { state: "closed", known, ...fingerprint(file) });
}

/** Whether the last stop was clean and nothing has touched the file since. */
export function isUntouched(file: string, state: FileState | undefined): boolean {
  if (state?.state !== "closed" || sizeOf(`${file}-wal`) > 0) return false;
  const { size, changed } = fingerprint(file);
  return state.size === size && state.changed === changed;
}

/** A file's size in bytes; 0 where there is none. */
export function sizeOf(path: string): number {
  return statSync(path, { throwIfNoEntry: false })?.size ?? 0;
}

function fingerprint(file: string): { size: number; changed: string } {
  const stat = statSync(file, { bigint: true, throwIfNoEntry: false });
  return { size: Number(stat?.size ?? 0n), changed: String(stat?.mtimeNs ?? 0n) };
}
