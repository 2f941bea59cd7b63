import assert from "node:assert/strict";
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  realpathSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, test } from "node:test";
import { deadLinks } from "../support/links.ts";
import { projectRoot, run, skipWithout } from "../support/programs.ts";

const script = join(projectRoot, "device", "install.sh");
let folder: string;
/** A project as small as one can be: built, with one module to run and one to develop. */
let project: string;
/** What stands for the machine's root. */
let root: string;

function write(path: string, text: string): void {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, text);
}

beforeEach(() => {
  folder = realpathSync(mkdtempSync(join(tmpdir(), "summit-edge-install-")));
  project = join(folder, "project");
  root = join(folder, "root");
  mkdirSync(root);
  const dependencies = { dependencies: { runs: "1.0.0" }, devDependencies: { develops: "1.0.0" } };
  write(join(project, "package.json"), JSON.stringify({ name: "summit-edge", version: "1.0.0", ...dependencies }));
  for (const name of ["runs", "develops"])
    write(join(project, "node_modules", name, "package.json"), JSON.stringify({ name, version: "1.0.0" }));
  write(join(project, "dist", "main.js"), "first");
  write(join(project, "dist", "test", "some.test.js"), "");
  write(join(project, "config", "gateway.yaml"), "shipped: true\n");
  for (const part of ["README.md", "LICENSE", "certs", "docs", "device", "systemd"])
    cpSync(join(projectRoot, part), join(project, part), { recursive: true });
});
afterEach(() => rmSync(folder, { recursive: true }));

const install = (...args: string[]) => run("sh", [script, "--from", project, "--root", root, ...args]);
const installed = (path: string): string => join(root, path);
const mode = (path: string): string => (statSync(path).mode & 0o777).toString(8);

test("a machine gets the program, what it needs to run and nothing else", () => {
  const { status, output } = install();
  assert.equal(status, 0, output);
  assert.equal(readFileSync(installed("opt/summit-edge/dist/main.js"), "utf8"), "first");
  assert.deepEqual(readdirSync(installed("opt/summit-edge/node_modules")), ["runs"]);
  assert.equal(existsSync(installed("opt/summit-edge/dist/test")), false);
  assert.ok(
    existsSync(installed("opt/summit-edge/device/profiles/nova-sds011.yaml")),
    "beside dist, where it is looked for",
  );
  assert.ok(existsSync(installed("opt/summit-edge/docs/access.md")), "which hints name");
  assert.deepEqual(deadLinks(installed("opt/summit-edge")), []);
  assert.deepEqual(readdirSync(installed("opt")), ["summit-edge"]);
  assert.equal(readlinkSync(installed("usr/local/bin/summit-edge")), "/opt/summit-edge/dist/main.js");
  assert.equal(mode(installed("opt/summit-edge/dist/main.js")), "755");
  assert.equal(mode(installed("etc/summit-edge/gateway.yaml")), "640");
  assert.equal(mode(installed("etc/summit-edge/secrets")), "700");
});

test("what the README says to install is what the line before has packaged", () => {
  const { version } = JSON.parse(readFileSync(join(projectRoot, "package.json"), "utf8"));
  const [, packaged, named] =
    /npm run package +# (\S+\.deb):.*\nsudo apt install (\S+)\n/.exec(
      readFileSync(join(projectRoot, "README.md"), "utf8"),
    ) ?? [];
  assert.equal(packaged, `dist-packages/summit-edge_${version}_amd64.deb`);
  assert.equal(named, `./${packaged}`);
});

test("the service runs the Node.js that is there", () => {
  install();
  const unit = readFileSync(installed("etc/systemd/system/summit-edge.service"), "utf8");
  const [, node = ""] =
    /^ExecStart=(\S+) (?:--\S+ )*\/opt\/summit-edge\/dist\/main\.js run --config (\S+)$/m.exec(unit) ?? [];
  assert.ok(existsSync(node), unit);
});

const RULES = "udev/rules.d/70-summit-edge-serial.rules";

test("udev gets the shipped rules anew each time, beside those of the site, which it reads instead", () => {
  assert.doesNotMatch(install().output, /takes their place/);
  write(installed(`usr/local/lib/${RULES}`), "of an earlier version");
  write(installed(`etc/${RULES}`), "the site's own");
  assert.match(install().output, /etc\/udev\/rules\.d\/70-\S+ is there, stays as it is, and takes their place/);
  const shipped = readFileSync(join(projectRoot, "device", "udev", "70-summit-edge-serial.rules"), "utf8");
  assert.equal(readFileSync(installed(`usr/local/lib/${RULES}`), "utf8"), shipped);
  assert.equal(readFileSync(installed(`etc/${RULES}`), "utf8"), "the site's own");
  assert.equal(install("--uninstall").status, 0);
  assert.equal(existsSync(installed(`usr/local/lib/${RULES}`)), false);
  assert.equal(readFileSync(installed(`etc/${RULES}`), "utf8"), "the site's own");
});

test("an upgrade swaps the program and leaves the configuration and the outbox alone", () => {
  install();
  write(installed("etc/summit-edge/gateway.yaml"), "mine: true\n");
  write(installed("var/lib/summit-edge/outbox.db"), "readings");
  write(join(project, "dist", "main.js"), "second");
  rmSync(join(project, "dist", "test"), { recursive: true });
  const { status, output } = install();
  assert.equal(status, 0, output);
  assert.match(output, /gateway\.yaml is there and stays as it is/);
  assert.equal(readFileSync(installed("opt/summit-edge/dist/main.js"), "utf8"), "second");
  assert.equal(readFileSync(installed("etc/summit-edge/gateway.yaml"), "utf8"), "mine: true\n");
  assert.equal(readFileSync(installed("var/lib/summit-edge/outbox.db"), "utf8"), "readings");
  assert.deepEqual(readdirSync(installed("opt")), ["summit-edge"]);
});

test("a dry run names every step and changes nothing", () => {
  const { status, output } = install("--dry-run");
  assert.equal(status, 0, output);
  for (const step of ["Check", "Program", "Configuration", "Service", "udev rules"])
    assert.match(output, new RegExp(`==> ${step}`));
  assert.match(output, /would run: cp .*gateway\.yaml/);
  assert.match(output, /Nothing was changed\.\n$/);
  assert.deepEqual(readdirSync(root), []);
});

test("a dry run on the machine itself also names account and service, and needs no root", () => {
  const { status, output } = run("sh", [script, "--from", project, "--dry-run"]);
  assert.equal(status, 0, output);
  assert.match(output, /==> Account summit-edge/);
  assert.match(output, /would run: systemctl enable summit-edge\.service/);
  assert.doesNotMatch(run("sh", [script, "--from", project, "--dry-run", "--no-start"]).output, /systemctl (re)?start/);
});

test("uninstalling removes the program and keeps configuration and outbox", () => {
  install();
  write(installed("var/lib/summit-edge/outbox.db"), "readings");
  const { status, output } = install("--uninstall");
  assert.equal(status, 0, output);
  for (const gone of ["opt/summit-edge", "usr/local/bin/summit-edge", "etc/systemd/system/summit-edge.service"])
    assert.equal(existsSync(installed(gone)), false, gone);
  assert.equal(readFileSync(installed("var/lib/summit-edge/outbox.db"), "utf8"), "readings");
  assert.equal(readFileSync(installed("etc/summit-edge/gateway.yaml"), "utf8"), "shipped: true\n");
  assert.equal(install("--uninstall").status, 0, "again is as good as once");
});

test("a project that is not built is refused before anything is changed, with what to do", () => {
  rmSync(join(project, "dist"), { recursive: true });
  const { status, output } = install();
  assert.equal(status, 1);
  assert.match(output, /npm run build/);
  assert.deepEqual(readdirSync(root), []);
});

test("a folder that lacks what is to be installed is refused before anything is changed", () => {
  rmSync(join(project, "config"), { recursive: true });
  const { status, output } = install();
  assert.equal(status, 1);
  assert.match(output, /config\/gateway\.yaml is missing/);
  assert.deepEqual(readdirSync(root), []);
});

test("wrong usage ends with status 2", () => {
  assert.equal(install("--colour").status, 2);
  assert.equal(run("sh", [script, "--root"]).status, 2);
  assert.equal(run("sh", [script, "--root", "/does/not/exist"]).status, 2);
  assert.equal(run("sh", [script, "--help"]).status, 0);
});

test("shellcheck finds nothing wrong with the script", { skip: skipWithout("shellcheck") }, () => {
  assert.deepEqual(run("shellcheck", [script]), { status: 0, output: "" });
});
