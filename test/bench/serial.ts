/** What a frame costs from its bytes to its reading, by codec, against `JSON.parse` of the same reading in the same run. */
import { encode } from "cborg";
import { sentenceOf } from "#src/codec/nmea-sentence.js";
import { createDecoder, createFramer, createFrameWriter } from "#src/codec/pipeline.js";
import type { PipelineConfig } from "#src/codec/pipeline-config.js";

export interface FrameCost {
  readonly name: string;
  /** Microseconds a frame, framing, checksum and decoding. */
  readonly micros: number;
  /** Microseconds that `JSON.parse` takes for the text of the same reading. */
  readonly baselineMicros: number;
}

const CRC = { type: "crc-16/ccitt-false", from: 0, endian: "big", complement: "none", encoding: "bytes" } as const;
const READING = { temperature_c: 21.4, relative_humidity_pct: 43.2, pressure_hpa: 801.3, pm2_5_ug_m3: 12.7, n: 81234 };
const base = { maxFrameBytes: 4096 };
const text = (value: string): Uint8Array => new TextEncoder().encode(value);

const CASES: readonly { readonly name: string; readonly config: PipelineConfig; readonly frame: Uint8Array }[] = [
  { name: "json in lines", config: { ...base, framing: "lines", codec: "json" }, frame: text(JSON.stringify(READING)) },
  {
    name: "csv in lines",
    config: { ...base, framing: "lines", codec: "csv", columns: Object.keys(READING) },
    frame: text(Object.values(READING).join(",")),
  },
  {
    name: "nmea0183 in lines",
    config: { ...base, framing: "lines", codec: "nmea0183" },
    frame: text(sentenceOf("GPRMC,123519,A,4807.038,N,01131.000,E,022.4,084.4,230394,003.1,W").trimEnd()),
  },
  {
    name: "cbor in cobs with a CRC",
    config: { ...base, framing: "cobs", codec: "cbor", checksum: CRC },
    frame: encode(READING),
  },
  {
    name: "senml (CBOR) in slip with a CRC",
    config: { ...base, framing: "slip", codec: "senml", checksum: CRC },
    frame: encode([
      new Map<number, unknown>([
        [-2, "urn:dev:mac:0024befffe804ff1/"],
        [0, "t"],
        [1, "Cel"],
        [2, 21.4],
      ]),
      new Map<number, unknown>([
        [0, "h"],
        [1, "%RH"],
        [2, 43.2],
      ]),
    ]),
  },
  {
    name: "binary, length-prefixed with a sum",
    config: {
      ...base,
      framing: "length-prefixed",
      header: "42 4d",
      lengthField: { at: 2, size: 2, endian: "big", counts: "rest", extra: 0 },
      checksum: { ...CRC, type: "sum16" },
      codec: "binary",
      layout: {
        fields: ["pm1_0", "pm2_5", "pm10", "n0_3", "n0_5", "n1_0"].map((name, index) => ({
          name,
          type: "u16",
          ...(index === 0 ? { at: 10 } : {}),
          scale: 0.1,
        })),
      },
    },
    frame: Uint8Array.from({ length: 30 }, (_, at) => [0x42, 0x4d][at] ?? at),
  },
];

const FRAMES_A_CHUNK = 20;
const CHUNKS_A_TURN = 500;
const TURNS = 15;

/** The median of the turns, work and baseline in turn, in microseconds a frame. */
export async function measureFrameCosts(): Promise<FrameCost[]> {
  const costs: FrameCost[] = [];
  for (const { name, config, frame } of CASES) {
    const wire = createFrameWriter(config)(frame);
    const chunk = Uint8Array.from(Buffer.concat(Array.from({ length: FRAMES_A_CHUNK }, () => wire)));
    const framer = createFramer(config);
    const decoder = await createDecoder(config);
    const decoded = decoder.decode(createFramer(config).push(wire)[0]?.bytes ?? frame, 0, 0);
    if (decoded.kind !== "reading") throw new Error(`${name}: ${JSON.stringify(decoded)}`);
    const json = JSON.stringify(decoded.payload);
    const work = (): void => {
      for (const { bytes } of framer.push(chunk)) decoder.decode(bytes, 0, 0);
    };
    const baseline = (): void => {
      for (let index = 0; index < FRAMES_A_CHUNK; index++) JSON.parse(json);
    };
    const seen: { work: number[]; baseline: number[] } = { work: [], baseline: [] };
    for (let turn = 0; turn <= TURNS; turn++) {
      const [worked, parsed] = [microsOf(work), microsOf(baseline)];
      // The first turn warms both up.
      if (turn > 0) {
        seen.work.push(worked);
        seen.baseline.push(parsed);
      }
    }
    costs.push({ name, micros: median(seen.work), baselineMicros: median(seen.baseline) });
  }
  return costs;
}

function microsOf(chunk: () => void): number {
  const from = process.hrtime.bigint();
  for (let index = 0; index < CHUNKS_A_TURN; index++) chunk();
  return Number(process.hrtime.bigint() - from) / 1000 / (CHUNKS_A_TURN * FRAMES_A_CHUNK);
}

const median = (values: number[]): number => values.sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;
