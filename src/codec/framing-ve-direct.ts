/**
 * Framing `ve-direct`: the blocks of Victron's VE.Direct text mode ("VE.Direct Protocol", Victron Energy, sections "Text mode"
 * and "Checksum calculation"). A block is lines, each begun by CR LF, of a label, a tab and a value; the last one is
 * `Checksum` and a byte that makes the sum of all the block's bytes 0, modulo 256. That byte may be any, a CR or a colon included.
 *
 * The frame is the block's lines, without the first CR LF and without the checksum's line. Messages of the HEX mode (`:`,
 * hexadecimal digits, LF) may interrupt a block anywhere but before the checksum's byte; they are no part of its sum and are passed over.
 *
 * Resynchronising: what is no line gives up the block so far, and the next CR LF may begin another. Of a block whose beginning
 * was not seen nobody knows whether it is whole but by its sum: with a wrong one it is noise, not a wrong checksum.
 * Invariants: every byte is part of a block, of a HEX message or of something discarded; one block of bounded length is held.
 */
import { DISCARDED_HEAD_BYTES, type DiscardReason, type Frame, type Framer, LONGEST_DISCARD_BYTES } from "./framing.ts";

const TAB = 0x09;
const LINE_FEED = 0x0a;
const CARRIAGE_RETURN = 0x0d;
const COLON = 0x3a;
const CHECKSUM_LABEL = Buffer.from("Checksum");
/** CR LF, `Checksum`, tab, and the byte itself. */
const CHECKSUM_LINE_BYTES = 2 + CHECKSUM_LABEL.length + 2;
const LINE_END_BYTES = 2;

/** What the next byte is. `start`: the first of a block; `lost`: anything, until a CR. */
type State = "start" | "line-feed" | "label" | "value" | "checksum" | "lost";

export class VeDirectFramer implements Framer {
  readonly #maxFrameBytes: number;
  /** The block so far, HEX messages left out. */
  readonly #held: Uint8Array;
  #length = 0;
  #sum = 0;
  /** Where the present label begins in `#held`. */
  #label = 0;
  #state: State = "lost";
  /** The HEX message that is under way, from its colon on. */
  #hex: number[] = [];
  /** Whether the block begins where another has ended. */
  #seenFromStart = false;
  /** What is being given up: its first bytes, and how many there are. */
  #head: number[] = [];
  #given = 0;

  /** `maxFrameBytes`: longest block, its checksum included. */
  constructor(maxFrameBytes: number) {
    this.#maxFrameBytes = maxFrameBytes;
    this.#held = new Uint8Array(maxFrameBytes);
  }

  push(chunk: Uint8Array): Frame[] {
    const frames: Frame[] = [];
    for (const byte of chunk) this.#take(byte, frames);
    return frames;
  }

  end(): Frame[] {
    const frames: Frame[] = [];
    this.#report(frames, "noise");
    this.#give([...this.#block(), ...this.#hex], frames);
    this.#report(frames, "unfinished");
    this.#begin("lost", false);
    this.#hex = [];
    return frames;
  }

  #take(byte: number, frames: Frame[]): void {
    const mayInterrupt = this.#state !== "checksum" && this.#state !== "lost";
    if (this.#hex.length > 0) this.#takeHex(byte, frames);
    else if (byte === COLON && mayInterrupt) this.#hex = [byte];
    else this.#step(byte, this.#after(byte), frames);
  }

  #step(byte: number, next: State, frames: Frame[]): void {
    if (next === "lost") {
      this.#lose(byte, frames);
    } else if (this.#length === this.#maxFrameBytes) {
      this.#overflow(byte, frames);
    } else {
      this.#held[this.#length++] = byte;
      this.#sum = (this.#sum + byte) & 0xff;
      if (next === "label" && this.#state !== "label") this.#label = this.#length;
      if (this.#state === "checksum") this.#complete(frames);
      else this.#state = next;
    }
  }

  /** The state that `byte` leads to; `lost` where it has no place there. */
  #after(byte: number): State {
    switch (this.#state) {
      case "start":
      case "lost":
        return byte === CARRIAGE_RETURN ? "line-feed" : "lost";
      case "line-feed":
        return byte === LINE_FEED ? "label" : "lost";
      case "label":
        if (byte === TAB) return this.#isChecksumLabel() ? "checksum" : "value";
        return isPrintable(byte) ? "label" : "lost";
      case "value":
        if (byte === CARRIAGE_RETURN) return "line-feed";
        return isPrintable(byte) ? "value" : "lost";
      case "checksum":
        return "start";
    }
  }

  #isChecksumLabel(): boolean {
    const label = this.#held.subarray(this.#label, this.#length);
    return label.length === CHECKSUM_LABEL.length && CHECKSUM_LABEL.every((byte, at) => byte === label[at]);
  }

  #takeHex(byte: number, frames: Frame[]): void {
    if (byte === LINE_FEED) {
      this.#hex = [];
    } else if (isHexDigit(byte) && this.#hex.length < this.#maxFrameBytes) {
      this.#hex.push(byte);
    } else {
      // What the colon began was no message: it goes with the block that it interrupted.
      const rest = this.#hex;
      this.#hex = [];
      this.#lose(byte, frames, rest);
    }
  }

  /** A byte that has no place in the block; it may begin another. `before`: what was not held with the block. */
  #lose(byte: number, frames: Frame[], before: readonly number[] = []): void {
    this.#give([...this.#block(), ...before], frames);
    this.#begin("lost", false);
    if (byte === CARRIAGE_RETURN) this.#take(byte, frames);
    else this.#give([byte], frames);
  }

  #overflow(byte: number, frames: Frame[]): void {
    this.#report(frames, "noise");
    this.#give([...this.#block(), byte], frames);
    this.#report(frames, "too-long");
    this.#begin("lost", false);
  }

  /** What is held of the present block. */
  #block(): Uint8Array {
    return this.#held.subarray(0, this.#length);
  }

  #complete(frames: Frame[]): void {
    const block = this.#held.slice(LINE_END_BYTES, this.#length - CHECKSUM_LINE_BYTES);
    if (this.#sum === 0) {
      this.#report(frames, "noise");
      if (block.length > 0) frames.push({ kind: "frame", bytes: block });
    } else {
      const reason = this.#seenFromStart ? "bad-checksum" : "noise";
      if (reason === "bad-checksum") this.#report(frames, "noise");
      this.#give(this.#block(), frames);
      this.#report(frames, reason);
    }
    this.#begin("start", true);
  }

  #begin(state: State, seenFromStart: boolean): void {
    this.#length = 0;
    this.#sum = 0;
    this.#state = state;
    this.#seenFromStart = seenFromStart;
  }

  #give(bytes: Iterable<number>, frames: Frame[]): void {
    for (const byte of bytes) {
      if (this.#given < DISCARDED_HEAD_BYTES) this.#head.push(byte);
      this.#given++;
    }
    if (this.#given >= LONGEST_DISCARD_BYTES) this.#report(frames, "noise");
  }

  #report(frames: Frame[], reason: DiscardReason): void {
    if (this.#given === 0) return;
    frames.push({ kind: "discarded", reason, bytes: Uint8Array.from(this.#head), length: this.#given });
    this.#given = 0;
    this.#head = [];
  }
}

/** ASCII without control characters; the colon begins a HEX message and does not come here. */
function isPrintable(byte: number): boolean {
  return byte >= 0x20 && byte < 0x7f;
}

function isHexDigit(byte: number): boolean {
  return (byte >= 0x30 && byte <= 0x39) || (byte >= 0x41 && byte <= 0x46) || (byte >= 0x61 && byte <= 0x66);
}

/** `frame`, lines of `LABEL<tab>VALUE` with CR LF between them, as a block on the wire. */
export function veDirectBlock(frame: Uint8Array): Uint8Array {
  const block = Buffer.concat([Buffer.from("\r\n"), frame, Buffer.from("\r\nChecksum\t\0")]);
  const sum = block.reduce((total, byte) => total + byte, 0);
  block[block.length - 1] = -sum & 0xff;
  return block;
}
