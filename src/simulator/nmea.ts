/** NMEA 0183 sentences as a receiver speaks them. Pure. */
import { sentenceOf } from "../codec/nmea-sentence.ts";
import type { Weather } from "./scenario.ts";

export interface Fix {
  /** Milliseconds since the Unix epoch. */
  readonly at: number;
  /** Degrees. */
  readonly lat: number;
  readonly lon: number;
  /** Metres above mean sea level. */
  readonly altitude: number;
}

/** Recommended minimum: time, date and position of a receiver that stands still. */
export function rmc(fix: Fix): string {
  const [year, month, day] = new Date(fix.at).toISOString().slice(2, 10).split("-");
  return sentenceOf(`GPRMC,${timeOf(fix.at)},A,${position(fix)},0.0,0.0,${day}${month}${year},,,A`);
}

/** Fix data: time (without a date), position, quality and altitude. */
export function gga(fix: Fix): string {
  return sentenceOf(`GPGGA,${timeOf(fix.at)},${position(fix)},1,09,0.9,${fix.altitude.toFixed(1)},M,-24.0,M,,`);
}

/** Wind relative to true north: degrees, and metres per second. */
export function mwv(directionDegrees: number, speed: number): string {
  return sentenceOf(`WIMWV,${directionDegrees.toFixed(1)},T,${speed.toFixed(1)},M,A`);
}

/** Meteorological composite: pressure in bars, temperature, humidity, and wind against true north. */
export function mda(weather: Weather): string {
  const bars = (weather.pressure_hpa / 1000).toFixed(4);
  const air = `${weather.temperature_c.toFixed(1)},C,,,${weather.relative_humidity_pct.toFixed(1)},,,`;
  const wind = `${weather.wind_direction_deg.toFixed(1)},T,,M,,N,${weather.wind_speed_m_s.toFixed(1)},M`;
  return sentenceOf(`WIMDA,,I,${bars},B,${air},${wind}`);
}

/** hhmmss.ss */
function timeOf(at: number): string {
  return new Date(at).toISOString().slice(11, 22).replaceAll(":", "");
}

function position(fix: Fix): string {
  return `${angle(fix.lat, 2)},${fix.lat < 0 ? "S" : "N"},${angle(fix.lon, 3)},${fix.lon < 0 ? "W" : "E"}`;
}

/** Degrees and minutes as (d)ddmm.mmmm; rounded as a whole, so that it never says 60 minutes. */
function angle(degrees: number, digits: number): string {
  const tenThousandths = Math.round(Math.abs(degrees) * 600_000);
  const minutes = (tenThousandths % 600_000) / 10_000;
  const whole = Math.floor(tenThousandths / 600_000);
  return `${String(whole).padStart(digits, "0")}${minutes.toFixed(4).padStart(7, "0")}`;
}
