/** The configuration's schema as data to walk along, side by side with a value. Pure. */
import { configSchema } from "./schema.ts";

/** The part of JSON Schema that the configuration uses. */
export interface SchemaNode {
  readonly type?: string;
  readonly format?: string;
  readonly description?: string;
  readonly default?: unknown;
  readonly examples?: readonly unknown[];
  readonly enum?: readonly (string | number)[];
  readonly required?: readonly string[];
  readonly properties?: Readonly<Record<string, SchemaNode>>;
  readonly items?: SchemaNode;
  readonly anyOf?: readonly SchemaNode[];
  readonly [keyword: string]: unknown;
}

/** Keys and list positions from the root to a value. */
export type Path = readonly (string | number)[];

export const rootNode: SchemaNode = configSchema;

/** A path as an operator writes it: `mqtt.listeners[0].port`. */
export function pathText(path: Path): string {
  return path.reduce<string>(
    (text, step) => (typeof step === "number" ? `${text}[${step}]` : text === "" ? step : `${text}.${step}`),
    "",
  );
}

/** Whether keys or items stand below it. */
export function isSection(node: SchemaNode | undefined): boolean {
  return node?.type === "object" || node?.type === "array";
}

export function isMapping(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** The value with each scalar that has a node of its own replaced by what `change` makes of it; lists and mappings are copied. */
export function mapScalars(
  node: SchemaNode | undefined,
  value: unknown,
  change: (node: SchemaNode, value: unknown, path: Path) => unknown,
  path: Path = [],
): unknown {
  if (Array.isArray(value)) return value.map((item, index) => mapScalars(node?.items, item, change, [...path, index]));
  if (isMapping(value))
    return Object.fromEntries(
      Object.entries(value).map(([key, item]) => [
        key,
        mapScalars(propertyOf(node, key), item, change, [...path, key]),
      ]),
    );
  return node === undefined ? value : change(node, value, path);
}

/** The node of a key, where the schema knows it. */
export function propertyOf(node: SchemaNode | undefined, key: string): SchemaNode | undefined {
  const properties = node?.properties;
  return properties !== undefined && Object.hasOwn(properties, key) ? properties[key] : undefined;
}
