/**
 * The trail's anchor: the last entry's number and hash, kept beside the segments, so that a trail cut off at its end shows.
 *
 * An entry is durable before the anchor names it: after a power cut the trail may be ahead of its anchor, never behind it. Two
 * files take turns, each rewritten in place: a power cut may spoil the one that was being written, and leaves the other.
 */
import { constants } from "node:fs";
import { type FileHandle, open, readFile } from "node:fs/promises";
import { join } from "node:path";
import { codeOf } from "../../kernel/errors.ts";
import { digestOf, type Link } from "./entry.ts";

export const ANCHORS = ["head.0", "head.1"] as const;
/** Always the same, so that nothing of an older anchor stays behind a newer one. */
const LENGTH = 160;

/** What the anchors say, newest first; none where neither is there or can be read. */
export async function readHead(folder: string): Promise<Link[]> {
  const links = await Promise.all(ANCHORS.map((name) => readAnchor(join(folder, name))));
  return links.filter((link) => link !== undefined).sort((a, b) => b.seq - a.seq);
}

/** Notes the last entry, durably; `adopt` is called with each file that was made for it. */
export async function writeHead(folder: string, link: Link, adopt: (file: FileHandle) => Promise<void>): Promise<void> {
  const path = join(folder, ANCHORS[link.seq % 2] ?? ANCHORS[0]);
  const text = JSON.stringify({ ...link, check: check(link) });
  const file = await opened(path, adopt);
  try {
    await file.write(`${text.padEnd(LENGTH - 1)}\n`, 0);
    await file.datasync();
  } finally {
    await file.close();
  }
}

async function opened(path: string, adopt: (file: FileHandle) => Promise<void>): Promise<FileHandle> {
  try {
    return await open(path, constants.O_RDWR | constants.O_NOFOLLOW);
  } catch (fault) {
    if (codeOf(fault) !== "ENOENT") throw fault;
    const file = await open(path, "wx+", 0o600);
    await adopt(file);
    return file;
  }
}

async function readAnchor(path: string): Promise<Link | undefined> {
  try {
    const { seq, hash, check: sum } = JSON.parse(await readFile(path, "utf8")) as Link & { check: string };
    return sum === check({ seq, hash }) ? { seq, hash } : undefined;
  } catch (fault) {
    if (fault instanceof SyntaxError || codeOf(fault) === "ENOENT") return undefined;
    throw fault;
  }
}

const check = ({ seq, hash }: Link): string => digestOf(`${seq}:${hash}`).slice(0, 16);
