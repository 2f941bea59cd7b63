/** The way back from a reading to a `binary` frame: for simulated devices and tests. */
import {
  type Arranged,
  type Arrangement,
  arranged,
  type BinaryLayout,
  type LayoutField,
  type Meaning,
} from "./binary-layout.ts";
import { isScalar, SCALARS } from "./binary-scalars.ts";

/** A frame, or the name of the first value that does not fit into its field. */
export type Encoded = Uint8Array | { readonly unfit: string };

/**
 * The frame that `layout` reads as `reading`: what is missing gets its sentinel, or zero; what must equal something does.
 * A group needs its `count`, a text its `length`.
 */
export function encodeBinary(layout: BinaryLayout, reading: { readonly [name: string]: unknown }): Encoded {
  const arrangement = arranged(layout.fields, layout.endian ?? "big");
  const frame = new Uint8Array(arrangement.bytes);
  const unfit = writeAll(arrangement, new DataView(frame.buffer), 0, reading);
  return unfit === undefined ? frame : { unfit };
}

type Reading = { readonly [name: string]: unknown };

/** The name of the first value that does not fit. */
function writeAll({ fields }: Arrangement, view: DataView, base: number, reading: Reading): string | undefined {
  for (const place of fields) {
    const unfit = write(place, view, base + place.at, reading);
    if (unfit !== undefined) return unfit;
  }
  return undefined;
}

function write(place: Arranged, view: DataView, at: number, reading: Reading): string | undefined {
  const { field, bytes = 0 } = place;
  const value = field.name === undefined ? undefined : reading[field.name];
  if (isScalar(field.type)) {
    const { set, get, isFloat } = SCALARS[field.type];
    const raw = rawOf(field, value, isFloat) ?? bitsRaw(field, reading);
    if (raw === undefined) return field.name ?? "bits";
    set(view, at, raw, place.little);
    return isFloat || Number(get(view, at, place.little)) === Number(raw) ? undefined : (field.name ?? "bits");
  }
  const target = new Uint8Array(view.buffer, view.byteOffset + at, bytes);
  if (field.type === "group") return writeGroup(place, view, at, value);
  if (typeof value !== "string" || field.type === "skip") return undefined;
  const source = field.type === "bytes" ? bytesOf(value) : new TextEncoder().encode(value);
  if (source === undefined || source.length > bytes) return field.name;
  target.set(source);
  return undefined;
}

function writeGroup(place: Arranged, view: DataView, at: number, value: unknown): string | undefined {
  const members: readonly unknown[] = Array.isArray(value) ? value : [];
  for (let index = 0; index < (place.field.count ?? 0); index++) {
    const member = members[index];
    const reading = typeof member === "object" && member !== null ? { ...member } : {};
    const unfit = writeAll(place.inner, view, at + index * place.inner.bytes, reading);
    if (unfit !== undefined) return unfit;
  }
  return undefined;
}

/** The raw number for a value; `undefined` where it is in the bits, or there is none. */
function rawOf(field: LayoutField, value: unknown, isFloat: boolean): number | bigint | undefined {
  if (field.equals !== undefined) return field.equals;
  if (value === undefined)
    return field.bits === undefined ? (field.none?.[0] ?? (isFloat ? Number.NaN : 0)) : undefined;
  return unmeant(value, field, isFloat);
}

function unmeant(value: unknown, meaning: Meaning, isFloat: boolean): number | bigint | undefined {
  if (typeof value === "string") {
    const word = Object.entries(meaning.values ?? {}).find(([, text]) => text === value);
    if (word !== undefined) return Number(word[0]);
    return /^-?\d+$/.test(value) ? BigInt(value) : undefined;
  }
  if (typeof value === "boolean") return Number(value);
  if (typeof value !== "number") return undefined;
  const raw = (value - (meaning.offset ?? 0)) / (meaning.scale ?? 1);
  return isFloat ? raw : Math.round(raw);
}

function bitsRaw(field: LayoutField, reading: Reading): number | undefined {
  let raw = 0;
  for (const bits of field.bits ?? []) {
    const { width = 1 } = bits;
    const part = reading[bits.name] === undefined ? (bits.none?.[0] ?? 0) : unmeant(reading[bits.name], bits, false);
    if (part === undefined || part < 0 || part >= 2 ** width) return undefined;
    raw += Number(part) * 2 ** bits.at;
  }
  return field.bits === undefined ? undefined : raw;
}

function bytesOf(hex: string): Uint8Array | undefined {
  if (!/^(?:[0-9a-f]{2})*$/i.test(hex)) return undefined;
  return Uint8Array.from(hex.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16));
}
