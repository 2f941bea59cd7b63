/**
 * What a device speaks, guessed from what was heard of it: framings and codecs are tried, and those that make sense of the bytes are
 * told with how sure that is. Pure.
 *
 * A guess is tried with the very framer and decoder that a port so configured would have, on the very bytes. What proves it, from
 * the strongest to the weakest: a checksum that fits again and again, a form that no accident has (objects, columns), the same
 * beginning and length, a pause.
 */
import { createDecoder } from "./pipeline.ts";
import { type PipelineConfig, pipelineFaults } from "./pipeline-config.ts";
import { type ProfileCandidate, type ProfileScore, profileScores } from "./profile-scores.ts";
import { binaryGuesses } from "./recognise-binary.ts";
import { framesOf, type Guess, type HeardPiece, type Proof, pipelineOf } from "./recognise-guess.ts";
import { textGuesses } from "./recognise-text.ts";

export interface Recognition extends Guess {
  /** `sure`: no accident; `likely`; `perhaps`. */
  readonly certainty: "sure" | "likely" | "perhaps";
  /** Frames of which the codec could make something. */
  readonly frames: number;
  /** Bytes of the others and of noise, of all that was heard: 0 to 1. */
  readonly rest: number;
  /** The first readings, `MOST_SAMPLES` at most. */
  readonly samples: readonly object[];
}

const MOST_SAMPLES = 3;
/** Of so many bytes enough can be told. */
const MOST_BYTES = 65_536;

const CERTAINTIES = ["sure", "likely", "perhaps"] as const;
const PROOFS = ["checksum", "form", "likeness", "pause"] as const;

/**
 * What was heard may be, the best guess first; none where nothing makes sense of it. `profiles`: the devices that are known. Takes well
 * below a second.
 */
export async function recognise(
  heard: readonly HeardPiece[],
  profiles: readonly ProfileCandidate[] = [],
): Promise<Recognition[]> {
  const pieces = newest(heard);
  const found = await recogniseDevices(pieces, profiles);
  const [known] = found;
  for (const guess of [...textGuesses(pieces), ...binaryGuesses(pieces)]) {
    const recognition = await tryOut(guess, pieces);
    if (recognition !== undefined) found.push(unless(known, recognition));
  }
  return found.sort(byWorth);
}

/** Where it may well be a device that is known, of which there is too little yet, no mere form is sure. */
function unless(known: Recognition | undefined, { certainty, ...other }: Recognition): Recognition {
  const isDoubtful = known !== undefined && known.certainty !== "sure" && other.proof !== "checksum";
  return { ...other, certainty: isDoubtful && certainty === "sure" ? "likely" : certainty };
}

function byWorth(one: Recognition, other: Recognition): number {
  return (
    CERTAINTIES.indexOf(one.certainty) - CERTAINTIES.indexOf(other.certainty) ||
    // A device says more than a language.
    Number(other.profile !== undefined) - Number(one.profile !== undefined) ||
    PROOFS.indexOf(one.proof) - PROOFS.indexOf(other.proof) ||
    one.rest - other.rest ||
    other.frames - one.frames
  );
}

function newest(heard: readonly HeardPiece[]): readonly HeardPiece[] {
  let [bytes, from] = [0, heard.length];
  while (from > 0 && bytes < MOST_BYTES) bytes += heard[--from]?.bytes.length ?? 0;
  return heard.slice(from);
}

/** The devices whose profile fits, the best first. */
async function recogniseDevices(
  pieces: readonly HeardPiece[],
  profiles: readonly ProfileCandidate[],
): Promise<Recognition[]> {
  const capture = pieces.map(({ ms, bytes }) => ({ at: ms, bytes }));
  const fitting = (await profileScores(capture, profiles, 0)).filter(({ fits }) => fits);
  // In a language that many devices speak, the one whose words these are.
  const [best] = fitting.filter(({ familiar }) => familiar >= LEAST_FAMILIAR);
  const candidate = profiles.find(({ name }) => name === best?.name);
  if (best === undefined || candidate === undefined) return [];
  const { codec } = candidate.pipeline;
  const guess = {
    keys: { codec },
    proof: proofOf(candidate),
    profile: best.name,
    what: `device profile ${best.name}`,
  } as const;
  const { samples } = await readAll(candidate.pipeline, pieces);
  return [{ ...guess, ...measured(best, guess.proof), samples }];
}

/** Fewer of the fields known, and it is another device that speaks the same language. */
const LEAST_FAMILIAR = 0.7;

function measured(
  { readings, explained }: ProfileScore,
  proof: Proof,
): Pick<Recognition, "certainty" | "frames" | "rest"> {
  const rest = 1 - explained;
  return { certainty: certaintyOf(proof, readings, rest), frames: readings, rest };
}

function proofOf({ pipeline: { checksum, codec, framing } }: ProfileCandidate): Proof {
  return checksum !== undefined || codec === "nmea0183" || framing === "ve-direct" ? "checksum" : "form";
}

async function tryOut(guess: Guess, pieces: readonly HeardPiece[]): Promise<Recognition | undefined> {
  const config = pipelineOf(guess.keys);
  if (pipelineFaults(config).length > 0) return undefined;
  const { good, ignored, badBytes, samples } = await readAll(config, pieces);
  // A decoder that takes no notice of anything has understood nothing.
  if (good === 0 || (guess.proof !== "checksum" && ignored === good)) return undefined;
  const total = pieces.reduce((sum, { bytes }) => sum + bytes.length, 0);
  const rest = Math.min(1, badBytes / total);
  const heardFor = (pieces.at(-1)?.ms ?? 0) - (pieces[0]?.ms ?? 0);
  const certainty = certaintyOf(guess.proof, good, rest);
  const isEarly = certainty === "sure" && heardFor < (guess.sureAfter ?? 0);
  return { ...guess, certainty: isEarly ? "likely" : certainty, frames: good, rest, samples };
}

async function readAll(config: PipelineConfig, pieces: readonly HeardPiece[]) {
  const decoder = await createDecoder(config);
  let [good, ignored, badBytes] = [0, 0, 0];
  const samples: object[] = [];
  for (const [at, frame] of framesOf(config, pieces).entries()) {
    const { kind, ...decoded } =
      frame.kind === "frame" ? decoder.decode(frame.bytes, 0, 0) : ({ kind: "refused" } as const);
    if (kind === "ignored") ignored++;
    if (kind !== "refused") good++;
    // Listening began in the middle of it.
    else if (at > 0) badBytes += frame.kind === "frame" ? frame.bytes.length : frame.length;
    if ("payload" in decoded && samples.length < MOST_SAMPLES) samples.push(decoded.payload);
  }
  return { good, ignored, badBytes, samples };
}

/** So many frames are no accident any more. */
const ENOUGH = { checksum: 2, form: 3, likeness: 3, pause: 3 } as const satisfies Record<Proof, number>;

function certaintyOf(proof: Proof, frames: number, rest: number): Recognition["certainty"] {
  if (proof === "pause" || rest > 0.5) return "perhaps";
  if (frames < ENOUGH[proof]) return "perhaps";
  return proof === "likeness" || rest > 0.25 ? "likely" : "sure";
}
