/** What devices write where a reading was taken: RFC 3339, or Unix time in seconds or milliseconds. */

/** A moment, to the millisecond. */
export interface Instant {
  /** Milliseconds since the Unix epoch. */
  readonly ms: number;
  /** What was sent beyond the millisecond, as text; empty for most. Two readings may differ in nothing else. */
  readonly finer: string;
}

/** RFC 3339 writes years 0000 to 9999; what lies outside cannot be passed on. */
const EARLIEST_MS = Date.parse("0000-01-01T00:00:00.000Z");
const LATEST_MS = Date.parse("9999-12-31T23:59:59.999Z");

/**
 * From here on a number is milliseconds: as seconds it would be the year 5138, as milliseconds it is March 1973. Numbers
 * of microseconds or nanoseconds land beyond the year 9999 and are refused.
 */
const MILLISECONDS_FROM = 1e11;

/** RFC 3339, section 5.6, with the lower-case letters and the space instead of `T` that it allows. */
const RFC_3339 = /^(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:\.(\d+))?(?:[Zz]|([+-])(\d\d):(\d\d))$/;
/** Unix time that was sent as text. */
const NUMBER = /^-?\d{1,15}(?:\.\d+)?$/;

/**
 * Reads an RFC 3339 date-time with its offset; a local time without one is not understood. A leap second (`:60`) is the
 * first moment of the next minute. `undefined` for what cannot be understood.
 */
export function parseRfc3339(text: string): Instant | undefined {
  if (text.length === CANONICAL_LENGTH) {
    // Most are of the second that was written last.
    const ms = text.startsWith(writtenPrefix) ? writtenSecond * 1000 + Number(text.slice(-4, -1)) : Date.parse(text);
    if (writeRfc3339(ms) === text) return { ms, finer: "" };
  }
  const parts = RFC_3339.exec(text);
  if (parts === null) return undefined;
  const year = Number(parts[1]);
  const month = Number(parts[2]);
  const day = Number(parts[3]);
  const hour = Number(parts[4]);
  const minute = Number(parts[5]);
  const second = Number(parts[6]);
  if (month < 1 || month > 12 || day < 1 || day > daysIn(year, month)) return undefined;
  if (hour > 23 || minute > 59 || second > 60) return undefined;
  const offsetHours = Number(parts[9] ?? 0);
  const offsetMinutes = Number(parts[10] ?? 0);
  if (offsetHours > 23 || offsetMinutes > 59) return undefined;
  const fraction = parts[7] ?? "";
  // Date.UTC takes years below 100 for 19xx; 400 years are a whole number of weeks and leap cycles.
  const utc = Date.UTC(year + 400, month - 1, day, hour, minute, second) - YEARS_400_MS;
  const offset = (offsetHours * 60 + offsetMinutes) * 60_000 * (parts[8] === "-" ? -1 : 1);
  const ms = utc - offset + Number(fraction.slice(0, 3).padEnd(3, "0"));
  return within({ ms, finer: fraction.length > 3 ? fraction.slice(3).replace(/0+$/, "") : "" });
}

/** The length of what `writeRfc3339` writes. */
const CANONICAL_LENGTH = 24;
let writtenSecond = Number.NaN;
let writtenPrefix = "";

/**
 * Writes a moment as RFC 3339 in UTC with milliseconds; `undefined` for what lies outside years 0000 to 9999 or is not a
 * number. Readings come many to the second, and a date costs more to write than all the rest of a small reading.
 */
export function writeRfc3339(ms: number): string | undefined {
  if (!(ms >= EARLIEST_MS && ms <= LATEST_MS)) return undefined;
  const second = Math.floor(ms / 1000);
  if (second !== writtenSecond) {
    writtenPrefix = new Date(second * 1000).toISOString().slice(0, -4);
    writtenSecond = second;
  }
  return `${writtenPrefix}${String(Math.trunc(ms) - second * 1000).padStart(3, "0")}Z`;
}

/** Reads Unix time, in seconds or milliseconds by its magnitude. `undefined` for what lies outside years 0000 to 9999. */
export function parseUnix(value: number): Instant | undefined {
  if (!Number.isFinite(value)) return undefined;
  const exact = Math.abs(value) < MILLISECONDS_FROM ? value * 1000 : value;
  const ms = Math.round(exact);
  // Seconds in binary floating point miss the millisecond by less than a microsecond: that is no finer time.
  return within({ ms, finer: Math.abs(exact - ms) < 0.001 ? "" : String(value) });
}

/** Reads a time as devices send it: RFC 3339, or Unix time as a number or as the text of one. */
export function parseTime(value: unknown): Instant | undefined {
  if (typeof value === "number") return parseUnix(value);
  if (typeof value !== "string") return undefined;
  return NUMBER.test(value) ? parseUnix(Number(value)) : parseRfc3339(value);
}

const YEARS_400_MS = Date.UTC(2400, 0) - Date.UTC(2000, 0);
const DAYS = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

function daysIn(year: number, month: number): number {
  const leap = year % 4 === 0 && (year % 100 !== 0 || year % 400 === 0);
  return month === 2 && leap ? 29 : (DAYS[month - 1] ?? 0);
}

function within(instant: Instant): Instant | undefined {
  return instant.ms >= EARLIEST_MS && instant.ms <= LATEST_MS ? instant : undefined;
}
