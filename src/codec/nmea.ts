/**
 * Codec `nmea0183`: the sentences of a satellite receiver, after NMEA 0183 (IEC 61162-1).
 *
 * Each sentence that brings a valid position (RMC, GGA, GLL, GNS, of any talker) is one `position` reading: `lat` and `lon`
 * in degrees, the sentence's other measurements with their unit in the name, and `ts_iso` where the time is known. A
 * sentence without a checksum, or with a wrong one, is refused, and so is one that says that it has no fix. Well-formed
 * sentences of another kind (a receiver sends many: GSV, GSA, VTG, proprietary ones) are ignored: neither accepted nor
 * refused.
 *
 * Only RMC carries a date. A time of day alone gets the date that puts it nearest to where the last dated sentence, and
 * the monotonic time since, say that we are: right across midnight, and after a fix that was lost for days. Before the
 * first date it stays out, and the gateway's clock stamps the reading.
 */
import { type Decoded, type Decoder, IGNORED, refused } from "./decoder.ts";

const DAY_MS = 86_400_000;

/** What the position sentences have in common; fields as they were sent. */
interface Fix {
  readonly valid: boolean;
  readonly time: string;
  /** `ddmmyy`; empty where the sentence has none. */
  readonly date: string;
  /** Latitude, N or S, longitude, E or W. */
  readonly position: readonly [string, string, string, string];
  /** By the name that they get in the reading. */
  readonly measurements: Readonly<Record<string, string>>;
}

/** The sentence's field by its number as the standard counts, from 1; empty where it is missing. */
type Field = (number: number) => string;

function positionAt(field: Field, first: number): Fix["position"] {
  return [field(first), field(first + 1), field(first + 2), field(first + 3)];
}

const inMetres = (value: string, unit: string): string => (unit === "M" ? value : "");

const POSITION_SENTENCES: ReadonlyMap<string, (field: Field) => Fix> = new Map([
  [
    "RMC",
    (field: Field): Fix => ({
      valid: field(2) === "A" && field(12) !== "N",
      time: field(1),
      date: field(9),
      position: positionAt(field, 3),
      measurements: { speed_knots: field(7), course_deg: field(8) },
    }),
  ],
  [
    "GGA",
    (field: Field): Fix => ({
      valid: /^[1-9]$/.test(field(6)),
      time: field(1),
      date: "",
      position: positionAt(field, 2),
      measurements: {
        fix_quality: field(6),
        satellites: field(7),
        hdop: field(8),
        altitude_m: inMetres(field(9), field(10)),
      },
    }),
  ],
  [
    "GLL",
    (field: Field): Fix => ({
      valid: field(6) === "A" && field(7) !== "N",
      time: field(5),
      date: "",
      position: positionAt(field, 1),
      measurements: {},
    }),
  ],
  [
    "GNS",
    (field: Field): Fix => ({
      // One mode per satellite system, N for each that has no part in the fix.
      valid: /[^N]/.test(field(6)),
      time: field(1),
      date: "",
      position: positionAt(field, 2),
      measurements: { satellites: field(7), hdop: field(8), altitude_m: field(9) },
    }),
  ],
]);

export class NmeaDecoder implements Decoder {
  readonly defaultClass = "position";
  /** The last time that came with its date, and when it arrived. */
  #lastDated: { readonly time: number; readonly arrivedAt: number } | undefined;

  decode(frame: Uint8Array, arrivedAt: number): Decoded {
    const sentence = parseSentence(frame);
    if (typeof sentence === "string") return refused(sentence);
    // $PGRMC is Garmin's own, not a talker PG.
    if (sentence.encapsulated || sentence.address.startsWith("P")) return IGNORED;
    const formatter = sentence.address.slice(2);
    const fix = POSITION_SENTENCES.get(formatter)?.((number) => sentence.fields[number - 1] ?? "");
    if (fix === undefined) return IGNORED;
    if (!fix.valid) return refused("no fix");

    const [lat, northSouth, lon, eastWest] = fix.position;
    const latitude = degrees(lat, 2, 90, northSouth, "N", "S");
    if (latitude === undefined) return refused("bad latitude");
    const longitude = degrees(lon, 3, 180, eastWest, "E", "W");
    if (longitude === undefined) return refused("bad longitude");
    const time = this.#timeOf(fix, arrivedAt);
    const payload = {
      ...(time === undefined ? {} : { ts_iso: new Date(time).toISOString() }),
      lat: latitude,
      lon: longitude,
      ...numbers(fix.measurements),
      sentence: formatter,
      talker: sentence.address.slice(0, 2),
    };
    return { kind: "reading", payload };
  }

  /** Milliseconds since the Unix epoch, where the sentence and the ones before it tell. */
  #timeOf(fix: Fix, arrivedAt: number): number | undefined {
    const timeOfDay = millisecondsOfDay(fix.time);
    if (timeOfDay === undefined) return undefined;
    const midnight = startOfDate(fix.date);
    if (midnight !== undefined) {
      const time = midnight + timeOfDay;
      this.#lastDated = { time, arrivedAt };
      return time;
    }
    if (this.#lastDated === undefined) return undefined;
    const expected = this.#lastDated.time + (arrivedAt - this.#lastDated.arrivedAt);
    return timeOfDay + Math.round((expected - timeOfDay) / DAY_MS) * DAY_MS;
  }
}

interface Sentence {
  /** Between `!` and its checksum there is a message of another protocol (AIS). */
  readonly encapsulated: boolean;
  /** Talker and sentence formatter: `GPRMC`. */
  readonly address: string;
  readonly fields: readonly string[];
}

const latin1 = new TextDecoder("latin1");
const SENTENCE = /^([$!])([\x20-\x7e]*)\*([0-9A-Fa-f]{2})\s*$/;
const ADDRESS = /^(?:P[A-Z0-9]{3,}|[A-OQ-Z0-9][A-Z0-9]{4})$/;

/**
 * The sentence in a frame, or what is wrong with it. `$` and `!` occur nowhere but at a start, so what stands before the
 * last of them is the rest of a sentence that was cut, or a TAG block.
 */
function parseSentence(frame: Uint8Array): Sentence | string {
  const text = latin1.decode(frame);
  const start = Math.max(text.lastIndexOf("$"), text.lastIndexOf("!"));
  if (start < 0) return "not a sentence";
  const [, delimiter, content = "", checksum = ""] = SENTENCE.exec(text.slice(start)) ?? [];
  if (delimiter === undefined) return text.includes("*", start) ? "not a sentence" : "no checksum";
  if (checksumOf(content) !== Number.parseInt(checksum, 16)) return "bad checksum";
  const [address = "", ...fields] = content.split(",");
  if (!ADDRESS.test(address)) return "not a sentence";
  return { encapsulated: delimiter === "!", address, fields };
}

/** The exclusive or of all characters between the start delimiter and `*`. */
function checksumOf(content: string): number {
  let checksum = 0;
  for (let at = 0; at < content.length; at++) checksum ^= content.charCodeAt(at);
  return checksum;
}

/** Nine decimals of a degree are 0.1 mm: more than any receiver's fields hold, less than the division's own noise. */
const DEGREE_PRECISION = 1e9;

/** `ddmm.mmmm` (or `dddmm.mmmm`) and its hemisphere as signed degrees, or `undefined` where that is no such angle. */
function degrees(
  angle: string,
  wholeDigits: number,
  limit: number,
  hemisphere: string,
  positive: string,
  negative: string,
): number | undefined {
  if (hemisphere !== positive && hemisphere !== negative) return undefined;
  if (!/^\d+(?:\.\d*)?$/.test(angle)) return undefined;
  const whole = angle.slice(0, wholeDigits);
  const minutes = angle.slice(wholeDigits);
  if (!/^\d\d(?:\.|$)/.test(minutes) || Number(minutes) >= 60) return undefined;
  const magnitude = Math.round((Number(whole) + Number(minutes) / 60) * DEGREE_PRECISION) / DEGREE_PRECISION;
  if (magnitude > limit) return undefined;
  return hemisphere === negative && magnitude !== 0 ? -magnitude : magnitude;
}

/** `hhmmss.ss` in milliseconds; a leap second counts into the next minute. */
function millisecondsOfDay(time: string): number | undefined {
  const [, hours, minutes, seconds] = /^(\d\d)(\d\d)(\d\d(?:\.\d*)?)$/.exec(time) ?? [];
  if (Number(hours) > 23 || Number(minutes) > 59 || !(Number(seconds) < 61)) return undefined;
  return Number(hours) * 3_600_000 + Number(minutes) * 60_000 + Math.floor(Number(seconds) * 1000 + 1e-6);
}

/** `ddmmyy` as the time of its midnight; years 80 to 99 are of the last century, GPS being of 1980. */
function startOfDate(date: string): number | undefined {
  const [, day, month, yearOfCentury] = /^(\d\d)(\d\d)(\d\d)$/.exec(date) ?? [];
  if (day === undefined) return undefined;
  const year = Number(yearOfCentury) + (Number(yearOfCentury) >= 80 ? 1900 : 2000);
  const midnight = Date.UTC(year, Number(month) - 1, Number(day));
  const real = new Date(midnight);
  return real.getUTCDate() === Number(day) && real.getUTCMonth() === Number(month) - 1 ? midnight : undefined;
}

const DECIMAL = /^[+-]?(?:\d+(?:\.\d*)?|\.\d+)$/;

/** The measurements that are there and are numbers: a valid position is not lost for a course that cannot be read. */
function numbers(measurements: Readonly<Record<string, string>>): Record<string, number> {
  const readable = Object.entries(measurements).filter(([, value]) => DECIMAL.test(value));
  return Object.fromEntries(
    readable
      .map(([name, value]): [string, number] => [name, Number(value)])
      .filter(([, value]) => Number.isFinite(value)),
  );
}
