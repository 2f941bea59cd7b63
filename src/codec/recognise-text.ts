/** Guesses for devices that speak text, a line at a time. Pure. */
import type { Guess, HeardPiece } from "./recognise-guess.ts";
import type { CsvColumn } from "./text.ts";

/** With a smaller share of printable bytes it is no text. */
const TEXT_SHARE = 0.85;
const SEPARATORS = [",", ";", "\t", "|", " "] as const;
/** So many of the lines have to have as many columns. */
const SAME_COLUMNS_SHARE = 0.8;
/** Rows may be the lines of something larger, which most devices say once a second. */
const SURE_AFTER_MS = 2000;
const NUMBER = /^\s*[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?\s*$/;

/** What lines of text may be: sentences, objects, packs, columns. */
export function textGuesses(pieces: readonly HeardPiece[]): Guess[] {
  const bytes = Buffer.concat(pieces.map((piece) => piece.bytes));
  if (bytes.length === 0 || shareOfText(bytes) < TEXT_SHARE) return [];
  // Listening began, and ended, in the middle of a line.
  const lines = bytes
    .toString("latin1")
    .split(/[\r\n]+/)
    .slice(1, -1)
    .filter((line) => line !== "");
  const csv = columnsOf(lines);
  return [
    { keys: { codec: "nmea0183" }, proof: "checksum", what: "NMEA 0183 sentences", name: "nmea" },
    {
      keys: { codec: lines.some(isSenml) ? "senml" : "json" },
      proof: "form",
      what: "JSON, one object or array a line",
    },
    ...(csv === undefined ? [] : [csv]),
  ];
}

/** The share of bytes that are printable ASCII, tab or line ends. */
export function shareOfText(bytes: Uint8Array): number {
  let text = 0;
  for (const byte of bytes) if ((byte >= 0x20 && byte < 0x7f) || byte === 9 || byte === 10 || byte === 13) text++;
  return text / bytes.length;
}

/** An array of records of which one has a name, and one a value (RFC 8428, section 4). */
function isSenml(line: string): boolean {
  if (!line.startsWith("[")) return false;
  return /"b?n"\s*:\s*"/.test(line) && /"(?:v|vs|vb|vd|s)"\s*:/.test(line);
}

function columnsOf(lines: readonly string[]): Guess | undefined {
  const tried = SEPARATORS.map((separator) => {
    const rows = lines.map((line) => line.split(separator));
    const width = commonest(rows.map((row) => row.length));
    const same = rows.filter((row) => row.length === width);
    return { separator, width, same, share: same.length / Math.max(1, rows.length) };
  }).filter(({ width, share }) => width >= 2 && share >= SAME_COLUMNS_SHARE);
  const best = tried.find(({ same }) => same.some((row) => row.some((field) => NUMBER.test(field))));
  if (best === undefined) return undefined;
  const { separator, width, same } = best;
  const header = same.find((row) => row.every((field) => /[A-Za-z]/.test(field)) && new Set(row).size === width);
  const values = same.filter((row) => row !== header);
  const columns = Array.from({ length: width }, (_, at): CsvColumn => {
    const name = header?.[at] ?? `column_${at + 1}`;
    return values.every((row) => NUMBER.test(row[at] ?? "")) ? name : { name, type: "text" };
  });
  const keys = { codec: "csv", columns, ...(separator !== "," && { separator }) } as const;
  return { keys, proof: "form", sureAfter: SURE_AFTER_MS, what: `rows of ${width} columns; name them, units included` };
}

function commonest(numbers: readonly number[]): number {
  const counts = new Map<number, number>();
  for (const each of numbers) counts.set(each, (counts.get(each) ?? 0) + 1);
  return [...counts].sort(([, one], [, other]) => other - one)[0]?.[0] ?? 0;
}
