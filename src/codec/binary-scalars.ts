/** The numbers that a `binary` layout knows: how long each is, and how it is read and written. */

export const SCALAR_TYPES = ["u8", "i8", "u16", "i16", "u24", "i24", "u32", "i32", "u64", "i64", "f32", "f64"] as const;

export type ScalarType = (typeof SCALAR_TYPES)[number];

export interface Scalar {
  readonly bytes: number;
  readonly isFloat: boolean;
  /** `little`: least significant byte first. */
  get(view: DataView, at: number, little: boolean): number | bigint;
  /** Integers beyond the type's range wrap round. */
  set(view: DataView, at: number, value: number | bigint, little: boolean): void;
}

function integer(bytes: number, get: Scalar["get"], set: Scalar["set"]): Scalar {
  return { bytes, isFloat: false, get, set };
}

const I24_SHIFT = 8;

function get24(view: DataView, at: number, little: boolean): number {
  const [low, high] = little ? [at, at + 2] : [at + 2, at];
  return view.getUint8(low) | (view.getUint8(at + 1) << 8) | (view.getUint8(high) << 16);
}

function set24(view: DataView, at: number, value: number | bigint, little: boolean): void {
  const [low, high] = little ? [at, at + 2] : [at + 2, at];
  view.setUint8(low, Number(value));
  view.setUint8(at + 1, Number(value) >> 8);
  view.setUint8(high, Number(value) >> 16);
}

/** The shortest decimal that a 32-bit float can be read back from: 23.1, where widening would make 23.100000381469727. */
function shortest(value: number): number {
  if (!Number.isFinite(value)) return value;
  for (let digits = 6; digits < 9; digits++) {
    const short = Number(value.toPrecision(digits));
    if (Math.fround(short) === value) return short;
  }
  return Number(value.toPrecision(9));
}

export const SCALARS: Readonly<Record<ScalarType, Scalar>> = {
  u8: integer(
    1,
    (view, at) => view.getUint8(at),
    (view, at, value) => view.setUint8(at, Number(value)),
  ),
  i8: integer(
    1,
    (view, at) => view.getInt8(at),
    (view, at, value) => view.setInt8(at, Number(value)),
  ),
  u16: integer(
    2,
    (view, at, little) => view.getUint16(at, little),
    (view, at, value, little) => view.setUint16(at, Number(value), little),
  ),
  i16: integer(
    2,
    (view, at, little) => view.getInt16(at, little),
    (view, at, value, little) => view.setInt16(at, Number(value), little),
  ),
  u24: integer(3, get24, set24),
  i24: integer(3, (view, at, little) => (get24(view, at, little) << I24_SHIFT) >> I24_SHIFT, set24),
  u32: integer(
    4,
    (view, at, little) => view.getUint32(at, little),
    (view, at, value, little) => view.setUint32(at, Number(value), little),
  ),
  i32: integer(
    4,
    (view, at, little) => view.getInt32(at, little),
    (view, at, value, little) => view.setInt32(at, Number(value), little),
  ),
  u64: integer(
    8,
    (view, at, little) => view.getBigUint64(at, little),
    (view, at, value, little) => view.setBigUint64(at, BigInt(value), little),
  ),
  i64: integer(
    8,
    (view, at, little) => view.getBigInt64(at, little),
    (view, at, value, little) => view.setBigInt64(at, BigInt(value), little),
  ),
  f32: {
    bytes: 4,
    isFloat: true,
    get: (view, at, little) => shortest(view.getFloat32(at, little)),
    set: (view, at, value, little) => view.setFloat32(at, Number(value), little),
  },
  f64: {
    bytes: 8,
    isFloat: true,
    get: (view, at, little) => view.getFloat64(at, little),
    set: (view, at, value, little) => view.setFloat64(at, Number(value), little),
  },
};

export function isScalar(type: string): type is ScalarType {
  return Object.hasOwn(SCALARS, type);
}
