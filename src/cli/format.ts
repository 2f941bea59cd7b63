/** How commands write numbers, times and tables for people. Pure. */

/** A number with its thousands told apart. */
export const count = (n: number): string => n.toLocaleString("en");

/** A length of time in its two largest units: `2 h 5 min`. */
export function span(seconds: number): string {
  const s = Math.max(0, Math.floor(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  if (s < 86_400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86_400)} d ${Math.floor((s % 86_400) / 3600)} h`;
}

/** A number of bytes in the largest binary unit that leaves at least 1. */
export function size(bytes: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  const at = bytes < 1 ? 0 : Math.min(units.length - 1, Math.floor(Math.log2(bytes) / 10));
  return `${at === 0 ? bytes : (bytes / 1024 ** at).toFixed(1)} ${units[at]}`;
}

/** Readings and the space that they take: `4,200 (121.0 KiB)`; `0` where there are none. */
export const amount = (readings: number, bytes: number): string =>
  readings === 0 ? "0" : `${count(readings)} (${size(bytes)})`;

/** How long before `now` something was, both RFC 3339 and by the gateway's clock. */
export function ago(time: string | null, now: string): string {
  return time === null ? "never" : `${span((Date.parse(now) - Date.parse(time)) / 1000)} ago`;
}

const escapeOf = (character: string): string => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`;

/** Text of a device or a service without what would command the terminal: control characters are shown, not sent. */
export const printable = (text: string): string => text.replace(/\p{Cc}/gu, escapeOf);

/** One line of JSON, or several where a person reads it. Control characters above ASCII are escaped as well. */
export function json(value: unknown, indent?: number): string {
  return `${JSON.stringify(value, undefined, indent).replace(/[\u007f-\u009f]/g, escapeOf)}\n`;
}

/**
 * Columns side by side, each as wide as its widest cell, below their headings where there are any. A column whose heading
 * ends in `>` is right-aligned; the mark is not shown.
 */
export function table(rows: readonly (readonly string[])[], headings: readonly string[] = []): string {
  const titles = headings.map((heading) => heading.replace(/>$/, ""));
  const cells = rows.map((row) => row.map(printable));
  const lines = titles.some((title) => title !== "") ? [titles, ...cells] : cells;
  const widthOf = (at: number): number => Math.max(0, ...lines.map((line) => line[at]?.length ?? 0));
  const aligned = (cell: string, at: number): string =>
    headings[at]?.endsWith(">") ? cell.padStart(widthOf(at)) : cell.padEnd(widthOf(at));
  return lines.map((line) => `${line.map(aligned).join("  ").trimEnd()}\n`).join("");
}
