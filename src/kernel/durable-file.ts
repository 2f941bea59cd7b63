/** Small files and names that must survive a power cut: nothing counts before it, and its folder, have been fsynced. */
import {
  closeSync,
  constants,
  fchmodSync,
  fsyncSync,
  lchownSync,
  openSync,
  renameSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { dirname } from "node:path";
import { codeOf } from "./errors.ts";

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

const { O_CREAT, O_NOFOLLOW, O_TRUNC, O_WRONLY } = constants;

function writePartial(path: string, content: string | Uint8Array, mode: number): void {
  // Root writes in folders that are others' to write: no link of theirs leads it elsewhere.
  const fd = openSync(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, 0o600);
  try {
    fchmodSync(fd, mode);
    writeFileSync(fd, content);
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
  giveToFolderOwner(path);
}

/**
 * What root makes in somebody else's folder is that somebody's: the daemon, which is not root, has to go on with what a command of root's has made.
 * By name and not by descriptor: a file that is closed loses the locks that this process has on it. Where it cannot be given away
 * (a file system without owners, a container's root without that right) it stays as it is, and whoever is to go on with it is the same.
 */
export function giveToFolderOwner(path: string): void {
  if (process.getuid?.() !== 0) return;
  const { uid, gid } = statSync(dirname(path));
  if (uid === 0) return;
  try {
    lchownSync(path, uid, gid);
  } catch (fault) {
    if (!["EPERM", "EINVAL", "ENOSYS", "ENOTSUP"].includes(codeOf(fault) ?? "")) throw fault;
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
