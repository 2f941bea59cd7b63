/**
 * Codec `nmea0183`: what satellite receivers, compasses and weather stations say, after NMEA 0183 (IEC 61162-1).
 *
 * Each sentence that brings a valid position (RMC, GGA, GLL, GNS, of any talker) is one `position` reading: `lat` and `lon`
 * in degrees, the sentence's other measurements with their unit in the name, and `ts_iso` where the time is known. Course,
 * heading, wind and weather (VTG, HDT, MWV, MWD, MDA, XDR: nmea-measurements.ts) are readings of classes of their own. A
 * sentence without a checksum, or with a wrong one, is refused, and so is one that says that it is not valid. Well-formed
 * sentences of another kind (a receiver sends many: GSV, GSA, proprietary ones) are ignored: neither accepted nor refused.
 *
 * Only RMC and ZDA carry a date. A time of day alone gets the date that puts it nearest to where the last dated sentence, and
 * the monotonic time since, say that we are: right across midnight, and after a fix that was lost for days. Before the
 * first date it stays out, and the gateway's clock stamps the reading. A receiver that has lost count of the weeks says
 * a date 1,024 weeks ago: it is passed on as it was said, and lies before what the outbox believes, which marks it suspect.
 */
import { type Decoded, type Decoder, IGNORED, refused } from "./decoder.ts";
import { MEASUREMENT_SENTENCES, numbersIn } from "./nmea-measurements.ts";
import { type Field, parseSentence } from "./nmea-sentence.ts";

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
  /** The last time that came with its date, and when it arrived. */
  #lastDated: { readonly time: number; readonly arrivedAt: number } | undefined;

  decode(frame: Uint8Array, arrivedAt: number): Decoded {
    const sentence = parseSentence(frame);
    if (typeof sentence === "string") return refused(sentence);
    // $PGRMC is Garmin's own, not a talker PG.
    if (sentence.encapsulated || sentence.address.startsWith("P")) return IGNORED;
    const formatter = sentence.address.slice(2);
    const talker = sentence.address.slice(0, 2);
    const field: Field = (number) => sentence.fields[number - 1] ?? "";
    const fix = POSITION_SENTENCES.get(formatter)?.(field);
    if (fix !== undefined) return this.#position(fix, formatter, talker, arrivedAt);
    if (formatter === "ZDA") this.#takeDate(field, arrivedAt);
    const measured = MEASUREMENT_SENTENCES.get(formatter)?.(field);
    if (measured === undefined) return IGNORED;
    if (typeof measured === "string") return refused(measured);
    if (Object.keys(measured.values).length === 0) return refused("no value in any field");
    return { kind: "reading", payload: { ...measured.values, sentence: formatter, talker }, class: measured.class };
  }

  #position(fix: Fix, formatter: string, talker: string, arrivedAt: number): Decoded {
    if (!fix.valid) return refused("no fix");
    const [lat, northSouth, lon, eastWest] = fix.position;
    const latitude = degrees(lat, 2, 90, northSouth, "N", "S");
    if (latitude === undefined) return refused("bad latitude");
    const longitude = degrees(lon, 3, 180, eastWest, "E", "W");
    if (longitude === undefined) return refused("bad longitude");
    const time = this.#timeOf(fix, arrivedAt);
    // Assigned one by one: spreading three objects into one costs more than all the rest of the sentence.
    const payload: Record<string, unknown> = {};
    if (time !== undefined) payload.ts_iso = new Date(time).toISOString();
    payload.lat = latitude;
    payload.lon = longitude;
    Object.assign(payload, numbersIn(fix.measurements));
    payload.sentence = formatter;
    payload.talker = talker;
    return { kind: "reading", payload };
  }

  /** ZDA: the time of day, day, month and year in full; all of them empty while the receiver does not know. */
  #takeDate(field: Field, arrivedAt: number): void {
    const timeOfDay = millisecondsOfDay(field(1));
    const midnight = startOfDay(field(2), field(3), field(4));
    if (timeOfDay !== undefined && midnight !== undefined) this.#lastDated = { time: midnight + timeOfDay, arrivedAt };
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
  const [, day = "", month = "", yearOfCentury = ""] = /^(\d\d)(\d\d)(\d\d)$/.exec(date) ?? [];
  return startOfDay(day, month, `${Number(yearOfCentury) >= 80 ? 19 : 20}${yearOfCentury}`);
}

/** The time of a day's midnight; `undefined` where the calendar has no such day. */
function startOfDay(day: string, month: string, year: string): number | undefined {
  if (!/^\d{4}$/.test(year) || !/^\d\d?$/.test(month) || !/^\d\d?$/.test(day)) return undefined;
  const midnight = Date.UTC(Number(year), Number(month) - 1, Number(day));
  const real = new Date(midnight);
  return real.getUTCDate() === Number(day) && real.getUTCMonth() === Number(month) - 1 ? midnight : undefined;
}
