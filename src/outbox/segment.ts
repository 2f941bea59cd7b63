/**
 * How a block's body lies on disk, and how bodies become one request without being compressed again.
 *
 * A *segment* is the JSON of a block's readings, joined by `SEPARATOR`, as a raw deflate stream (RFC 1951) that ends in a
 * full flush: byte-aligned, without a final block, and referring to nothing before it. Segments can therefore stand one
 * after another, with short stored blocks between them for the text that joins them. Header, segments, a last empty block, and
 * the combined CRC-32 and length make one ordinary gzip member (RFC 1952), as pigz writes them.
 *
 * CPU only: no I/O, no state.
 */
import { constants, crc32, deflateRawSync, gzipSync, inflateRawSync } from "node:zlib";

/** Joins readings within a segment. A raw line feed cannot occur inside the output of `JSON.stringify`. */
export const SEPARATOR = ",\n";

/** What a request's envelope may take of the bytes that a request may have. */
export const ENVELOPE_BYTES = 256;

/**
 * Level 3 takes half the time of level 6 and is within 10 % of its size on readings. A window of 8 KiB, some twenty readings, and half the
 * usual memory take a third less time than all 32 KiB; the size is 4 % less with one kind of device, and 3 % more with 150 kinds (decision 0028).
 */
const STORED = { level: 3, windowBits: 13, memLevel: 7, chunkSize: 8192, finishFlush: constants.Z_FULL_FLUSH };
/** Of a few readings: half the time, and 6 % larger on the card. */
const STORED_SMALL = { ...STORED, level: 1 };
const WIRE_LEVEL = 6;

/** Where segments have fewer readings on average, compressing them again, together, saves more on the link than it costs. */
const FEW_READINGS = 50;

/** A segment and what is needed to put it into a gzip member. */
export interface Segment {
  readonly body: Uint8Array;
  readonly rawBytes: number;
  /** CRC-32 of the uncompressed text. */
  readonly rawCrc: number;
  readonly count: number;
}

/** Readings that are JSON already, as a segment. */
export function segmentOf(texts: readonly string[]): Segment {
  return encodeSegment(Buffer.from(texts.join(SEPARATOR), "utf8"), texts.length);
}

/** The text of `count` readings, joined already, as a segment. */
export function encodeSegment(raw: Uint8Array, count: number): Segment {
  const body = deflateRawSync(raw, count < FEW_READINGS ? STORED_SMALL : STORED);
  return { body, rawBytes: raw.length, rawCrc: crc32(raw), count };
}

/** The readings of a segment, each as its JSON text. Throws where the body is not what `encodeSegment` made. */
export function decodeSegment(body: Uint8Array, rawBytes: number): string[] {
  return inflateSegment(body, rawBytes).toString("utf8").split(SEPARATOR);
}

/** The text of a segment, as bytes. Throws as `decodeSegment` does. */
export function inflateSegment(body: Uint8Array, rawBytes: number): Buffer {
  const raw = inflateRawSync(body, { finishFlush: constants.Z_SYNC_FLUSH, maxOutputLength: Math.max(1, rawBytes) });
  if (raw.length !== rawBytes) throw new Error(`segment holds ${raw.length} bytes instead of ${rawBytes}`);
  return raw;
}

/** One gzip member with `head`, the segments joined by `SEPARATOR`, and `tail`. */
export function gzipOf(head: string, segments: readonly Segment[], tail: string): Uint8Array {
  const readings = segments.reduce((sum, segment) => sum + segment.count, 0);
  if (readings / segments.length < FEW_READINGS) {
    return gzipSync(plainOf(head, segments, tail), { level: WIRE_LEVEL });
  }
  return spliceOf(head, segments, tail);
}

/** The same content uncompressed. */
export function plainOf(head: string, segments: readonly Segment[], tail: string): Uint8Array {
  const parts: Uint8Array[] = [Buffer.from(head)];
  segments.forEach((segment, index) => {
    if (index > 0) parts.push(Buffer.from(SEPARATOR));
    parts.push(inflateSegment(segment.body, segment.rawBytes));
  });
  parts.push(Buffer.from(tail));
  return Buffer.concat(parts);
}

const GZIP_HEADER = Uint8Array.of(0x1f, 0x8b, 0x08, 0, 0, 0, 0, 0, 0, 0xff);

function spliceOf(head: string, segments: readonly Segment[], tail: string): Uint8Array {
  const parts: Uint8Array[] = [GZIP_HEADER];
  let crc = 0;
  let length = 0;
  const add = (body: Uint8Array, rawCrc: number, rawBytes: number): void => {
    parts.push(body);
    crc = combineCrc32(crc, rawCrc, rawBytes);
    length += rawBytes;
  };
  const addText = (text: string, final: boolean): void => {
    const raw = Buffer.from(text, "utf8");
    add(storedBlock(raw, final), crc32(raw), raw.length);
  };
  addText(head, false);
  segments.forEach((segment, index) => {
    if (index > 0) addText(SEPARATOR, false);
    add(segment.body, segment.rawCrc, segment.rawBytes);
  });
  addText(tail, true);
  const trailer = Buffer.alloc(8);
  trailer.writeUInt32LE(crc >>> 0, 0);
  trailer.writeUInt32LE(length % 2 ** 32, 4);
  parts.push(trailer);
  return Buffer.concat(parts);
}

/** A stored deflate block (RFC 1951, 3.2.4); `raw` is at most 65,535 bytes. */
function storedBlock(raw: Uint8Array, final: boolean): Uint8Array {
  const block = Buffer.alloc(5 + raw.length);
  block[0] = final ? 1 : 0;
  block.writeUInt16LE(raw.length, 1);
  block.writeUInt16LE(raw.length ^ 0xffff, 3);
  block.set(raw, 5);
  return block;
}

const CRC32_POLYNOMIAL = 0xedb88320;

/** The product of two polynomials over GF(2), modulo CRC-32's, in its reflected form. */
function multiply(a: number, b: number): number {
  let product = 0;
  let shifted = b;
  for (let bit = 0x80000000; bit !== 0; bit >>>= 1) {
    if ((a & bit) !== 0) product ^= shifted;
    shifted = (shifted & 1) !== 0 ? (shifted >>> 1) ^ CRC32_POLYNOMIAL : shifted >>> 1;
  }
  return product;
}

/** x to the power of 8 · 2^n, for n = 0 … 31: what appending 2^n bytes multiplies a CRC by. */
const BYTE_POWERS = (() => {
  const powers = [0x00800000];
  for (let n = 1; n < 32; n++) powers.push(multiply(powers[n - 1] ?? 0, powers[n - 1] ?? 0));
  return powers;
})();

/** The CRC-32 of two texts one after the other, from theirs and the second one's length in bytes. */
export function combineCrc32(first: number, second: number, secondBytes: number): number {
  let shifted = first;
  for (let n = 0; secondBytes >= 2 ** n; n++) {
    if ((secondBytes & (2 ** n)) !== 0) shifted = multiply(BYTE_POWERS[n] ?? 0, shifted);
  }
  return (shifted ^ second) >>> 0;
}
