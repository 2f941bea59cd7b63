// docs/licences.md: the licence of every package that is installed with the program, from the lock file.
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { generated } from "./generated.mjs";
import { licenceOf, productionPackages } from "./supply-chain.mjs";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const lock = JSON.parse(readFileSync(join(root, "package-lock.json"), "utf8"));

const byLicence = new Map();
for (const entry of productionPackages(lock)) {
  const licence = licenceOf(entry) ?? "unknown";
  byLicence.set(licence, (byLicence.get(licence) ?? new Set()).add(entry.name));
}
const sections = [...byLicence]
  .sort(([a], [b]) => (a < b ? -1 : 1))
  .map(
    ([licence, names]) =>
      `## ${licence}\n\n${[...names]
        .sort()
        .map((name) => `- ${name}`)
        .join("\n")}\n`,
  );
const head = `# Licences of what is installed with Summit Edge

Made by \`node scripts/licences.mjs --write\` from the lock file; \`npm run check\` compares, and refuses a licence that asks for more than to be
named. better-sqlite3 brings SQLite, which is in the public domain. \`npm run sbom\` gives versions and checksums as well.
`;
generated(join(root, "docs", "licences.md"), `${head}\n${sections.join("\n")}`);
