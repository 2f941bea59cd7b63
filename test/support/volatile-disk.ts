/**
 * A disk that loses on a power cut what was never flushed: an image behind nbdkit's write-back cache, shown as a file by
 * nbdfuse, loop-mounted as ext4. `cut` ends nbdkit with SIGKILL, and with it the cache.
 *
 * A real drive may have written any part of its cache by itself, in any order: `cut` lets each block that was not flushed
 * survive by chance.
 */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import {
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readlinkSync,
  readSync,
  rmSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { missing, run } from "./commands.ts";
import { until } from "./until.ts";

const DISK_BYTES = 128 * 1024 * 1024;
const BLOCK_BYTES = 4096;
const COMPARED_AT_ONCE = 1024 * 1024;
const SIGNALS = ["SIGINT", "SIGTERM"] as const;

export class VolatileDisk {
  /** Where the file system is mounted; the same after every cut. */
  readonly mountPoint: string;
  readonly #folder: string;
  readonly #image: string;
  #nbdkit: ChildProcess | undefined;
  #nbdfuse: ChildProcess | undefined;
  #cache: number | undefined;

  private constructor(folder: string) {
    this.#folder = folder;
    this.#image = join(folder, "disk.img");
    this.mountPoint = join(folder, "mounted");
    for (const name of ["fuse", "mounted"]) mkdirSync(join(folder, name));
  }

  /** Why this machine cannot have one; `false` where it can. Tries it. */
  static async unavailable(): Promise<string | false> {
    for (const program of ["nbdkit", "nbdfuse", "mkfs.ext4"]) if (missing(program)) return missing(program);
    if (process.getuid?.() !== 0) return "mounting needs root";
    const undo: (() => unknown)[] = [];
    try {
      const disk = await VolatileDisk.make({ after: (step: () => unknown) => undo.unshift(step) } as never);
      await disk.powerOn();
      return false;
    } catch (thrown) {
      return thrown instanceof Error ? thrown.message : String(thrown);
    } finally {
      for (const step of undo) await step();
    }
  }

  /** An empty file system on a disk that is off. */
  static async make(t: Pick<TestContext, "after">): Promise<VolatileDisk> {
    const disk = new VolatileDisk(mkdtempSync(join(tmpdir(), "summit-edge-test-disk-")));
    disk.#goAfter(t);
    closeSync(openSync(disk.#image, "w"));
    await succeeds("truncate", "-s", String(DISK_BYTES), disk.#image);
    // Nothing is left for later: a file system that initialises itself in the background would write at odd times.
    await succeeds("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", disk.#image);
    return disk;
  }

  /** Brings up a cache that knows nothing, and mounts: ext4 replays its journal. */
  async powerOn(): Promise<void> {
    const socket = join(this.#folder, "nbd.sock");
    const file = join(this.#folder, "fuse", "disk");
    await succeeds("rm", "-f", socket);
    const cache = ["--filter=cache", "file", this.#image, "cache=writeback", `cache-min-block-size=${BLOCK_BYTES}`];
    this.#nbdkit = spawn("nbdkit", ["-f", "-U", socket, ...cache], {
      stdio: "ignore",
      env: { ...process.env, TMPDIR: this.#folder },
    });
    await until("nbdkit listens", () => existsSync(socket));
    this.#nbdfuse = spawn("nbdfuse", [file, "--unix", socket], { stdio: "ignore" });
    await until("nbdfuse shows the disk", () => existsSync(file));
    this.#cache = openSync(cacheOf(this.#nbdkit.pid, this.#folder), "r");
    await succeeds("mount", "-t", "ext4", "-o", "loop", file, this.mountPoint);
  }

  /**
   * The power goes, under the program `victim` as well. Each block that was not flushed is lost, or survives where
   * `survives` says so. Resolves once the disk is off; `powerOn` shows what is left.
   */
  async cut(victim: ChildProcess, survives: () => boolean): Promise<{ survived: number; unflushed: number }> {
    const gone = victim.exitCode === null && victim.signalCode === null ? once(victim, "exit") : undefined;
    this.#nbdkit?.kill("SIGKILL");
    victim.kill("SIGKILL");
    this.#nbdfuse?.kill("SIGKILL");
    await gone;
    const cache = this.#cache;
    this.#cache = undefined;
    this.#off();
    return cache === undefined ? { survived: 0, unflushed: 0 } : writeBack(cache, this.#image, survives);
  }

  /** A mount outlives the process that made it: it goes with the test, and with the signals that end one. */
  #goAfter(t: Pick<TestContext, "after">): void {
    const remove = () => {
      this.#off();
      rmSync(this.#folder, { recursive: true, force: true, maxRetries: 10 });
    };
    const removeAndEnd = () => {
      remove();
      process.exit(1);
    };
    for (const signal of SIGNALS) process.once(signal, removeAndEnd);
    t.after(() => {
      for (const signal of SIGNALS) process.off(signal, removeAndEnd);
      remove();
    });
  }

  #off(): void {
    this.#nbdkit?.kill("SIGKILL");
    this.#nbdfuse?.kill("SIGKILL");
    if (this.#cache !== undefined) closeSync(this.#cache);
    this.#cache = undefined;
    for (const place of [this.mountPoint, join(this.#folder, "fuse", "disk"), join(this.#folder, "fuse")]) {
      spawnSync("umount", ["-l", place], { stdio: "ignore" });
    }
  }
}

async function succeeds(program: string, ...args: string[]): Promise<void> {
  const { status, output } = await run(program, args);
  if (status !== 0) throw new Error(`${program} ${args.join(" ")}: status ${status}: ${output.trim()}`);
}

/** nbdkit's cache, a file of no name. */
function cacheOf(pid: number | undefined, folder: string): string {
  const open = `/proc/${pid}/fd`;
  const found = readdirSync(open).find((fd) => {
    const file = readlinkSync(join(open, fd));
    return file.startsWith(folder) && file.endsWith(" (deleted)");
  });
  if (found === undefined) throw new Error("nbdkit has no cache file");
  return join(open, found);
}

/** Writes by chance what the cache holds and the image does not. A block of zeros counts as never cached. */
function writeBack(cache: number, image: string, survives: () => boolean): { survived: number; unflushed: number } {
  const disk = openSync(image, "r+");
  const [cached, stored] = [Buffer.alloc(COMPARED_AT_ONCE), Buffer.alloc(COMPARED_AT_ONCE)];
  const zeros = Buffer.alloc(BLOCK_BYTES);
  let [survived, unflushed] = [0, 0];
  for (let at = 0; at < DISK_BYTES; at += COMPARED_AT_ONCE) {
    cached.fill(0, readSync(cache, cached, 0, COMPARED_AT_ONCE, at));
    readSync(disk, stored, 0, COMPARED_AT_ONCE, at);
    if (cached.equals(stored)) continue;
    for (let block = 0; block < COMPARED_AT_ONCE; block += BLOCK_BYTES) {
      const own = cached.subarray(block, block + BLOCK_BYTES);
      if (own.equals(zeros) || own.equals(stored.subarray(block, block + BLOCK_BYTES))) continue;
      unflushed++;
      if (!survives()) continue;
      writeSync(disk, own, 0, BLOCK_BYTES, at + block);
      survived++;
    }
  }
  closeSync(disk);
  closeSync(cache);
  return { survived, unflushed };
}
