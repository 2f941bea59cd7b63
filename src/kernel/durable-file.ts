/** Small files and names that must survive a power cut: nothing counts before it, and its folder, have been fsynced. */
import { closeSync, fchmodSync, fsyncSync, openSync, renameSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";

/** A file to be written; `mode` is what it has in the end, whatever the umask. */
export interface FileToWrite {
  readonly path: string;
  readonly content: string | Uint8Array;
  readonly mode: number;
}

/** Replaces a file's content: after a power cut it is the old one or the new one, never a part. */
export function writeDurably(path: string, content: string | Uint8Array, mode = 0o600): void {
  writeTogether([{ path, content, mode }]);
}

/**
 * Replaces files of one folder that belong together: each is the old one or the new one, and what happens between the first and
 * the last of them is renames alone.
 */
export function writeTogether(files: readonly FileToWrite[]): void {
  for (const { path, content, mode } of files) writePartial(partialOf(path), content, mode);
  for (const { path } of files) renameSync(partialOf(path), path);
  for (const folder of new Set(files.map(({ path }) => dirname(path)))) sync(folder);
}

const partialOf = (path: string): string => `${path}.partial`;

function writePartial(path: string, content: string | Uint8Array, mode: number): void {
  const fd = openSync(path, "w", 0o600);
  try {
    fchmodSync(fd, mode);
    writeFileSync(fd, content);
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

/** Gives a file another name in the same folder. */
export function renameDurably(from: string, to: string): void {
  renameSync(from, to);
  sync(dirname(to));
}

/** Writes a file's content, or a folder's names, through to the card. */
export function sync(path: string): void {
  const fd = openSync(path, "r");
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}
