/** Small files and names that must survive a power cut: nothing counts before it, and its folder, have been fsynced. */
import { closeSync, fsyncSync, openSync, renameSync, writeSync } from "node:fs";
import { dirname } from "node:path";

/** Replaces a file's content: after a power cut it is the old one or the new one, never a part. */
export function writeDurably(path: string, text: string): void {
  const partial = `${path}.partial`;
  const fd = openSync(partial, "w", 0o600);
  try {
    writeSync(fd, text);
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
  renameDurably(partial, path);
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
