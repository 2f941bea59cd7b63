/** The schema as it is given to editors and other programs: plain JSON Schema, draft 7, without formats and keywords of our own. Pure. */
import { isSection, rootNode, type SchemaNode } from "./schema-node.ts";
import { HEX_PATTERN } from "./schema-terms.ts";
import { DURATION_PATTERN, SIZE_PATTERN } from "./units.ts";

const OWN_KEYWORDS = new Set(["atLeast", "atMost", "inWords"]);
const OWN_FORMATS: Readonly<Record<string, { readonly pattern?: string; readonly format?: string }>> = {
  duration: { pattern: DURATION_PATTERN },
  size: { pattern: SIZE_PATTERN },
  hex: { pattern: HEX_PATTERN },
  url: { format: "uri" },
  path: {},
  "register-address": {},
};

export function publishedSchema(node: SchemaNode = rootNode): object {
  const entries = Object.entries(node).flatMap(([keyword, value]): [string, unknown][] => {
    if (OWN_KEYWORDS.has(keyword)) return [];
    if (keyword === "format") return Object.entries(OWN_FORMATS[String(value)] ?? { format: value });
    if (keyword === "properties" && node.properties !== undefined) return [[keyword, publishedProperties(node)]];
    if (keyword === "items" && node.items !== undefined) return [[keyword, publishedSchema(node.items)]];
    return [[keyword, value]];
  });
  return Object.fromEntries(entries);
}

/** A section whose keys are all commented out is `null` in YAML, which the gateway takes as absent. */
function publishedProperties({ properties = {}, required = [] }: SchemaNode): object {
  const entries = Object.entries(properties).map(([key, child]) => {
    const mayBeEmpty = isSection(child) && !required.includes(key);
    return [key, { ...publishedSchema(child), ...(mayBeEmpty && { type: [child.type, "null"] }) }];
  });
  return Object.fromEntries(entries);
}
