/**
 * What is wrong with a file that is not valid YAML, in words for whoever wrote it by hand. The commonest slips (indentation, a
 * space forgotten after a colon, a bracket or quote left open, another language) are told once and on their own line; for the
 * others the parser's words stand. Pure.
 */
import { Lexer, type LineCounter, type YAMLError } from "yaml";
import type { Problem } from "./problem.ts";

interface Source {
  readonly text: string;
  /** Line n of the file is the n-1st. */
  readonly rows: readonly string[];
  lineAt(position: number): number;
  /** Read once, and only where a fault asks for them. */
  tokens(): readonly Token[];
}

interface Told {
  readonly line: number;
  readonly message: string;
  /** The line begins in a column in which it may not. */
  readonly misplaced?: true;
}

/** An opening bracket that nothing closes, up to where the parser gave up. */
interface Unclosed {
  readonly bracket: string;
  readonly from: number;
  readonly until: number;
}

/** A key with its colon, and the value right behind it; a URL is none. */
const COLON_WITHOUT_SPACE = /^\s*(?:- +)*([\w.-]+):(?!\/\/)[^\s:]/;
const KEY_WITHOUT_COLON = /^\s*(?:- +)*([\w.-]+) +[^\s:]/;
/** Two keys with their colons, none of them in brackets or quotes. */
const TWO_KEYS = /^[^{["'#]*:\s[^{["'#]*:(?:\s|$)/;
const NO_CONTENT = /^\s*(?:#.*|---.*)?$/;
/** Nobody mends more at once, and a file of nothing but brackets has one for each. */
const MOST_FAULTS = 100;
/** Of zero length: the lexer's own marks for the begin of a document and of a plain scalar, and for a flow collection that it ended. */
const FLOW_END = "\x18";
const MARKS: readonly string[] = ["\x02", "\x1f", FLOW_END];

/** The slips behind the first hundred faults, each once. At least one, unless `faults` is empty. */
export function syntaxProblems(text: string, faults: readonly YAMLError[], lines: LineCounter): Problem[] {
  const foreign = foreignLanguage(text);
  if (foreign !== undefined) return [foreign];
  let read: readonly Token[] | undefined;
  const source: Source = {
    text,
    rows: text.split(/\r?\n/),
    lineAt: (position) => lines.linePos(position).line,
    tokens: () => {
      read ??= tokensOf(text);
      return read;
    },
  };
  const looked = faults.slice(0, MOST_FAULTS);
  const told = new Map<string, Told>();
  looked.forEach((fault, index) => {
    if (followsFrom([...told.values()], fault, source)) return;
    for (const slip of slips(fault, looked.slice(0, index), source)) told.set(`${slip.line} ${slip.message}`, slip);
  });
  return [...told.values()].map(({ line, message }) => ({ path: "", message, line }));
}

/** Of the lines that stand with one that is misplaced, and below it, each seems to stand wrong; behind an open quote, each bracket to be open. */
function followsFrom(told: readonly Told[], { code, message, pos }: YAMLError, { rows, lineAt }: Source): boolean {
  // From where the parser has lost its way, it names each word.
  if (message.includes(" token in YAML stream")) return told.length > 0;
  if (/end with a [}\]]$/.test(message)) return told.some((slip) => slip.message.startsWith("the quote"));
  if (!/^(?:BAD_INDENT|MISSING_CHAR|BLOCK_AS_IMPLICIT_KEY|MULTILINE_IMPLICIT_KEY)$/.test(code)) return false;
  const at = lineAt(pos[0]);
  return told.some(({ line, misplaced: isMisplaced }) => {
    const column = indentOf(rows[line - 1] ?? "");
    const between = rows.slice(line - 1, at);
    return isMisplaced && line <= at && between.every((row) => NO_CONTENT.test(row) || indentOf(row) >= column);
  });
}

/** Whether the text begins as another language does, on its first line that says anything. */
export function foreignLanguage(text: string): Problem | undefined {
  const rows = text.replace(/^\uFEFF/, "").split(/\r?\n/);
  const at = rows.findIndex((row) => !NO_CONTENT.test(row) && !/^\s*;/.test(row));
  const row = rows[at]?.trim() ?? "";
  const told = (what: string): Problem => ({ path: "", line: at + 1, message: `this is not YAML: ${what}` });
  if (/^\[\[?[\w.-]+\]\]?\s*(?:#.*)?$/.test(row)) return told(`\`${row}\` begins a section as TOML and INI have them`);
  const assigned = /^([\w.-]+)\s*=/.exec(row)?.[1];
  if (assigned !== undefined) return told(`write \`${assigned}: …\`, with a colon and a space, instead of \`=\``);
  return /^<[?!\w]/.test(row) ? told("it begins as XML does") : undefined;
}

function slips(fault: YAMLError, before: readonly YAMLError[], source: Source): Told[] {
  const line = source.lineAt(fault.pos[0]);
  const asParsed = [{ line, message: fault.message }];
  switch (fault.code) {
    case "DUPLICATE_KEY":
      return [{ line, message: `the key \`${keyAt(source.text, fault.pos[0])}\` stands here a second time` }];
    case "TAB_AS_INDENT":
      return [{ line, message: "a tab stands in the indentation, which YAML wants in spaces" }];
    case "BLOCK_AS_IMPLICIT_KEY":
      return orElse(nested(fault, source), asParsed);
    case "MULTILINE_IMPLICIT_KEY": {
      const saidAlready = before.some(({ code, pos }) => code === "BLOCK_AS_IMPLICIT_KEY" && pos[0] === fault.pos[0]);
      return saidAlready ? [] : orElse(brokenKeys(fault, source), asParsed);
    }
    case "BAD_INDENT":
    case "MISSING_CHAR":
      return orElse(
        [...leftOpen(fault, source), ...misplaced(fault, source), ...brokenKeys(fault, source)].slice(0, 1),
        asParsed,
      );
    default:
      return asParsed;
  }
}

function orElse(told: Told[], otherwise: Told[]): Told[] {
  return told.length > 0 ? told : otherwise;
}

/** A second key in the value of a first: on the same line, or on a following one that is indented too far. */
function nested({ pos: [from] }: YAMLError, { rows, lineAt }: Source): Told[] {
  const line = lineAt(from);
  const row = rows[line - 1] ?? "";
  if (TWO_KEYS.test(row)) {
    return [{ line, message: "has two keys on one line; put the value in quotes where its colon belongs to it" }];
  }
  const next = rows.findIndex((candidate, index) => index >= line && !NO_CONTENT.test(candidate)) + 1;
  if (indentOf(rows[next - 1] ?? "") > contentColumn(row)) return [tooFar(next, line)];
  return row.trimStart().startsWith("-") ? offColumn(line, rows) : [];
}

/** Keys whose colon, or the space behind it, is missing: the parser takes them for the begin of a text of several lines. */
function brokenKeys({ pos: [from, to] }: YAMLError, { rows, lineAt }: Source): Told[] {
  const first = lineAt(from);
  const spanned = rows
    .slice(first - 1, lineAt(Math.max(from, to - 1)))
    .map((row, index) => ({ row, line: first + index }));
  const told = spanned.flatMap(({ row, line }) => {
    const key = COLON_WITHOUT_SPACE.exec(row)?.[1];
    return key === undefined ? [] : [{ line, message: `a space must follow the colon of \`${key}:\`` }];
  });
  const bare = KEY_WITHOUT_COLON.exec(spanned[0]?.row ?? "")?.[1];
  return told.length > 0 || bare === undefined
    ? told
    : [{ line: first, message: `a colon and a space must follow the key \`${bare}\`` }];
}

function misplaced({ pos: [from], message }: YAMLError, { rows, lineAt }: Source): Told[] {
  if (!/items must start at the same column|without - indicator/.test(message)) return [];
  return offColumn(lineAt(from), rows);
}

function tooFar(line: number, above: number): Told {
  return { line, message: `is indented further than line ${above}, which has a value already`, misplaced: true };
}

/** A line that is not in the column of those to which it belongs; which of the two stands wrong nobody can know. */
function offColumn(line: number, rows: readonly string[]): Told[] {
  const indent = indentOf(rows[line - 1] ?? "");
  const above = rows.slice(0, line - 1).findLastIndex((row) => !NO_CONTENT.test(row)) + 1;
  const row = rows[above - 1] ?? "";
  if (indent > contentColumn(row)) return [tooFar(line, above)];
  if (indent === indentOf(row)) return [];
  const message = `is indented by ${indent}, and line ${above} by ${indentOf(row)}: what belongs together begins in the same column`;
  return [{ line, message, misplaced: true }];
}

function leftOpen({ pos: [at], message }: YAMLError, { tokens, lineAt }: Source): Told[] {
  if (message.startsWith("Missing closing")) {
    const from = tokens().findLast(({ source, end }) => /^['"]/.test(source) && end <= at)?.from;
    const line = from === undefined ? undefined : lineAt(from);
    return line === undefined ? [] : [{ line, message: `the quote that begins on line ${line} is not closed` }];
  }
  const closing = /end with a ([}\]])$/.exec(message)?.[1];
  if (closing === undefined) return [];
  const opening = closing === "}" ? "{" : "[";
  const open = unclosed(tokens()).findLast(
    ({ bracket, from, until }) => bracket === opening && from < at && at <= until,
  );
  if (open === undefined) return [];
  const line = lineAt(open.from);
  const cause = `its ${closing} is missing, or what stands up to it is not indented further`;
  return [{ line, message: `the ${opening} on line ${line} is not closed: ${cause}` }];
}

interface Token {
  readonly source: string;
  readonly from: number;
  readonly end: number;
}

function tokensOf(text: string): Token[] {
  let from = 0;
  return [...new Lexer().lex(text)].map((source) => {
    const end = from + (MARKS.includes(source) ? 0 : source.length);
    const token = { source, from, end };
    from = end;
    return token;
  });
}

function unclosed(tokens: readonly Token[]): Unclosed[] {
  const found: Unclosed[] = [];
  let open: Omit<Unclosed, "until">[] = [];
  const giveUp = (until: number): void => {
    found.push(...open.map((bracket) => ({ ...bracket, until })));
    open = [];
  };
  for (const { source, from } of tokens) {
    if (source === "{" || source === "[") open.push({ bracket: source, from });
    else if (source === "}" || source === "]") open.pop();
    else if (source === FLOW_END) giveUp(from);
  }
  giveUp(tokens.at(-1)?.end ?? 0);
  return found;
}

function keyAt(text: string, position: number): string {
  return /[^\s:]*/.exec(text.slice(position))?.[0] ?? "";
}

/** How many spaces a row begins with. */
function indentOf(row: string): number {
  return /^ */.exec(row)?.[0].length ?? 0;
}

/** Where a row's key begins: behind the dash of a list's item. */
function contentColumn(row: string): number {
  return /^ *(?:- +)*/.exec(row)?.[0].length ?? 0;
}
