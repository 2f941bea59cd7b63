/** SDI-12, version 1.3 and 1.4 (sdi-12.org): commands, answers and their CRC. Pure. */
import { meaningOf, setValue, type Values } from "./binary.ts";
import { decimalsIn, type Meaning } from "./binary-layout.ts";

const ADDITIONAL = ["", "1", "2", "3", "4", "5", "6", "7", "8", "9"] as const;

/** The measurement commands, without address and exclamation mark (sections 4.4.6 to 4.4.9 and 4.4.12). */
export const SDI12_MEASUREMENTS = [
  ...ADDITIONAL.map((digit) => `M${digit}` as const),
  ...ADDITIONAL.map((digit) => `MC${digit}` as const),
  ...ADDITIONAL.map((digit) => `C${digit}` as const),
  ...ADDITIONAL.map((digit) => `CC${digit}` as const),
] as const;

export type Sdi12Measurement = (typeof SDI12_MEASUREMENTS)[number];

/** What one of a sensor's values means; a name alone where it is taken as it is, `null` where it is not wanted. */
export type Sdi12Value = (Omit<Meaning, "values" | "name"> & { readonly name: string }) | string | null;

/** Whether the answers to `D` commands end with a CRC. */
export function hasCrc(measure: Sdi12Measurement): boolean {
  return measure.includes("C", 1);
}

/** Whether the sensor measures while others are spoken to, and so sends no service request (4.4.8). */
export function isConcurrent(measure: Sdi12Measurement): boolean {
  return measure.startsWith("C");
}

/** The longest answers, CR and LF included, in bytes: one to `D` after a concurrent measurement (4.4.5, 4.4.8). */
export const MOST_ANSWER_BYTES = 1 + 75 + 3 + 2;

/** The answer to a measurement command: values are there after so many seconds, and so many. */
export interface Sdi12Promise {
  /** 0 to 999. */
  readonly seconds: number;
  readonly values: number;
}

/** `atttn` of `M`, or `atttnn` of `C`, without CR and LF; `undefined` for anything else. */
export function parsePromise(line: string, address: string, measure: Sdi12Measurement): Sdi12Promise | undefined {
  const form = isConcurrent(measure) ? /^.(\d{3})(\d{2})$/ : /^.(\d{3})(\d)$/;
  const [, seconds, values] = (line.startsWith(address) ? form.exec(line) : null) ?? [];
  return seconds === undefined || values === undefined
    ? undefined
    : { seconds: Number(seconds), values: Number(values) };
}

/** A sign, at most seven digits and one decimal point (4.4.5). */
const VALUE = /[+-](?:\d{1,7}\.\d{0,7}|\.\d{1,7}|\d{1,7})/y;
const CRC_CHARACTERS = 3;

export type Sdi12Data =
  /** The numbers as they were written. */
  { readonly kind: "values"; readonly values: readonly string[] } | { readonly kind: "bad-crc" | "bad-answer" };

/** The answer to `aDn!`, without CR and LF. An address alone is an answer without values: the measurement was given up. */
export function parseData(line: string, address: string, measure: Sdi12Measurement): Sdi12Data {
  if (!line.startsWith(address)) return { kind: "bad-answer" };
  if (!hasCrc(measure)) return parseValues(line.slice(1));
  const data = line.slice(0, -CRC_CHARACTERS);
  if (data === "" || sdi12Crc(data) !== line.slice(-CRC_CHARACTERS)) return { kind: "bad-crc" };
  return parseValues(data.slice(1));
}

function parseValues(text: string): Sdi12Data {
  const values: string[] = [];
  VALUE.lastIndex = 0;
  for (let at = 0; at < text.length; at = VALUE.lastIndex) {
    VALUE.lastIndex = at;
    const [value] = VALUE.exec(text) ?? [];
    if (value === undefined) return { kind: "bad-answer" };
    values.push(value);
  }
  return { kind: "values", values };
}

/** The three characters that stand for an answer's CRC (4.4.12.1 and 4.4.12.2): CRC-16 with polynomial 0xA001, from 0. */
export function sdi12Crc(answer: string): string {
  let crc = 0;
  for (let at = 0; at < answer.length; at++) {
    crc ^= answer.charCodeAt(at) & 0xff;
    for (let bit = 0; bit < 8; bit++) crc = (crc & 1) === 1 ? (crc >> 1) ^ 0xa001 : crc >> 1;
  }
  return String.fromCharCode(0x40 | (crc >> 12), 0x40 | ((crc >> 6) & 0x3f), 0x40 | (crc & 0x3f));
}

/** The values with their names, in order, scaled; those that are not named, or are no reading, are left out. */
export function nameValues(written: readonly string[], names: readonly Sdi12Value[]): Values {
  const values: Values = {};
  for (const [index, text] of written.entries()) {
    const wanted = names[index] ?? null;
    if (wanted === null) continue;
    const meaning = typeof wanted === "string" ? { name: wanted } : wanted;
    const scaled = decimalsIn({ scale: meaning.scale });
    const [, fraction = ""] = text.split(".");
    const decimals = Math.max(fraction.length + scaled, decimalsIn({ offset: meaning.offset }));
    setValue(values, meaning.name, meaningOf(Number(text), meaning, decimals));
  }
  return values;
}

/**
 * Looks for a sensor's answer in what comes after a command: a line that begins with its address. An adapter may give the command
 * back first (what stands before its exclamation mark is passed over), and another sensor's late answer is not taken for it.
 */
export class LineSearch {
  readonly #address: string;
  #text = "";
  #hasMore = false;

  constructor(address: string) {
    this.#address = address;
  }

  /** The lines that came to their end, without CR and LF. */
  push(chunk: Uint8Array): string[] {
    for (const byte of chunk) this.#text += String.fromCharCode(byte & 0x7f);
    const lines = this.#text.split("\n");
    this.#text = (lines.pop() ?? "").slice(-MOST_LINE);
    const own = lines
      .map((line) => line.slice(line.lastIndexOf("!") + 1).replaceAll(NOT_SAID, ""))
      .filter((line) => line !== "");
    const good = own.filter((line) => line.startsWith(this.#address));
    if (good.length < own.length) this.#hasMore = true;
    return good;
  }

  /** Whether something came that is not the sensor's. */
  get hasMore(): boolean {
    return this.#hasMore || /[^!]$/.test(this.#text);
  }
}

/** More than an answer with a command before it. */
const MOST_LINE = 256;
/** The carriage return, and the NULs that a break is read as. */
const NOT_SAID = /[\r\0]/g;
