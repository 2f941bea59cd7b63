/** A guess at what a device speaks, and what becomes of what was heard of it if the guess is right. Pure. */
import type { Frame } from "./framing.ts";
import { createFramer } from "./pipeline.ts";
import type { PipelineConfig } from "./pipeline-config.ts";

const LONGEST_FRAME_BYTES = 4096;

/** Bytes as they were read, and when: milliseconds of any clock that does not step back. */
export interface HeardPiece {
  readonly ms: number;
  readonly bytes: Uint8Array;
}

/** The keys of a port by which it would be read so; what has a default is left out where it is that. */
export type PipelineKeys = Partial<PipelineConfig> & Pick<PipelineConfig, "codec">;

/** `checksum`: it fits; `form`: frames have it; `likeness`: they begin alike and are as long; `pause`: nothing but pauses tells. */
export type Proof = "checksum" | "form" | "likeness" | "pause";

/** Something to be tried. */
export interface Guess {
  readonly keys: PipelineKeys;
  readonly proof: Proof;
  /** What it is, for a person: `NMEA 0183 sentences`. */
  readonly what: string;
  /** The device profile that says all this, and what the device measures. */
  readonly profile?: string;
  /** It may still turn out to be more than this: so many milliseconds have to be heard before it is sure. */
  readonly sureAfter?: number;
  /** A name for the port, where the device's kind is known by this. */
  readonly name?: string;
}

/** The whole configuration that `keys` stand for. */
export function pipelineOf(keys: PipelineKeys): PipelineConfig {
  return { framing: "lines", maxFrameBytes: LONGEST_FRAME_BYTES, separator: ",", ...keys };
}

/** The frames that a framing makes of what was heard. */
export function framesOf(config: PipelineConfig, pieces: readonly HeardPiece[]): Frame[] {
  const framer = createFramer(config);
  const frames: Frame[] = [];
  let last: number | undefined;
  for (const { ms, bytes } of pieces) {
    if (framer.idleAfter !== undefined && last !== undefined && ms - last >= framer.idleAfter)
      frames.push(...(framer.idle?.() ?? []));
    frames.push(...framer.push(bytes, ms));
    last = ms;
  }
  return frames;
}
