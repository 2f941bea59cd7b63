/** What others have written: the checks, that the repository passes them, and that each can fail. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { runNode } from "../support/command.ts";
import { projectRoot } from "../support/programs.ts";

interface LockEntry {
  readonly version: string;
  readonly license?: string;
  readonly dev?: boolean;
  readonly hasInstallScript?: boolean;
}
interface Lock {
  readonly packages: Readonly<Record<string, LockEntry>>;
}
interface Manifest {
  readonly dependencies: Readonly<Record<string, string>>;
  readonly allowScripts?: Readonly<Record<string, boolean>>;
}
interface Checks {
  isPermissive(expression: string | undefined): boolean;
  licenceProblems(lock: Lock, folder?: string): string[];
  scriptProblems(lock: Lock, manifest: Manifest): string[];
  reasonProblems(manifest: Manifest, text: string): string[];
  advisoryProblems(lock: Lock, manifest: Manifest): string[];
}

const checks = (await import(join(projectRoot, "scripts", "supply-chain.mjs"))) as Checks;
const read = (name: string): string => readFileSync(join(projectRoot, name), "utf8");
const lock = JSON.parse(read("package-lock.json")) as Lock;
const manifest = JSON.parse(read("package.json")) as Manifest;
const reasons = read(join("docs", "dependencies.md"));

const withPackage = (path: string, entry: LockEntry): Lock => ({ packages: { ...lock.packages, [path]: entry } });

test("every package that is installed with the program has a permissive licence", () => {
  assert.deepEqual(checks.licenceProblems(lock), []);
  for (const license of ["GPL-3.0-only", "AGPL-3.0", "SEE LICENSE IN LICENSE", "", undefined])
    assert.equal(checks.isPermissive(license), false, license);
  for (const license of ["MIT", "(MIT OR GPL-3.0-only)", "MIT AND ISC"])
    assert.ok(checks.isPermissive(license), license);
  assert.equal(checks.isPermissive("MIT AND GPL-3.0-only"), false);
  const added = withPackage("node_modules/x", { version: "1.0.0", license: "GPL-3.0-only" });
  assert.match(checks.licenceProblems(added).join(), /x 1\.0\.0: licence GPL-3\.0-only/);
});

test("only packages that somebody has looked at run a script when they are installed", () => {
  assert.deepEqual(checks.scriptProblems(lock, manifest), []);
  const added = withPackage("node_modules/a/node_modules/@x/y", {
    version: "1.0.0",
    dev: true,
    hasInstallScript: true,
  });
  assert.match(checks.scriptProblems(added, manifest).join(), /@x\/y runs an install script/);
  const { allowScripts } = manifest;
  assert.match(
    checks.scriptProblems(lock, { ...manifest, allowScripts: { ...allowScripts, gone: true } }).join(),
    /gone/,
  );
});

test("every production dependency has a line that says why it is there", () => {
  assert.deepEqual(checks.reasonProblems(manifest, reasons), []);
  const more = { ...manifest, dependencies: { ...manifest.dependencies, "left-pad": "^1.0.0" } };
  assert.match(checks.reasonProblems(more, reasons).join(), /left-pad has no line/);
  assert.match(checks.reasonProblems(manifest, `${reasons}\n| \`gone\` | for nothing | no |\n`).join(), /gone/);
});

test("no version with a flaw that the field's lessons name is installed, or let in by package.json", () => {
  assert.deepEqual(checks.advisoryProblems(lock, manifest), []);
  for (const [name, version] of [
    ["aedes", "1.1.9"],
    ["aedes", "2.0.0"],
    ["aedes", "2.0.0-beta.1"],
    ["aedes-persistence", "10.2.2"],
    ["better-sqlite3", "12.7.0"],
    ["node-forge", "1.3.3"],
    ["node-forge", "1.4.0-rc.1"],
  ] as const) {
    const nested = withPackage(`node_modules/z/node_modules/${name}`, { version });
    assert.match(
      checks.advisoryProblems(nested, manifest).join(),
      new RegExp(`z/node_modules/${name} is`),
      `${name} ${version}`,
    );
  }
  const loose = { ...manifest, dependencies: { ...manifest.dependencies, aedes: "^1.0.0", "aedes-persistence": "*" } };
  assert.equal(checks.advisoryProblems(lock, loose).length, 2);
  const unpinned = withPackage("node_modules/node-forge", { version: "1.4.0" });
  const { "node-forge": _forge, ...rest } = manifest.dependencies;
  assert.match(checks.advisoryProblems(unpinned, { ...manifest, dependencies: rest }).join(), /no minimum version/);
});

test("npm run sbom gives a CycloneDX document with every production package, its version, licence and checksum", async () => {
  const { status, stdout, stderr } = await runNode("scripts/sbom.mjs", [], { HOME: process.env.HOME ?? "/" });
  assert.equal(status, 0, stderr);
  const bom = JSON.parse(stdout) as {
    bomFormat: string;
    specVersion: string;
    metadata: { component: { name: string; type: string } };
    components: { name: string; version: string; purl: string; licenses?: unknown[]; hashes?: unknown[] }[];
  };
  assert.equal(bom.bomFormat, "CycloneDX");
  assert.deepEqual([bom.metadata.component.name, bom.metadata.component.type], ["summit-edge", "application"]);
  const listed = new Map(bom.components.map((component) => [component.name, component]));
  for (const name of Object.keys(manifest.dependencies)) {
    const component = listed.get(name);
    assert.equal(component?.version, lock.packages[`node_modules/${name}`]?.version, name);
    assert.ok((component?.licenses?.length ?? 0) > 0, `${name}: licence`);
    assert.ok((component?.hashes?.length ?? 0) > 0, `${name}: checksum`);
  }
  assert.equal(listed.has("typescript"), false);
});
