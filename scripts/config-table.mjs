// The README's table of configuration keys, from the schema. Needs a build.
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { rootNode } from "../dist/config/schema-node.js";
import { generated } from "./generated.mjs";

const BEGIN = "<!-- config-table:begin -->";
const END = "<!-- config-table:end -->";

function rows(node, path) {
  return Object.entries(node.properties ?? {}).flatMap(([key, child]) => {
    const here = path === "" ? key : `${path}.${key}`;
    const own = [`\`${here}\``, fallback(child, node, key), about(child)];
    return [own, ...rows(child, here), ...rows(child.items ?? {}, `${here}[]`)];
  });
}

function fallback(node, parent, key) {
  if (node.default === undefined) return parent.required?.includes(key) ? "required" : "";
  if (node.properties !== undefined) return "";
  const text = typeof node.default === "string" ? node.default : JSON.stringify(node.default);
  return text.length <= 40 ? `\`${text}\`` : "see `config/gateway.yaml`";
}

function about(node) {
  const bounds = [
    [node.minimum ?? node.atLeast, "at least"],
    [node.exclusiveMinimum, "more than"],
    [node.maximum ?? node.atMost, "at most"],
  ].flatMap(([bound, words]) => (bound === undefined ? [] : [`${words} ${bound}`]));
  const allowed = node.enum === undefined ? bounds : [node.enum.map((value) => `\`${value}\``).join(", ")];
  const text = [node.description ?? "", allowed.length === 0 ? "" : `(${allowed.join(", ")})`];
  return text
    .filter((part) => part !== "")
    .join(" ")
    .replaceAll("|", "\\|");
}

/** Columns padded to the same width, as the formatter would. */
function aligned(lines) {
  const widths = lines[0].map((_, column) => Math.max(...lines.map((cells) => cells[column].length)));
  const row = (cells, fill) => `| ${cells.map((cell, column) => cell.padEnd(widths[column], fill)).join(" | ")} |`;
  const [head, ...body] = lines;
  return [
    row(head, " "),
    row(
      head.map(() => ""),
      "-",
    ),
    ...body.map((cells) => row(cells, " ")),
  ].join("\n");
}

const table = aligned([["key", "default", "meaning"], ...rows(rootNode, "")]);
const readme = join(dirname(dirname(fileURLToPath(import.meta.url))), "README.md");
generated(readme, `${table}\n`, (now) => {
  const [before, rest] = now.split(BEGIN);
  const after = rest?.split(END)[1];
  if (after === undefined) throw new Error(`README.md needs the lines ${BEGIN} and ${END}`);
  return `${before}${BEGIN}\n\n${table}\n\n${END}${after}`;
});
