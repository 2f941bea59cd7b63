/** The machine: Node.js, the clock, the folder of the data and the file system below it. Pure. */
import type { ClockQuality } from "../../observation/observation.ts";
import { size } from "../format.ts";
import { AS_DAEMON, type Finding, fail, ok, warn } from "./finding.ts";

const NODE_LEAST = [20, 19] as const;
/** Before the program was written: no clock that was set can stand there. */
const EARLIEST = Date.UTC(2026, 0, 1);

/** `version` as `process.version` has it. */
export function checkNode(version: string): Finding {
  const [major = 0, minor = 0] = version.replace(/^v/, "").split(".").map(Number);
  const [leastMajor, leastMinor] = NODE_LEAST;
  if (major > leastMajor || (major === leastMajor && minor >= leastMinor)) return ok("node", `Node.js ${version}`);
  const wanted = NODE_LEAST.join(".");
  const hint = `Install Node.js ${wanted} or newer; 24 is recommended.`;
  return fail("node", `Node.js ${version} is older than ${wanted}`, hint);
}

/** `now`: wall time, milliseconds. */
export function checkClock(quality: ClockQuality, now: number): Finding {
  const hint =
    "Look at timedatectl: switch NTP on (timedatectl set-ntp true), and see that a time server can be reached.";
  const shown = `${new Date(now).toISOString().slice(0, 16).replace("T", " ")} UTC`;
  if (now < EARLIEST) return fail("clock", `the clock says ${shown}, which has passed long ago`, hint);
  if (quality === "synchronised") return ok("clock", `synchronised, ${shown}`);
  const detail = quality === "stepped" ? "the clock was set while the daemon ran" : "the clock is not synchronised";
  return warn("clock", `${detail}; it says ${shown}`, hint);
}

export interface DataDirFacts {
  readonly path: string;
  /** The folder itself, or the nearest one above that exists. */
  readonly nearest: string;
  /** Why `nearest` cannot be written by whoever asks: `EACCES`, `EROFS`, …; `undefined` where it can. */
  readonly writeFault: string | undefined;
  /** Whether whoever asks is the daemon's user, or root. */
  readonly asDaemon: boolean;
  /** What the daemon is to write in it and belongs to somebody else than the folder does; names. */
  readonly foreign?: readonly string[];
}

export function checkDataDir({ path, nearest, writeFault, asDaemon, foreign = [] }: DataDirFacts): Finding {
  const missing = nearest !== path;
  if (writeFault === undefined && foreign.length > 0) {
    const hint = `Unless the daemon runs as root, give it to its user: cd ${path} && chown -R --reference=. ${foreign.join(" ")}`;
    return warn("data folder", `${foreign.join(", ")} in ${path} does not belong to whom the folder does`, hint);
  }
  if (writeFault === undefined) {
    return ok("data folder", missing ? `${path} is not there yet; the daemon makes it` : `${path} can be written`);
  }
  if (writeFault === "EROFS") {
    const hint = "Look at dmesg: a card that is worn out turns read-only; replace it, or mount it for writing again.";
    return fail("data folder", `${nearest} is on a file system that is mounted read-only`, hint);
  }
  if (!asDaemon) return warn("data folder", `${nearest} cannot be written by this user`, AS_DAEMON);
  const hint = missing
    ? `Make ${path} and give it to the daemon's user, or change gateway.dataDir.`
    : `Give ${path} to the daemon's user (chown), or change gateway.dataDir.`;
  return fail("data folder", `${nearest} cannot be written (${writeFault})`, hint);
}

/** Numbers of statfs(2), `f_type`. */
const FILE_SYSTEMS: ReadonlyMap<number, string> = new Map([
  [0xef53, "ext4"],
  [0x58465342, "xfs"],
  [0x9123683e, "btrfs"],
  [0xf2f52010, "f2fs"],
  [0x2fc12fc1, "zfs"],
  [0x01021994, "tmpfs"],
  [0x858458f6, "ramfs"],
  [0x794c7630, "overlay"],
  [0x6969, "NFS"],
  [0xff534d42, "CIFS"],
  [0xfe534d42, "SMB"],
  [0x01021997, "9p"],
  [0x65735546, "FUSE"],
  [0x4d44, "FAT"],
]);
const IN_MEMORY = new Set(["tmpfs", "ramfs"]);
const ON_A_NETWORK = new Set(["NFS", "CIFS", "SMB", "9p"]);
const FRAIL = new Set(["FUSE", "FAT"]);

/** `type`: statfs(2)'s `f_type`. */
export function checkFileSystem(type: number, path: string): Finding {
  // Node.js gives the number signed on some machines.
  const name = FILE_SYSTEMS.get(type >>> 0) ?? `a file system of type 0x${(type >>> 0).toString(16)}`;
  const local = "Put gateway.dataDir on a local ext4, xfs or btrfs file system.";
  if (IN_MEMORY.has(name))
    return fail("file system", `${path} is in memory (${name}): the next power cut takes every reading`, local);
  if (ON_A_NETWORK.has(name))
    return fail("file system", `${path} is on the network (${name}), where SQLite's write-ahead log fails`, local);
  if (FRAIL.has(name))
    return warn("file system", `${path} is on ${name}, which may not survive a power cut whole`, local);
  if (name === "overlay") {
    const detail = `${path} is on an overlay: what is written may be gone with the container, or at the next start`;
    return warn("file system", detail, "Put gateway.dataDir on a volume, or on a partition of its own.");
  }
  return ok("file system", `${path} is on ${name}`);
}

export interface SpaceFacts {
  /** For the daemon's user, who is not root. */
  readonly freeBytes: number;
  /** 0 where none is left; `undefined` where the file system does not count them. */
  readonly freeFiles: number | undefined;
  /** The outbox's file and its write-ahead log. */
  readonly outboxBytes: number;
  readonly maxBytes: number;
  readonly reserveFreeDisk: number;
}

export function checkSpace({ freeBytes, freeFiles, outboxBytes, maxBytes, reserveFreeDisk }: SpaceFacts): Finding {
  const free = `${size(freeBytes)} free`;
  const reserve = `outbox.reserveFreeDisk (${size(reserveFreeDisk)})`;
  if (freeFiles === 0) {
    const hint = "Delete files: df -i shows where they are.";
    return fail("disk", "the file system has no room for another file (no free inode)", hint);
  }
  if (freeBytes < reserveFreeDisk) {
    const hint = "Free some disk: du -xh / | sort -h shows what takes it.";
    return fail("disk", `${free}, less than ${reserve}: the outbox does not grow`, hint);
  }
  if (freeBytes - reserveFreeDisk < maxBytes - outboxBytes) {
    const detail = `${free}: above ${reserve} too little for the outbox to grow to outbox.maxBytes (${size(maxBytes)})`;
    return warn("disk", detail, "Free some disk, or set outbox.maxBytes to what there is.");
  }
  return ok("disk", `${free}, enough for the outbox to grow to ${size(maxBytes)}`);
}
