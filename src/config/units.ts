/** Durations and sizes as people write them, with their unit. Pure. */
import { GatewayError } from "../kernel/errors.ts";

const DURATION_UNITS = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const;
const SIZE_UNITS = {
  B: 1,
  KiB: 2 ** 10,
  MiB: 2 ** 20,
  GiB: 2 ** 30,
  TiB: 2 ** 40,
  KB: 1e3,
  MB: 1e6,
  GB: 1e9,
  TB: 1e12,
} as const;

/** A hundred years: longer than any gateway stands, and far within what a number holds exactly. */
const LONGEST_MS = 36_500 * DURATION_UNITS.d;
/** A pebibyte: larger than any disk in the field, and within what a number holds exactly. */
const LARGEST_BYTES = 2 ** 50;

/** The written forms as regular expressions, for the JSON Schema that editors use. */
export const DURATION_PATTERN = writtenForm(DURATION_UNITS);
export const SIZE_PATTERN = writtenForm(SIZE_UNITS);

interface Quantity {
  readonly code: string;
  readonly op: string;
  readonly noun: string;
  readonly hint: string;
  readonly units: Readonly<Record<string, number>>;
  readonly pattern: RegExp;
  readonly smallest: string;
  readonly most: number;
  readonly mostWritten: string;
}

const DURATION: Quantity = {
  code: "INVALID_DURATION",
  op: "config.duration",
  noun: "duration",
  hint: "Write a number and its unit (ms, s, m, h or d): 250ms, 30s, 5m, 12h, 7d.",
  units: DURATION_UNITS,
  pattern: new RegExp(DURATION_PATTERN),
  smallest: "1ms",
  most: LONGEST_MS,
  mostWritten: "36500d",
};
const SIZE: Quantity = {
  code: "INVALID_SIZE",
  op: "config.size",
  noun: "size",
  hint: "Write a number and its unit (B, KiB, MiB, GiB or TiB; KB, MB, GB and TB are powers of 1000): 64KiB, 512MiB, 2GiB.",
  units: SIZE_UNITS,
  pattern: new RegExp(SIZE_PATTERN),
  smallest: "1B",
  most: LARGEST_BYTES,
  mostWritten: "1024TiB",
};

function writtenForm(units: Readonly<Record<string, number>>): string {
  return `^([0-9]{1,16}(?:\\.[0-9]{1,9})?)(${Object.keys(units).join("|")})$`;
}

function parse(quantity: Quantity, text: string): number {
  const fault = (message: string): GatewayError =>
    new GatewayError({ code: quantity.code, op: quantity.op, message, hint: quantity.hint });
  const shown = JSON.stringify(text.slice(0, 40));
  const [, digits, unit] = quantity.pattern.exec(text) ?? [];
  if (digits === undefined || unit === undefined) {
    const bare = /^[0-9]+(\.[0-9]+)?$/.test(text);
    throw fault(`${shown} is not a ${quantity.noun}${bare ? ": its unit is missing" : ""}`);
  }
  const exact = Number(digits) * (quantity.units[unit] ?? Number.NaN);
  const rounded = Math.round(exact);
  if (rounded > quantity.most)
    throw fault(`${shown} is more than ${quantity.mostWritten}, the most that a ${quantity.noun} may be`);
  if (rounded === 0 && exact > 0) throw fault(`${shown} is less than ${quantity.smallest}`);
  return rounded;
}

/** The largest of `units` that divides `value` without a remainder. */
function format(value: number, units: readonly (readonly [string, number])[]): string {
  const [unit, factor] = units.find(([, size]) => value >= size && value % size === 0) ?? ["", 1];
  return `${value / factor}${unit}`;
}

const DURATIONS_DESCENDING = Object.entries(DURATION_UNITS).reverse();
const SIZES_DESCENDING = (["TiB", "GiB", "MiB", "KiB", "B"] as const).map((unit) => [unit, SIZE_UNITS[unit]] as const);

/**
 * Milliseconds, rounded to whole ones, of a duration such as `250ms`, `1.5h` or `7d`; 0 to 36500d.
 * @throws GatewayError INVALID_DURATION
 */
export function parseDuration(text: string): number {
  return parse(DURATION, text);
}

/**
 * Bytes, rounded to whole ones, of a size such as `64KiB`, `1.5GiB` or `2GB`; 0 to 1024TiB.
 * @throws GatewayError INVALID_SIZE
 */
export function parseSize(text: string): number {
  return parse(SIZE, text);
}

/** A whole number of milliseconds in the largest unit that shows it exactly: 90000 is `90s`, 60000 is `1m`. */
export function formatDuration(ms: number): string {
  return ms === 0 ? "0s" : format(ms, DURATIONS_DESCENDING);
}

/** A whole number of bytes in the largest binary unit that shows it exactly: 65536 is `64KiB`, 1000 is `1000B`. */
export function formatSize(bytes: number): string {
  return bytes === 0 ? "0B" : format(bytes, SIZES_DESCENDING);
}
