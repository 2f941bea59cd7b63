/**
 * A small Debian in a folder, to install packages in: what debootstrap makes, by mmdebstrap, which takes a third of the time. Its
 * packages come from this machine's mirror. To make one and to go into it takes root.
 */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { chmodSync, copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { isInstalled } from "./programs.ts";

const NEEDED = ["mmdebstrap", "unshare", "chroot", "dpkg-deb", "dpkg-shlibdeps", "strip"];
const ENVIRONMENT = {
  PATH: "/usr/sbin:/usr/bin:/sbin:/bin",
  HOME: "/root",
  LC_ALL: "C.UTF-8",
  DEBIAN_FRONTEND: "noninteractive",
};
/** Enters the folder with a /proc of its own, which goes with the process. */
const ENTER = 'mount -t proc proc "$0/proc" && exec chroot "$0" "$@"';

/** Why tests in a Debian of their own are skipped; `false` where they can run. */
export function noDebianRoot(): string | false {
  if (process.getuid?.() !== 0) return "only root can make a Debian to install in (sudo npm test would)";
  const missing = NEEDED.filter((program) => !isInstalled(program));
  return missing.length === 0 ? false : `${missing.join(", ")} is not installed`;
}

export interface Outcome {
  readonly status: number | null;
  /** What it wrote on either stream. */
  readonly output: string;
}

/** What this machine's apt is told of proxies and mirrors, which mmdebstrap does not look at. */
function howToFetch(): string[] {
  const settings = spawnSync("apt-config", ["dump", "Acquire"], { encoding: "utf8" }).stdout.split("\n");
  return settings
    .filter((line) => /^Acquire::(http|https|Retries|ForceIPv[46]|Check-Valid-Until)\b.* ".+";$/i.test(line))
    .map((line) => `--aptopt=${line}`);
}

export class DebianRoot {
  readonly folder: string;
  readonly #inMemory: boolean;

  private constructor(folder: string, inMemory: boolean) {
    this.folder = folder;
    this.#inMemory = inMemory;
  }

  /** This machine's release, with the essential packages and these. */
  static make(packages: readonly string[]): DebianRoot {
    const folder = mkdtempSync(join(tmpdir(), "summit-edge-debian-"));
    // In memory, where that can be had: it is thousands of small files, written and removed several times.
    const inMemory = spawnSync("mount", ["-t", "tmpfs", "-o", "size=1g,mode=755", "tmpfs", folder]).status === 0;
    const root = new DebianRoot(folder, inMemory);
    const release = /^VERSION_CODENAME=(.*)$/m.exec(readFileSync("/etc/os-release", "utf8"))?.[1] ?? "stable";
    const targets = spawnSync("apt-get", ["indextargets", "--format", "$(REPO_URI) $(CODENAME)"], { encoding: "utf8" });
    const mirror = new RegExp(`^(\\S+) ${release}$`, "m").exec(targets.stdout)?.[1] ?? "http://deb.debian.org/debian";
    const options = [...howToFetch(), "--quiet", "--mode=root", "--variant=essential", "--dpkgopt=force-unsafe-io"];
    const made = spawnSync("mmdebstrap", [...options, `--include=${packages.join(",")}`, release, folder, mirror], {
      encoding: "utf8",
    });
    if (made.status !== 0) {
      root.remove();
      throw new Error(`no Debian ${release} could be made from ${mirror}:\n${made.stderr}`);
    }
    // It need not survive the machine.
    root.write("/etc/dpkg/dpkg.cfg.d/unsafe-io", "force-unsafe-io\n");
    return root;
  }

  remove(): void {
    if (this.#inMemory) spawnSync("umount", ["--lazy", this.folder]);
    rmSync(this.folder, { recursive: true, force: true });
  }

  /** Where a path of its own is on this machine. */
  at(path: string): string {
    return join(this.folder, path);
  }

  write(path: string, content: string, mode = 0o644): void {
    mkdirSync(dirname(this.at(path)), { recursive: true });
    writeFileSync(this.at(path), content);
    chmodSync(this.at(path), mode);
  }

  copyIn(file: string, path: string): void {
    copyFileSync(file, this.at(path));
  }

  /** Runs a command in it, as root, to its end. */
  run(...command: string[]): Outcome {
    const done = spawnSync("unshare", ["--mount", "sh", "-c", ENTER, this.folder, ...command], {
      encoding: "utf8",
      env: ENVIRONMENT,
      timeout: 120_000,
      stdio: ["ignore", "pipe", "pipe"],
    });
    return { status: done.status, output: `${done.stdout}${done.stderr}` };
  }

  /** Starts a command in it as one of its users; signals go to the command itself. */
  start(user: string, command: readonly string[], env: Record<string, string>): ChildProcess {
    const as = ["setpriv", `--reuid=${user}`, `--regid=${user}`, "--init-groups", ...command];
    return spawn("unshare", ["--mount", "sh", "-c", ENTER, this.folder, ...as], {
      env: { ...ENVIRONMENT, ...env },
      stdio: ["ignore", "ignore", "inherit"],
    });
  }

  /** Installs a package of this name and version that holds nothing, so that what depends on it is satisfied. */
  pretend(name: string, version: string): void {
    const fields = { Package: name, Version: version, Architecture: "all", Maintainer: "nobody <nobody@example.org>" };
    const control = Object.entries({ ...fields, Description: "stands in for a package" });
    this.write(`pretend/${name}/DEBIAN/control`, control.map(([key, value]) => `${key}: ${value}\n`).join(""));
    for (const command of [
      ["dpkg-deb", "--build", `/pretend/${name}`, `/pretend/${name}.deb`],
      ["dpkg", "--install", `/pretend/${name}.deb`],
    ]) {
      const { status, output } = this.run(...command);
      if (status !== 0) throw new Error(output);
    }
  }
}
