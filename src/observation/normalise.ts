/**
 * From what a device said to an Observation, or to the reason why not (contract, section 4).
 *
 * Invariants: what comes out is valid downstream; every measurement keeps its name and value; nothing is repaired by
 * guessing. A known key whose value is `null` counts as absent. Keys such as `__proto__` are data like any other.
 *
 * It does no I/O and runs for every reading: hand-written checks, one pass, no schema compiler.
 */
import { contentId, type TimeOrderedIds } from "./identity.ts";
import { type JsonValue, type Observation, PRIORITIES, type Priority } from "./observation.ts";
import { type Instant, parseRfc3339, parseTime, writeRfc3339 } from "./time.ts";

/** What holds for a reading that does not say otherwise. */
export interface ReadingDefaults {
  readonly class?: string | undefined;
  readonly priority?: Priority | undefined;
  readonly source: string;
  /** The gateway's wall clock when the reading came in, in milliseconds. */
  readonly receivedAt: number;
}

/** A reading as a codec decoded it: the keys and values that the device sent. */
export type DecodedReading = { readonly [key: string]: unknown };

export type Normalised =
  | { readonly kind: "observation"; readonly observation: Observation }
  /** `detail` says what is wrong, for the operator. */
  | { readonly kind: "refused"; readonly detail: string };

/** Longest class or source, in UTF-16 code units. */
export const MAX_NAME_LENGTH = 256;
/** Most attributes of one reading; nested values are bounded by the size of the payload and by `MAX_DEPTH`. */
export const MAX_ATTRIBUTES = 1024;
/** Deepest nesting of an attribute's value; a plain value has depth 1. */
export const MAX_DEPTH = 16;

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;
/** RFC 9562, sections 5.9 and 5.10: these two say that there is no id; every reading of such a device would be a copy. */
const NIL_OR_MAX = /^[0-]+$|^[f-]+$/i;
/** W3C Trace Context, section 3.2: version 00; no later version exists. */
const TRACEPARENT = /^00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}$/;

/** The keys that may hold a reading's time; the first that is present decides. */
const TIME_KEYS = ["ts_iso", "ts", "time", "timestamp"] as const;
type TimeKey = (typeof TIME_KEYS)[number];
/** Keys that are never measurements. `id`, `traceparent` and the time keys are where they cannot serve as what they say. */
const HEAD_KEYS = new Set(["class", "confidence", "lat", "lon", "source", "priority", "attributes"]);
const SOMETIMES_HEAD_KEYS = new Set<string>(["id", "traceparent", ...TIME_KEYS]);

type Attributes = { [key: string]: JsonValue };

/**
 * Normalises and validates one reading. `ids` names those that carry neither a UUID nor a time.
 */
export function normalise(reading: DecodedReading, defaults: ReadingDefaults, ids: TimeOrderedIds): Normalised {
  const name = reading.class ?? defaults.class;
  if (name === undefined) return refused("no class: neither the reading nor its route or port names one");
  if (!isName(name)) return refused(`class must be text of 1 to ${MAX_NAME_LENGTH} characters`);
  const source = reading.source ?? defaults.source;
  if (!isName(source)) return refused(`source must be text of 1 to ${MAX_NAME_LENGTH} characters`);
  const confidence = reading.confidence ?? 1;
  if (!isWithin(confidence, 0, 1)) return refused("confidence must be a number in 0..1");
  const lat = reading.lat ?? undefined;
  if (lat !== undefined && !isWithin(lat, -90, 90)) return refused("lat must be a number in -90..90");
  const lon = reading.lon ?? undefined;
  if (lon !== undefined && !isWithin(lon, -180, 180)) return refused("lon must be a number in -180..180");
  const ownPriority = reading.priority ?? undefined;
  if (ownPriority !== undefined && !isPriority(ownPriority)) {
    return refused(`priority must be one of ${PRIORITIES.join(", ")}`);
  }
  const timeKey = timeKeyOf(reading);
  const instant = timeKey === undefined ? undefined : timeOf(timeKey, reading[timeKey]);
  if (timeKey !== undefined && instant === undefined) return refused(`${timeKey} is not a time that can be understood`);
  const ownId = uuidOf(reading.id);
  const traceparent = traceparentOf(reading.traceparent);
  const attributes = attributesOf(reading, timeKey, ownId !== undefined, traceparent !== undefined);
  if (typeof attributes === "string") return refused(attributes);

  const tsIso = writeRfc3339(instant?.ms ?? defaults.receivedAt) ?? EPOCH;
  const time = instant === undefined || instant.finer === "" ? tsIso : `${tsIso.slice(0, -1)}${instant.finer}Z`;
  const id =
    ownId ??
    (instant === undefined
      ? ids.next(defaults.receivedAt)
      : contentId({ source, class: name, time, confidence, lat, lon, priority: ownPriority, attributes }));
  const priority = ownPriority ?? defaults.priority ?? "normal";
  const observation: Building = { id, class: name, ts_iso: tsIso, confidence, source, priority, attributes };
  if (lat !== undefined) observation.lat = lat;
  if (lon !== undefined) observation.lon = lon;
  if (traceparent !== undefined) observation.traceparent = traceparent;
  if (instant === undefined) observation.timedByGateway = true;
  return { kind: "observation", observation };
}

type Building = { -readonly [key in keyof Observation]: Observation[key] };

/** Stands in where the gateway's own clock is beyond all calendars. */
const EPOCH = "1970-01-01T00:00:00.000Z";

function refused(detail: string): Normalised {
  return { kind: "refused", detail };
}

function isName(value: unknown): value is string {
  return typeof value === "string" && value.length > 0 && value.length <= MAX_NAME_LENGTH;
}

function isWithin(value: unknown, least: number, most: number): value is number {
  return typeof value === "number" && value >= least && value <= most;
}

function isPriority(value: unknown): value is Priority {
  return (PRIORITIES as readonly unknown[]).includes(value);
}

function timeKeyOf(reading: DecodedReading): TimeKey | undefined {
  for (const key of TIME_KEYS) if (reading[key] !== undefined && reading[key] !== null) return key;
  return undefined;
}

function timeOf(key: TimeKey, value: unknown): Instant | undefined {
  if (key !== "ts_iso") return parseTime(value);
  return typeof value === "string" ? parseRfc3339(value) : undefined;
}

function uuidOf(value: unknown): string | undefined {
  if (typeof value !== "string" || !UUID.test(value) || NIL_OR_MAX.test(value)) return undefined;
  return value.toLowerCase();
}

function traceparentOf(value: unknown): string | undefined {
  return typeof value === "string" && TRACEPARENT.test(value) ? value : undefined;
}

/**
 * The reading's attributes: its explicit `attributes` object and every other key that is not part of the head. Where both
 * name the same attribute, the explicit object keeps the name and the other gets `_outer` appended, as often as it takes
 * to be free. A string says why they are refused.
 */
function attributesOf(
  reading: DecodedReading,
  timeKey: TimeKey | undefined,
  hasOwnId: boolean,
  isTraced: boolean,
): Attributes | string {
  const explicit = reading.attributes ?? undefined;
  if (explicit !== undefined && !isObject(explicit)) return "attributes must be an object";
  const attributes: Attributes = {};
  let count = 0;
  if (explicit !== undefined) {
    for (const key of Object.keys(explicit)) {
      const value = explicit[key];
      if (!isJson(value, MAX_DEPTH)) return `attributes.${key}: ${NOT_JSON}`;
      set(attributes, key, value);
      count++;
    }
  }
  for (const key of Object.keys(reading)) {
    if (HEAD_KEYS.has(key)) continue;
    const value = reading[key];
    if (SOMETIMES_HEAD_KEYS.has(key)) {
      if (value === null || key === timeKey || (key === "id" && hasOwnId) || (key === "traceparent" && isTraced))
        continue;
    }
    if (!isJson(value, MAX_DEPTH)) return `${key}: ${NOT_JSON}`;
    set(attributes, explicit === undefined ? key : freeName(attributes, key), value);
    count++;
  }
  return count <= MAX_ATTRIBUTES ? attributes : `more than ${MAX_ATTRIBUTES} attributes`;
}

const NOT_JSON = `a value that is not JSON (NaN, infinity, …) or is nested deeper than ${MAX_DEPTH}`;

function freeName(attributes: Attributes, key: string): string {
  let name = key;
  while (Object.hasOwn(attributes, name)) name += "_outer";
  return name;
}

/** Assigning to `__proto__` would change the object's prototype instead of keeping what was sent. */
function set(attributes: Attributes, key: string, value: JsonValue): void {
  if (key !== "__proto__") attributes[key] = value;
  else Object.defineProperty(attributes, key, { value, enumerable: true, configurable: true, writable: true });
}

function isObject(value: unknown): value is { readonly [key: string]: unknown } {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Whether a value can be written as JSON and read back as the same, with at most `depth` levels. */
function isJson(value: unknown, depth: number): value is JsonValue {
  switch (typeof value) {
    case "string":
    case "boolean":
      return true;
    case "number":
      return Number.isFinite(value);
    case "object":
      if (value === null) return true;
      if (depth <= 1) return false;
      return Array.isArray(value)
        ? value.every((item) => isJson(item, depth - 1))
        : Object.values(value).every((item) => isJson(item, depth - 1));
    default:
      return false;
  }
}
