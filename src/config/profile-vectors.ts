/** The frames that a device profile has for a proof, and what its pipeline makes of them. */
import { isDeepStrictEqual } from "node:util";
import type { Values } from "../codec/binary.ts";
import { AnswerSearch } from "../codec/modbus.ts";
import { planReads, readBlock } from "../codec/modbus-plan.ts";
import { bytesOf, defaultClassOf, type PipelineConfig } from "../codec/pipeline-config.ts";
import { type ProfileCandidate, tryPipeline } from "../codec/profile-scores.ts";
import { findProfile, shippedProfiles } from "./profiles.ts";
import type { DeviceProfile, ProfileVector } from "./schema-profile.ts";

/** The bytes of a vector as they are on the wire. */
export function vectorBytes({ hex, text }: ProfileVector): Uint8Array {
  return hex === undefined ? Buffer.from(text ?? "", "latin1") : bytesOf(hex);
}

/** How the profile's frames are told apart and read; `undefined` of a device on a bus that says itself what a frame is. */
export function pipelineOf(profile: DeviceProfile): PipelineConfig | undefined {
  const { codec } = profile;
  return codec === undefined ? undefined : { ...profile, codec };
}

/** What is wrong with a vector: it does not give its reading, and that alone. `undefined` where nothing is. */
export async function vectorFault(profile: DeviceProfile, vector: ProfileVector): Promise<string | undefined> {
  if (profile.server !== undefined) return serverVectorFault(profile.server, vector);
  const pipeline = pipelineOf(profile);
  if (pipeline === undefined) return undefined;
  const given: { readonly payload: object; readonly class: string | undefined }[] = [];
  const problems: string[] = [];
  await tryPipeline(pipeline, [{ bytes: vectorBytes(vector) }], 0, ({ frame, decoded }) => {
    if (frame.kind === "discarded") problems.push(`${frame.length} bytes discarded: ${frame.reason}`);
    else if (decoded?.kind === "refused") problems.push(`refused: ${decoded.detail}`);
    else if (decoded?.kind === "reading") given.push({ payload: decoded.payload, class: decoded.class });
  });
  if (problems.length > 0) return problems.join("; ");
  const [only, ...more] = given;
  if (only === undefined || more.length > 0) return `gives ${given.length} readings, not one`;
  if (!isDeepStrictEqual(only.payload, vector.reading)) return `gives ${JSON.stringify(only.payload)}`;
  const usual = profile.class ?? defaultClassOf(pipeline.codec);
  // A port's own class wins over what the codec says of the reading, but where it is the codec's usual one.
  const isUsual = profile.class === undefined || profile.class === defaultClassOf(pipeline.codec);
  const itsClass = isUsual ? (only.class ?? usual) : usual;
  return itsClass === (vector.class ?? usual) ? undefined : `is of class ${itsClass}`;
}

/** A vector of a Modbus server is its answers, one behind the other, in the order of the requests. */
function serverVectorFault(server: NonNullable<DeviceProfile["server"]>, vector: ProfileVector): string | undefined {
  const values: Values = {};
  for (const block of planReads(server)) {
    const answer = new AnswerSearch({ address: server.address, ...block }).push(vectorBytes(vector));
    if (answer?.kind !== "data")
      return `has no answer to a read of ${block.count} at ${block.at} with function ${block.function}`;
    readBlock(block, answer.data, values);
  }
  return isDeepStrictEqual(values, vector.reading) ? undefined : `gives ${JSON.stringify(values)}`;
}

/** A profile as something that a capture may be tried against; `undefined` where it has no frames of its own. */
export function candidateOf(profile: DeviceProfile): ProfileCandidate | undefined {
  const pipeline = pipelineOf(profile);
  if (pipeline === undefined) return undefined;
  const fields = new Set(profile.vectors.flatMap(({ reading }) => Object.keys(reading)));
  return { name: profile.name, pipeline, fields };
}

/** All profiles that are shipped and have frames of their own, as candidates for `profileScores`. */
export async function shippedCandidates(): Promise<ProfileCandidate[]> {
  const candidates: ProfileCandidate[] = [];
  for (const name of await shippedProfiles()) {
    const outcome = await findProfile(name, "/");
    const candidate = outcome.kind === "found" ? candidateOf(outcome.profile) : undefined;
    if (candidate !== undefined) candidates.push(candidate);
  }
  return candidates;
}
