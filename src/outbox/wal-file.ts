/**
 * SQLite's write-ahead log as a file (https://sqlite.org/fileformat2.html#walformat), read without SQLite.
 *
 * SQLite replays a log up to the first frame whose checksum does not match, and drops the rest without a word: right for the
 * torn end of a commit that a power cut interrupted, a silent loss of acknowledged commits where a bit has flipped in the
 * middle. This tells the two apart, and puts a single flipped bit right where it can: the checksum is linear, so that the
 * difference that a bit makes names it, or, for the higher bits of a word, names a few of which it is one.
 *
 * What it cannot tell from a torn end: more than one flipped bit in one frame of the very last commit.
 */
import { closeSync, openSync, readFileSync, readSync } from "node:fs";

const PAGE_BYTES = 4096;
const HEADER_BYTES = 32;
const SALTS = 16;
const FRAME_HEADER_BYTES = 24;
const FRAME_BYTES = FRAME_HEADER_BYTES + PAGE_BYTES;
const MAGIC = 0x377f0682;

export interface Wal {
  /** What is wrong with it; `undefined` where it is whole, or its end merely torn. */
  readonly fault: string | undefined;
  /** Page number → its newest committed image. */
  readonly pages: ReadonlyMap<number, Buffer>;
  /** All committed images of page 1, in order. */
  readonly first: readonly Buffer[];
  /** The database's size after the last commit, in pages; 0 where there is no commit. */
  readonly pageCount: number;
}

interface Frame {
  readonly page: number;
  /** Of the database, in pages, where this frame ends a commit; else 0. */
  readonly commit: number;
  readonly intact: boolean;
  /** One flipped bit explains what is wrong with it. */
  readonly flipped: boolean;
  readonly image: Buffer;
}

type Sums = readonly [number, number];

/** Reads a log; `undefined` where there is none, or nothing in it. */
export function readWal(path: string): Wal | undefined {
  let bytes: Buffer;
  try {
    bytes = readFileSync(path);
  } catch {
    return undefined;
  }
  if (bytes.length < HEADER_BYTES + FRAME_BYTES) return undefined;
  const sound = headerIsSound(bytes);
  const frames = framesOf(bytes, sound);
  const firstBad = frames.findIndex(({ intact }) => !intact);
  const whole = firstBad < 0 ? frames.length : firstBad;
  const fault = sound ? faultIn(frames, whole) : "its header is damaged";
  // Of a log that is only torn, SQLite's own choice; of a damaged one, all that was written.
  const upTo =
    frames.slice(0, fault === undefined ? whole : frames.length).findLastIndex(({ commit }) => commit > 0) + 1;
  const pages = new Map<number, Buffer>();
  const committed = frames.slice(0, upTo);
  for (const { page, image } of committed) pages.set(page, image);
  const first = committed.filter(({ page }) => page === 1).map(({ image }) => image);
  return { fault, pages, first, pageCount: frames[upTo - 1]?.commit ?? 0 };
}

/** The log's salts, which are others each time that it begins anew; `undefined` where it has no header. */
export function logGeneration(path: string): string | undefined {
  const header = Buffer.alloc(HEADER_BYTES);
  let fd: number;
  try {
    fd = openSync(path, "r");
  } catch {
    return undefined;
  }
  try {
    const isThere = readSync(fd, header, 0, HEADER_BYTES, 0) === HEADER_BYTES && hasMagic(header);
    return isThere ? header.toString("hex", SALTS, SALTS + 8) : undefined;
  } finally {
    closeSync(fd);
  }
}

/** A commit after the first bad frame that others follow was on the card whole once: the next one began only after its fsync. */
function faultIn(frames: readonly Frame[], whole: number): string | undefined {
  const after = frames.slice(whole);
  const commit = after.findIndex((frame) => frame.commit > 0);
  const durableOnce = commit >= 0 && commit < after.length - 1;
  if (!durableOnce && !after.some(({ flipped }) => flipped)) return undefined;
  return `frame ${whole + 1} of ${frames.length} is damaged`;
}

const hasMagic = (bytes: Buffer): boolean => bytes.readUInt32BE(0) >>> 1 === MAGIC >>> 1;

function headerIsSound(bytes: Buffer): boolean {
  if (!hasMagic(bytes) || bytes.readUInt32BE(8) !== PAGE_BYTES) return false;
  return same(checksum(wordsOf(bytes, 0, 24, isBigEndian(bytes)), [0, 0]), sumsAt(bytes, 24));
}

/** The frames of the log's present generation, in order: those that carry its salts. Older ones lie behind them. */
function framesOf(bytes: Buffer, sound: boolean): Frame[] {
  const bigEndian = sound && isBigEndian(bytes);
  const salts = sumsAt(bytes, sound ? 16 : HEADER_BYTES + 8);
  // Each checksum goes on from the one before: from what is stored, or, if a bit has flipped just there, from what it ought to be.
  let seeds: readonly Sums[] = [sumsAt(bytes, 24)];
  const frames: Frame[] = [];
  for (let at = HEADER_BYTES; at + FRAME_BYTES <= bytes.length; at += FRAME_BYTES) {
    const own = sumsAt(bytes, at + 8);
    const stored = sumsAt(bytes, at + 16);
    const words = frameWords(bytes, at, bigEndian);
    const computed = seeds.map((seed) => checksum(words, seed));
    const matches = computed.some((sums) => same(sums, stored));
    if (!same(own, salts) && !(matches && bitsBetween(own, salts) === 1)) continue;
    const intact = same(own, salts) && computed[0] !== undefined && same(computed[0], stored);
    const flipped = !intact && (matches || computed.some((sums) => mend(words, sums, stored)));
    const mended = flipped ? bytesOf(words, bigEndian) : undefined;
    frames.push({
      page: mended?.readUInt32BE(0) ?? bytes.readUInt32BE(at),
      commit: mended?.readUInt32BE(4) ?? bytes.readUInt32BE(at + 4),
      intact,
      flipped,
      image: mended?.subarray(8) ?? bytes.subarray(at + FRAME_HEADER_BYTES, at + FRAME_BYTES),
    });
    seeds = intact || computed[0] === undefined ? [stored] : [stored, computed[0]];
  }
  return frames;
}

/** The lowest bit of the magic number says in which byte order the checksums were computed. */
const isBigEndian = (bytes: Buffer): boolean => (bytes.readUInt32BE(0) & 1) === 1;

const sumsAt = (bytes: Buffer, at: number): Sums => [bytes.readUInt32BE(at), bytes.readUInt32BE(at + 4)];

const same = (a: Sums, b: Sums): boolean => a[0] === b[0] && a[1] === b[1];

function bitsBetween(a: Sums, b: Sums): number {
  let bits = 0;
  for (const difference of [a[0] ^ b[0], a[1] ^ b[1]])
    for (let rest = difference >>> 0; rest !== 0; rest &= rest - 1) bits++;
  return bits;
}

/** What a frame's checksum covers: page number, commit, and the page. */
function frameWords(bytes: Buffer, at: number, bigEndian: boolean): Uint32Array {
  const covered = Buffer.alloc(8 + PAGE_BYTES);
  bytes.copy(covered, 0, at, at + 8);
  bytes.copy(covered, 8, at + FRAME_HEADER_BYTES, at + FRAME_BYTES);
  return wordsOf(covered, 0, covered.length, bigEndian);
}

function wordsOf(bytes: Buffer, from: number, to: number, bigEndian: boolean): Uint32Array {
  const words = new Uint32Array((to - from) / 4);
  for (let at = 0; at < words.length; at++)
    words[at] = bigEndian ? bytes.readUInt32BE(from + at * 4) : bytes.readUInt32LE(from + at * 4);
  return words;
}

function bytesOf(words: Uint32Array, bigEndian: boolean): Buffer {
  const bytes = Buffer.alloc(words.length * 4);
  words.forEach((word, at) => {
    if (bigEndian) bytes.writeUInt32BE(word, at * 4);
    else bytes.writeUInt32LE(word, at * 4);
  });
  return bytes;
}

function checksum(words: Uint32Array, seed: Sums): Sums {
  let [s0, s1] = seed;
  for (let at = 0; at + 1 < words.length; at += 2) {
    s0 = (s0 + (words[at] ?? 0) + s1) >>> 0;
    s1 = (s1 + (words[at + 1] ?? 0) + s0) >>> 0;
  }
  return [s0, s1];
}

/**
 * Whether one flipped bit, in `words` or in the stored checksum, explains the difference between that and the computed one. It is put
 * right in `words` where only one can be meant.
 */
function mend(words: Uint32Array, computed: Sums, stored: Sums): boolean {
  const d0 = (stored[0] - computed[0]) >>> 0;
  const d1 = (stored[1] - computed[1]) >>> 0;
  const inChecksum = (d0 === 0 && isOneBit(d1)) || (d1 === 0 && isOneBit(d0));
  const found: [at: number, change: number][] = [];
  // What 1 more in the first, and in the second, word of a pair adds to the sums after all the pairs behind it.
  let first: Sums = [1, 1];
  let second: Sums = [0, 1];
  for (let at = words.length - 2; at >= 0; at -= 2) {
    for (const [offset, effect] of [first, second].entries()) {
      const change = changeBehind(effect, d0, d1, words[at + offset] ?? 0);
      if (change !== undefined) found.push([at + offset, change]);
    }
    first = onePairFurther(first);
    second = onePairFurther(second);
  }
  const [only, ...more] = found;
  if (only !== undefined && more.length === 0 && !inChecksum) {
    const [at, change] = only;
    words[at] = ((words[at] ?? 0) + change) >>> 0;
  }
  return inChecksum || only !== undefined;
}

const onePairFurther = ([a, b]: Sums): Sums => [(a + b) >>> 0, (a + 2 * b) >>> 0];

/** The change of one bit in `word` that, with this effect, makes these differences. */
function changeBehind(effect: Sums, d0: number, d1: number, word: number): number | undefined {
  for (let bit = 0; bit < 32; bit++) {
    const change = ((word >>> bit) & 1) === 1 ? -(2 ** bit) : 2 ** bit;
    if (Math.imul(effect[0], change) >>> 0 === d0 && Math.imul(effect[1], change) >>> 0 === d1) return change;
  }
  return undefined;
}

/** A flipped bit adds or takes away a power of two. */
const isOneBit = (difference: number): boolean => isPower(difference) || isPower(-difference >>> 0);
const isPower = (value: number): boolean => value !== 0 && (value & (value - 1)) === 0;
