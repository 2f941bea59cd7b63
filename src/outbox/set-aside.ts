/**
 * One file of the outbox takes another's place, and the one that was there is kept under a name of its own, together with its
 * -wal and -shm: `outbox.db.damaged-1`, `outbox.db.damaged-1-wal`, … Names carry a number, not a time: the clock may be wrong.
 *
 * A power cut in between leaves a note in the file's state: `finishReplacement` goes on from there.
 */
import { existsSync, readdirSync, renameSync, rmSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { sync } from "../kernel/durable-file.ts";
import { type KnownBooks, readState, writeState } from "./file-state.ts";

/** `damaged`: by a repair. `replaced`: by `outbox restore`. */
export type Aside = "damaged" | "replaced";

/** SQLite's companions of a file; the file itself comes first. */
const PARTS = ["", "-wal", "-shm"];
const ALL_PARTS = [...PARTS, "-journal", ".report"];

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
    if (existsSync(file) && !existsSync(aside)) renameSync(file, aside);
    // Whatever has that name: another file's log beside the fresh one would be replayed over it.
    for (const part of PARTS.slice(1)) if (existsSync(file + part)) renameSync(file + part, aside + part);
    renameSync(fresh, file);
  }
  sync(dirname(file));
  writeState(file, { state: "open", ...(known !== undefined && { known }) });
}

/** The names of what was set aside, oldest first. */
export function setAside(file: string, aside: Aside): string[] {
  const names = new Set(readdirSync(dirname(file)));
  return numbered(file, aside).filter((name) => names.has(name));
}

/** Removes all but the newest `keep` of what was set aside, and what is left of sets whose file is gone; returns the names of what went. */
export function removeOldest(file: string, aside: Aside, keep: number): string[] {
  const names = setAside(file, aside);
  const kept = names.slice(Math.max(0, names.length - keep));
  for (const name of numbered(file, aside)) if (!kept.includes(name)) remove(join(dirname(file), name));
  return names.filter((name) => !kept.includes(name));
}

/** Removes a file and its companions, where they are. */
export function remove(file: string): void {
  for (const part of ALL_PARTS) rmSync(file + part, { force: true });
}

/** One that nothing has had: a log that was left behind under a name would be taken for the next file's. */
export function nextName(file: string, aside: Aside): string {
  const newest = numbered(file, aside).at(-1) ?? "-0";
  return `${basename(file)}.${aside}-${Number(newest.slice(newest.lastIndexOf("-") + 1)) + 1}`;
}

/** The names under which anything was set aside, be it a companion alone; oldest first. */
function numbered(file: string, aside: Aside): string[] {
  const prefix = `${basename(file)}.${aside}-`;
  const numbers = readdirSync(dirname(file))
    .filter((name) => name.startsWith(prefix))
    .map((name) => /^(\d+)(.*)$/.exec(name.slice(prefix.length)))
    .filter((match) => match !== null && ALL_PARTS.includes(match[2] ?? ""))
    .map((match) => Number(match?.[1]));
  return [...new Set(numbers)].sort((a, b) => a - b).map((number) => `${prefix}${number}`);
}
