/**
 * What a port's configuration, or a device profile, says about its bytes: how frames are told apart and how they are read, and what
 * in that does not fit together. What is made of it is in pipeline.ts.
 */
import { type BinaryLayout, layoutFaults } from "./binary-layout.ts";
import { type ChecksumRule, checksumFits, checksumWidth } from "./checksum.ts";
import type { FieldsConfig } from "./fields.ts";
import type { LengthField } from "./framing-header.ts";
import type { CsvColumn } from "./text.ts";

export const FRAMINGS = [
  "lines",
  "delimiter",
  "fixed",
  "length-prefixed",
  "slip",
  "hdlc",
  "cobs",
  "idle",
  "ve-direct",
] as const;
export const CODECS = ["json", "csv", "nmea0183", "senml", "cbor", "binary", "fields"] as const;

export type Framing = (typeof FRAMINGS)[number];
export type Codec = (typeof CODECS)[number];

/** How frames are told apart; bytes are written as hexadecimal digits, blanks between them allowed. */
export interface FramingConfig {
  readonly framing: Framing;
  readonly maxFrameBytes: number;
  /** Of `delimiter`. */
  readonly delimiter?: string | undefined;
  /** Of `fixed` and `length-prefixed`. */
  readonly header?: string | undefined;
  /** Of `fixed`: bytes of a frame, header and checksum included. */
  readonly length?: number | undefined;
  /** Of `length-prefixed`. */
  readonly lengthField?: LengthField | undefined;
  /** Milliseconds of silence that end a frame (`idle`), or that give up the rest of one (`fixed`, `length-prefixed`). */
  readonly idle?: number | undefined;
  readonly checksum?: ChecksumRule | undefined;
}

/** How a frame is read. */
export interface CodecConfig {
  readonly codec: Codec;
  /** Of `csv`. */
  readonly columns?: readonly CsvColumn[] | undefined;
  readonly separator?: string | undefined;
  /** Of `binary`. */
  readonly layout?: BinaryLayout | undefined;
  /** Of `fields`. */
  readonly fields?: FieldsConfig | undefined;
}

/** Class of a codec's readings for which neither payload nor port names one. */
export function defaultClassOf(codec: Codec): string {
  return codec === "nmea0183" ? "position" : "telemetry";
}

export type PipelineConfig = FramingConfig & CodecConfig;

/** Something that does not fit together; `path` leads to the key. */
export interface PipelineFault {
  readonly path: readonly (string | number)[];
  readonly message: string;
}

/** The keys that belong to some framings or codecs, and which of these cannot do without. */
const KEYS: readonly {
  readonly key: keyof PipelineConfig;
  readonly of: readonly (Framing | Codec)[];
  readonly needed: readonly (Framing | Codec)[];
  readonly meaning: string;
}[] = [
  { key: "delimiter", of: ["delimiter"], needed: ["delimiter"], meaning: "the bytes that end a frame" },
  { key: "header", of: ["fixed", "length-prefixed"], needed: [], meaning: "the bytes that begin a frame" },
  { key: "length", of: ["fixed"], needed: ["fixed"], meaning: "the bytes that a frame has" },
  {
    key: "lengthField",
    of: ["length-prefixed"],
    needed: ["length-prefixed"],
    meaning: "where a frame tells its length",
  },
  {
    key: "idle",
    of: ["idle", "fixed", "length-prefixed"],
    needed: ["idle"],
    meaning: "how long a pause ends a frame",
  },
  { key: "columns", of: ["csv"], needed: ["csv"], meaning: "the columns' names, in order" },
  { key: "layout", of: ["binary"], needed: ["binary"], meaning: "what stands where in a frame" },
  { key: "fields", of: ["fields"], needed: [], meaning: "what the labels stand for" },
];

/** Everything in a pipeline's configuration that a schema cannot say. */
export function pipelineFaults(config: PipelineConfig): PipelineFault[] {
  const chosen = (of: readonly string[]): boolean => of.includes(config.framing) || of.includes(config.codec);
  const faults: PipelineFault[] = KEYS.flatMap(({ key, of, needed, meaning }) => {
    const kind = of.some((name) => FRAMINGS.some((framing) => framing === name)) ? "framing" : "codec";
    if (config[key] === undefined) {
      if (!chosen(needed)) return [];
      return [{ path: [key], message: `is missing: ${kind} ${config[kind]} needs ${meaning}` }];
    }
    if (chosen(of)) return [];
    return [{ path: [key], message: `is of no use with ${kind} ${config[kind]}: it is for ${of.join(" and ")}` }];
  });
  if (config.layout !== undefined) faults.push(...layoutFaultsOf(config.layout));
  if (config.fields !== undefined) faults.push(...fieldsFaults(config.fields));
  return [...faults, ...framingFaults(config)];
}

function framingFaults(config: FramingConfig): PipelineFault[] {
  const { framing, header, length, lengthField, checksum, maxFrameBytes } = config;
  const faults: PipelineFault[] = [];
  if (framing === "ve-direct" && checksum !== undefined)
    faults.push({ path: ["checksum"], message: "is of no use with framing ve-direct, which has its own" });
  if (isHeaded(config) && header === undefined && checksum === undefined)
    faults.push({
      path: ["header"],
      message: `is missing: framing ${framing} finds a frame by its header or its checksum`,
    });
  const width = checksum === undefined ? 0 : checksumWidth(checksum);
  const beginning = Math.max(header === undefined ? 0 : bytesOf(header).length, fieldEnd(lengthField));
  if (isHeaded(config) && beginning + width > maxFrameBytes)
    faults.push({
      path: ["maxFrameBytes"],
      message: `must be ${beginning + width}B or more: so long is the shortest frame`,
    });
  if (framing === "fixed" && length !== undefined) {
    if (length > maxFrameBytes)
      faults.push({ path: ["length"], message: `must not be more than maxFrameBytes, which is ${maxFrameBytes}` });
    if (length < beginning + width)
      faults.push({
        path: ["length"],
        message: `must be ${beginning + width} or more: header and checksum have so many bytes`,
      });
    else if (checksum !== undefined && !checksumFits(checksum, length))
      faults.push({
        path: ["checksum"],
        message: `reaches beyond the ${length} bytes of a frame, or covers none of them`,
      });
  }
  return faults;
}

function fieldEnd(field: LengthField | undefined): number {
  return field === undefined ? 0 : field.at + field.size;
}

function layoutFaultsOf(layout: BinaryLayout): PipelineFault[] {
  return layoutFaults(layout).map(({ path, message }) => ({ path: ["layout", ...path], message }));
}

function fieldsFaults({ known = [] }: FieldsConfig): PipelineFault[] {
  return known.flatMap(({ label, name, scale }, index): PipelineFault[] => {
    const at = (key: string, message: string): PipelineFault => ({ path: ["fields", "known", index, key], message });
    const before = known.slice(0, index);
    return [
      ...(before.some((other) => other.label === label) ? [at("label", `\`${label}\` stands twice in the list`)] : []),
      ...(name !== undefined && before.some((other) => other.name === name)
        ? [at("name", `\`${name}\` stands twice in the list`)]
        : []),
      ...(scale === 0 ? [at("scale", "must not be 0")] : []),
    ];
  });
}

/** The bytes that hexadecimal digits stand for. */
export function bytesOf(hex: string): Uint8Array {
  return Uint8Array.from(hex.match(/[0-9A-Fa-f]{2}/g) ?? [], (pair) => Number.parseInt(pair, 16));
}

/** Whether a frame's beginning tells its length. */
export function isHeaded({ framing }: FramingConfig): boolean {
  return framing === "fixed" || framing === "length-prefixed";
}
