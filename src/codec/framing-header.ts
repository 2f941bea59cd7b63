/**
 * Framings whose frames say at their beginning how long they are: `fixed` and `length-prefixed`.
 *
 * A frame is believed when its header is there, its length is within bounds, and its checksum, where one is declared, is
 * right. Where it is not, only the first of its bytes is given up: the next header is looked for inside the rest, so that
 * noise which looks like a beginning, or a length that was garbled, never takes a good frame with it.
 *
 * Invariants: every byte is part of a frame or of something discarded; what is discarded goes by the reason of its first
 * byte, up to the next place where a frame may begin; no more than one frame is held. A checksum is computed once for each
 * such place, so that a stream made of nothing but headers costs as many checksums as it has bytes.
 */
import { type ChecksumRule, checksumEndsFrame, checksumWidth, hasChecksum } from "./checksum.ts";
import { DISCARDED_HEAD_BYTES, type DiscardReason, type Frame, type Framer, LONGEST_DISCARD_BYTES } from "./framing.ts";

/** The length of a frame as its beginning tells it: in bytes; `undefined` where more bytes are needed; or why it is none. */
export type LengthOf = (beginning: Uint8Array) => number | undefined | "bad-length";

/** Framing `fixed`: every frame has `length` bytes, header and checksum included. */
export function fixedLength(length: number): LengthOf {
  return () => length;
}

/** Where a frame tells its length. */
export interface LengthField {
  /** Its first byte, from the frame's start. */
  readonly at: number;
  /** Its bytes. */
  readonly size: 1 | 2 | 4;
  readonly endian: "big" | "little";
  /** `frame`: all of it; `rest`: what stands behind the field; `payload`: the same without the checksum. */
  readonly counts: "frame" | "rest" | "payload";
  /** Bytes of the frame that it leaves out of its count; negative for more than there are. */
  readonly extra: number;
}

/** What a frame has beyond the number in its length field; `checksumBytes`: how long its checksum is. */
function uncounted({ at, size, counts, extra }: LengthField, checksumBytes: number): number {
  if (counts === "frame") return extra;
  return at + size + extra + (counts === "payload" ? checksumBytes : 0);
}

/** Framing `length-prefixed`: the frame's length stands in it. `checksumBytes`: how long its checksum is, or 0. */
export function prefixedLength(field: LengthField, checksumBytes: number): LengthOf {
  const end = field.at + field.size;
  const beyond = uncounted(field, checksumBytes);
  return (beginning) => {
    if (beginning.length < end) return undefined;
    const length = numberIn(beginning, field) + beyond;
    return length < end + checksumBytes ? "bad-length" : length;
  };
}

function numberIn(bytes: Uint8Array, { at, size, endian }: LengthField): number {
  let value = 0;
  for (let index = 0; index < size; index++) {
    value = value * 256 + (bytes[endian === "big" ? at + index : at + size - 1 - index] ?? 0);
  }
  return value;
}

/** `frame`, whose checksum may be to come, with its length in the field. */
export function withLength(frame: Uint8Array, field: LengthField, checksum: ChecksumRule | undefined): Uint8Array {
  const width = checksum === undefined ? 0 : checksumWidth(checksum);
  const missing = checksum !== undefined && checksumEndsFrame(checksum) ? width : 0;
  let count = frame.length + missing - uncounted(field, width);
  const sized = frame.slice();
  for (let index = 0; index < field.size; index++) {
    sized[field.endian === "big" ? field.at + field.size - 1 - index : field.at + index] = count & 0xff;
    count = Math.floor(count / 256);
  }
  return sized;
}

/** The header that begins every frame, possibly empty; its length; and its checksum, where it has one. */
export interface HeaderFraming {
  readonly header: Uint8Array;
  readonly lengthOf: LengthOf;
  readonly checksum?: ChecksumRule | undefined;
  /** Longest frame. */
  readonly maxFrameBytes: number;
  /**
   * Milliseconds of silence after which the rest of a frame does not come any more. Without it, noise that looks like the
   * beginning of a long frame keeps the good ones inside it back until as many bytes have come.
   */
  readonly idleAfter?: number | undefined;
}

const FIRST_CAPACITY_BYTES = 256;

/** Bytes that are being given up. */
interface Discard {
  readonly reason: DiscardReason;
  readonly head: number[];
  length: number;
}

/** See the top. The frames that it gives are whole: with their header, length field and checksum. */
export class HeaderFramer implements Framer {
  readonly idleAfter?: number;
  readonly #framing: HeaderFraming;
  #held = new Uint8Array(FIRST_CAPACITY_BYTES);
  /** What is held and not yet decided upon: `#held[#from…#to)`. */
  #from = 0;
  #to = 0;
  #discard: Discard | undefined;
  #lastAt = Number.NEGATIVE_INFINITY;

  constructor(framing: HeaderFraming) {
    this.#framing = framing;
    if (framing.idleAfter !== undefined) this.idleAfter = framing.idleAfter;
  }

  push(chunk: Uint8Array, at = Number.NEGATIVE_INFINITY): Frame[] {
    const isAfterSilence = this.idleAfter !== undefined && at - this.#lastAt >= this.idleAfter;
    const frames = isAfterSilence ? this.idle() : [];
    this.#lastAt = at;
    let rest = chunk;
    while (rest.length > 0) {
      rest = rest.subarray(this.#append(rest));
      while (this.#step(frames));
    }
    return frames;
  }

  idle(): Frame[] {
    return this.end();
  }

  end(): Frame[] {
    const frames: Frame[] = [];
    // The rest of a frame that will not come may hold a shorter one that did.
    while (this.#from < this.#to) {
      this.#giveUpOne("unfinished", frames);
      while (this.#step(frames));
    }
    this.#report(frames);
    if (this.#held.length > FIRST_CAPACITY_BYTES) this.#held = new Uint8Array(FIRST_CAPACITY_BYTES);
    return frames;
  }

  /** Holds as much of `bytes` as there is room for, and says how much that was. */
  #append(bytes: Uint8Array): number {
    if (this.#from > 0) {
      this.#held.copyWithin(0, this.#from, this.#to);
      this.#to -= this.#from;
      this.#from = 0;
    }
    // One byte more than a frame: whatever is held is then decided upon.
    const bound = Math.max(this.#framing.maxFrameBytes, FIRST_CAPACITY_BYTES) + 1;
    const wanted = Math.min(bound, this.#to + bytes.length);
    if (wanted > this.#held.length) {
      const larger = new Uint8Array(Math.min(bound, Math.max(wanted, this.#held.length * 2)));
      larger.set(this.#held.subarray(0, this.#to));
      this.#held = larger;
    }
    const taken = bytes.subarray(0, this.#held.length - this.#to);
    this.#held.set(taken, this.#to);
    this.#to += taken.length;
    return taken.length;
  }

  /** Decides upon the bytes held, as far as they go; `false` where more are needed. */
  #step(frames: Frame[]): boolean {
    const { header, lengthOf, checksum, maxFrameBytes } = this.#framing;
    const held = this.#to - this.#from;
    for (let at = 0; at < header.length && at < held; at++) {
      if (this.#held[this.#from + at] !== header[at]) return this.#giveUpOne("noise", frames);
    }
    if (held < header.length) return false;
    const beginning = this.#held.subarray(this.#from, this.#to);
    const length = lengthOf(beginning);
    if (length === undefined) return held < maxFrameBytes ? false : this.#giveUpOne("too-long", frames);
    if (length === "bad-length") return this.#giveUpOne(length, frames);
    if (length > maxFrameBytes) return this.#giveUpOne("too-long", frames);
    if (length > held) return false;
    const frame = beginning.subarray(0, length);
    if (checksum !== undefined && !hasChecksum(frame, checksum)) return this.#giveUpOne("bad-checksum", frames);
    this.#report(frames);
    frames.push({ kind: "frame", bytes: frame.slice() });
    this.#from += length;
    return true;
  }

  /** Gives up the first byte held. */
  #giveUpOne(reason: DiscardReason, frames: Frame[]): true {
    const open = this.#discard;
    if (open !== undefined && (!this.#goesOn(open, reason) || open.length === LONGEST_DISCARD_BYTES)) {
      this.#report(frames);
    }
    this.#discard ??= { reason, head: [], length: 0 };
    const byte = this.#held[this.#from++] ?? 0;
    if (this.#discard.head.length < DISCARDED_HEAD_BYTES) this.#discard.head.push(byte);
    this.#discard.length++;
    return true;
  }

  /**
   * Whether the next byte belongs to what is being given up: noise goes to the frame that was given up before it, and where
   * no header tells frames apart, one discard is as good as many.
   */
  #goesOn(open: Discard, reason: DiscardReason): boolean {
    if (reason === "noise") return true;
    return reason === open.reason && (reason === "unfinished" || this.#framing.header.length === 0);
  }

  #report(frames: Frame[]): void {
    if (this.#discard === undefined) return;
    const { reason, head, length } = this.#discard;
    frames.push({ kind: "discarded", reason, bytes: Uint8Array.from(head), length });
    this.#discard = undefined;
  }
}
