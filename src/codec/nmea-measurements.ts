/**
 * The NMEA 0183 sentences that measure something else than a position: course, heading, wind and weather. None of them carries
 * a time. Wind speeds are given in metres per second whatever unit they were sent in, so that one name means one thing.
 */
import type { Field } from "./nmea-sentence.ts";

/** What a sentence measured, by names with their unit, and the class of such a reading. */
export interface Measured {
  readonly class: "motion" | "heading" | "wind" | "weather" | "telemetry";
  readonly values: Readonly<Record<string, number | string>>;
}

/** A text says why the sentence, by what it says itself, is not valid. */
type Reader = (field: Field) => Measured | string;

const DECIMAL = /^[+-]?(?:\d+(?:\.\d*)?|\.\d+)$/;

/** The fields that are there and are numbers: a good value is not lost for another one that cannot be read. */
export function numbersIn(fields: Readonly<Record<string, string | number | undefined>>): Record<string, number> {
  const numbers: Record<string, number> = {};
  for (const name of Object.keys(fields)) {
    const value = fields[name];
    const number = typeof value === "string" && DECIMAL.test(value) ? Number(value) : value;
    if (typeof number === "number" && Number.isFinite(number)) numbers[name] = number;
  }
  return numbers;
}

/** Metres per second in one unit of each speed that MWV knows: knots, km/h, m/s, statute miles per hour. */
const SPEED_UNITS: ReadonlyMap<string, number> = new Map([
  ["N", 1852 / 3600],
  ["K", 1 / 3.6],
  ["M", 1],
  ["S", 1609.344 / 3600],
]);
/** Six decimals keep every digit that was sent, and none that the conversion made up. */
const CONVERTED_PRECISION = 1e6;

function metresPerSecond(speed: string, unit: string): number | undefined {
  const factor = SPEED_UNITS.get(unit);
  if (factor === undefined || !DECIMAL.test(speed)) return undefined;
  return converted(Number(speed) * factor);
}

function converted(value: number): number {
  return Math.round(value * CONVERTED_PRECISION) / CONVERTED_PRECISION;
}

/** The field `at`, where the one behind it names this unit. */
function inUnit(field: Field, at: number, unit: string): string | undefined {
  return field(at + 1) === unit ? field(at) : undefined;
}

/** Speed over ground and course. Its mode, since NMEA 2.3, is N where there is no fix. */
function vtg(field: Field): Measured | string {
  if (field(9) === "N") return "no fix";
  // Before NMEA 2.3 the unit letters were not there.
  const isLettered = field(2) === "T";
  const [course, magnetic, knots, kmh] = (isLettered ? [1, 3, 5, 7] : [1, 2, 3, 4]).map((at) => field(at));
  const values = numbersIn({
    course_deg: course,
    course_magnetic_deg: magnetic,
    speed_knots: knots,
    speed_km_h: kmh,
  });
  return { class: "motion", values };
}

/** Wind as the sensor feels it (relative to its own mark), or theoretical, as if it stood still. */
function mwv(field: Field): Measured | string {
  if (field(5) !== "A") return "not valid";
  const values = numbersIn({ wind_angle_deg: field(1), wind_speed_m_s: metresPerSecond(field(3), field(4)) });
  const reference = field(2) === "R" ? "relative" : field(2) === "T" ? "theoretical" : undefined;
  const hasAny = Object.keys(values).length > 0;
  return {
    class: "wind",
    values: hasAny && reference !== undefined ? { ...values, wind_reference: reference } : values,
  };
}

/** Wind against north, true and magnetic; the speed in knots, and in metres per second. */
function mwd(field: Field): Measured {
  return { class: "wind", values: numbersIn(wind(field, 1)) };
}

function wind(field: Field, first: number): Record<string, string | number | undefined> {
  const inMetres = inUnit(field, first + 6, "M");
  const inKnots = metresPerSecond(field(first + 4), field(first + 5));
  return {
    wind_direction_deg: inUnit(field, first, "T"),
    wind_direction_magnetic_deg: inUnit(field, first + 2, "M"),
    wind_speed_m_s: inMetres === undefined || inMetres === "" ? inKnots : inMetres,
  };
}

/** Meteorological composite. Pressure in bars is given as hPa, and in inches of mercury where nothing else is there. */
function mda(field: Field): Measured {
  const bars = inUnit(field, 3, "B") ?? "";
  const inches = inUnit(field, 1, "I") ?? "";
  const hpa = DECIMAL.test(bars)
    ? converted(Number(bars) * 1000)
    : DECIMAL.test(inches)
      ? converted(Number(inches) * HPA_PER_INCH)
      : undefined;
  const values = numbersIn({
    pressure_hpa: hpa,
    temperature_c: inUnit(field, 5, "C"),
    water_temperature_c: inUnit(field, 7, "C"),
    relative_humidity_pct: field(9),
    absolute_humidity_pct: field(10),
    dew_point_c: inUnit(field, 11, "C"),
    ...wind(field, 13),
  });
  return { class: "weather", values };
}

/** An inch of mercury at 0 °C. */
const HPA_PER_INCH = 33.8638866667;

function hdt(field: Field): Measured {
  return { class: "heading", values: numbersIn({ heading_deg: inUnit(field, 1, "T") }) };
}

/** What the letter of a transducer's type measures. */
const TRANSDUCERS: ReadonlyMap<string, string> = new Map([
  ["A", "angle"],
  ["C", "temperature"],
  ["D", "depth"],
  ["F", "frequency"],
  ["G", "generic"],
  ["H", "humidity"],
  ["I", "current"],
  ["L", "salinity"],
  ["N", "force"],
  ["P", "pressure"],
  ["R", "flow"],
  ["S", "switch"],
  ["T", "tachometer"],
  ["U", "voltage"],
  ["V", "volume"],
]);

const UNITS: ReadonlyMap<string, string> = new Map([
  ["A", "a"],
  ["B", "bar"],
  ["C", "c"],
  ["D", "deg"],
  ["F", "f"],
  ["H", "hz"],
  ["K", "k"],
  ["M", "m"],
  ["N", "n"],
  ["P", "pct"],
  ["R", "rpm"],
  ["S", "ppt"],
  ["V", "v"],
  ["l", "l_s"],
]);

const XDR_GROUP = 4;
/** A sentence of 82 characters has room for ten at most. */
const MOST_TRANSDUCERS = 20;

/** Any transducers, four fields each: type, value, unit, name. `temperature_airt_c` is the one that calls itself AIRT. */
function xdr(field: Field): Measured {
  const values: Record<string, string> = {};
  for (let group = 0; group < MOST_TRANSDUCERS; group++) {
    const [type = "", value = "", unit = "", name = ""] = [1, 2, 3, 4].map((part) => field(group * XDR_GROUP + part));
    if (type === "" || value === "") continue;
    const measured = transducerName(type, unit, name);
    if (measured !== "") values[measured] = value;
  }
  return { class: "telemetry", values: numbersIn(values) };
}

/** Empty where neither type, name nor unit has a letter or a digit. */
function transducerName(type: string, unit: string, name: string): string {
  // P is pascal of a pressure and per cent of everything else; M is a cubic metre of a volume.
  const suffix = type === "P" && unit === "P" ? "pa" : type === "V" && unit === "M" ? "m3" : (UNITS.get(unit) ?? unit);
  const words = [TRANSDUCERS.get(type) ?? type, name, suffix].flatMap((part) => part.toLowerCase().split(/[^a-z0-9]+/));
  return words.filter((word) => word !== "").join("_");
}

export const MEASUREMENT_SENTENCES: ReadonlyMap<string, Reader> = new Map<string, Reader>([
  ["VTG", vtg],
  ["MWV", mwv],
  ["MWD", mwd],
  ["MDA", mda],
  ["XDR", xdr],
  ["HDT", hdt],
]);
