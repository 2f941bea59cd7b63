/** Reads entries of an audit trail, from its files, in order. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { codeOf } from "../../kernel/errors.ts";
import type { AuditEntry } from "./entry.ts";
import { linesIn, segmentsIn } from "./segments.ts";

export interface EntryQuery {
  /** Those with a wall time from then on, milliseconds; as their clock had it. */
  readonly since?: number;
  /** Those of this action, or, for `dead-letter`, of all that begin with `dead-letter.`. */
  readonly action?: string;
  /** The newest so many, at most. */
  readonly limit: number;
}

export interface EntryPage {
  /** Oldest first. */
  readonly entries: readonly AuditEntry[];
  /** How many older ones match as well. */
  readonly older: number;
}

/** What matches, whether it is whole or not: `verify` tells that. @throws the system's errors */
export async function listEntries(folder: string, { since, action, limit }: EntryQuery): Promise<EntryPage> {
  let entries: AuditEntry[] = [];
  let older = 0;
  for (const name of await segmentsIn(folder)) {
    for (const { read } of linesIn(await bytesOf(join(folder, name)))) {
      if (read === undefined || !matches(read.entry, since, action)) continue;
      entries.push(read.entry);
    }
    older += Math.max(0, entries.length - limit);
    entries = entries.slice(-limit);
  }
  return { entries, older };
}

/** Every byte of the trail, in order: what is exported. */
export async function* bytesOfTrail(folder: string): AsyncGenerator<Buffer> {
  for (const name of await segmentsIn(folder)) yield await bytesOf(join(folder, name));
}

/** A segment that went since it was listed is none. */
async function bytesOf(path: string): Promise<Buffer> {
  try {
    return await readFile(path);
  } catch (fault) {
    if (codeOf(fault) === "ENOENT") return Buffer.alloc(0);
    throw fault;
  }
}

function matches(entry: AuditEntry, since: number | undefined, action: string | undefined): boolean {
  if (since !== undefined && !(Date.parse(entry.at) >= since)) return false;
  return action === undefined || entry.action === action || entry.action.startsWith(`${action}.`);
}
