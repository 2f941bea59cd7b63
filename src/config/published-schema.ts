/** The schema as it is given to editors and other programs: plain JSON Schema, draft 7, without formats and keywords of our own. Pure. */
import { rootNode, type SchemaNode } from "./schema-node.ts";
import { HEX_PATTERN } from "./schema-terms.ts";
import { DURATION_PATTERN, SIZE_PATTERN } from "./units.ts";

const OWN_KEYWORDS = new Set(["atLeast", "atMost"]);
const OWN_FORMATS: Readonly<Record<string, { readonly pattern?: string; readonly format?: string }>> = {
  duration: { pattern: DURATION_PATTERN },
  size: { pattern: SIZE_PATTERN },
  hex: { pattern: HEX_PATTERN },
  url: { format: "uri" },
  path: {},
  "register-address": {},
};

export function publishedSchema(node: SchemaNode = rootNode): unknown {
  const entries = Object.entries(node).flatMap(([keyword, value]): [string, unknown][] => {
    if (OWN_KEYWORDS.has(keyword)) return [];
    if (keyword === "format") return Object.entries(OWN_FORMATS[String(value)] ?? { format: value });
    if (keyword === "properties" && node.properties !== undefined)
      return [
        [
          keyword,
          Object.fromEntries(Object.entries(node.properties).map(([key, child]) => [key, publishedSchema(child)])),
        ],
      ];
    if (keyword === "items" && node.items !== undefined) return [[keyword, publishedSchema(node.items)]];
    return [[keyword, value]];
  });
  return Object.fromEntries(entries);
}
