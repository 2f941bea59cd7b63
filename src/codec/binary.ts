/**
 * Codec `binary`: frames of numbers in declared places. A reading has the named fields, scaled; what its sentinels say is no
 * reading is left out, as is a float that is no number. A frame that is shorter than its layout is refused, unless
 * a field of it that must equal something says that it is of another kind; one that is longer is read as far as it is known.
 */
import {
  type Arranged,
  type ArrangedBits,
  type Arrangement,
  arranged,
  type BinaryLayout,
  type Meaning,
} from "./binary-layout.ts";
import { isScalar, SCALARS } from "./binary-scalars.ts";
import { type Decoded, type Decoder, IGNORED, refused } from "./decoder.ts";

type Value = number | string | boolean | Values[];
export interface Values {
  [name: string]: Value;
}

/** Why there is no reading; `undefined` where nothing speaks against one. */
type Objection = Decoded | undefined;

/** Most repetitions of a group: as many as there are attributes in a reading. */
const MOST_REPETITIONS = 1024;

const utf8 = new TextDecoder("utf-8", { fatal: true });

export class BinaryDecoder implements Decoder {
  readonly #arrangement: Arrangement;

  /** `layout`: one without `layoutFaults`. */
  constructor(layout: BinaryLayout) {
    this.#arrangement = arranged(layout.fields, layout.endian ?? "big");
  }

  decode(frame: Uint8Array): Decoded {
    const { bytes } = this.#arrangement;
    if (frame.length < bytes && this.#isOfAnotherKind(frame)) return IGNORED;
    if (frame.length < bytes) return refused(`${frame.length} bytes where the layout has ${bytes}`);
    const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength);
    const values: Values = {};
    const objection = readFields(this.#arrangement, view, 0, values);
    if (objection !== undefined) return objection;
    if (Object.keys(values).length === 0) return refused("no value in any field");
    return { kind: "reading", payload: values };
  }

  /** Whether what there is of a short frame says already that this layout is not its own. */
  #isOfAnotherKind(frame: Uint8Array): boolean {
    const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength);
    return this.#arrangement.fields.some(({ field, at, bytes = 0, little }) => {
      if (field.equals === undefined || !isScalar(field.type) || at + bytes > frame.length) return false;
      return Number(SCALARS[field.type].get(view, at, little)) !== field.equals;
    });
  }
}

/**
 * Reads the fields whose first byte stands at `base` into `values`. `view` has room for all of them. What it returns is why there is
 * no reading: only text that is not UTF-8, and a raw number other than the `equals` of its field, are.
 */
export function readFields({ fields }: Arrangement, view: DataView, base: number, values: Values): Objection {
  for (const place of fields) {
    const objection = read(place, view, base + place.at, values);
    if (objection !== undefined) return objection;
  }
  return undefined;
}

function read(place: Arranged, view: DataView, at: number, values: Values): Objection {
  const { field } = place;
  if (isScalar(field.type)) {
    const raw = SCALARS[field.type].get(view, at, place.little);
    if (field.equals !== undefined && Number(raw) !== field.equals) return IGNORED;
    const decimals = SCALARS[field.type].isFloat ? undefined : place.decimals;
    if (field.name !== undefined) setValue(values, field.name, meaningOf(raw, field, decimals));
    for (const bits of place.bits) setValue(values, bits.field.name, bitsOf(Number(raw), bits));
    return undefined;
  }
  if (field.type === "skip" || field.name === undefined) return undefined;
  if (field.type === "group") return readGroup(place, field.name, view, at, values);
  const bytes = new Uint8Array(view.buffer, view.byteOffset + at, place.bytes ?? view.byteLength - at);
  const text = field.type === "bytes" ? hexOf(bytes) : textOf(bytes);
  if (text === undefined) return refused(`field ${field.name} is not UTF-8`);
  setValue(values, field.name, text === "" ? undefined : text);
  return undefined;
}

function readGroup(place: Arranged, name: string, view: DataView, at: number, values: Values): Objection {
  const stride = place.inner.bytes;
  const room = stride === 0 ? 0 : Math.floor((view.byteLength - at) / stride);
  const count = Math.min(place.field.count ?? room, MOST_REPETITIONS);
  const members: Values[] = [];
  for (let index = 0; index < count; index++) {
    const member: Values = {};
    const objection = readFields(place.inner, view, at + index * stride, member);
    if (objection !== undefined) return objection;
    members.push(member);
  }
  setValue(values, name, members.length === 0 ? undefined : members);
  return undefined;
}

/** Assigning to `__proto__` would change the object's prototype; what is `undefined` is left out. */
export function setValue(values: Values, name: string, value: Value | undefined): void {
  if (value === undefined) return;
  if (name !== "__proto__") values[name] = value;
  else Object.defineProperty(values, name, { value, enumerable: true, configurable: true, writable: true });
}

/**
 * What a raw number means; `undefined` where it means that there is no reading. `decimals`: those of a scaled integer; `undefined`
 * for a float, whose digits are its own.
 */
export function meaningOf(
  raw: number | bigint,
  meaning: Meaning,
  decimals: number | undefined,
): number | string | undefined {
  const number = Number(raw);
  if (!Number.isFinite(number) || meaning.none?.includes(number) === true) return undefined;
  const word = meaning.values === undefined ? undefined : wordFor(raw, meaning.values);
  if (word !== undefined) return word;
  const { scale = 1, offset = 0 } = meaning;
  // What a double cannot hold is kept as its text, as everywhere.
  if (scale === 1 && offset === 0) return typeof raw === "bigint" && BigInt(number) !== raw ? String(raw) : number;
  const value = number * scale + offset;
  if (!Number.isFinite(value)) return undefined;
  return decimals === undefined ? value : rounded(value, decimals);
}

function wordFor(raw: number | bigint, values: NonNullable<Meaning["values"]>): string | undefined {
  const key = String(raw);
  return Object.hasOwn(values, key) ? values[key] : undefined;
}

/** Powers of ten that a double holds exactly. */
const MOST_DECIMALS = 22;

/** With so many decimals, so that 3 × 0.1 is 0.3; itself where a double has no more digits than that anyway. */
export function rounded(value: number, decimals: number): number {
  if (decimals > MOST_DECIMALS) return value;
  const factor = 10 ** decimals;
  const whole = Math.round(value * factor);
  return Number.isSafeInteger(whole) ? whole / factor : value;
}

function bitsOf(raw: number, { field, decimals }: ArrangedBits): Value | undefined {
  const width = field.width ?? 1;
  const value = (raw >>> field.at) & (width === 32 ? -1 : (1 << width) - 1);
  if (width === 1 && field.values === undefined) return value === 1;
  return meaningOf(value >>> 0, field, decimals);
}

function hexOf(bytes: Uint8Array): string {
  let text = "";
  for (const byte of bytes) text += byte.toString(16).padStart(2, "0");
  return text;
}

/** Text up to its first NUL, without the blanks that fill it up; `undefined` where it is not UTF-8. */
function textOf(bytes: Uint8Array): string | undefined {
  const end = bytes.indexOf(0);
  try {
    return utf8.decode(end < 0 ? bytes : bytes.subarray(0, end)).trimEnd();
  } catch {
    return undefined;
  }
}
