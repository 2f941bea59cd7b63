/**
 * The identity of a reading: a UUID that every copy of the same reading shares, so that fusion can drop the copies
 * (contract, section 1.3). A reading that carries its own time is named by what it says; one that does not cannot be told
 * from the next one that says the same, and gets an id of its own.
 */
import { hash, randomFillSync } from "node:crypto";
import type { JsonValue, Priority } from "./observation.ts";

/** What makes two copies the same reading. What the gateway's configuration adds is not part of it. */
export interface ReadingContent {
  readonly source: string;
  readonly class: string;
  /** The reading's own time: RFC 3339 in UTC, with every digit that was sent. */
  readonly time: string;
  readonly confidence: number;
  readonly lat: number | undefined;
  readonly lon: number | undefined;
  /** As sent; `undefined` where the reading named none. */
  readonly priority: Priority | undefined;
  readonly attributes: { readonly [key: string]: JsonValue };
}

/** The namespace of all readings' names: a random UUID, chosen once. To change it is to change every id. */
const NAMESPACE = Buffer.from("6f0b7f6e3a4d4c55a1d0c7d6a94d5b21", "hex");

/** Room for the namespace and any usual name; a longer name gets a buffer of its own. */
const scratch = Buffer.allocUnsafe(16 * 1024);
NAMESPACE.copy(scratch);

/**
 * The name-based UUID (RFC 9562, version 5) of a reading. The name is the canonical JSON of [source, class, time,
 * confidence, lat, lon, priority, attributes] in UTF-8, absent values as null.
 */
export function contentId(reading: ReadingContent): string {
  const { source, time, confidence, lat = null, lon = null, priority = null, attributes } = reading;
  const name = canonicalJson([source, reading.class, time, confidence, lat, lon, priority, attributes]);
  const bytes = NAMESPACE.length + 3 * name.length;
  const buffer = bytes <= scratch.length ? scratch : Buffer.concat([NAMESPACE], bytes);
  const end = NAMESPACE.length + buffer.write(name, NAMESPACE.length);
  return withVersion(hash("sha1", buffer.subarray(0, end), "hex"), "5");
}

/**
 * The same text for equal values: JSON without white space, the keys of every object sorted by UTF-16 code units, but
 * those that are array indexes ("0", "17") first and in the order of their numbers, as JavaScript has it.
 */
export function canonicalJson(value: JsonValue): string {
  return JSON.stringify(inOrder(value));
}

/** The value with the keys of every object in canonical order; itself where they are. */
function inOrder(value: JsonValue): JsonValue {
  if (typeof value !== "object" || value === null) return value;
  if (isArray(value)) return value.some(isNested) ? value.map(inOrder) : value;
  const keys = Object.keys(value);
  let ordered = true;
  for (let index = 0; index < keys.length && ordered; index++) {
    const key = keys[index] ?? "";
    ordered = (index === 0 || (keys[index - 1] ?? "") < key) && !isNested(value[key] ?? null);
  }
  if (ordered) return value;
  const copy: { [key: string]: JsonValue } = Object.create(null);
  for (const key of keys.sort()) copy[key] = inOrder(value[key] ?? null);
  return copy;
}

function isNested(value: JsonValue): boolean {
  return typeof value === "object" && value !== null;
}

/** How many random bytes are fetched at once: one call to the system for 409 ids. */
const POOL_BYTES = 4090;
const RANDOM_BYTES_PER_ID = 10;

/** Time-ordered UUIDs (RFC 9562, version 7), for readings without a time of their own. */
export class TimeOrderedIds {
  readonly #fill: (bytes: Buffer) => void;
  readonly #pool = Buffer.allocUnsafe(POOL_BYTES);
  #used = POOL_BYTES;

  /** `fill` fills a buffer with random bytes; by default from the system's generator. */
  constructor(fill: (bytes: Buffer) => void = randomFillSync) {
    this.#fill = fill;
  }

  /** A new id that sorts by `ms` (Unix time in milliseconds; beyond 48 bits it is cut). */
  next(ms: number): string {
    if (this.#used + RANDOM_BYTES_PER_ID > POOL_BYTES) {
      this.#fill(this.#pool);
      this.#used = 0;
    }
    const random = this.#pool.toString("hex", this.#used, this.#used + RANDOM_BYTES_PER_ID);
    this.#used += RANDOM_BYTES_PER_ID;
    const time = Math.min(Math.max(0, Math.trunc(ms)), 2 ** 48 - 1)
      .toString(16)
      .padStart(12, "0");
    return withVersion(time + random, "7");
  }
}

/** Writes the first 16 bytes of `hex` as a UUID of the given version and of the variant of RFC 9562. */
function withVersion(hex: string, version: string): string {
  const variant = "89ab"[Number.parseInt(hex.charAt(16), 16) & 3];
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${version}${hex.slice(13, 16)}-${variant}${hex.slice(17, 20)}-${hex.slice(20, 32)}`;
}

/** `Array.isArray` does not narrow a read-only array. */
function isArray(value: JsonValue): value is readonly JsonValue[] {
  return Array.isArray(value);
}
