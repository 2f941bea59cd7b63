/** A configuration file as text with lines: reading it within bounds, and knowing which line says what. */
import { createReadStream } from "node:fs";
import { type Document, isAlias, isMap, isScalar, isSeq, LineCounter, parseDocument } from "yaml";
import { codeOf, messageOf } from "../kernel/errors.ts";
import { ConfigError } from "./problem.ts";
import type { Path } from "./schema-node.ts";
import { foreignLanguage, syntaxProblems } from "./yaml-faults.ts";

/** A configuration is written by hand; anything larger is the wrong file. */
const MAX_FILE_BYTES = 1024 * 1024;
/** Nodes that aliases may stand for before a file is taken for an alias bomb. */
const MAX_ALIASES = 100;
/** An installed configuration may hold secrets: nobody is to open it to all because a command asked for it. */
const NOT_FOR_ALL = "It is for root and the daemon's user: run the command with sudo, or as that user.";

export interface YamlFile {
  /** What the file says; an empty file says `undefined`. */
  readonly data: unknown;
  /** The line of the innermost part of `path` that the file has, from 1, and whether that is all of it. */
  find(path: Path): { readonly line: number; readonly whole: boolean } | undefined;
}

/**
 * Reads a YAML 1.2 file of at most 1 MiB: one document, no duplicate keys, no tags of its own.
 * @throws ConfigError with every syntax error and its line
 */
export async function readYamlFile(file: string): Promise<YamlFile> {
  const text = await readText(file);
  const lines = new LineCounter();
  let document: Document.Parsed;
  let data: unknown;
  try {
    document = parseDocument(text, { lineCounter: lines, prettyErrors: false, version: "1.2" });
    const faults = [...document.errors, ...document.warnings];
    const foreign = isScalar(document.contents) ? foreignLanguage(text) : undefined;
    const problems = foreign === undefined ? syntaxProblems(text, faults, lines) : [foreign];
    if (problems.length > 0) throw new ConfigError(file, problems, { about: "syntax" });
    data = document.toJS({ maxAliasCount: MAX_ALIASES }) ?? undefined;
  } catch (thrown) {
    if (thrown instanceof ConfigError) throw thrown;
    throw new ConfigError(file, [{ path: "", message: `cannot be read as YAML: ${messageOf(thrown)}` }]);
  }
  return { data, find: (path) => find(document, lines, path) };
}

async function readText(file: string): Promise<string> {
  const chunks: Buffer[] = [];
  try {
    for await (const chunk of createReadStream(file, { end: MAX_FILE_BYTES })) chunks.push(chunk);
  } catch (thrown) {
    const code = codeOf(thrown) ?? "";
    const reason = { ENOENT: "there is no such file", EACCES: "permission denied", EISDIR: "it is a folder" }[code];
    const problem = { path: "", message: `cannot be read: ${reason ?? messageOf(thrown)}` };
    throw new ConfigError(file, [problem], { cause: thrown, ...(code === "EACCES" && { hint: NOT_FOR_ALL }) });
  }
  const bytes = Buffer.concat(chunks);
  if (bytes.length > MAX_FILE_BYTES)
    throw new ConfigError(file, [{ path: "", message: "is larger than 1 MiB, which no configuration is" }]);
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    throw new ConfigError(file, [{ path: "", message: "is not UTF-8 text" }]);
  }
}

function find(document: Document.Parsed, lines: LineCounter, path: Path): ReturnType<YamlFile["find"]> {
  let node: unknown = document.contents;
  let position: number | undefined;
  for (const step of path) {
    if (isAlias(node)) node = node.resolve(document);
    const pair = isMap(node) ? node.items.find(({ key }) => isScalar(key) && String(key.value) === step) : undefined;
    const item = isSeq(node) && typeof step === "number" ? node.items[step] : undefined;
    const start = positionOf(pair?.key ?? item);
    if (start === undefined)
      return position === undefined ? undefined : { line: lines.linePos(position).line, whole: false };
    position = start;
    node = pair?.value ?? item;
  }
  return position === undefined ? undefined : { line: lines.linePos(position).line, whole: true };
}

function positionOf(node: unknown): number | undefined {
  return (node as { range?: readonly number[] | null } | undefined)?.range?.[0];
}
