/**
 * Checksums by the names under which they are catalogued (for the CRCs: reveng.sourceforge.io, whose check value for the
 * text `123456789` stands beside each), and how a frame declares the one it carries.
 */

export const CHECKSUM_TYPES = [
  "sum8",
  "xor8",
  "sum16",
  "fletcher-16",
  "crc-8",
  "crc-16/modbus",
  "crc-16/ccitt-false",
  "crc-16/xmodem",
  "crc-32",
] as const;

export type ChecksumType = (typeof CHECKSUM_TYPES)[number];

/** A checksum over `bytes[from…to)`, and how many bytes it has. */
interface Algorithm {
  readonly width: 1 | 2 | 4;
  of(bytes: Uint8Array, from: number, to: number): number;
}

interface CrcParameters {
  readonly width: 1 | 2 | 4;
  /** Most significant bit first, whether reflected or not. */
  readonly polynomial: number;
  readonly initial: number;
  readonly reflected: boolean;
  readonly xorOut: number;
}

const ALGORITHMS: Readonly<Record<ChecksumType, Algorithm>> = {
  sum8: { width: 1, of: (bytes, from, to) => sum(bytes, from, to) & 0xff }, // 0xdd
  sum16: { width: 2, of: (bytes, from, to) => sum(bytes, from, to) & 0xffff }, // 0x01dd
  xor8: { width: 1, of: xor }, // 0x31
  "fletcher-16": { width: 2, of: fletcher16 }, // 0x1ede
  "crc-8": crc({ width: 1, polynomial: 0x07, initial: 0, reflected: false, xorOut: 0 }), // 0xf4
  "crc-16/modbus": crc({ width: 2, polynomial: 0x8005, initial: 0xffff, reflected: true, xorOut: 0 }), // 0x4b37
  "crc-16/ccitt-false": crc({ width: 2, polynomial: 0x1021, initial: 0xffff, reflected: false, xorOut: 0 }), // 0x29b1
  "crc-16/xmodem": crc({ width: 2, polynomial: 0x1021, initial: 0, reflected: false, xorOut: 0 }), // 0x31c3
  "crc-32": crc({ width: 4, polynomial: 0x04c11db7, initial: 0xffffffff, reflected: true, xorOut: 0xffffffff }), // 0xcbf43926
};

/** The checksum of `bytes`, as an unsigned number. */
export function checksumOf(type: ChecksumType, bytes: Uint8Array): number {
  return ALGORITHMS[type].of(bytes, 0, bytes.length);
}

/** The checksum that a frame carries. Places are counted in bytes from the frame's start or, where negative, from its end. */
export interface ChecksumRule {
  readonly type: ChecksumType;
  /** Where it stands; by default it ends the frame. */
  readonly at?: number;
  /** The first byte that it covers. */
  readonly from: number;
  /** The byte behind the last that it covers; by default where it stands. */
  readonly to?: number;
  readonly endian: "big" | "little";
  /** `ones`: every bit inverted; `twos`: the number that makes the sum 0. */
  readonly complement: "none" | "ones" | "twos";
  /** `hex`: written as two hexadecimal digits a byte. */
  readonly encoding: "bytes" | "hex";
}

/** How many bytes of the frame it takes. */
export function checksumWidth(rule: ChecksumRule): number {
  return ALGORITHMS[rule.type].width * (rule.encoding === "hex" ? 2 : 1);
}

/** Whether it ends the frame, and so is no part of what the codec gets. */
export function checksumEndsFrame(rule: ChecksumRule): boolean {
  return rule.at === undefined || rule.at === -checksumWidth(rule);
}

/** Whether `frame` carries the checksum that it ought to. */
export function hasChecksum(frame: Uint8Array, rule: ChecksumRule): boolean {
  const place = placeOf(rule, frame.length);
  if (place === undefined) return false;
  const expected = written(frame, rule, place);
  return expected.every((byte, index) => byte === lowerToUpper(frame[place.at + index], rule));
}

/** The frame without its checksum where that ends it; otherwise as it is. */
export function checksumCut(frame: Uint8Array, rule: ChecksumRule): Uint8Array {
  return checksumEndsFrame(rule) ? frame.subarray(0, frame.length - checksumWidth(rule)) : frame;
}

/** Whether a frame of `length` bytes has room for the checksum and for what it covers. */
export function checksumFits(rule: ChecksumRule, length: number): boolean {
  const place = placeOf(rule, length);
  return place !== undefined && place.from < place.to;
}

/** `payload` with its checksum behind it or, where it stands inside, written into its place. Undoes `checksumCut`. */
export function withChecksum(payload: Uint8Array, rule: ChecksumRule): Uint8Array {
  const frame = new Uint8Array(payload.length + (checksumEndsFrame(rule) ? checksumWidth(rule) : 0));
  frame.set(payload);
  const place = placeOf(rule, frame.length);
  if (place !== undefined) frame.set(written(frame, rule, place), place.at);
  return frame;
}

interface Place {
  readonly at: number;
  readonly from: number;
  readonly to: number;
}

/** Where checksum and covered bytes stand in a frame of `length` bytes; `undefined` where they have no room. */
function placeOf(rule: ChecksumRule, length: number): Place | undefined {
  const width = checksumWidth(rule);
  const absolute = (place: number): number => (place < 0 ? length + place : place);
  const at = absolute(rule.at ?? -width);
  const from = absolute(rule.from);
  const to = absolute(rule.to ?? at);
  return at >= 0 && at + width <= length && from >= 0 && from <= to && to <= length ? { at, from, to } : undefined;
}

function written(frame: Uint8Array, rule: ChecksumRule, place: Place): Uint8Array {
  const { width, of } = ALGORITHMS[rule.type];
  const plain = of(frame, place.from, place.to);
  const value = rule.complement === "none" ? plain : rule.complement === "ones" ? ~plain : -plain;
  const bytes = Uint8Array.from({ length: width }, (_, index) => {
    const shift = 8 * (rule.endian === "big" ? width - 1 - index : index);
    return (value >>> shift) & 0xff;
  });
  if (rule.encoding === "bytes") return bytes;
  const digits = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return Uint8Array.from(digits.toUpperCase(), (digit) => digit.charCodeAt(0));
}

const LOWER_A = 0x61;
const LOWER_F = 0x66;

/** Devices write hexadecimal digits in either case. */
function lowerToUpper(byte: number | undefined, rule: ChecksumRule): number | undefined {
  if (rule.encoding !== "hex" || byte === undefined || byte < LOWER_A || byte > LOWER_F) return byte;
  return byte - 0x20;
}

function sum(bytes: Uint8Array, from: number, to: number): number {
  let total = 0;
  for (let at = from; at < to; at++) total += bytes[at] ?? 0;
  return total;
}

function xor(bytes: Uint8Array, from: number, to: number): number {
  let all = 0;
  for (let at = from; at < to; at++) all ^= bytes[at] ?? 0;
  return all;
}

function fletcher16(bytes: Uint8Array, from: number, to: number): number {
  let low = 0;
  let high = 0;
  for (let at = from; at < to; at++) {
    low = (low + (bytes[at] ?? 0)) % 255;
    high = (high + low) % 255;
  }
  return (high << 8) | low;
}

/** A CRC with a table of the remainders of all bytes. */
function crc({ width, polynomial, initial, reflected, xorOut }: CrcParameters): Algorithm {
  const bits = 8 * width;
  const mask = width === 4 ? -1 : (1 << bits) - 1;
  const table = Int32Array.from({ length: 256 }, (_, byte) => {
    let rest = reflected ? byte : byte << (bits - 8);
    const divisor = reflected ? mirrored(polynomial, bits) : polynomial;
    const top = reflected ? 1 : 1 << (bits - 1);
    for (let bit = 0; bit < 8; bit++) {
      const shifted = reflected ? rest >>> 1 : rest << 1;
      rest = (rest & top) === 0 ? shifted : shifted ^ divisor;
    }
    return rest & mask;
  });
  const step = reflected
    ? (rest: number, byte: number): number => (table[(rest ^ byte) & 0xff] ?? 0) ^ (rest >>> 8)
    : (rest: number, byte: number): number =>
        (table[((rest >>> (bits - 8)) ^ byte) & 0xff] ?? 0) ^ ((rest << 8) & mask);
  const of = (bytes: Uint8Array, from: number, to: number): number => {
    let rest = initial & mask;
    for (let at = from; at < to; at++) rest = step(rest, bytes[at] ?? 0);
    return ((rest ^ xorOut) & mask) >>> 0;
  };
  return { width, of };
}

function mirrored(value: number, bits: number): number {
  let mirror = 0;
  for (let bit = 0; bit < bits; bit++) if (value & (1 << bit)) mirror |= 1 << (bits - 1 - bit);
  return mirror;
}
