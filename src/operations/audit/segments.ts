/** The files of an audit trail: segments of lines, named by the number of their first entry, in one folder. */
import { open, readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { codeOf } from "../../kernel/errors.ts";
import { type AuditEntry, digestOf, type Link, RESUMED, type ReadLine, readLine } from "./entry.ts";

export const LOCK = "lock";
const NAME = /^audit-(\d{10})\.jsonl$/;

/** Where a gateway keeps its trail. */
export const trailFolder = (dataDir: string): string => join(dataDir, "audit");

export const segmentName = (firstSeq: number): string => `audit-${String(firstSeq).padStart(10, "0")}.jsonl`;

/** The segments' file names, oldest first; none where the folder is not there. */
export async function segmentsIn(folder: string): Promise<string[]> {
  try {
    return (await readdir(folder)).filter((name) => NAME.test(name)).sort();
  } catch (fault) {
    if (codeOf(fault) === "ENOENT") return [];
    throw fault;
  }
}

export interface LineAt {
  /** Its bytes, without the line feed. */
  readonly bytes: Buffer;
  /** Offset of its first byte. */
  readonly from: number;
  /** Offset behind its line feed. */
  readonly to: number;
  /** 1 is the first one. */
  readonly number: number;
  readonly read: ReadLine;
  /** Whether a line feed ends it. */
  readonly ended: boolean;
}

/** The lines in a file's bytes, one after another. */
export function* linesIn(bytes: Buffer): Generator<LineAt> {
  let from = 0;
  for (let number = 1; from < bytes.length; number++) {
    const feed = bytes.indexOf(0x0a, from);
    const end = feed < 0 ? bytes.length : feed;
    const line = bytes.subarray(from, end);
    const ended = feed >= 0;
    const to = ended ? end + 1 : end;
    yield { bytes: line, from, to, number, read: ended ? readLine(line) : undefined, ended };
    from = to;
  }
}

/** Bytes, from the first to behind the last, that a power cut left of unfinished entries. */
export interface Remains {
  readonly from: number;
  readonly to: number;
}

/** What an entry says that it found before it, where that lies there; `undefined` where it says nothing, or something else lies there. */
export function remainsBefore({ read, from }: LineAt, bytes: Buffer): Remains | undefined {
  if (read?.whole !== true || read.entry.action !== RESUMED) return undefined;
  const { bytes: length, digest } = read.entry.detail ?? {};
  const start = from - Number(length);
  if (!(start >= 0) || digestOf(bytes.subarray(start, from)) !== digest) return undefined;
  return { from: start, to: from };
}

export interface Walked {
  readonly entries: number;
  /** The last entry that follows from the start; `undefined` where there is no start. */
  readonly last: AuditEntry | undefined;
  /** Offset behind it. */
  readonly to: number;
}

/**
 * Follows a segment's entries from the first one that `isStart` accepts, over remains that an entry tells of, to the last one
 * that goes on from the one before it.
 */
export function walk(bytes: Buffer, isStart: (entry: AuditEntry, line: LineAt) => boolean): Walked {
  let last: AuditEntry | undefined;
  let entries = 0;
  let to = 0;
  for (const line of linesIn(bytes)) {
    if (line.read?.whole !== true) continue;
    const { entry } = line.read;
    if (last === undefined ? !isStart(entry, line) : !goesOn(entry, last, line, to, bytes)) continue;
    last = entry;
    entries++;
    to = line.to;
  }
  return { entries, last, to };
}

function goesOn(entry: AuditEntry, last: AuditEntry, line: LineAt, to: number, bytes: Buffer): boolean {
  return entry.prev === last.hash && (line.from === to || remainsBefore(line, bytes)?.from === to);
}

/** Where a segment, the newest one, ends for whoever writes on, given what the anchor says. */
export function endOfSegment(bytes: Buffer, head: Link | undefined): Walked & { readonly anchored: boolean } {
  const anchored = walk(bytes, ({ hash, prev }) => head !== undefined && (hash === head.hash || prev === head.hash));
  if (anchored.last !== undefined) return { ...anchored, anchored: true };
  // Without it, or with what it names gone, nothing tells an entry that was durable from what a power cut left.
  let latest: LineAt | undefined;
  for (const line of linesIn(bytes)) if (line.read?.whole === true) latest = line;
  return { entries: 0, last: latest?.read?.entry, to: latest?.to ?? 0, anchored: false };
}

/** The first entry of a segment, where it can be read. */
export async function firstEntry(path: string): Promise<AuditEntry | undefined> {
  const [first] = linesIn(await readFile(path));
  return first?.read?.whole === true ? first.read.entry : undefined;
}

/** Writes a folder's names through to the card. */
export async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
