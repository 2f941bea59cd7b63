/**
 * JSON as devices send it, with no integer silently rounded. `JSON.parse` makes a double of every number, and doubles hold
 * all integers up to 2^53 only: two counters, or two ids, that differ in their last digits would become the same. An integer
 * that a double cannot hold is therefore kept as its text. Fractions are doubles, as everywhere (RFC 8259, section 6).
 */

/** A string, or a number; nothing else in valid JSON holds digits. */
const TOKENS = /"[^"\\]*(?:\\.[^"\\]*)*"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g;
const INTEGER = /^[+-]?\d{16,}$/;
/** Of an integer with more characters it is not worth asking whether it is a double exactly: next to none is. */
const MOST_CHARACTERS = 40;
/** Nothing that is nested deeper becomes a reading. */
const DEEPEST = 32;

/** The value of a JSON text; an integer that a double cannot hold is its text. @throws SyntaxError */
export function parseJson(text: string): unknown {
  const value: unknown = JSON.parse(text);
  // A walk over the values costs a tenth of the parsing; a look for long runs of digits in the text costs as much again.
  if (!holdsHuge(value, DEEPEST)) return value;
  return JSON.parse(text.replace(TOKENS, (token) => (isRounded(token) ? `"${token}"` : token)));
}

/** Whether `token` writes an integer that becomes another one as a double. */
export function isRounded(token: string): boolean {
  if (!INTEGER.test(token)) return false;
  return token.length > MOST_CHARACTERS || BigInt(token.replace("+", "")) !== BigInt(Number(token));
}

/** Whether there is a number to which an integer may have been rounded. */
function holdsHuge(value: unknown, depth: number): boolean {
  if (typeof value === "number") return value > Number.MAX_SAFE_INTEGER || value < Number.MIN_SAFE_INTEGER;
  if (typeof value !== "object" || value === null || depth === 0) return false;
  if (Array.isArray(value)) return value.some((item) => holdsHuge(item, depth - 1));
  for (const key in value) if (holdsHuge((value as Record<string, unknown>)[key], depth - 1)) return true;
  return false;
}
