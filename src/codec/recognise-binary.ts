/**
 * Guesses for devices whose frames are binary: frames between delimiters, frames that begin alike, frames between pauses; and the
 * checksum that they carry, which is looked for in all places where devices have it. Pure.
 */
import { CHECKSUM_TYPES, type ChecksumRule, checksumWidth, hasChecksum } from "./checksum.ts";
import type { LengthField } from "./framing-header.ts";
import type { PipelineConfig } from "./pipeline-config.ts";
import { framesOf, type Guess, type HeardPiece, type PipelineKeys, pipelineOf } from "./recognise-guess.ts";

/** USB adapters make pauses of their own of some 16 ms. */
const PAUSE_MS = 20;
/** Frames that are looked at. */
const MOST_FRAMES = 64;
const FEWEST_FRAMES = 3;
const SHORTEST_FRAME = 4;
const LONGEST_PERIOD = 256;
const LATEST_BYTES = 2048;

type Frames = readonly Uint8Array[];

/** What binary frames may be. */
export function binaryGuesses(pieces: readonly HeardPiece[]): Guess[] {
  return [...delimited(pieces), ...alike(pieces), ...paused(pieces)];
}

/** A frame's bytes as they are, for whoever does not know yet what they mean. */
function wholeFrame(at: number): PipelineKeys {
  return { codec: "binary", layout: { endian: "big", fields: [{ at, type: "bytes", name: "frame_hex" }] } };
}

const ESCAPED = {
  cobs: "COBS frames",
  slip: "SLIP frames (RFC 1055)",
  hdlc: "HDLC frames (RFC 1662, SHDLC)",
} as const;

function delimited(pieces: readonly HeardPiece[]): Guess[] {
  return (["cobs", "slip", "hdlc"] as const).flatMap((framing): Guess[] => {
    const frames = goodFrames(pipelineOf({ framing, codec: "json" }), pieces);
    if (frames.length < FEWEST_FRAMES) return [];
    const what = ESCAPED[framing];
    const checksum = checksumOf(frames);
    const inside = checksum === undefined ? { framing } : { framing, checksum };
    const proof = checksum === undefined ? "form" : "checksum";
    const said = checksum === undefined ? what : `${what} with a checksum (${checksum.type})`;
    const senml = frames.some((frame) => SENML_LABELS.has(frame[2] ?? -1) && (frame[0] ?? 0) >> 5 === ARRAY);
    return [
      { keys: { ...inside, codec: senml ? "senml" : "cbor" }, proof, what: `${said}, CBOR in them` },
      { keys: { ...inside, codec: "json" }, proof, what: `${said}, JSON in them` },
      // Without a checksum anything is such a frame.
      ...(checksum === undefined ? [] : [{ keys: { ...inside, ...wholeFrame(0) }, proof, what: said } as const]),
    ];
  });
}

/** CBOR's major type of an array; the labels of RFC 8428 that begin a record: base name, name, base time, base unit. */
const ARRAY = 4;
const SENML_LABELS: ReadonlySet<number> = new Set([0x21, 0x00, 0x22, 0x23]);

/** Frames that begin with the same bytes: all as long, or with their length in them. */
function alike(pieces: readonly HeardPiece[]): Guess[] {
  const bytes = Buffer.concat(pieces.map((piece) => piece.bytes));
  const paused = pausedFrames(pieces);
  const prefix = commonPrefix(paused);
  const guesses: Guess[] = [];
  if (prefix.length > 0) guesses.push(...headed(paused, prefix));
  if (guesses.some(({ proof }) => proof === "checksum")) return guesses;
  // What was lost on the way would shift what comes behind it.
  const latest = bytes.subarray(-LATEST_BYTES);
  const period = periodOf(latest);
  if (period !== undefined) guesses.push(...headed(cut(latest, period), period.header));
  return guesses;
}

function headed(frames: Frames, prefix: Uint8Array): Guess[] {
  const checksum = checksumOf(frames);
  const proof = checksum === undefined ? "likeness" : "checksum";
  const said = checksum === undefined ? "" : `, with a checksum (${checksum.type})`;
  const lengths = new Set(frames.map(({ length }) => length));
  // What stands at the beginning of every frame may still be a value that did not change.
  const header = hex(prefix.subarray(0, 2));
  const inside = { ...wholeFrame(Math.min(2, prefix.length)), ...(checksum !== undefined && { checksum }) };
  if (lengths.size === 1) {
    const [length = 0] = lengths;
    const keys = { framing: "fixed", header, length, ...inside } as const;
    return [{ keys, proof, what: `frames of ${length} bytes that begin with ${header}${said}` }];
  }
  const lengthField = lengthFieldOf(frames, checksum === undefined ? 0 : checksumWidth(checksum));
  if (lengthField === undefined) return [];
  const maxFrameBytes = Math.max(64, 2 * Math.max(...lengths));
  const keys = { framing: "length-prefixed", header, lengthField, maxFrameBytes, ...inside } as const;
  return [{ keys, proof, what: `frames that begin with ${header} and tell their length${said}` }];
}

/** Frames of which nothing but a pause tells the end. */
function paused(pieces: readonly HeardPiece[]): Guess[] {
  const frames = pausedFrames(pieces);
  if (frames.length < FEWEST_FRAMES) return [];
  const checksum = checksumOf(frames);
  const keys = {
    framing: "idle",
    idle: PAUSE_MS,
    ...wholeFrame(0),
    ...(checksum !== undefined && { checksum }),
  } as const;
  return checksum === undefined
    ? [{ keys, proof: "pause", what: "frames between pauses" }]
    : [{ keys, proof: "checksum", what: `frames between pauses, with a checksum (${checksum.type})` }];
}

/** The first and the last may have been cut. */
function pausedFrames(pieces: readonly HeardPiece[]): Uint8Array[] {
  return goodFrames(pipelineOf({ framing: "idle", idle: PAUSE_MS, codec: "json" }), pieces).slice(1);
}

function goodFrames(config: PipelineConfig, pieces: readonly HeardPiece[]): Uint8Array[] {
  const frames = framesOf(config, pieces);
  const good = frames.flatMap((frame) => (frame.kind === "frame" ? [frame.bytes] : []));
  return good.length * 2 < frames.length ? [] : good.slice(0, MOST_FRAMES);
}

function commonPrefix(frames: Frames): Uint8Array {
  const [first] = frames;
  if (first === undefined || frames.length < FEWEST_FRAMES) return new Uint8Array();
  let length = 0;
  while (length < first.length && frames.every((frame) => frame[length] === first[length])) length++;
  return first.subarray(0, length);
}

interface Period {
  readonly length: number;
  readonly header: Uint8Array;
  /** Where the first frame begins. */
  readonly from: number;
}

/** Bytes that come again at the same distance: where frames follow one another without a pause. */
function periodOf(bytes: Uint8Array): Period | undefined {
  for (let length = SHORTEST_FRAME; length <= Math.min(LONGEST_PERIOD, bytes.length / (FEWEST_FRAMES + 1)); length++) {
    const constant = Array.from({ length }, (_, phase) => isConstant(bytes, phase, length));
    if (constant.every(Boolean)) continue;
    // A header is where constant bytes begin behind one that varies.
    for (let phase = 0; phase < length; phase++) {
      const before = (phase + length - 1) % length;
      if (constant[before] || !constant[phase] || !constant[(phase + 1) % length]) continue;
      return { length, from: phase, header: bytes.subarray(phase, phase + 2) };
    }
  }
  return undefined;
}

function isConstant(bytes: Uint8Array, from: number, step: number): boolean {
  for (let at = from + step; at < bytes.length; at += step) if (bytes[at] !== bytes[from]) return false;
  return true;
}

function cut(bytes: Uint8Array, { from, length }: Period): Uint8Array[] {
  const frames: Uint8Array[] = [];
  for (let at = from; at + length <= bytes.length && frames.length < MOST_FRAMES; at += length)
    frames.push(bytes.subarray(at, at + length));
  return frames;
}

function hex(bytes: Uint8Array): string {
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join(" ");
}

/** Where frames of different lengths tell how long they are. */
function lengthFieldOf(frames: Frames, checksumBytes: number): LengthField | undefined {
  for (const size of [1, 2] as const)
    for (let at = 0; at < 6; at++)
      for (const endian of size === 1 ? (["big"] as const) : (["big", "little"] as const)) {
        const rests = frames.map((frame) => frame.length - numberAt(frame, at, size, endian));
        const [extra = 0] = rests;
        if (rests.some((rest) => rest !== extra) || Math.abs(extra) > 16) continue;
        if (extra === at + size) return { at, size, endian, counts: "rest", extra: 0 };
        if (extra === at + size + checksumBytes) return { at, size, endian, counts: "payload", extra: 0 };
        return { at, size, endian, counts: "frame", extra };
      }
  return undefined;
}

function numberAt(frame: Uint8Array, at: number, size: 1 | 2, endian: "big" | "little"): number {
  const [first, second] = [frame[at] ?? 0, frame[at + 1] ?? 0];
  if (size === 1) return first;
  return endian === "big" ? first * 256 + second : second * 256 + first;
}

/** With a byte for a checksum, one frame in 256 fits by accident, and hundreds of rules are tried. */
const FEWEST_DIFFERENT = { 1: 6, 2: 3, 4: 2 } as const;
/** Read far too fast, every byte is one of a few, and a byte of their sum as well. */
const FEWEST_VALUES = { 1: 16, 2: 8, 4: 4 } as const;

const OBEYING_SHARE = 0.8;

/** The checksum rule that the frames obey, where there are enough different ones for that to be no accident. */
export function checksumOf(frames: Frames): ChecksumRule | undefined {
  const different = [...new Map(frames.map((frame) => [hex(frame), frame])).values()];
  // Of nothing but zeros nearly every checksum is zero.
  const telling = different.filter((frame) => frame.some((byte) => byte !== 0));
  const values = new Set(telling.flatMap((frame) => [...frame])).size;
  for (const rule of RULES) {
    const width = checksumWidth(rule) as 1 | 2 | 4;
    if (values < FEWEST_VALUES[width]) continue;
    const obeying = telling.filter((frame) => frame.length > width + rule.from && hasChecksum(frame, rule));
    // A frame or two may have been cut, or garbled.
    if (obeying.length >= FEWEST_DIFFERENT[width] && obeying.length >= OBEYING_SHARE * telling.length) return rule;
  }
  return undefined;
}

/** The wider ones first: what they find is no accident. */
const RULES: readonly ChecksumRule[] = [4, 2, 1].flatMap((width) =>
  CHECKSUM_TYPES.flatMap((type): ChecksumRule[] => {
    const plain = { type, from: 0, endian: "big", complement: "none", encoding: "bytes" } as const;
    if (checksumWidth(plain) !== width) return [];
    return [0, 1, 2].flatMap((behind) =>
      [0, 1, 2, 3].flatMap((from) =>
        (width === 1 ? (["big"] as const) : (["big", "little"] as const)).flatMap((endian) =>
          (["none", "ones", "twos"] as const).map(
            (complement): ChecksumRule => ({
              ...plain,
              from,
              endian,
              complement,
              ...(behind > 0 && { at: -width - behind }),
            }),
          ),
        ),
      ),
    );
  }),
);
