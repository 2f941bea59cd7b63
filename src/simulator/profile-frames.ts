/**
 * From a reading to the bytes with which a device of a profile says it: the profile's own declaration, read backwards. What a
 * frame has that is no part of a reading (a node's letter, a unit) is as in the profile's vector. Pure.
 */
import { encodeBinary } from "../codec/binary-encode.ts";
import { encodeFields } from "../codec/fields.ts";
import { createFramer, createFrameWriter } from "../codec/pipeline.ts";
import type { PipelineConfig } from "../codec/pipeline-config.ts";
import { pipelineOf, vectorBytes } from "../config/profile-vectors.ts";
import type { DeviceProfile, ProfileVector } from "../config/schema-profile.ts";
import { gga, mda, mwv, rmc } from "./nmea.ts";
import type { SimulatedReading } from "./profile-reading.ts";

/** The bytes on the wire that say `reading`; `at`: wall time in milliseconds. */
export type FrameEncoder = (reading: SimulatedReading, at: number) => Uint8Array;

/** Says readings like that of `vector`. What cannot be written again is said as the vector has it. */
export function frameEncoder(profile: DeviceProfile, vector: ProfileVector): FrameEncoder {
  const pipeline = pipelineOf(profile);
  const wire = vectorBytes(vector);
  if (pipeline === undefined) return () => wire;
  if (pipeline.codec === "nmea0183") return (reading, at) => sentence(reading, at) ?? wire;
  const payload = payloadEncoder(pipeline, wire);
  if (payload === undefined) return () => wire;
  const write = createFrameWriter(pipeline);
  return (reading) => {
    const frame = payload(reading);
    return frame === undefined ? wire : write(frame);
  };
}

type PayloadEncoder = (reading: SimulatedReading) => Uint8Array | undefined;

function payloadEncoder(pipeline: PipelineConfig, wire: Uint8Array): PayloadEncoder | undefined {
  const { codec, layout, fields = {} } = pipeline;
  if (codec === "json") return (reading) => Buffer.from(JSON.stringify(reading));
  if (codec === "fields") return (reading) => encodeFields(fields, reading);
  if (codec === "csv") return rowEncoder(pipeline, wire);
  if (codec !== "binary" || layout === undefined) return undefined;
  return (reading) => {
    const frame = encodeBinary(layout, reading);
    return frame instanceof Uint8Array ? frame : undefined;
  };
}

/** Rows like the one in `wire`: numbers with as many digits, and what is not read as it stands there. */
function rowEncoder(pipeline: PipelineConfig, wire: Uint8Array): PayloadEncoder | undefined {
  const [frame] = createFramer(pipeline).push(wire);
  if (frame?.kind !== "frame") return undefined;
  const { separator = ",", columns = [] } = pipeline;
  const template = Buffer.from(frame.bytes).toString("latin1").split(separator);
  return (reading) => {
    const row = template.map((text, index) => {
      const column = columns[index];
      const value = column === undefined ? undefined : reading[typeof column === "string" ? column : column.name];
      return value === undefined ? text : like(text, value);
    });
    return Buffer.from(row.join(separator), "latin1");
  };
}

function like(text: string, value: unknown): string {
  if (typeof value !== "number") return String(value);
  const [, whole = "", fraction = ""] = /^(\d*)(?:\.(\d*))?$/.exec(text) ?? [];
  const written = value.toFixed(fraction.length);
  return whole.startsWith("0") || whole.length > 1 ? written.padStart(text.length, "0") : written;
}

function sentence(reading: SimulatedReading, at: number): Uint8Array | undefined {
  const number = (name: string): number => Number(reading[name] ?? 0);
  const fix = { at, lat: number("lat"), lon: number("lon"), altitude: number("altitude_m") };
  switch (reading.sentence) {
    case "RMC":
      return Buffer.from(rmc(fix));
    case "GGA":
      return Buffer.from(gga(fix));
    case "MWV":
      return Buffer.from(mwv(number("wind_angle_deg"), number("wind_speed_m_s")));
    case "MDA":
      return Buffer.from(
        mda({
          pressure_hpa: number("pressure_hpa"),
          temperature_c: number("temperature_c"),
          relative_humidity_pct: number("relative_humidity_pct"),
          wind_direction_deg: number("wind_direction_deg"),
          wind_speed_m_s: number("wind_speed_m_s"),
        }),
      );
    default:
      return undefined;
  }
}
