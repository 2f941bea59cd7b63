/**
 * How well what was heard on a line fits a device profile. Pure: `profiles test` asks it of a capture, `doctor serial` of what it
 * hears. It runs the very pipeline that the gateway would run.
 */
import type { Decoded } from "./decoder.ts";
import type { Frame } from "./framing.ts";
import { createDecoder, createFramer } from "./pipeline.ts";
import type { PipelineConfig } from "./pipeline-config.ts";

/** A piece of a capture. */
export interface HeardPiece {
  readonly bytes: Uint8Array;
  /** When it came, in milliseconds of any clock that does not step back; only pauses are looked at, and only where frames end by them. */
  readonly at?: number | undefined;
}

/** What became of one stretch of the capture: `decoded` of a frame. */
export interface TriedFrame {
  readonly frame: Frame;
  readonly decoded?: Decoded;
}

/** What a pipeline made of a capture. */
export interface Trial {
  readonly bytes: number;
  readonly readings: number;
  readonly refused: number;
  /** Well formed, and of no reading's kind. */
  readonly ignored: number;
  readonly discarded: number;
  /**
   * The share of the bytes that belong to frames of which something could be made. What was cut at the capture's beginning and end
   * is not counted.
   */
  readonly explained: number;
}

export interface ProfileCandidate {
  readonly name: string;
  readonly pipeline: PipelineConfig;
  /** Names that its readings have, as far as they are known. */
  readonly fields: ReadonlySet<string>;
}

export interface ProfileScore extends Trial {
  readonly name: string;
  /** The share of the readings' fields that the profile names: tells devices apart that speak the same language. */
  readonly familiar: number;
  /** Whether the capture may well be of such a device. */
  readonly fits: boolean;
}

/** A line has some noise; less than this is not the device's language. */
const LEAST_EXPLAINED = 0.9;

/**
 * Runs a capture through a pipeline that has no `pipelineFaults`. `visit` gets each frame, in order. `now`: wall time of the capture in
 * milliseconds.
 */
export async function tryPipeline(
  pipeline: PipelineConfig,
  capture: readonly HeardPiece[],
  now: number,
  visit: (tried: TriedFrame) => void = () => {},
): Promise<Trial> {
  const decoder = await createDecoder(pipeline);
  const framer = createFramer(pipeline);
  const tally = new Tally();
  const take = (frames: readonly Frame[], at: number): void => {
    for (const frame of frames) {
      const tried = frame.kind === "frame" ? { frame, decoded: decoder.decode(frame.bytes, at, now) } : { frame };
      tally.add(tried);
      visit(tried);
    }
  };
  let last = 0;
  for (const { bytes, at } of capture) {
    last = at ?? last;
    tally.bytes += bytes.length;
    take(framer.push(bytes, at), last);
  }
  // Nothing follows the capture's end: a frame that a pause ends has ended.
  take(framer.idle?.() ?? [], last);
  take(framer.end(), last);
  return tally.trial();
}

/** How well a capture fits each candidate, the best first. */
export async function profileScores(
  capture: readonly HeardPiece[],
  candidates: readonly ProfileCandidate[],
  now: number,
): Promise<ProfileScore[]> {
  const scores: ProfileScore[] = [];
  for (const { name, pipeline, fields } of candidates) {
    let named = 0;
    let known = 0;
    const trial = await tryPipeline(pipeline, capture, now, ({ decoded }) => {
      if (decoded?.kind !== "reading") return;
      for (const field of fieldsOf(decoded.payload)) {
        named++;
        if (fields.has(field)) known++;
      }
    });
    const fits = trial.readings > 0 && trial.explained >= LEAST_EXPLAINED;
    scores.push({ name, ...trial, familiar: named === 0 ? 0 : known / named, fits });
  }
  return scores.sort(
    (a, b) =>
      Number(b.fits) - Number(a.fits) ||
      (a.fits ? b.familiar - a.familiar : 0) ||
      b.explained - a.explained ||
      b.readings - a.readings,
  );
}

function fieldsOf(payload: object): string[] {
  return Array.isArray(payload) ? payload.flatMap((each: object) => Object.keys(each)) : Object.keys(payload);
}

/** What stands around a frame's bytes on the wire: delimiters, escapes, a checksum. */
const FRAME_SURROUNDINGS_BYTES = 32;

class Tally {
  bytes = 0;
  #readings = 0;
  #refused = 0;
  #ignored = 0;
  #discarded = 0;
  #longest = 0;
  /** Bytes of which nothing could be made: before the first good frame, and since. */
  #before = 0;
  #since = 0;
  /** Of those since, the ones behind the last good frame. */
  #behind = 0;

  add({ frame, decoded }: TriedFrame): void {
    if (decoded?.kind === "reading" || decoded?.kind === "ignored") {
      if (decoded.kind === "reading") this.#readings++;
      else this.#ignored++;
      this.#longest = Math.max(this.#longest, frame.bytes.length);
      this.#behind = 0;
      return;
    }
    if (decoded === undefined) this.#discarded++;
    else this.#refused++;
    const length = frame.kind === "frame" ? frame.bytes.length : frame.length;
    if (this.#longest === 0) {
      this.#before += length;
    } else {
      this.#since += length;
      this.#behind += length;
    }
  }

  trial(): Trial {
    const hasGood = this.#longest > 0;
    const excusable = hasGood ? this.#longest + FRAME_SURROUNDINGS_BYTES : 0;
    const cut = Math.min(this.#before, excusable) + Math.min(this.#behind, excusable);
    const whole = this.bytes - cut;
    const unexplained = this.#before + this.#since - cut;
    return {
      bytes: this.bytes,
      readings: this.#readings,
      refused: this.#refused,
      ignored: this.#ignored,
      discarded: this.#discarded,
      explained: hasGood && whole > 0 ? Math.max(0, 1 - unexplained / whole) : 0,
    };
  }
}
