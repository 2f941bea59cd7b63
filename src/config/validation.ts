/** The schema at work: checks and completes what was written, and says in words what does not fit. */
import { Ajv, type ErrorObject } from "ajv";
import { manualsAdvice } from "../codec/modbus-registers.ts";
import { messageOf } from "../kernel/errors.ts";
import { listed, nearest, suggestion } from "./nearest.ts";
import type { Finding } from "./problem.ts";
import { redactUrl } from "./redact.ts";
import { type Path, rootNode, type SchemaNode } from "./schema-node.ts";
import { HEX_PATTERN } from "./schema-terms.ts";
import { parseDuration, parseSize } from "./units.ts";

/** What a scalar of each format of our own becomes; throws where the text is no such thing. */
const FORMATS: Readonly<Record<string, (text: string) => number>> = { duration: parseDuration, size: parseSize };

/** The number that a text of format `duration` or `size` stands for. */
export function numberOf(format: string | undefined, text: string): number | undefined {
  const parse = format === undefined ? undefined : FORMATS[format];
  return parse?.(text);
}

const readable = (format: string) => (text: string) => {
  try {
    numberOf(format, text);
    return true;
  } catch {
    return false;
  }
};

function within(compare: (value: number, bound: number) => boolean) {
  return (bound: string, text: string, parent?: SchemaNode): boolean => {
    if (!readable(parent?.format ?? "")(text)) return true;
    return compare(numberOf(parent?.format, text) ?? 0, numberOf(parent?.format, bound) ?? 0);
  };
}

const ajv = new Ajv({
  strict: true,
  allErrors: true,
  useDefaults: true,
  verbose: true,
  // What it writes runs once: to make it quick would take longer than it takes.
  code: { optimize: false },
  formats: {
    duration: readable("duration"),
    size: readable("size"),
    url: (text) => text === "" || URL.canParse(text),
    hex: new RegExp(HEX_PATTERN),
    path: true,
    "register-address": true,
  },
});
ajv.addKeyword({ keyword: "inWords", schemaType: "string" });
ajv.addKeyword({ keyword: "atLeast", type: "string", schemaType: "string", validate: within((a, b) => a >= b) });
ajv.addKeyword({ keyword: "atMost", type: "string", schemaType: "string", validate: within((a, b) => a <= b) });

/** Something that the schema does not allow. */
export interface Misfit extends Finding {
  /** It is a key that stands where it is not known; everything beside it may be in order. */
  readonly unknownKey: boolean;
}

/** Fills the defaults into `data`, in place, and returns everything in it that a schema does not allow. */
export type Complete = (data: unknown) => Misfit[];

/** How data of this schema is completed and judged. Compiling it takes some time. */
export function completer(root: SchemaNode): Complete {
  const validate = ajv.compile(root);
  return (data) => {
    if (validate(data)) return [];
    return saidOnce(withoutAlternatives(validate.errors ?? [])).map((error) => ({
      path: pathOf(error),
      message: describe(error, root),
      unknownKey: error.keyword === "additionalProperties",
    }));
  };
}

/** Of the configuration. */
export const complete: Complete = completer(rootNode);

/**
 * A value that fits none of several alternatives is reported once: by the alternative of its own kind where there is one,
 * else by the list of alternatives.
 */
function withoutAlternatives(errors: readonly ErrorObject[]): ErrorObject[] {
  const choices = errors.filter((error) => error.keyword === "anyOf");
  const inside = (error: ErrorObject, choice: ErrorObject): boolean =>
    error !== choice &&
    error.schemaPath.startsWith(choice.schemaPath) &&
    error.instancePath.startsWith(choice.instancePath);
  const wrongKind = (error: ErrorObject, choice: ErrorObject): boolean =>
    inside(error, choice) && error.keyword === "type" && error.instancePath === choice.instancePath;
  return errors.filter((error) => {
    if (choices.some((choice) => wrongKind(error, choice))) return false;
    const better = errors.some((other) => inside(other, error) && !wrongKind(other, error));
    return error.keyword !== "anyOf" || !better;
  });
}

/** Of a value that is none of a list, that it is not even text says nothing more: quotes would not help. */
function saidOnce(errors: readonly ErrorObject[]): ErrorObject[] {
  const ofNoList = errors.filter(({ keyword }) => keyword === "enum");
  const better = (error: ErrorObject): boolean =>
    ofNoList.some((other) => other.instancePath === error.instancePath && other.parentSchema === error.parentSchema);
  return errors.filter((error) => error.keyword !== "type" || !better(error));
}

function pathOf(error: ErrorObject): Path {
  const steps = error.instancePath
    .split("/")
    .slice(1)
    .map((step) => step.replaceAll("~1", "/").replaceAll("~0", "~"));
  const missing = error.params.missingProperty ?? error.params.additionalProperty;
  const path = steps.map((step) => (/^[0-9]+$/.test(step) ? Number(step) : step));
  return typeof missing === "string" ? [...path, missing] : path;
}

const NOUNS: Readonly<Record<string, string>> = {
  string: "text",
  number: "a number",
  integer: "a whole number",
  boolean: "true or false",
  object: "a mapping of keys",
  array: "a list",
};

function describe(error: ErrorObject, root: SchemaNode): string {
  const node: SchemaNode = error.parentSchema ?? {};
  const params: Readonly<Record<string, unknown>> = error.params;
  const wants = (what: string): string => `must be ${what}, not ${shown(node, error.data)}`;
  switch (error.keyword) {
    case "additionalProperties":
      return unknownKey(String(params.additionalProperty), node, root);
    case "required":
      return `is missing${purpose(node, String(params.missingProperty))}`;
    case "type":
      return `${wants(kind(node, error.data))}${spaceMissing(node, error.data)}`;
    case "enum":
      return misspelt(node, error.data, wants);
    case "format":
      return malformed(node, error.data);
    case "atLeast":
      return wants(`${error.schema} or more`);
    case "atMost":
      return wants(`${error.schema} or less`);
    case "minimum":
      return wants(`${params.limit} or more`);
    case "maximum":
      return `${wants(`${params.limit} or less`)}${registerMeant(node, error.data)}`;
    case "exclusiveMinimum":
      return wants(`more than ${params.limit}`);
    case "minLength":
      return "must not be empty";
    case "maxLength":
      return wants(`${params.limit} character${params.limit === 1 ? "" : "s"} or fewer`);
    case "pattern":
      return wants(String(node.inWords ?? `text that fits ${error.schema}`));
    case "minItems":
      return "must not be empty";
    case "maxItems":
      return `may have ${params.limit} items or fewer`;
    case "anyOf":
      return wants((node.anyOf ?? []).map((choice) => kind(choice, undefined)).join(" or "));
    default:
      return `${error.message ?? error.keyword}, which ${shown(node, error.data)} does not`;
  }
}

function purpose(parent: SchemaNode, key: string): string {
  const description = parent.properties?.[key]?.description;
  return description === undefined ? "" : ` (${description})`;
}

function kind(node: SchemaNode, data: unknown): string {
  if (node.format === "duration") return "a duration with its unit, such as 30s";
  if (node.format === "size") return "a size with its unit, such as 64KiB";
  if (node.type === "string" && (typeof data === "number" || typeof data === "boolean"))
    return "text (put it in quotes)";
  return NOUNS[node.type ?? ""] ?? String(node.type);
}

/** YAML takes a key whose colon no space follows for a text. */
function spaceMissing({ type }: SchemaNode, data: unknown): string {
  const key = type === "object" && typeof data === "string" ? /^([\w.-]+):(?!\/\/)[^\s:]/.exec(data)?.[1] : undefined;
  return key === undefined ? "" : `; a space must follow the colon of \`${key}:\``;
}

function misspelt(node: SchemaNode, data: unknown, wants: (what: string) => string): string {
  const allowed = (node.enum ?? []).map(String);
  const guess = typeof data === "string" ? nearest(data, allowed) : undefined;
  return `${wants(`one of ${allowed.join(", ")}`)}${guess?.close ? `; did you mean \`${guess.name}\`?` : ""}`;
}

function malformed(node: SchemaNode, data: unknown): string {
  try {
    numberOf(node.format, String(data));
  } catch (thrown) {
    return `${messageOf(thrown)}; write it such as ${node.format === "size" ? "64KiB or 2GiB" : "250ms, 30s or 7d"}`;
  }
  if (node.format === "hex") return "is not hexadecimal, two digits a byte; write it such as '42 4d'";
  return "is not a URL; write it such as https://fusion.example/api/v1/observations/batch";
}

function registerMeant({ format }: SchemaNode, data: unknown): string {
  const advice = format === "register-address" ? manualsAdvice(Number(data)) : undefined;
  return advice === undefined ? "" : `; ${advice}`;
}

function unknownKey(key: string, parent: SchemaNode, root: SchemaNode): string {
  const known = Object.keys(parent.properties ?? {});
  const elsewhere = placesOf(key, root, "").filter(({ name }) => parent.properties?.[name] === undefined);
  if (elsewhere.length === 0 || elsewhere.length > MOST_PLACES || nearest(key, known)?.close) {
    return `unknown key; ${suggestion(key, known)}`;
  }
  const sections = elsewhere.map(({ under }) => (under === "" ? "at the top level" : `under \`${under}\``));
  return `unknown key; \`${elsewhere[0]?.name}\` belongs ${sections.join(" or ")}; ${listed(known)}`;
}

/** A key that has its place in more sections than this says nothing about which is meant. */
const MOST_PLACES = 3;

interface Place {
  /** The section, as `mqtt.listeners[]`; empty for the top. */
  readonly under: string;
  readonly name: string;
}

/** Where a key of this name has its place; the items of a list inside a list's item are a matter of their own. */
function placesOf(key: string, node: SchemaNode, under: string): Place[] {
  return Object.entries(node.properties ?? {}).flatMap(([name, child]) => {
    const here = under === "" ? name : `${under}.${name}`;
    const inItems = child.items === undefined || under.includes("[]") ? [] : placesOf(key, child.items, `${here}[]`);
    const own = name.toLowerCase() === key.toLowerCase() ? [{ under, name }] : [];
    return [...own, ...placesOf(key, child, here), ...inItems];
  });
}

/** A value as an error message may show it: short, and without a URL's secrets. */
function shown(node: SchemaNode, value: unknown): string {
  if (value === undefined) return "nothing";
  if (typeof value === "number") return String(value);
  if (Array.isArray(value)) return "a list";
  if (typeof value === "object" && value !== null) return "a mapping";
  const text = JSON.stringify(node.format === "url" ? redactUrl(String(value)) : value);
  return text.length <= 60 ? text : `${text.slice(0, 60)}…`;
}
