/** The effective configuration as YAML, and where each of its values comes from. Pure. */
import { Document, isScalar } from "yaml";
import type { LoadedConfig } from "./load.ts";
import type { Origin } from "./problem.ts";
import { type Path, pathText } from "./schema-node.ts";

/** Where each value comes from, by key: `default`, `line 12`, `profile gill-windsonic`, or the environment variable. */
export function originsOf({ config, originOf }: LoadedConfig): Record<string, string> {
  const origins: Record<string, string> = {};
  for (const path of scalarPaths(config)) {
    const origin = originOf(path);
    origins[pathText(path)] = origin === undefined ? "default" : originText(origin);
  }
  return origins;
}

function originText(origin: Origin): string {
  if ("line" in origin) return `line ${origin.line}`;
  return "profile" in origin ? `profile ${origin.profile}` : origin.variable;
}

/** YAML, with a comment behind each value whose origin is given. */
export function asYaml(effective: unknown, origins: Readonly<Record<string, string>> = {}): string {
  const document = new Document(effective);
  for (const path of scalarPaths(effective)) {
    const node = document.getIn(path, true);
    const origin = origins[pathText(path)];
    if (isScalar(node) && origin !== undefined) node.comment = ` ${origin}`;
  }
  return document.toString({ lineWidth: 0 });
}

function scalarPaths(value: unknown, path: Path = []): Path[] {
  if (typeof value !== "object" || value === null) return [path];
  return Object.entries(value).flatMap(([key, item]) =>
    scalarPaths(item, [...path, Array.isArray(value) ? Number(key) : key]),
  );
}
