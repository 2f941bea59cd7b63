// config/gateway.yaml, the commented field default, from the schema. Needs a build.
// A comment begins with "# "; a key that is commented out begins with "#" and takes effect without it.
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { stringify } from "yaml";
import { rootNode } from "../dist/config/schema-node.js";
import { generated } from "./generated.mjs";

const HEAD = `# Summit Edge: the field default. Copy it to /etc/summit-edge/gateway.yaml, then set gateway.id and uplink.url.
# What stands here is what holds without it: keep only the lines that you change, if you like it short.
# "summit-edge config check" looks it over; every key can be overridden as SUMMIT_EDGE__UPLINK__URL=... in the environment.
# A relative file is taken from this file's folder. Secrets are files: under systemd, LoadCredential=mqtt.key:/path makes
# \${CREDENTIALS_DIRECTORY}/mqtt.key. This file is generated from the schema (scripts/config-example.mjs).
`;

const scalar = (value) => stringify(value, { lineWidth: 0 }).trimEnd();
const flow = (value) =>
  stringify(value, { collectionStyle: "flow", lineWidth: 0, flowCollectionPadding: true }).trimEnd();

function about(node) {
  const choices = node.enum === undefined ? "" : ` (${node.enum.join(" | ")})`;
  return `${node.description}${choices}`;
}

function section(node) {
  return Object.entries(node.properties).flatMap(([key, child]) => [`# ${about(child)}`, ...entry(key, child)]);
}

function entry(key, node) {
  const [example] = node.examples ?? [];
  if (node.properties !== undefined && node.default !== undefined) return [`${key}:`, ...indented(section(node))];
  if (node.type === "array" && (example !== undefined || node.default.length > 0))
    return [`${key}:`, ...indented(list(node))];
  if (node.default === undefined) return [`#${key}: ${flow(example)}`];
  return [`${key}: ${scalar(node.default)}`];
}

function list(node) {
  const items = node.default.map((item) => `- ${flow(item)}`);
  const examples = (node.examples ?? []).flatMap((item) =>
    itemLines(item, node.items).map((line, index) => `#${index === 0 ? "- " : "  "}${line}`),
  );
  return [...items, ...examples];
}

/** A mapping with what each key means behind it. */
function itemLines(item, node) {
  return Object.entries(item).flatMap(([key, value]) => {
    const child = node.properties[key];
    const nested = typeof value === "object" && !Array.isArray(value);
    const line = `${key}:${nested ? "" : ` ${Array.isArray(value) ? flow(value) : scalar(value)}`}`;
    return [`${line}  # ${about(child)}`, ...(nested ? indented(itemLines(value, child)) : [])];
  });
}

const indented = (lines) => lines.map((line) => `  ${line}`);

const body = Object.entries(rootNode.properties).map(
  ([key, node]) => `\n# ${about(node)}\n${entry(key, node).join("\n")}\n`,
);
const file = join(dirname(dirname(fileURLToPath(import.meta.url))), "config", "gateway.yaml");
generated(file, HEAD + body.join(""));
