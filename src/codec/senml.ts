/**
 * Codec `senml`: a Sensor Measurement List per frame, as JSON or CBOR (RFC 8428, sections 5 and 6), told apart by its first byte.
 *
 * Each record becomes a reading of its own, resolved as section 4.6 says: `n`, `u`, `v` (or `vs`, `vb`, `vd`), `s`, `ut`,
 * with the base fields worked in; its time is the reading's. `source` is the base name, where there is one: RFC 8428 makes
 * it the device. A time of less than 2²⁸ seconds is relative to when the frame arrived (section 4.5.3), and none at all, or 0,
 * leaves the stamp to the gateway. A pack that is wrong anywhere is refused whole: what follows may depend on it.
 */
import { base64url, cborItem } from "./cbor.ts";
import { type Decoded, type Decoder, refused } from "./decoder.ts";

/** A pack of another version, or with a field that ends in `_`, must not be read (sections 4.4 and 4.3). */
const VERSION = 10;
const RELATIVE_BELOW_S = 2 ** 28;
/** From here on a number is no longer taken for seconds (`observation/time.ts`): the year 5138. */
const LATEST_S = 1e11;
/** Section 4.5.1. */
const NAME = /^[A-Za-z0-9][A-Za-z0-9\-:./_]*$/;
/** What joins a device's name to a measurement's. */
const JOINT = /[-:./_]+$/;

/** The labels in CBOR (section 6, table 4). */
const LABELS: ReadonlyMap<unknown, string> = new Map([
  [-1, "bver"],
  [-2, "bn"],
  [-3, "bt"],
  [-4, "bu"],
  [-5, "bv"],
  [-6, "bs"],
  [0, "n"],
  [1, "u"],
  [2, "v"],
  [3, "vs"],
  [4, "vb"],
  [5, "s"],
  [6, "t"],
  [7, "ut"],
  [8, "vd"],
]);

type Kind = "number" | "string" | "boolean";
const KINDS: ReadonlyMap<string, Kind> = new Map<string, Kind>([
  ...["bver", "bt", "bv", "bs", "v", "s", "t", "ut"].map((label): [string, Kind] => [label, "number"]),
  ...["bn", "bu", "n", "u", "vs", "vd"].map((label): [string, Kind] => [label, "string"]),
  ["vb", "boolean"],
]);

const BASE_LABELS: ReadonlySet<string> = new Set(["bn", "bt", "bu", "bv", "bs", "bver"]);

/** A record as it was sent, its fields known to be of their kinds. */
interface Entry {
  readonly bn?: string;
  readonly bt?: number;
  readonly bu?: string;
  readonly bv?: number;
  readonly bs?: number;
  readonly bver?: number;
  readonly n?: string;
  readonly u?: string;
  readonly v?: number;
  readonly vs?: string;
  readonly vb?: boolean;
  readonly vd?: string;
  readonly s?: number;
  readonly t?: number;
  readonly ut?: number;
}

const utf8 = new TextDecoder("utf-8", { fatal: true });
const CBOR_ARRAY = 0x80;
const CBOR_INDEFINITE_ARRAY = 0x9f;

export class SenmlDecoder implements Decoder {
  decode(frame: Uint8Array, _arrivedAt: number, now: number): Decoded {
    const first = frame[0] ?? 0;
    const isCbor = first >= CBOR_ARRAY && first <= CBOR_INDEFINITE_ARRAY;
    const entries = isCbor ? cborEntries(frame) : jsonEntries(frame);
    if (typeof entries === "string") return refused(entries);
    const readings = resolved(entries, now);
    if (typeof readings === "string") return refused(readings);
    return readings.length === 0 ? refused("a SenML pack without a value") : { kind: "reading", payload: readings };
  }
}

/** The fields of each record by their JSON labels, or what is wrong with the pack. */
type Entries = readonly (readonly [label: string, value: unknown][])[] | string;

function jsonEntries(frame: Uint8Array): Entries {
  let pack: unknown;
  try {
    // Numbers are doubles here, by section 5.1.
    pack = JSON.parse(utf8.decode(frame));
  } catch {
    return "not SenML: neither a JSON nor a CBOR array";
  }
  if (!Array.isArray(pack) || !pack.every(isObject)) return "not SenML: no array of records";
  return pack.map((record) => Object.entries(record));
}

function isObject(value: unknown): value is object {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function cborEntries(frame: Uint8Array): Entries {
  const decoded = cborItem(frame);
  if ("wrong" in decoded) return decoded.wrong;
  const { item } = decoded;
  if (!Array.isArray(item) || !item.every((record) => record instanceof Map)) return "not SenML: no array of records";
  return item.map((record: ReadonlyMap<unknown, unknown>) =>
    [...record].map(([label, value]) => [LABELS.get(label) ?? String(label), jsonValue(value)] as const),
  );
}

function jsonValue(value: unknown): unknown {
  if (value instanceof Uint8Array) return base64url(value);
  return typeof value === "bigint" ? Number(value) : value;
}

/** The readings of a pack, or why it is refused. */
function resolved(entries: Exclude<Entries, string>, now: number): object[] | string {
  const readings: object[] = [];
  const base: Base = {};
  for (const [index, fields] of entries.entries()) {
    const entry = entryOf(fields);
    if (typeof entry !== "string") takeBase(base, entry);
    const reading = typeof entry === "string" ? entry : readingOf(entry, base, now);
    if (typeof reading === "string") return `record ${index + 1}: ${reading}`;
    if (reading !== undefined) readings.push(reading);
  }
  return readings;
}

/** What holds for a record and those behind it. */
type Base = { -readonly [label in "bn" | "bt" | "bu" | "bv" | "bs" | "bver"]?: Entry[label] };

/** Written into in place: to make a new one of every record costs more than all the rest. */
function takeBase(base: Base, { bn, bt, bu, bv, bs, bver }: Entry): void {
  if (bn !== undefined) base.bn = bn;
  if (bt !== undefined) base.bt = bt;
  if (bu !== undefined) base.bu = bu;
  if (bv !== undefined) base.bv = bv;
  if (bs !== undefined) base.bs = bs;
  if (bver !== undefined) base.bver = bver;
}

/** A record with its fields checked; labels that nobody knows are passed over, as section 4.4 wants it. */
function entryOf(fields: Exclude<Entries, string>[number]): Entry | string {
  const entry: Record<string, unknown> = {};
  for (const [label, value] of fields) {
    const kind = KINDS.get(label);
    if (kind === undefined) {
      if (label.endsWith("_")) return `field ${label} must be understood, and is not`;
      continue;
    }
    const isRight = kind === "number" ? Number.isFinite(value) : typeof value === kind;
    if (!isRight) return `${label} is no ${kind === "string" ? "text" : kind}`;
    entry[label] = value;
  }
  return entry;
}

/** The resolved record as a reading, `undefined` where it only sets base fields, or what is wrong with it. */
function readingOf(own: Entry, base: Base, now: number): object | string | undefined {
  const { bn = "", bt = 0, bver = VERSION } = base;
  if (bver > VERSION) return `version ${bver} of SenML, where ${VERSION} is the last one known`;
  if (Object.keys(own).every((label) => BASE_LABELS.has(label))) return undefined;
  const value = valueOfRecord(own, base);
  if (typeof value === "string") return value;
  const name = `${bn}${own.n ?? ""}`;
  if (!NAME.test(name)) return name === "" ? "no name" : "a name with characters that it may not have";
  const time = bt + (own.t ?? 0);
  if (time >= LATEST_S) return "a time beyond the year 5138";
  const reading: Record<string, unknown> = {};
  if (time !== 0) reading.ts = time < RELATIVE_BELOW_S ? now / 1000 + time : time;
  const source = bn.replace(JOINT, "");
  if (source !== "") reading.source = source;
  reading.n = name;
  const unit = own.u ?? base.bu;
  if (unit !== undefined) reading.u = unit;
  Object.assign(reading, value);
  if (own.ut !== undefined) reading.ut = own.ut;
  return reading;
}

/** The record's value and sum under their labels. What is missing of a base and its own part counts as 0 (section 4.5.4). */
function valueOfRecord({ v, vs, vb, vd, s }: Entry, { bv, bs }: Base): Record<string, unknown> | string {
  const value: Record<string, unknown> = {};
  if (vs !== undefined) value.vs = vs;
  if (vb !== undefined) value.vb = vb;
  if (vd !== undefined) value.vd = vd;
  const isOther = Object.keys(value).length > 0;
  const number = isOther ? v : added(bv, v);
  if (number !== undefined) value.v = number;
  if (Object.keys(value).length > 1) return "more than one value";
  const sum = added(bs, s);
  if (sum !== undefined) value.s = sum;
  return Object.keys(value).length === 0 ? "no value" : value;
}

function added(base: number | undefined, own: number | undefined): number | undefined {
  return base === undefined && own === undefined ? undefined : (base ?? 0) + (own ?? 0);
}
