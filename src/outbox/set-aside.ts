/**
 * One file of the outbox takes another's place, and the one that was there is kept under a name of its own, together with its
 * -wal and -shm: `outbox.db.damaged-1`, `outbox.db.damaged-1-wal`, … Names carry a number, not a time: the clock may be wrong.
 *
 * A power cut in between leaves a note in the file's state: `finishReplacement` goes on from there.
 */
import { existsSync, readdirSync, renameSync, rmSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { sync } from "./durable-file.ts";
import { type KnownBooks, readState, writeState } from "./file-state.ts";

/** `damaged`: by a repair. `replaced`: by `outbox restore`. */
export type Aside = "damaged" | "replaced";

/** SQLite's companions of a file; the file itself comes first. */
const PARTS = ["", "-wal", "-shm"];

/** Puts `fresh` in `file`'s place, which is set aside; returns under what name. All in one folder. */
export function replace(file: string, fresh: string, aside: Aside, known: KnownBooks | undefined): string {
  const name = join(dirname(file), nextName(file, aside));
  sync(fresh);
  writeState(file, { state: "replacing", fresh, aside: name, ...(known !== undefined && { known }) });
  finishReplacement(file);
  return name;
}

/** Goes on with a replacement that was interrupted, if one was. */
export function finishReplacement(file: string): void {
  const state = readState(file);
  if (state?.state !== "replacing") return;
  const { fresh, aside, known } = state;
  if (existsSync(fresh)) {
    for (const part of PARTS)
      if (existsSync(file + part) && !existsSync(aside + part)) renameSync(file + part, aside + part);
    renameSync(fresh, file);
  }
  sync(dirname(file));
  writeState(file, { state: "open", ...(known !== undefined && { known }) });
}

/** The names of what was set aside, oldest first. */
export function setAside(file: string, aside: Aside): string[] {
  const prefix = `${basename(file)}.${aside}-`;
  return readdirSync(dirname(file))
    .filter((name) => name.startsWith(prefix) && /^\d+$/.test(name.slice(prefix.length)))
    .sort((a, b) => Number(a.slice(prefix.length)) - Number(b.slice(prefix.length)));
}

/** Removes all but the newest `keep` of what was set aside; returns the names of what went. */
export function removeOldest(file: string, aside: Aside, keep: number): string[] {
  const names = setAside(file, aside);
  const gone = names.slice(0, Math.max(0, names.length - keep));
  for (const name of gone) remove(join(dirname(file), name));
  return gone;
}

/** Removes a file and its companions, where they are. */
export function remove(file: string): void {
  for (const part of [...PARTS, "-journal", ".report"]) rmSync(file + part, { force: true });
}

function nextName(file: string, aside: Aside): string {
  const newest = setAside(file, aside).at(-1) ?? "-0";
  return `${basename(file)}.${aside}-${Number(newest.slice(newest.lastIndexOf("-") + 1)) + 1}`;
}
