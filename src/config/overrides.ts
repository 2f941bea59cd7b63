/**
 * Keys from the environment: `SUMMIT_EDGE__UPLINK__URL=…` sets `uplink.url`. A double underscore separates the levels; upper
 * and lower case and single underscores make no difference, so `DATADIR` and `DATA_DIR` both name `dataDir`. An item of a
 * list is named by its position, a whole list or mapping is given as YAML or JSON.
 */
import { parse as parseYaml } from "yaml";
import { messageOf } from "../kernel/errors.ts";
import type { Environment } from "./environment.ts";
import { listed, nearest } from "./nearest.ts";
import { fromFolder } from "./paths.ts";
import { isMapping, mapScalars, type Path, rootNode, type SchemaNode } from "./schema-node.ts";

export const OVERRIDE_PREFIX = "SUMMIT_EDGE__";

export interface Override {
  readonly variable: string;
  readonly path: Path;
  readonly value: unknown;
}

export interface Misnamed {
  readonly variable: string;
  readonly message: string;
}

/** Every override in `env`, wholes before their parts; relative paths in them are taken from `folder`. */
export function overridesOf(env: Environment, folder: string): { overrides: Override[]; misnamed: Misnamed[] } {
  const overrides: Override[] = [];
  const misnamed: Misnamed[] = [];
  for (const [variable, text] of Object.entries(env)) {
    if (text === undefined || !variable.startsWith(OVERRIDE_PREFIX)) continue;
    const target = resolve(variable.slice(OVERRIDE_PREFIX.length).split("__"));
    const value = target.node === undefined ? undefined : read(target.node, text);
    if (target.node === undefined) misnamed.push({ variable, message: target.message });
    else if (value instanceof Error) misnamed.push({ variable, message: `is not YAML or JSON: ${value.message}` });
    else overrides.push({ variable, path: target.path, value: anchored(target.node, value, folder) });
  }
  return { overrides: overrides.sort((a, b) => inOrder(a.path, b.path)), misnamed };
}

/** Puts an override into `data`, in place; `undefined`, or why it cannot be put there. */
export function apply(data: Record<string, unknown>, override: Override): string | undefined {
  let node: SchemaNode | undefined = rootNode;
  let holder: unknown = data;
  for (const [depth, step] of override.path.entries()) {
    const last = depth === override.path.length - 1;
    node = typeof step === "number" ? node?.items : node?.properties?.[step];
    if (Array.isArray(holder) && typeof step === "number") {
      if (step > holder.length) return `the list has ${holder.length} items so far; the next one is ${holder.length}`;
    } else if (!isMapping(holder)) return undefined;
    const slots = holder as Record<string | number, unknown>;
    if (last) slots[step] = override.value;
    else slots[step] ??= structuredClone(node?.default) ?? (node?.items === undefined ? {} : []);
    holder = slots[step];
  }
  return undefined;
}

type Target =
  | { readonly node: SchemaNode; readonly path: Path }
  | { readonly node?: undefined; readonly message: string };

const plain = (name: string): string => name.replaceAll("_", "").toLowerCase();

function resolve(segments: readonly string[]): Target {
  const path: (string | number)[] = [];
  let node = rootNode;
  for (const [depth, segment] of segments.entries()) {
    const here = OVERRIDE_PREFIX + path.map((step) => `${String(step).toUpperCase()}__`).join("");
    if (node.items !== undefined) {
      if (!/^[0-9]{1,4}$/.test(segment)) return { message: `a position in the list (0, 1, …) must follow ${here}` };
      path.push(Number(segment));
      node = node.items;
      continue;
    }
    const known = Object.keys(node.properties ?? {});
    const key = known.find((name) => plain(name) === plain(segment));
    const child = key === undefined ? undefined : node.properties?.[key];
    if (key === undefined || child === undefined)
      return { message: unknown(here, segment, segments.slice(depth + 1), known) };
    path.push(key);
    node = child;
  }
  return { node, path };
}

function unknown(here: string, segment: string, rest: readonly string[], known: readonly string[]): string {
  const meant = nearest(segment, known);
  if (meant === undefined) return `${here.slice(0, -2)} is a single value; nothing may follow it`;
  if (!meant.close) return `no such key; ${listed(known.map((name) => here + name.toUpperCase()))}`;
  return `no such key; did you mean \`${here}${[meant.name.toUpperCase(), ...rest].join("__")}\`?`;
}

/** The text as the schema's type; where it is not of that type it stays text, which validation then refuses. */
function read(node: SchemaNode, text: string): unknown {
  if (node.type === "string") return text;
  if (node.type === "number" || node.type === "integer") return /^[-+.0-9e]+$/i.test(text) ? Number(text) : text;
  if (node.type === "boolean") return text === "true" || (text === "false" ? false : text);
  try {
    return parseYaml(text);
  } catch (thrown) {
    return new Error(messageOf(thrown).split("\n")[0]);
  }
}

function anchored(node: SchemaNode, value: unknown, folder: string): unknown {
  return mapScalars(node, value, (leaf, text) =>
    leaf.format === "path" && typeof text === "string" && text !== "" ? fromFolder(folder, text) : text,
  );
}

/** Positions by number, keys by name, a whole before its parts. */
function inOrder(a: Path, b: Path): number {
  for (const [depth, step] of a.entries()) {
    const other = b[depth];
    if (other === undefined) return 1;
    if (step === other) continue;
    if (typeof step === "number" && typeof other === "number") return step - other;
    return String(step) < String(other) ? -1 : 1;
  }
  return a.length - b.length;
}
