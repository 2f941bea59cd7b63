/**
 * Appends to an audit trail's files. The daemon and commands write the same trail: each holds the trail's lock while it does,
 * and goes on from what the file says, not from what it remembers.
 *
 * Invariants: entries are durable, then the anchor, then `append` returns. Nothing that was written is ever rewritten: bytes that
 * a power cut left of a line stay, and the entry after them (`trail.resumed`) says how many they are and their digest. A segment
 * goes only after an entry about it (`trail.pruned`) is durable.
 */
import { constants } from "node:fs";
import { chown, type FileHandle, mkdir, open, readFile, stat, unlink } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { AuditEvent } from "../../kernel/audit.ts";
import { codeOf } from "../../kernel/errors.ts";
import { FileLock } from "../../kernel/file-lock.ts";
import { digestOf, GENESIS, type Link, lineOf, PRUNED, RESUMED, type Stamp } from "./entry.ts";
import { readHead, writeHead } from "./head.ts";
import {
  endOfSegment,
  firstEntry,
  LOCK,
  remainsBefore,
  segmentName,
  segmentsIn,
  syncFolder,
  walk,
} from "./segments.ts";

/** As many segments share `maxBytes`; the oldest goes when one more begins. */
const SEGMENTS = 8;
const SELF = "gateway";
const { O_APPEND, O_CREAT, O_EXCL, O_NOFOLLOW, O_WRONLY } = constants;
/** Root writes here as well, in a folder that is the daemon's: no link in it leads an entry elsewhere. */
const APPEND = O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW;

export interface Stamped {
  readonly event: AuditEvent;
  readonly stamp: Stamp;
}

/** The end of the trail. */
interface Tail {
  /** The newest segment; `undefined` where there is none. */
  readonly name: string | undefined;
  readonly size: number;
  readonly link: Link;
  /** What is wrong with the end, where something is. */
  readonly broken: Broken | undefined;
}

interface Broken {
  /** Bytes behind the last entry that can be followed. */
  readonly rest: Buffer;
  /** The newest anchor; `undefined` where there is none. */
  readonly head: Link | undefined;
}

export class AuditStore {
  readonly #folder: string;
  readonly #segmentBytes: number;
  /** The end as this process left it; good while the newest segment is as long as it was then. */
  #known: Tail | undefined;

  /** `maxBytes`: what all segments together may take. */
  constructor(folder: string, maxBytes: number) {
    this.#folder = folder;
    this.#segmentBytes = Math.floor(maxBytes / SEGMENTS);
  }

  /** Takes the lock, making the trail's folder where it is missing; `undefined` where another process is writing. */
  async tryLock(): Promise<FileLock | undefined> {
    await this.#makeFolder();
    return FileLock.tryAcquire(join(this.#folder, LOCK));
  }

  /** Adds events in order and returns the last link; only for whoever holds the lock. @throws the system's errors, with nothing counted as written */
  async append(events: readonly Stamped[]): Promise<{ link: Link; damaged: boolean }> {
    const [latest] = events.slice(-1);
    if (latest === undefined) throw new Error("nothing to append");
    const tail = await this.#tail();
    this.#known = undefined;
    const { broken } = tail;
    const isFull = tail.name !== undefined && tail.size >= this.#segmentBytes && broken === undefined;
    const fresh = tail.name === undefined || isFull;
    const [pruned, goes] = isFull ? await this.#prunings(latest.stamp) : [[], []];
    const resumed = broken === undefined ? [] : [resumption(broken, tail.link, latest.stamp)];
    const lines: string[] = [];
    let link =
      broken?.head !== undefined && broken.head.seq > tail.link.seq
        ? { ...tail.link, seq: broken.head.seq }
        : tail.link;
    for (const { event, stamp } of [...resumed, ...pruned, ...events]) {
      const made = lineOf(event, stamp, link.seq + 1, link.hash);
      lines.push(`${made.line}\n`);
      link = made.link;
    }
    const name = fresh ? segmentName(tail.link.seq + 1) : (tail.name ?? "");
    const before = fresh ? 0 : tail.size;
    const text = endOf(broken) + lines.join("");
    await this.#write(name, fresh, text);
    await writeHead(this.#folder, link, (file) => this.#adopt(file));
    if (fresh) await syncFolder(this.#folder);
    for (const old of goes) await unlink(join(this.#folder, old));
    this.#known = { name, size: before + Buffer.byteLength(text), link, broken: undefined };
    return { link, damaged: broken !== undefined && isLoss(broken, tail.link) };
  }

  async #write(name: string, fresh: boolean, text: string): Promise<void> {
    const file = await open(join(this.#folder, name), fresh ? APPEND | O_EXCL : APPEND, 0o600);
    try {
      if (fresh) await this.#adopt(file);
      await file.appendFile(text);
      await file.datasync();
    } finally {
      await file.close();
    }
  }

  async #tail(): Promise<Tail> {
    const names = await segmentsIn(this.#folder);
    const name = names.at(-1);
    if (this.#known !== undefined && name === this.#known.name && name !== undefined) {
      const { size } = await stat(join(this.#folder, name));
      if (size === this.#known.size) return this.#known;
    }
    const [head] = await readHead(this.#folder);
    if (name === undefined) {
      const broken = head !== undefined && head.seq > 0 ? { rest: Buffer.alloc(0), head } : undefined;
      // Before the first entry, so that an anchor which is missing was taken away.
      if (head === undefined) await writeHead(this.#folder, GENESIS, (file) => this.#adopt(file));
      return { name, size: 0, link: GENESIS, broken };
    }
    const bytes = await readFile(join(this.#folder, name));
    const { last, to } = endOfSegment(bytes, head);
    const link = last ?? (await this.#endBefore(names, head));
    const rest = bytes.subarray(to);
    const isBroken = rest.length > 0 || head === undefined || head.seq > link.seq;
    const end = { seq: link.seq, hash: link.hash };
    return { name, size: bytes.length, link: end, broken: isBroken ? { rest, head } : undefined };
  }

  /** The end of the newest segment before the last one in which anything can be followed. */
  async #endBefore(names: readonly string[], head: Link | undefined): Promise<Link> {
    for (const name of names.slice(0, -1).reverse()) {
      const { last } = endOfSegment(await readFile(join(this.#folder, name)), head);
      if (last !== undefined) return last;
    }
    return GENESIS;
  }

  /** Entries about the segments that have to go for another to begin, and their names. */
  async #prunings(stamp: Stamp): Promise<[Stamped[], string[]]> {
    const names = await segmentsIn(this.#folder);
    const goes = names.slice(0, Math.max(0, names.length + 1 - SEGMENTS));
    const entries: Stamped[] = [];
    for (const [index, name] of goes.entries()) {
      const bytes = await readFile(join(this.#folder, name));
      const {
        entries: count,
        last,
        to,
      } = walk(bytes, (_entry, line) => line.from === 0 || remainsBefore(line, bytes)?.from === 0);
      // What the next one goes on from is what verifying needs; where that cannot be read, what this one ends with.
      const next = await firstEntry(join(this.#folder, names[index + 1] ?? ""));
      const end = next === undefined ? last : { seq: next.seq - 1, hash: next.prev };
      const whole = to === bytes.length && end?.hash === last?.hash;
      const detail = {
        entries: count,
        lastSeq: end?.seq ?? 0,
        lastHash: end?.hash ?? "",
        digest: digestOf(bytes),
        whole,
      };
      entries.push({ event: { action: PRUNED, actor: SELF, subject: name, detail }, stamp });
    }
    return [entries, goes];
  }

  /** Not the folder around it: that is the daemon's to make, with the rights that it needs. */
  async #makeFolder(): Promise<void> {
    const made = await mkdir(this.#folder, { mode: 0o700 }).then(
      () => true,
      (fault: unknown) => {
        if (codeOf(fault) !== "EEXIST") throw fault;
        return false;
      },
    );
    if (process.getuid?.() !== 0) return;
    if (made) {
      const { uid, gid } = await stat(dirname(this.#folder));
      if (uid !== 0) await chown(this.#folder, uid, gid);
    }
    const lock = await open(join(this.#folder, LOCK), APPEND, 0o600);
    try {
      await this.#adopt(lock);
    } finally {
      await lock.close();
    }
  }

  /** What root makes belongs to the folder's owner: the daemon, which is not root, has to go on writing it. */
  async #adopt(file: FileHandle): Promise<void> {
    if (process.getuid?.() !== 0) return;
    const { uid, gid } = await stat(this.#folder);
    if (uid !== 0) await file.chown(uid, gid);
  }
}

/** A line feed, where what is left of a line has none. */
const endOf = (broken: Broken | undefined): string =>
  broken === undefined || broken.rest.length === 0 || broken.rest.at(-1) === 0x0a ? "" : "\n";

/** Whether entries are missing that were durable, rather than what a power cut leaves of an unfinished one. */
const isLoss = ({ head }: Broken, link: Link): boolean => head === undefined || head.seq > link.seq;

function resumption(broken: Broken, link: Link, stamp: Stamp): Stamped {
  const rest = Buffer.concat([broken.rest, Buffer.from(endOf(broken))]);
  const detail = { after: link.seq, anchor: broken.head?.seq ?? -1, bytes: rest.length, digest: digestOf(rest) };
  return { event: { action: RESUMED, actor: SELF, detail }, stamp };
}
