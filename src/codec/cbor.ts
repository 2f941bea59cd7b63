/**
 * Codec `cbor` (RFC 8949), and the CBOR values that `senml` builds on.
 *
 * What comes out is what JSON can say, after section 6.1 of the RFC: byte strings are base64url text without padding, undefined
 * and floats that are no number are null, integers that a double cannot hold are their text, tagged times and decimal
 * fractions what they mean. Keys that are numbers become their text. Other tags, and the same key twice, are refused.
 */
import { type DecodeOptions, decode } from "cborg";
import { type Decoded, type Decoder, refused } from "./decoder.ts";

/** An array, map or tag more deep than this is refused: no reading needs it, and every level costs stack. */
const DEEPEST = 32;

type TagDecoder = (inner: () => unknown) => unknown;

const POSITIVE_BIGNUM = 2;
const NEGATIVE_BIGNUM = 3;
/** Beyond it a power of ten is no double, and of a bignum only its digits would be left. */
const MOST_BIGNUM_BYTES = 16;

function bignum(negative: boolean): TagDecoder {
  return (inner) => {
    const bytes = inner();
    if (!(bytes instanceof Uint8Array) || bytes.length > MOST_BIGNUM_BYTES) throw new Error("a bignum that is none");
    let value = 0n;
    for (const byte of bytes) value = value * 256n + BigInt(byte);
    return negative ? -1n - value : value;
  };
}

/** RFC 8949, section 3.4.4: [exponent, mantissa]. */
function fraction(base: 2 | 10): TagDecoder {
  return (inner) => {
    const [exponent, mantissa] = inner() as readonly unknown[];
    const isNumber = (value: unknown): boolean => typeof value === "number" || typeof value === "bigint";
    if (!isNumber(exponent) || !isNumber(mantissa)) throw new Error("a fraction that is none");
    // As text, 273e-1 is 27.3 exactly rounded; 273 × 0.1 is not.
    return base === 10 ? Number(`${mantissa}e${exponent}`) : Number(mantissa) * 2 ** Number(exponent);
  };
}

const asItIs: TagDecoder = (inner) => inner();

const TAGS: { [tag: number]: TagDecoder } = {
  // Date and time as text, and as seconds since the epoch.
  0: asItIs,
  1: asItIs,
  [POSITIVE_BIGNUM]: bignum(false),
  [NEGATIVE_BIGNUM]: bignum(true),
  4: fraction(10),
  5: fraction(2),
  // How to write the byte strings inside in JSON; that the data is CBOR at all.
  21: asItIs,
  22: asItIs,
  23: asItIs,
  55799: asItIs,
};

const OPTIONS: DecodeOptions = {
  useMaps: true,
  rejectDuplicateMapKeys: true,
  allowInfinity: true,
  allowNaN: true,
  tags: TAGS,
};

/** The one CBOR item in `frame`; or what is wrong with it. */
export function cborItem(frame: Uint8Array): { readonly item: unknown } | { readonly wrong: string } {
  try {
    return { item: decode(frame, OPTIONS) };
  } catch (thrown) {
    // The library says what it met in one line; a stack that was exhausted by nesting is a fault of the data as well.
    const reason = thrown instanceof RangeError ? "nested too deep" : (thrown as Error).message;
    return { wrong: `not CBOR: ${reason.replace(/^CBOR decode error: /, "")}` };
  }
}

const NOT_PLAIN = `not what JSON can say: deeper than ${DEEPEST}, or with a key that is neither text nor a number, or stands twice`;

/** Codec `cbor`: a map per frame, or an array of maps, each a reading. */
export class CborDecoder implements Decoder {
  decode(frame: Uint8Array): Decoded {
    const decoded = cborItem(frame);
    if ("wrong" in decoded) return refused(decoded.wrong);
    const payload = plain(decoded.item, DEEPEST);
    if (payload === undefined) return refused(NOT_PLAIN);
    if (typeof payload !== "object" || payload === null) return refused("neither a CBOR map nor an array");
    return { kind: "reading", payload };
  }
}

/** As JSON says it; `undefined` for what JSON cannot. */
export function plain(value: unknown, depth: number): unknown {
  switch (typeof value) {
    case "number":
      return Number.isFinite(value) ? value : null;
    case "bigint":
      return BigInt(Number(value)) === value ? Number(value) : String(value);
    case "undefined":
      return null;
    case "object":
      return depth === 0 ? undefined : plainObject(value, depth - 1);
    case "string":
    case "boolean":
      return value;
    default:
      // The library's mark of a break that stands where a value should.
      return undefined;
  }
}

function plainObject(value: object | null, depth: number): unknown {
  if (value === null) return null;
  if (value instanceof Uint8Array) return base64url(value);
  if (Array.isArray(value)) {
    const items = value.map((item) => plain(item, depth));
    return items.includes(undefined) ? undefined : items;
  }
  if (!(value instanceof Map)) return undefined;
  const object: { [key: string]: unknown } = {};
  for (const [key, item] of value) {
    const inside = plain(item, depth);
    if (inside === undefined || (typeof key !== "string" && typeof key !== "number")) return undefined;
    const name = String(key);
    // 1 and "1" are two keys in CBOR, and one in JSON.
    if (Object.hasOwn(object, name)) return undefined;
    if (name !== "__proto__") object[name] = inside;
    else Object.defineProperty(object, name, { value: inside, enumerable: true, configurable: true, writable: true });
  }
  return object;
}

export function base64url(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("base64url");
}
