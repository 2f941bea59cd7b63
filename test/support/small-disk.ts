/** A file system of a few megabytes that can really be full. To mount one takes root. */
import { spawnSync } from "node:child_process";
import { closeSync, mkdtempSync, openSync, rmSync, statfsSync, truncateSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestContext } from "node:test";

export type DiskKind = "tmpfs" | "ext4";

const MIB = 1024 * 1024;

/**
 * Why tests with a small disk are skipped; `false` where one can be mounted. Without one, the tests that let strace say
 * ENOSPC cover the same ground, but for what a real file system does besides.
 */
export function noSmallDisk(kind: DiskKind): string | false {
  const folder = mkdtempSync(join(tmpdir(), "summit-edge-mount-"));
  try {
    const refused = mount(kind, folder, 2);
    if (refused === undefined) run("umount", folder);
    return refused === undefined ? false : `no ${kind} can be mounted here (sudo npm test would): ${refused}`;
  } finally {
    rmSync(folder, { recursive: true, force: true });
    rmSync(imageOf(folder), { force: true });
  }
}

export class SmallDisk {
  readonly folder: string;

  private constructor(folder: string) {
    this.folder = folder;
  }

  /** Mounts one that goes when the test ends. */
  static mount(t: Pick<TestContext, "after">, kind: DiskKind, megabytes: number): SmallDisk {
    const folder = mkdtempSync(join(tmpdir(), "summit-edge-disk-"));
    const refused = mount(kind, folder, megabytes);
    if (refused !== undefined) throw new Error(`${kind} cannot be mounted: ${refused}`);
    t.after(() => {
      // Lazily: a daemon that the test has left behind still holds it.
      run("umount", "-l", folder);
      rmSync(folder, { recursive: true, force: true });
      rmSync(imageOf(folder), { force: true });
    });
    return new SmallDisk(folder);
  }

  get free(): number {
    const { bfree, bsize } = statfsSync(this.folder);
    return bfree * bsize;
  }

  /** Another program takes everything that is left but `leave` bytes; what it resolves with gives it back. */
  fill(leave = 0): () => void {
    const file = join(this.folder, "somebody-elses");
    const fd = openSync(file, "a");
    const chunk = Buffer.alloc(MIB / 16, 1);
    try {
      for (let bytes = chunk.length; bytes >= 512; bytes /= 2) {
        while (this.free - bytes >= leave && wrote(fd, chunk.subarray(0, bytes)));
      }
    } finally {
      closeSync(fd);
    }
    return () => rmSync(file);
  }
}

/** Whether there was space for it. */
function wrote(fd: number, bytes: Buffer): boolean {
  try {
    return writeSync(fd, bytes) === bytes.length;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOSPC") return false;
    throw error;
  }
}

const imageOf = (folder: string): string => `${folder}.img`;

/** Why it could not be mounted; `undefined` where it was. */
function mount(kind: DiskKind, folder: string, megabytes: number): string | undefined {
  if (kind === "tmpfs") return run("mount", "-t", "tmpfs", "-o", `size=${megabytes}m`, "tmpfs", folder);
  const image = imageOf(folder);
  closeSync(openSync(image, "w"));
  truncateSync(image, megabytes * MIB);
  return run("mkfs.ext4", "-q", "-m", "0", image) ?? run("mount", "-o", "loop", image, folder);
}

/** What it complained about; `undefined` where it succeeded. */
function run(program: string, ...args: string[]): string | undefined {
  const { status, stderr, error } = spawnSync(program, args, { encoding: "utf8" });
  return status === 0 ? undefined : (error?.message ?? stderr.trim());
}
