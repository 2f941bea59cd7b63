/**
 * Looks through an audit trail for what was changed, taken out, put in, moved or cut off. Changes nothing.
 *
 * What a chain of hashes can show, and what it cannot: an entry that was changed, removed, inserted or moved shows, unless every
 * entry after it and the anchor were made anew as well, as somebody who may write the folder and knows the format can. That shows
 * only against a link noted elsewhere: in the daemon's log, or from an earlier `verify` or `export`.
 */
import { readFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { codeOf } from "../../kernel/errors.ts";
import { type AuditEntry, digestOf, GENESIS, type Link, PRUNED, RESUMED } from "./entry.ts";
import { readHead } from "./head.ts";
import { endOfSegment, type LineAt, linesIn, type Remains, remainsBefore, segmentsIn } from "./segments.ts";

export type ProblemKind = "changed" | "missing" | "out-of-order" | "cut-off" | "anchor" | "noted";

export interface TrailProblem {
  readonly kind: ProblemKind;
  readonly file: string;
  /** Line of the file; 1 is the first one. */
  readonly line?: number;
  readonly detail: string;
}

export interface TrailReport {
  readonly ok: boolean;
  readonly entries: number;
  readonly segments: number;
  /** The oldest entry's number; absent where there is none. */
  readonly first?: number;
  /** The last entry that can be followed: what to note elsewhere. */
  readonly end?: Link;
  /** At most `MAX_PROBLEMS` of them. */
  readonly problems: readonly TrailProblem[];
  readonly problemCount: number;
  /** What is as it may be, and worth knowing. */
  readonly notes: readonly string[];
}

const MAX_PROBLEMS = 100;
/** A segment may go while it is looked for, because the trail has grown. */
const TRIES = 3;

/**
 * Looks through the trail in a folder; whoever writes it may go on. `noted`: a link that was noted elsewhere.
 * @throws the system's errors
 */
export async function verifyTrail(folder: string, noted?: Link): Promise<TrailReport> {
  for (let left = TRIES - 1; ; left--) {
    try {
      return await verifyOnce(folder, noted);
    } catch (fault) {
      if (codeOf(fault) !== "ENOENT" || left === 0) throw fault;
    }
  }
}

async function verifyOnce(folder: string, noted: Link | undefined): Promise<TrailReport> {
  // Before the segments: an entry is durable before the anchor names it, so they are never behind what is read here.
  const anchors = await readHead(folder);
  const names = await segmentsIn(folder);
  const inquiry = new Inquiry([...anchors, ...(noted === undefined ? [] : [noted])]);
  for (const name of names) {
    const newest = name === names.at(-1);
    inquiry.read(name, await readFile(join(folder, name)), newest ? anchors[0] : undefined);
  }
  inquiry.end(anchors, names.length > 0);
  return inquiry.report(names.length, noted);
}

/** Looks through a file that was exported; it has no anchor. @throws the system's errors */
export async function verifyExport(file: string, noted?: Link): Promise<TrailReport> {
  const inquiry = new Inquiry(noted === undefined ? [] : [noted]);
  inquiry.read(basename(file), await readFile(file));
  inquiry.end(undefined, true);
  return inquiry.report(1, noted);
}

/** Lines that cannot be followed, until the next one that can. */
interface Gap {
  readonly file: string;
  readonly lines: LineAt[];
}

/** One sentence about a trail that is not whole, without a full stop: how much is wrong, and the first of it. */
export function brokenText(folder: string, { problems: [first], problemCount }: TrailReport): string {
  const count = problemCount === 1 ? "1 problem" : `${problemCount} problems, the first`;
  const at = first?.line === undefined ? first?.file : `${first.file}, line ${first.line}`;
  return `the audit trail in ${folder} is not whole: ${count}: ${first?.detail}${at ? ` (${at})` : ""}`;
}

/** What to do about it. */
export const BROKEN_ADVICE =
  "See all of it with summit-edge audit verify, check the card, and ask who was on this machine; keep the folder for whoever looks into it. Moved away, it begins anew, and the warning ends with systemctl reload summit-edge.";

class Inquiry {
  #last: Link | undefined;
  #first: AuditEntry | undefined;
  #entries = 0;
  #file = "";
  #gap: Gap | undefined;
  /** Numbers of the entries whose hashes are to be known in the end; a trail may have more than memory holds. */
  readonly #wanted: ReadonlySet<number>;
  readonly #hashes = new Map<number, string>();
  readonly #pruned = new Map<number, string>();
  readonly #problems: TrailProblem[] = [];
  #problemCount = 0;
  readonly #notes: string[] = [];

  constructor(links: readonly Link[]) {
    this.#wanted = new Set(links.map(({ seq }) => seq));
  }

  /** `head`: the anchor, where this is the newest segment. */
  read(file: string, bytes: Buffer, head?: Link): void {
    this.#file = file;
    const remains = remainsIn(bytes, head);
    for (const line of linesIn(bytes)) {
      const isRemains = remains.some(({ from, to }) => line.from >= from && line.from < to);
      if (line.read?.whole === true && !isRemains) this.#entry(line.read.entry, line);
      else {
        this.#gap ??= { file, lines: [] };
        this.#gap.lines.push(line);
      }
    }
  }

  /** `anchors`: newest first; `undefined` where there can be none. */
  end(anchors: readonly Link[] | undefined, any: boolean): void {
    this.#checkFirst();
    const [anchor] = anchors ?? [];
    const last = this.#last?.seq ?? 0;
    const durable = anchor?.seq ?? (anchors === undefined ? Number.POSITIVE_INFINITY : 0);
    if (this.#gap !== undefined) {
      if (anchors !== undefined && durable <= last) this.#notes.push(torn(this.#gap));
      else this.#problem("changed", `${unreadable(this.#gap)} at the end`, this.#gap.lines[0]);
      this.#gap = undefined;
    }
    if (anchors === undefined) return;
    if (anchor === undefined) {
      if (any)
        this.#problem("anchor", "the anchor (head.0, head.1) is missing: whether the end was cut off cannot be told");
      return;
    }
    if (anchor.seq > last) {
      const range = last + 1 === anchor.seq ? `entry ${anchor.seq}` : `entries ${last + 1} to ${anchor.seq}`;
      this.#problem("cut-off", `${range} had been written and cannot be found`);
    }
    for (const { seq, hash } of anchors) {
      const known = seq === 0 ? GENESIS.hash : this.#hashes.get(seq);
      if (known !== undefined && known !== hash)
        this.#problem(
          "anchor",
          `entry ${seq} is not the one that the anchor names: the entries up to it were made anew`,
        );
    }
  }

  report(segments: number, noted: Link | undefined): TrailReport {
    if (noted !== undefined) this.#compare(noted);
    return {
      ok: this.#problemCount === 0,
      entries: this.#entries,
      segments,
      ...(this.#first !== undefined && { first: this.#first.seq }),
      ...(this.#last !== undefined && { end: this.#last }),
      problems: this.#problems,
      problemCount: this.#problemCount,
      notes: this.#notes,
    };
  }

  #entry(entry: AuditEntry, line: LineAt): void {
    const before = this.#last;
    const gap = this.#gap;
    this.#gap = undefined;
    if (entry.action === RESUMED && isAfter(entry, before)) this.#resumed(entry, gap, line);
    else if (gap !== undefined) this.#afterGap(entry, gap, line);
    else if (before !== undefined && (entry.prev !== before.hash || entry.seq !== before.seq + 1))
      this.#misplaced(entry, before, line);
    if (entry.action === PRUNED) this.#prunedBy(entry, line);
    this.#first ??= entry;
    this.#entries++;
    this.#last = { seq: entry.seq, hash: entry.hash };
    if (this.#wanted.has(entry.seq)) this.#hashes.set(entry.seq, entry.hash);
  }

  #resumed(entry: AuditEntry, gap: Gap | undefined, line: LineAt): void {
    const { after, anchor, bytes, digest } = entry.detail ?? {};
    const rest = Buffer.concat(gap?.lines.map(withFeed) ?? []);
    if (rest.length !== bytes || digestOf(rest) !== digest) {
      this.#problem("changed", `what lies before entry ${entry.seq} is not what it says it found there`, line);
    }
    if (anchor === -1) this.#problem("anchor", `the anchor was missing when entry ${entry.seq} was written`, line);
    else if (Number(anchor) > Number(after))
      this.#problem(
        "missing",
        `entries ${Number(after) + 1} to ${anchor} had been written, and were not there any more when entry ${entry.seq} was`,
        line,
      );
    else if (gap !== undefined) this.#notes.push(torn(gap));
  }

  #afterGap(entry: AuditEntry, gap: Gap, line: LineAt): void {
    this.#problem("changed", unreadable(gap), gap.lines[0], gap.file);
    const stated = gap.lines.at(-1)?.read?.entry.hash;
    const expected = (this.#last?.seq ?? entry.seq - gap.lines.length - 1) + gap.lines.length + 1;
    if (entry.seq > expected)
      this.#problem("missing", `entries are missing before entry ${entry.seq}: ${entry.seq - expected}`, line);
    else if (stated !== undefined && stated !== entry.prev && entry.seq === expected)
      this.#problem("changed", `entry ${entry.seq} does not go on from the one before it`, line);
  }

  #misplaced(entry: AuditEntry, before: Link, line: LineAt): void {
    if (entry.seq > before.seq + 1) {
      const [from, to] = [before.seq + 1, entry.seq - 1];
      this.#problem("missing", from === to ? `entry ${from} is missing` : `entries ${from} to ${to} are missing`, line);
    } else if (entry.seq <= before.seq) {
      this.#problem("out-of-order", `entry ${entry.seq} comes after entry ${before.seq}`, line);
    } else {
      this.#problem(
        "changed",
        `entry ${entry.seq} does not go on from entry ${before.seq}: one of them was replaced`,
        line,
      );
    }
  }

  #prunedBy({ seq, subject, detail }: AuditEntry, line: LineAt): void {
    const { lastSeq, lastHash, whole } = detail ?? {};
    this.#pruned.set(Number(lastSeq), String(lastHash));
    if (whole === false) this.#problem("changed", `${subject} was not whole when it had to go, by entry ${seq}`, line);
  }

  #checkFirst(): void {
    const first = this.#first;
    if (first === undefined || (first.prev === GENESIS.hash && (first.seq === 1 || first.action === RESUMED))) return;
    if (this.#pruned.get(first.seq - 1) === first.prev) {
      this.#notes.push(`entries up to ${first.seq - 1} went by audit.maxBytes; the trail says so itself`);
      return;
    }
    this.#problem("missing", `entries before entry ${first.seq} are missing, and no entry says that they had to go`);
  }

  #compare({ seq, hash }: Link): void {
    const known = this.#hashes.get(seq);
    if (known === hash) this.#notes.push(`entry ${seq} is the one that was noted`);
    else if (known === undefined) this.#problem("noted", `entry ${seq}, which was noted, is not there`);
    else this.#problem("noted", `entry ${seq} is not the one that was noted: the trail was made anew`);
  }

  #problem(kind: ProblemKind, detail: string, line?: LineAt, file = this.#file): void {
    this.#problemCount++;
    if (this.#problems.length >= MAX_PROBLEMS) return;
    this.#problems.push({ kind, file, ...(line !== undefined && { line: line.number }), detail });
  }
}

/** Remains that entries tell of, and those behind the last entry, of which the next writer will tell. */
function remainsIn(bytes: Buffer, head: Link | undefined): Remains[] {
  const remains: Remains[] = [];
  for (const line of linesIn(bytes)) {
    const told = remainsBefore(line, bytes);
    if (told !== undefined) remains.push(told);
  }
  const { to, anchored } = endOfSegment(bytes, head);
  if (anchored && to < bytes.length) remains.push({ from: to, to: bytes.length });
  return remains.filter((each) => isUnfinished(each, linesIn(bytes)));
}

/** A power cut leaves nothing of entries that were there before: a copy of one was put there. */
function isUnfinished({ from, to }: Remains, lines: Iterable<LineAt>): boolean {
  let before = 0;
  for (const line of lines) {
    if (line.read?.whole !== true || line.from >= to) continue;
    if (line.from < from) before = line.read.entry.seq;
    else if (line.read.entry.seq <= before) return false;
  }
  return true;
}

const isAfter = (entry: AuditEntry, before: Link | undefined): boolean =>
  entry.prev === (before ?? GENESIS).hash && entry.seq > (before ?? GENESIS).seq;

const withFeed = ({ bytes, ended }: LineAt): Buffer => (ended ? Buffer.concat([bytes, Buffer.from("\n")]) : bytes);

function torn({ file, lines }: Gap): string {
  const bytes = lines.reduce((sum, { from, to }) => sum + to - from, 0);
  return `${bytes} bytes of an unfinished entry in ${file}, as a power cut leaves them: nothing that had been written is missing there`;
}

function unreadable({ lines }: Gap): string {
  const [first] = lines;
  const entry = first?.read?.entry;
  const what = entry === undefined ? `line ${first?.number} is no entry` : `entry ${entry.seq} was changed`;
  return lines.length === 1
    ? what
    : `${what}, nor ${entry === undefined ? "are" : "is"} what follows it, ${lines.length} lines in all`;
}
