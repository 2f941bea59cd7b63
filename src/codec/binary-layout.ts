/**
 * The layout of a binary frame: what stands where, and what it means. Places and lengths are in bytes from the frame's start,
 * header included, as data sheets count them.
 *
 * `arranged` works out once where everything stands, so that reading a frame is only reading; `layoutFaults` says, for the
 * configuration, what of a layout does not fit together.
 */
import { isScalar, SCALARS, type ScalarType } from "./binary-scalars.ts";

export const FIELD_TYPES = ["text", "bytes", "skip", "group"] as const;

/** What a raw number becomes. */
export interface Meaning {
  readonly name?: string | undefined;
  /** The reading is raw × scale + offset. */
  readonly scale?: number | undefined;
  readonly offset?: number | undefined;
  /** Words for raw numbers; a number without a word stays one. */
  readonly values?: { readonly [raw: string]: string } | undefined;
  /** Raw numbers that mean that there is no reading: the value is left out. */
  readonly none?: readonly number[] | undefined;
}

/** Some bits of an integer, the least significant being 0. A single one without `values` is true or false. */
export interface BitField extends Meaning {
  readonly name: string;
  readonly at: number;
  readonly width?: number | undefined;
}

export interface LayoutField extends Meaning {
  readonly type: ScalarType | (typeof FIELD_TYPES)[number];
  /** Where it stands; by default behind the field before it. */
  readonly at?: number | undefined;
  readonly endian?: "big" | "little" | undefined;
  /** Bytes of `text`, `bytes` and `skip`; without it, to the frame's end. */
  readonly length?: number | undefined;
  /** A frame with another raw number here is of another kind, and ignored. */
  readonly equals?: number | undefined;
  readonly bits?: readonly BitField[] | undefined;
  /** How often a group's fields are repeated; without it, to the frame's end. */
  readonly count?: number | undefined;
  /** A group's fields; their places are counted from the beginning of each repetition. */
  readonly fields?: readonly LayoutField[] | undefined;
}

export interface BinaryLayout {
  readonly endian?: "big" | "little" | undefined;
  readonly fields: readonly LayoutField[];
}

/** A field in its place. */
export interface Arranged {
  readonly field: LayoutField;
  readonly at: number;
  /** `undefined`: to the frame's end. */
  readonly bytes: number | undefined;
  readonly little: boolean;
  /** Decimals that a scaled integer has: as many as its scale and offset are written with. */
  readonly decimals: number;
  readonly bits: readonly ArrangedBits[];
  /** Of a group. */
  readonly inner: Arrangement;
}

export interface ArrangedBits {
  readonly field: BitField;
  readonly decimals: number;
}

export interface Arrangement {
  readonly fields: readonly Arranged[];
  /** Bytes that a frame must have at least. */
  readonly bytes: number;
}

const NOTHING: Arrangement = { fields: [], bytes: 0 };

/** Where everything stands. */
export function arranged(fields: readonly LayoutField[], endian: "big" | "little"): Arrangement {
  let next = 0;
  let needed = 0;
  const places = fields.map((field): Arranged => {
    const at = field.at ?? next;
    const inner = field.type === "group" ? arranged(field.fields ?? [], field.endian ?? endian) : NOTHING;
    const bytes = lengthOf(field, inner);
    next = at + (bytes ?? 0);
    needed = Math.max(needed, next);
    const little = (field.endian ?? endian) === "little";
    const bits = (field.bits ?? []).map((one) => ({ field: one, decimals: decimalsIn(one) }));
    return { field, at, bytes, little, decimals: decimalsIn(field), bits, inner };
  });
  return { fields: places, bytes: needed };
}

/** Decimals of a number so scaled: as many as scale and offset are written with. */
export function decimalsIn({ scale = 1, offset = 0 }: Pick<Meaning, "scale" | "offset">): number {
  return Math.max(decimalsOf(scale), decimalsOf(offset));
}

/** How many decimals a number has as it is written. */
function decimalsOf(value: number): number {
  const [, fraction = "", exponent = "0"] = /^-?\d+(?:\.(\d+))?(?:e([+-]\d+))?$/.exec(String(value)) ?? [];
  return Math.max(0, fraction.length - Number(exponent));
}

function lengthOf(field: LayoutField, inner: Arrangement): number | undefined {
  if (isScalar(field.type)) return SCALARS[field.type].bytes;
  if (field.type !== "group") return field.length;
  return field.count === undefined ? undefined : field.count * inner.bytes;
}

/** Something in a layout that does not fit together; `path` leads from the layout to the key. */
export interface LayoutFault {
  readonly path: readonly (string | number)[];
  readonly message: string;
}

/** Everything in a layout that a schema cannot say. */
export function layoutFaults(layout: BinaryLayout): LayoutFault[] {
  return faultsIn(layout.fields, ["fields"], false);
}

function faultsIn(fields: readonly LayoutField[], path: LayoutFault["path"], isInGroup: boolean): LayoutFault[] {
  const names = new Set<string>();
  return fields.flatMap((field, index) => {
    const here = [...path, index];
    const at = (key: string, message: string): LayoutFault => ({ path: [...here, key], message });
    const faults = [...kindFaults(field, at), ...bitFaults(field, at), ...scaleFaults(field, at)];
    for (const name of namesOf(field)) {
      if (names.has(name)) faults.push(at("name", `\`${name}\` stands twice in the layout`));
      names.add(name);
    }
    const isOpen = !isScalar(field.type) && (field.type === "group" ? field.count : field.length) === undefined;
    if (isOpen && (isInGroup || index < fields.length - 1)) {
      const key = field.type === "group" ? "count" : "length";
      faults.push(at(key, "is missing: only the last field of a frame may go on to its end"));
    }
    return [...faults, ...faultsIn(field.fields ?? [], [...here, "fields"], true)];
  });
}

/** The names that it gives to values: its own, and those of its bit fields. */
export function namesOf(field: Pick<LayoutField, "name" | "bits">): string[] {
  return [...(field.name === undefined ? [] : [field.name]), ...(field.bits ?? []).map(({ name }) => name)];
}

type At = (key: string, message: string) => LayoutFault;

function kindFaults(field: LayoutField, at: At): LayoutFault[] {
  const faults: LayoutFault[] = [];
  const only = (key: keyof LayoutField, types: string, isOne: boolean): void => {
    if (field[key] !== undefined && !isOne)
      faults.push(at(key, `is of no use in a field of type ${field.type}: ${types} has it`));
  };
  const scalar = isScalar(field.type);
  const isInteger = isScalar(field.type) && !SCALARS[field.type].isFloat;
  only("length", "text, bytes or skip", !scalar && field.type !== "group");
  only("count", "group", field.type === "group");
  only("fields", "group", field.type === "group");
  only("bits", "an integer of up to 32 bits", isInteger && SCALARS[field.type as ScalarType].bytes <= 4);
  for (const key of ["values", "equals", "none"] as const) only(key, "a number", scalar);
  const isNamed = field.name !== undefined || field.bits !== undefined || field.equals !== undefined;
  if (field.type !== "skip" && !isNamed) faults.push(at("name", "is missing (a field without one is of type skip)"));
  if (field.type === "group" && field.fields === undefined) faults.push(at("fields", "is missing: a group has fields"));
  return faults;
}

export function bitFaults(field: LayoutField, at: At): LayoutFault[] {
  if (field.bits === undefined || !isScalar(field.type)) return [];
  const bits = 8 * SCALARS[field.type].bytes;
  return field.bits
    .filter((bit) => bit.at + (bit.width ?? 1) > bits)
    .map((bit) => at("bits", `\`${bit.name}\` reaches beyond the ${bits} bits of ${field.type}`));
}

export function scaleFaults(field: Pick<LayoutField, "scale" | "bits">, at: At): LayoutFault[] {
  return [field, ...(field.bits ?? [])].some(({ scale }) => scale === 0) ? [at("scale", "must not be 0")] : [];
}
