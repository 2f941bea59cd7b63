/**
 * Codec `fields`: text whose values name themselves, as `LABEL<tab>VALUE` lines or `T=21.5,H=40`. A label that is declared gets its
 * name, unit and words; the others keep theirs, or are left out. The order does not matter and anything may be missing.
 */

import { rounded } from "./binary.ts";
import { decimalsIn, type Meaning } from "./binary-layout.ts";
import { type Decoded, type Decoder, refused } from "./decoder.ts";
import { decimalNumber, textOf } from "./text.ts";

/** What one label stands for. */
export interface KnownField extends Pick<Meaning, "scale" | "offset" | "values"> {
  readonly label: string;
  /** Its name in the reading; by default the label itself. */
  readonly name?: string | undefined;
  /** `number` refuses anything else; `text` keeps what looks like a number as it stands. */
  readonly type?: "number" | "text" | undefined;
  /** Values that mean that there is no reading. */
  readonly none?: readonly string[] | undefined;
}

export interface FieldsConfig {
  /** Between a label and its value; a tab where none is given. */
  readonly separator?: string | undefined;
  /** Between two fields; line ends where none is given. */
  readonly between?: string | undefined;
  readonly known?: readonly KnownField[] | undefined;
  /** What becomes of labels that are not known; they are kept where nothing is said. */
  readonly others?: "keep" | "drop" | undefined;
}

type Value = number | string;

/** Most fields in a frame: as many as there are attributes in a reading. */
const MOST_FIELDS = 1024;

export class FieldsDecoder implements Decoder {
  readonly #separator: string;
  readonly #between: string | RegExp;
  readonly #known: ReadonlyMap<string, KnownField & { readonly decimals: number }>;
  readonly #keepsOthers: boolean;

  constructor({ separator = "\t", between, known = [], others = "keep" }: FieldsConfig) {
    this.#separator = separator;
    this.#between = between ?? /[\r\n]+/;
    this.#known = new Map(known.map((field) => [field.label, { ...field, decimals: decimalsIn(field) }]));
    this.#keepsOthers = others === "keep";
  }

  decode(frame: Uint8Array): Decoded {
    const text = textOf(frame);
    if (text === undefined) return refused("not UTF-8");
    const values = new Map<string, Value>();
    const parts = text.split(this.#between, MOST_FIELDS + 1);
    if (parts.length > MOST_FIELDS) return refused(`more than ${MOST_FIELDS} fields`);
    for (const part of parts) {
      if (part.trim() === "") continue;
      const end = part.indexOf(this.#separator);
      if (end < 0) return refused("a field without the separator between label and value");
      const label = part.slice(0, end).trim();
      const written = part.slice(end + this.#separator.length).trim();
      const field = this.#known.get(label);
      if (label === "" || written === "" || field?.none?.includes(written) === true) continue;
      if (field === undefined) {
        if (this.#keepsOthers) values.set(label, decimalNumber(written) ?? written);
        continue;
      }
      const value = meant(written, field);
      if (value === undefined) return refused(`field ${label} is not a number`);
      values.set(field.name ?? label, value);
    }
    if (values.size === 0) return refused("no value in any field");
    return { kind: "reading", payload: Object.fromEntries(values) };
  }
}

/** `undefined` where it is no number and ought to be one. */
function meant(written: string, field: KnownField & { readonly decimals: number }): Value | undefined {
  const { values, type, scale, offset, decimals } = field;
  if (values !== undefined && Object.hasOwn(values, written)) return values[written];
  if (type === "text") return written;
  const number = decimalNumber(written);
  const isNumeric = type === "number" || scale !== undefined || offset !== undefined;
  if (number === undefined) return isNumeric ? undefined : written;
  if (typeof number === "string" || (scale === undefined && offset === undefined)) return number;
  const [, fraction = ""] = /\.(\d*)/.exec(written) ?? [];
  const value = number * (scale ?? 1) + (offset ?? 0);
  return Number.isFinite(value) ? rounded(value, decimals + fraction.length) : undefined;
}

/** The frame that `FieldsDecoder` reads as `reading`: for simulated devices and tests. Labels that are not known follow those that are. */
export function encodeFields(config: FieldsConfig, reading: { readonly [name: string]: unknown }): Uint8Array {
  const { separator = "\t", between = "\r\n", known = [] } = config;
  const names = new Set(known.map(({ name, label }) => name ?? label));
  const declared = known.flatMap((field): [string, string][] => {
    const value = reading[field.name ?? field.label];
    return value === undefined ? [] : [[field.label, unmeant(value, field)]];
  });
  const others = Object.entries(reading).flatMap(([name, value]): [string, string][] =>
    names.has(name) ? [] : [[name, String(value)]],
  );
  const text = [...declared, ...others].map(([label, value]) => `${label}${separator}${value}`).join(between);
  return new TextEncoder().encode(text);
}

function unmeant(value: unknown, { values, scale, offset }: KnownField): string {
  const word = Object.entries(values ?? {}).find(([, meaning]) => meaning === value);
  if (word !== undefined) return word[0];
  if (typeof value !== "number" || (scale === undefined && offset === undefined)) return String(value);
  return String(Math.round((value - (offset ?? 0)) / (scale ?? 1)));
}
