// `npm run package`: a Debian package of the built program for this machine's architecture and its Node.js's major version, in
// dist-packages/. The same files and the same SOURCE_DATE_EPOCH (by default the last commit's time) give the same bytes.
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  chmodSync,
  cpSync,
  existsSync,
  lutimesSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, relative, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { debianCopyright } from "./package-copyright.mjs";
import { productionPackages } from "./supply-chain.mjs";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const read = (...path) => readFileSync(join(root, ...path), "utf8");

/** When it was made, as far as the package says so, in seconds since 1970. */
const EPOCH = sourceDate();
const PROGRAM = "usr/lib/summit-edge";
const DOCUMENTS = "usr/share/doc/summit-edge";
/** Where links of the documents lead on a machine that has the package. */
const INSTALLED_AS = {
  LICENSE: "copyright",
  "systemd/summit-edge.service": "/usr/lib/systemd/system/summit-edge.service",
  "udev/70-summit-edge-serial.rules": "/usr/lib/udev/rules.d/70-summit-edge-serial.rules",
};
const CONFIGURATION = "etc/summit-edge/gateway.yaml";
const MAINTAINER_SCRIPTS = ["preinst", "postinst", "prerm", "postrm"];

/** Of a module: types, maps, what its authors test with, and the settings of their tools. */
const LEFT_OUT = [
  /\.(ts|mts|cts|map|tsbuildinfo)$/,
  /^(tests?|benchmarks?|examples|docs|\.github)$/,
  /(^|\/)(binding\.gyp|\.[^/]+)$/,
];
const LEFT_OUT_OF = {
  "node_modules/better-sqlite3": [
    /^(deps|src)$/,
    /^build\/(?!Release$)[^/]+$/,
    /^build\/Release\/(?!better_sqlite3\.node$)/,
  ],
  "node_modules/@serialport/bindings-cpp": [
    /^src$/,
    new RegExp(`^prebuilds/(?!linux-${process.arch}(/|$))`),
    /^prebuilds\/.*\.musl\.node$/,
  ],
};

function fail(message) {
  console.error(`error: ${message}`);
  process.exit(1);
}

/** Runs a program of Debian's to its end, and gives what it wrote. */
function debian(program, args, options = {}) {
  const done = spawnSync(program, args, { encoding: "utf8", ...options });
  if (done.error?.code === "ENOENT") fail(`there is no ${program}: sudo apt install dpkg-dev binutils`);
  if (done.status !== 0) fail(`${program} ${args.join(" ")}\n${done.stderr}`);
  return done.stdout.trim();
}

function sourceDate() {
  const given = process.env.SOURCE_DATE_EPOCH;
  if (given !== undefined) return Number(given);
  const committed = spawnSync("git", ["log", "-1", "--format=%ct"], { cwd: root, encoding: "utf8" });
  return Number(committed.stdout) || Math.floor(statSync(join(root, "package.json")).mtimeMs / 1000);
}

function options(args) {
  const chosen = { version: JSON.parse(read("package.json")).version, out: join(root, "dist-packages") };
  for (let at = 0; at < args.length; at += 2) {
    const key = args[at]?.slice(2);
    if (!args[at]?.startsWith("--") || !Object.hasOwn(chosen, key) || args[at + 1] === undefined) {
      console.error("usage: npm run package -- [--version VERSION] [--out DIR]");
      process.exit(2);
    }
    chosen[key] = args[at + 1];
  }
  // A version before its release sorts before it by a tilde.
  return { version: chosen.version.replace("-", "~"), out: resolve(chosen.out) };
}

/** `source`, a file or folder of the project, at `target` below the package's root, without what `isLeftOut` says. */
function place(stage, source, target, isLeftOut = () => false) {
  const from = join(root, source);
  mkdirSync(dirname(join(stage, target)), { recursive: true });
  cpSync(from, join(stage, target), {
    recursive: true,
    filter: (path) => path === from || !isLeftOut(relative(from, path)),
  });
}

function write(stage, path, content) {
  mkdirSync(dirname(join(stage, path)), { recursive: true });
  writeFileSync(join(stage, path), content);
}

/** The modules that the lock file has for production; one that is not for this platform is not installed. */
function installedModules() {
  return productionPackages(JSON.parse(read("package-lock.json"))).filter(({ path, optional, name }) => {
    if (name.startsWith("@types/")) return false;
    if (existsSync(join(root, path))) return true;
    return optional === true ? false : fail(`${path} is not installed: npm ci`);
  });
}

function placeProgram(stage, modules, version) {
  if (!existsSync(join(root, "dist", "main.js"))) fail("the program is not built: npm run build");
  place(stage, "dist", `${PROGRAM}/dist`, (path) => path === "test" || LEFT_OUT[0].test(path));
  place(stage, "config/gateway.yaml", `${PROGRAM}/config/gateway.yaml`);
  place(stage, "config/demo.yaml", `${PROGRAM}/config/demo.yaml`);
  place(stage, "device/profiles", `${PROGRAM}/device/profiles`);
  write(
    stage,
    `${PROGRAM}/package.json`,
    `${JSON.stringify({ ...JSON.parse(read("package.json")), version }, undefined, 2)}\n`,
  );
  for (const { path } of modules) {
    const patterns = [...LEFT_OUT, ...(LEFT_OUT_OF[path] ?? []), /^node_modules$/];
    place(stage, path, `${PROGRAM}/${path}`, (inside) => patterns.some((pattern) => pattern.test(inside)));
  }
}

function placeRest(stage, modules, version) {
  const unit = read("systemd", "summit-edge.service").replace("/opt/summit-edge/", `/${PROGRAM}/`);
  write(stage, "usr/lib/systemd/system/summit-edge.service", unit);
  place(stage, "device/udev", "usr/lib/udev/rules.d");
  place(stage, "device/debian/summit-edge", "usr/bin/summit-edge");
  place(stage, "config/gateway.yaml", CONFIGURATION);
  placeDocuments(stage);
  for (const example of ["prometheus", "grafana"])
    place(stage, `config/${example}`, `${DOCUMENTS}/examples/${example}`);
  write(stage, `${DOCUMENTS}/copyright`, debianCopyright(modules, PROGRAM));
  write(stage, `${DOCUMENTS}/CHANGELOG.md.gz`, gzipSync(read("CHANGELOG.md"), { level: 9 }));
  write(stage, `${DOCUMENTS}/changelog.gz`, gzipSync(debianChangelog(version), { level: 9 }));
  const page = read("device", "debian", "summit-edge.1").replaceAll("@VERSION@", version);
  write(stage, "usr/share/man/man1/summit-edge.1.gz", gzipSync(page, { level: 9 }));
}

/** The pages beside one another as in the project, so that what one says of another is true; links elsewhere lead to the installed file. */
function placeDocuments(stage) {
  for (const source of ["README.md", "certs/README.md", "docs", "device/README.md", "device/sketch"])
    place(stage, source, `${DOCUMENTS}/${source}`);
  for (const page of ["README.md", "device/README.md"]) {
    const linked = Object.entries(INSTALLED_AS).reduce(
      (text, [link, path]) => text.replaceAll(`](${link})`, `](${path})`),
      read(page),
    );
    write(stage, `${DOCUMENTS}/${page}`, linked);
  }
}

function debianChangelog(version) {
  const [, maintainer] = /^Maintainer: (.*)$/m.exec(read("device", "debian", "control"));
  const date = new Date(EPOCH * 1000).toUTCString().replace("GMT", "+0000");
  return `summit-edge (${version}) unstable; urgency=medium\n\n  * See CHANGELOG.md.gz.\n\n -- ${maintainer}  ${date}\n`;
}

/** Every file and folder below `folder`, as paths from it, sorted. */
function walk(folder, within = "") {
  return readdirSync(join(folder, within), { withFileTypes: true })
    .toSorted((a, b) => (a.name < b.name ? -1 : 1))
    .flatMap((entry) => {
      const path = join(within, entry.name);
      return entry.isDirectory() ? [path, ...walk(folder, path)] : [path];
    });
}

/** What the native modules need of the system, as dependencies of a package. */
function libraries(stage) {
  const natives = walk(join(stage, PROGRAM)).filter((path) => path.endsWith(".node"));
  const folder = mkdtempSync(join(tmpdir(), "summit-edge-shlibs-"));
  // What dpkg-shlibdeps wants to stand in, whatever it says.
  write(folder, "debian/control", "Source: summit-edge\n\nPackage: summit-edge\nArchitecture: any\n");
  const files = natives.map((path) => join(stage, PROGRAM, path));
  debian("strip", ["--strip-unneeded", "--enable-deterministic-archives", ...files]);
  const found = debian("dpkg-shlibdeps", ["-O", ...files.map((file) => `-e${file}`)], { cwd: folder });
  rmSync(folder, { recursive: true });
  return found.replace(/^.*shlibs:Depends=/s, "");
}

/** The native SQLite is of one major version of Node.js, and of no other. */
function nodeDependency() {
  const major = Number(process.versions.node.split(".")[0]);
  return `nodejs (>= ${major === 20 ? "20.19" : major}), nodejs (<< ${major + 1}~)`;
}

function describe(stage, version, architecture) {
  const files = walk(stage).filter((path) => statSync(join(stage, path)).isFile());
  const kibibytes = files.reduce((sum, path) => sum + Math.ceil(statSync(join(stage, path)).size / 1024), 0);
  const fields = {
    VERSION: version,
    ARCHITECTURE: architecture,
    INSTALLED_SIZE: String(kibibytes),
    NODE: nodeDependency(),
    LIBRARIES: libraries(stage),
  };
  const control = read("device", "debian", "control").replace(/@([A-Z_]+)@/g, (_, name) => fields[name]);
  const sums = files
    .filter((path) => path !== CONFIGURATION)
    .map(
      (path) =>
        `${createHash("md5")
          .update(readFileSync(join(stage, path)))
          .digest("hex")}  ${path}\n`,
    );
  write(stage, "DEBIAN/control", control);
  write(stage, "DEBIAN/conffiles", `/${CONFIGURATION}\n`);
  write(stage, "DEBIAN/md5sums", sums.join(""));
  for (const script of MAINTAINER_SCRIPTS) place(stage, `device/debian/${script}`, `DEBIAN/${script}`);
  return kibibytes;
}

/** Modes and times that do not depend on who built it, and when. */
function settle(stage) {
  const executable = new Set([
    "usr/bin/summit-edge",
    `${PROGRAM}/dist/main.js`,
    ...MAINTAINER_SCRIPTS.map((script) => `DEBIAN/${script}`),
  ]);
  for (const path of ["", ...walk(stage)]) {
    const full = join(stage, path);
    if (statSync(full).isDirectory() || executable.has(path)) chmodSync(full, 0o755);
    else chmodSync(full, path === CONFIGURATION ? 0o640 : 0o644);
    lutimesSync(full, EPOCH, EPOCH);
  }
}

const { version, out } = options(process.argv.slice(2));
if (process.platform !== "linux") fail("a Debian package is built on Linux, on the architecture that it is for");
const architecture = debian("dpkg", ["--print-architecture"]);
const stage = mkdtempSync(join(tmpdir(), "summit-edge-package-"));
process.on("exit", () => rmSync(stage, { recursive: true, force: true }));
const modules = installedModules();
placeProgram(stage, modules, version.replace("~", "-"));
placeRest(stage, modules, version);
const kibibytes = describe(stage, version, architecture);
settle(stage);
const file = join(out, `summit-edge_${version}_${architecture}.deb`);
mkdirSync(out, { recursive: true });
debian("dpkg-deb", ["--build", "--root-owner-group", stage, file], {
  env: { ...process.env, SOURCE_DATE_EPOCH: String(EPOCH) },
});
const size = (statSync(file).size / 1024 / 1024).toFixed(1);
console.log(
  `${relative(process.cwd(), file)}: ${size} MiB, ${(kibibytes / 1024).toFixed(1)} MiB installed, for ${nodeDependency()}`,
);
