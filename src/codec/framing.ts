/**
 * Framing: where one frame ends and the next begins in a stream of bytes that may start in the middle, be cut anywhere,
 * and carry noise.
 *
 * A framer is fed chunks as they come and gives back frames; the outcome does not depend on how the stream was cut into
 * chunks. What it cannot use is a value too (`discarded`), so that noise is counted and never silent. It holds at most
 * one frame of bounded length, never throws, and finds its way back by itself after any rubbish.
 *
 * It does not look into a frame: that is a `Decoder`'s work.
 */

/** Why bytes were given up: longer than a frame may be; or not ended when the stream was. */
export type DiscardReason = "too-long" | "unfinished";

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
  /** The frames that `chunk` brings to an end. `chunk` may be reused afterwards: frames are copies. */
  push(chunk: Uint8Array): Frame[];
  /** The stream has ended, or paused for long: gives up what is held, and starts afresh. */
  end(): Frame[];
}

/** How much of a discarded frame is kept for the operator. */
export const DISCARDED_HEAD_BYTES = 256;

/** A stretch without any terminator is reported each time it has this length, or noise that never ends would stay unseen. */
export const LONGEST_DISCARD_BYTES = 65_536;

const LINE_FEED = 0x0a;
const CARRIAGE_RETURN = 0x0d;
const FIRST_CAPACITY_BYTES = 256;

/**
 * Framing `lines`: a frame ends at a line feed, a carriage return, or both; empty lines are skipped, which is also what
 * makes CR LF one terminator wherever the stream is cut. Lines of more than `maxFrameBytes` (terminator not counted) are
 * discarded up to their end.
 */
export class LineFramer implements Framer {
  readonly #maxFrameBytes: number;
  /** A line that grows beyond this is reported before it has ended. */
  readonly #longestStretch: number;
  #held = new Uint8Array(FIRST_CAPACITY_BYTES);
  /** Length of the line so far; where it is over the bound, `#held` has only its head. */
  #length = 0;
  /** Whether the present bytes go on from a stretch that has been reported as discarded. */
  #resynchronising = false;

  constructor(maxFrameBytes: number) {
    this.#maxFrameBytes = maxFrameBytes;
    this.#longestStretch = Math.max(maxFrameBytes, LONGEST_DISCARD_BYTES);
  }

  push(chunk: Uint8Array): Frame[] {
    const frames: Frame[] = [];
    let from = 0;
    for (let at = 0; at < chunk.length; at++) {
      const byte = chunk[at];
      if (byte !== LINE_FEED && byte !== CARRIAGE_RETURN) continue;
      this.#hold(chunk.subarray(from, at), frames);
      this.#endLine(frames);
      from = at + 1;
    }
    this.#hold(chunk.subarray(from), frames);
    return frames;
  }

  end(): Frame[] {
    const frames: Frame[] = [];
    if (this.#overlong()) this.#endLine(frames);
    else if (this.#length > 0) frames.push(this.#discarded("unfinished"));
    this.#restart();
    return frames;
  }

  #overlong(): boolean {
    return this.#resynchronising || this.#length > this.#maxFrameBytes;
  }

  #hold(piece: Uint8Array, frames: Frame[]): void {
    let rest = piece;
    while (rest.length > 0) {
      const taken = rest.subarray(0, this.#longestStretch + 1 - this.#length);
      this.#keep(taken);
      this.#length += taken.length;
      rest = rest.subarray(taken.length);
      if (this.#length > this.#longestStretch) {
        frames.push(this.#discarded("too-long"));
        this.#length = 0;
        this.#resynchronising = true;
      }
    }
  }

  /** Copies what may yet be part of a frame, or of the head that is shown. */
  #keep(piece: Uint8Array): void {
    const bound = Math.max(this.#maxFrameBytes, DISCARDED_HEAD_BYTES);
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

  #endLine(frames: Frame[]): void {
    if (this.#overlong()) {
      if (this.#length > 0) frames.push(this.#discarded("too-long"));
    } else if (this.#length > 0) {
      frames.push({ kind: "frame", bytes: this.#held.slice(0, this.#length) });
    }
    this.#restart();
  }

  #discarded(reason: DiscardReason): Frame {
    const bytes = this.#held.slice(0, Math.min(this.#length, DISCARDED_HEAD_BYTES));
    return { kind: "discarded", reason, bytes, length: this.#length };
  }

  #restart(): void {
    this.#length = 0;
    this.#resynchronising = false;
    if (this.#held.length > FIRST_CAPACITY_BYTES) this.#held = new Uint8Array(FIRST_CAPACITY_BYTES);
  }
}
