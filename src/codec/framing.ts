/**
 * Framing: where one frame ends and the next begins in a stream of bytes that may start in the middle, be cut anywhere,
 * and carry noise.
 *
 * A framer is fed chunks as they come and gives back frames; the outcome does not depend on how the stream was cut into
 * chunks. What it cannot use is a value too (`discarded`), so that noise is counted and never silent. It holds at most
 * one frame of bounded length, never throws, and finds its way back by itself after any rubbish. Here are the framings in
 * which something ends a frame; those in which a frame's beginning tells its length are in framing-header.ts.
 *
 * It does not look into a frame: that is a `Decoder`'s work.
 */

/** Why bytes were given up. */
export type DiscardReason =
  /** Longer than a frame may be. */
  | "too-long"
  /** Not ended when the stream was. */
  | "unfinished"
  /** Between frames: no frame begins there. */
  | "noise"
  /** Its checksum is not that of its bytes. */
  | "bad-checksum"
  /** Its length field says less than the field and what surrounds it take. */
  | "bad-length"
  /** What `slip`, `hdlc` or `cobs` never write. */
  | "bad-encoding";

export type Frame =
  | { readonly kind: "frame"; readonly bytes: Uint8Array }
  | {
      readonly kind: "discarded";
      readonly reason: DiscardReason;
      /** The first of the bytes given up, `DISCARDED_HEAD_BYTES` at most. */
      readonly bytes: Uint8Array;
      /** How many bytes were given up, terminator not counted. */
      readonly length: number;
    };

export interface Framer {
  /** Milliseconds of silence that end a frame; absent where silence means nothing. Whoever feeds it calls `idle` then. */
  readonly idleAfter?: number;
  /**
   * The frames that `chunk` brings to an end. `chunk` may be reused afterwards: frames are copies. `at`: when it was
   * received, in milliseconds of any clock that does not step back; only a framer with `idleAfter` looks at it.
   */
  push(chunk: Uint8Array, at?: number): Frame[];
  /** Nothing has come for `idleAfter`. */
  idle?(): Frame[];
  /** The next byte may stand inside a frame, which then is none. Absent where a cut frame is known for one by its bytes. */
  beginInside?(): void;
  /** What comes now was held up on the way, and the pauses in it are not the device's. Absent where that changes nothing. */
  heldUp?(): void;
  /** The stream has ended: gives up what is held, and starts afresh. */
  end(): Frame[];
}

/** How much of a discarded frame is kept for the operator. */
export const DISCARDED_HEAD_BYTES = 256;

/** A stretch without any terminator is reported each time it has this length, or noise that never ends would stay unseen. */
export const LONGEST_DISCARD_BYTES = 65_536;

const LINE_FEED = 0x0a;
const CARRIAGE_RETURN = 0x0d;

/**
 * Framing `lines`: a frame ends at a line feed, a carriage return, or both; empty lines are skipped, which is also what
 * makes CR LF one terminator wherever the stream is cut. Lines of more than `maxFrameBytes` (terminator not counted) are
 * discarded up to their end.
 */
export class LineFramer implements Framer {
  readonly #line: Stretch;

  constructor(maxFrameBytes: number) {
    this.#line = new Stretch(maxFrameBytes);
  }

  push(chunk: Uint8Array): Frame[] {
    const frames: Frame[] = [];
    let from = 0;
    for (let at = 0; at < chunk.length; at++) {
      const byte = chunk[at];
      if (byte !== LINE_FEED && byte !== CARRIAGE_RETURN) continue;
      this.#line.hold(chunk.subarray(from, at), frames);
      this.#line.complete(frames);
      from = at + 1;
    }
    this.#line.hold(chunk.subarray(from), frames);
    return frames;
  }

  beginInside(): void {
    this.#line.beginInside();
  }

  end(): Frame[] {
    const frames: Frame[] = [];
    this.#line.giveUp(frames);
    return frames;
  }
}

/**
 * Framing `delimiter`: a frame ends where the declared bytes stand, wherever the stream is cut; what is empty is skipped.
 * Frames of more than `maxFrameBytes` (delimiter not counted) are discarded up to their end.
 */
export class DelimiterFramer implements Framer {
  readonly #delimiter: Uint8Array;
  /** For each length of a matched beginning: how much of it still matches where the next byte does not (Knuth, Morris, Pratt). */
  readonly #fallback: readonly number[];
  readonly #stretch: Stretch;
  #matched = 0;

  /** `delimiter`: one byte or more. */
  constructor(delimiter: Uint8Array, maxFrameBytes: number) {
    this.#delimiter = delimiter;
    this.#fallback = fallbacksOf(delimiter);
    this.#stretch = new Stretch(maxFrameBytes, delimiter.length);
  }

  push(chunk: Uint8Array): Frame[] {
    const frames: Frame[] = [];
    let from = 0;
    for (let at = 0; at < chunk.length; at++) {
      this.#match(chunk[at]);
      if (this.#matched < this.#delimiter.length) continue;
      this.#stretch.hold(chunk.subarray(from, at + 1), frames);
      this.#stretch.complete(frames);
      this.#matched = 0;
      from = at + 1;
    }
    this.#stretch.hold(chunk.subarray(from), frames);
    return frames;
  }

  beginInside(): void {
    this.#stretch.beginInside();
  }

  end(): Frame[] {
    const frames: Frame[] = [];
    this.#matched = 0;
    this.#stretch.giveUp(frames);
    return frames;
  }

  #match(byte: number | undefined): void {
    while (this.#matched > 0 && this.#delimiter[this.#matched] !== byte)
      this.#matched = this.#fallback[this.#matched - 1] ?? 0;
    if (this.#delimiter[this.#matched] === byte) this.#matched++;
  }
}

function fallbacksOf(pattern: Uint8Array): number[] {
  const fallbacks = [0];
  for (let at = 1, matched = 0; at < pattern.length; at++) {
    while (matched > 0 && pattern[matched] !== pattern[at]) matched = fallbacks[matched - 1] ?? 0;
    if (pattern[matched] === pattern[at]) matched++;
    fallbacks.push(matched);
  }
  return fallbacks;
}

/**
 * Framing `idle`: a frame ends where no byte comes for `idleAfter` milliseconds. A frame whose end nobody saw, because the
 * port was closed or not read, is given up: it may be a part of one, or several.
 */
export class IdleFramer implements Framer {
  readonly idleAfter: number;
  readonly #stretch: Stretch;
  /** Not a number before the first byte: what was before that is no silence in a frame. */
  #lastAt = Number.NaN;
  #isSpoilt = false;

  constructor(idleAfter: number, maxFrameBytes: number) {
    this.idleAfter = idleAfter;
    this.#stretch = new Stretch(maxFrameBytes);
  }

  push(chunk: Uint8Array, at = Number.NEGATIVE_INFINITY): Frame[] {
    const frames = at - this.#lastAt >= this.idleAfter ? this.idle() : [];
    this.#lastAt = at;
    this.#stretch.hold(chunk, frames);
    return frames;
  }

  idle(): Frame[] {
    if (this.#isSpoilt) return this.end();
    const frames: Frame[] = [];
    this.#stretch.complete(frames);
    return frames;
  }

  beginInside(): void {
    this.#isSpoilt = true;
  }

  heldUp(): void {
    this.#isSpoilt = true;
  }

  end(): Frame[] {
    const frames: Frame[] = [];
    this.#isSpoilt = false;
    this.#stretch.giveUp(frames);
    return frames;
  }
}

const FIRST_CAPACITY_BYTES = 256;

/** The bytes since the last frame ended. Holds as many as a frame and its delimiter may have, and counts the rest. */
class Stretch {
  readonly #maxFrameBytes: number;
  /** How many of the bytes at a frame's end are its delimiter. */
  readonly #delimiterBytes: number;
  /** A stretch that grows beyond this is reported before it has ended. */
  readonly #longest: number;
  #held = new Uint8Array(FIRST_CAPACITY_BYTES);
  /** Length of the frame so far; where it is over the bound, `#held` has only its head. */
  #length = 0;
  /** Whether the present bytes go on from a stretch that has been reported as discarded. */
  #resynchronising = false;
  /** Whether its beginning may not have been heard. */
  #isRest = false;

  constructor(maxFrameBytes: number, delimiterBytes = 0) {
    this.#maxFrameBytes = maxFrameBytes;
    this.#delimiterBytes = delimiterBytes;
    this.#longest = Math.max(maxFrameBytes + delimiterBytes, LONGEST_DISCARD_BYTES);
  }

  hold(piece: Uint8Array, frames: Frame[]): void {
    let rest = piece;
    while (rest.length > 0) {
      const taken = rest.subarray(0, this.#longest + 1 - this.#length);
      this.#keep(taken);
      this.#length += taken.length;
      rest = rest.subarray(taken.length);
      if (this.#length > this.#longest) {
        frames.push(this.#discarded("too-long", this.#length));
        this.#length = 0;
        this.#resynchronising = true;
      }
    }
  }

  /** Nobody has heard where the frame that ends next began. */
  beginInside(): void {
    this.#isRest = true;
  }

  /** The frame ends here, its delimiter held with it. */
  complete(frames: Frame[]): void {
    // The first bytes of a delimiter may have gone with a stretch that was reported.
    const length = Math.max(0, this.#length - this.#delimiterBytes);
    if (length > 0) {
      if (this.#overlong(length)) frames.push(this.#discarded("too-long", length));
      else if (this.#isRest) frames.push(this.#discarded("noise", length));
      else frames.push({ kind: "frame", bytes: this.#held.slice(0, length) });
    }
    this.#restart();
  }

  /** No end will come. */
  giveUp(frames: Frame[]): void {
    if (this.#length > 0)
      frames.push(this.#discarded(this.#overlong(this.#length) ? "too-long" : "unfinished", this.#length));
    this.#restart();
  }

  #overlong(length: number): boolean {
    return this.#resynchronising || length > this.#maxFrameBytes;
  }

  /** Copies what may yet be part of a frame, or of the head that is shown. */
  #keep(piece: Uint8Array): void {
    const bound = Math.max(this.#maxFrameBytes + this.#delimiterBytes, DISCARDED_HEAD_BYTES);
    const kept = piece.subarray(0, Math.max(0, bound - this.#length));
    if (kept.length === 0) return;
    const needed = this.#length + kept.length;
    if (needed > this.#held.length) {
      const larger = new Uint8Array(Math.min(bound, Math.max(needed, this.#held.length * 2)));
      larger.set(this.#held.subarray(0, this.#length));
      this.#held = larger;
    }
    this.#held.set(kept, this.#length);
  }

  #discarded(reason: DiscardReason, length: number): Frame {
    return { kind: "discarded", reason, bytes: this.#held.slice(0, Math.min(length, DISCARDED_HEAD_BYTES)), length };
  }

  #restart(): void {
    this.#length = 0;
    this.#resynchronising = false;
    this.#isRest = false;
    if (this.#held.length > FIRST_CAPACITY_BYTES) this.#held = new Uint8Array(FIRST_CAPACITY_BYTES);
  }
}

/** What becomes of a frame's bytes on the way from the wire, or why they are given up. */
export type Unwrap = (bytes: Uint8Array) => Uint8Array | DiscardReason;

/**
 * A framer whose frames are undone further: unescaped, or freed of their checksum. Each frame stands or falls on its own, one that
 * was held up on the way as well; one of which nothing is left is skipped.
 */
export class UnwrappingFramer implements Framer {
  readonly idleAfter?: number;
  readonly #inner: Framer;
  readonly #unwrap: Unwrap;
  readonly #knowsCut: boolean;

  /** `knowsCut`: what is left of a frame is not taken for one. */
  constructor(inner: Framer, unwrap: Unwrap, { knowsCut }: { readonly knowsCut: boolean }) {
    this.#inner = inner;
    this.#unwrap = unwrap;
    this.#knowsCut = knowsCut;
    if (inner.idleAfter !== undefined) this.idleAfter = inner.idleAfter;
  }

  push(chunk: Uint8Array, at?: number): Frame[] {
    return this.#unwrapped(this.#inner.push(chunk, at));
  }

  idle(): Frame[] {
    return this.#unwrapped(this.#inner.idle?.() ?? []);
  }

  beginInside(): void {
    if (!this.#knowsCut) this.#inner.beginInside?.();
  }

  end(): Frame[] {
    return this.#unwrapped(this.#inner.end());
  }

  #unwrapped(frames: readonly Frame[]): Frame[] {
    return frames.flatMap((frame): Frame[] => {
      if (frame.kind === "discarded") return [frame];
      const { bytes } = frame;
      const inside = this.#unwrap(bytes);
      if (typeof inside !== "string") return inside.length === 0 ? [] : [{ kind: "frame", bytes: inside }];
      const head = bytes.slice(0, DISCARDED_HEAD_BYTES);
      return [{ kind: "discarded", reason: inside, bytes: head, length: bytes.length }];
    });
  }
}
