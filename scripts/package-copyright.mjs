// /usr/share/doc/summit-edge/copyright: Debian's machine-readable form, made from the modules that go into the package.
import { licenceOf } from "./supply-chain.mjs";

/** `modules`: as `productionPackages` gives them. `program`: where they lie in the package, without the leading slash. */
export function debianCopyright(modules, program) {
  const byLicence = new Map();
  for (const entry of modules) {
    const licence = licenceOf(entry) ?? fail(entry.name);
    byLicence.set(licence, [...(byLicence.get(licence) ?? []), `${program}/${entry.path}/*`]);
  }
  const licences = [...byLicence].sort(([a], [b]) => (a < b ? -1 : 1));
  return [
    "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\nUpstream-Name: Summit Edge\n" +
      "Comment: better-sqlite3 brings SQLite, which is in the public domain.\n",
    "Files: *\nCopyright: the authors of Summit Edge\nLicense: Apache-2.0\n",
    ...licences.map(
      ([licence, files]) =>
        `Files: ${[...new Set(files)].sort().join("\n ")}\nCopyright: its authors, as named in its package.json and its licence file\n` +
        `License: ${shortName(licence)}\n`,
    ),
    "License: Apache-2.0\n On Debian systems the text is in /usr/share/common-licenses/Apache-2.0.\n",
    ...[...new Set(licences.map(([licence]) => shortName(licence)))]
      .filter((licence) => licence !== "Apache-2.0")
      .map(
        (licence) =>
          `License: ${licence}\n The text, with its copyright notice, is in the licence file of each module named above.\n`,
      ),
  ].join("\n");
}

/** Debian writes `A OR B` as `A or B`. */
function shortName(licence) {
  return licence.replace(/[()]/g, "").replaceAll(" OR ", " or ").replaceAll(" AND ", " and ");
}

function fail(name) {
  throw new Error(`${name} states no licence`);
}
