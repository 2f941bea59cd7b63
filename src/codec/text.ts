/** Codecs for devices that speak UTF-8 text, a frame per line: `json` and `csv`. */
import { type Decoded, type Decoder, IGNORED, refused } from "./decoder.ts";
import { isRounded, parseJson } from "./json.ts";

const utf8 = new TextDecoder("utf-8", { fatal: true });

/** The frame as text (a byte order mark is dropped), or `undefined` where it is not UTF-8. */
export function textOf(frame: Uint8Array): string | undefined {
  try {
    return utf8.decode(frame);
  } catch {
    return undefined;
  }
}

/** Codec `json`: an object per frame, or an array of objects, each a reading (RFC 8259). */
export class JsonDecoder implements Decoder {
  decode(frame: Uint8Array): Decoded {
    const text = textOf(frame);
    if (text === undefined) return refused("not UTF-8");
    let payload: unknown;
    try {
      payload = parseJson(text);
    } catch {
      return refused("not JSON");
    }
    if (typeof payload !== "object" || payload === null) return refused("neither a JSON object nor an array");
    return { kind: "reading", payload };
  }
}

export type CsvColumnType = "number" | "text" | "boolean";

/** A column's name, or more of it. Without a type it is a number where it reads as one, else text. */
export type CsvColumn = string | CsvColumnRule;

export interface CsvColumnRule {
  readonly name: string;
  /** `skip`: no part of the reading. */
  readonly type?: CsvColumnType | "skip" | undefined;
  /** A row with another text here is refused: it is in another unit, or of another device. */
  readonly expect?: string | undefined;
}

/**
 * Codec `csv`: a row per frame with the declared columns in order, quoted as RFC 4180 says (a field cannot span frames).
 * An empty field is no value and left out. A row with another number of columns, or with a value that is not of its
 * declared type, is refused whole; a row that repeats the column names is a header, and ignored.
 */
export class CsvDecoder implements Decoder {
  readonly #columns: readonly CsvColumnRule[];
  readonly #separator: string;

  /** `separator` is one character. */
  constructor(columns: readonly CsvColumn[], separator = ",") {
    this.#columns = columns.map((column) => (typeof column === "string" ? { name: column } : column));
    this.#separator = separator;
  }

  decode(frame: Uint8Array): Decoded {
    const text = textOf(frame);
    if (text === undefined) return refused("not UTF-8");
    const fields = splitRow(text, this.#separator);
    if (typeof fields === "string") return refused(fields);
    if (fields.length !== this.#columns.length) {
      return refused(`${fields.length} columns where ${this.#columns.length} are declared`);
    }
    if (this.#columns.every(({ name }, index) => fields[index] === name)) return IGNORED;

    const values: [string, number | string | boolean][] = [];
    for (const [index, { name, type, expect }] of this.#columns.entries()) {
      const field = fields[index] ?? "";
      if (expect !== undefined && field !== expect) return refused(`column ${name} is not ${expect}`);
      if (field === "" || type === "skip") continue;
      const value = fieldValue(field, type);
      if (value === undefined) return refused(`column ${name} is not a ${type}`);
      values.push([name, value]);
    }
    if (values.length === 0) return refused("no value in any column");
    return { kind: "reading", payload: Object.fromEntries(values) };
  }
}

/** The fields of a row, or what is wrong with it (RFC 4180, section 2, rules 5 to 7). */
function splitRow(row: string, separator: string): string[] | string {
  const fields: string[] = [];
  for (let at = 0; ; at++) {
    let field = "";
    if (row[at] === '"') {
      for (at++; ; at += 2) {
        const quote = row.indexOf('"', at);
        if (quote < 0) return "a quoted field that does not end";
        field += row.slice(at, quote);
        at = quote;
        if (row[at + 1] !== '"') break;
        field += '"';
      }
      at++;
      if (at < row.length && row[at] !== separator) return "text after a quoted field";
    } else {
      const next = row.indexOf(separator, at);
      const end = next < 0 ? row.length : next;
      field = row.slice(at, end);
      if (field.includes('"')) return "a quote inside an unquoted field";
      at = end;
    }
    fields.push(field);
    if (at >= row.length) return fields;
  }
}

const DECIMAL = /^[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:e[+-]?\d+)?$/i;

/** The finite number that `field` writes in decimal, spaces around it allowed; its text where no number holds it exactly. */
export function decimalNumber(field: string): number | string | undefined {
  const digits = field.trim();
  if (isRounded(digits)) return digits;
  const value = DECIMAL.test(digits) ? Number(digits) : Number.NaN;
  return Number.isFinite(value) ? value : undefined;
}

function booleanOf(field: string): boolean | undefined {
  const word = field.trim().toLowerCase();
  if (word === "true" || word === "1") return true;
  if (word === "false" || word === "0") return false;
  return undefined;
}

function fieldValue(field: string, type: CsvColumnType | undefined): number | string | boolean | undefined {
  switch (type) {
    case "text":
      return field;
    case "number":
      return decimalNumber(field);
    case "boolean":
      return booleanOf(field);
    default:
      return decimalNumber(field) ?? field;
  }
}
