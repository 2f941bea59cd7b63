/**
 * Who has a device file open: what an operator wants to know of a port that is busy.
 *
 * Programs keep one another off a serial port in three ways, which do not know of each other: flock(2) (picocom, pyserial,
 * tio, node-serialport), the kernel's exclusive mode (TIOCEXCL: gpsd, screen), which makes opening fail, and lock files
 * (`LCK..ttyUSB0`: minicom). The first and the last are looked up here; what holds a file without any of them is found
 * among the open files of those processes that this user may look into.
 */
import { constants } from "node:fs";
import { open, readdir, readFile, readlink, realpath, stat } from "node:fs/promises";
import { basename, join } from "node:path";
import { codeOf } from "./errors.ts";

export interface Holder {
  /** 0 for a process that cannot be seen from here: that of another container. */
  readonly pid: number;
  /** The program's name, where it may be known. */
  readonly program?: string;
}

/** Where it is looked up; tests hand in folders of their own. */
export interface HolderPlaces {
  readonly proc: string;
  readonly lockFolder: string;
}

const MACHINE: HolderPlaces = { proc: "/proc", lockFolder: "/var/lock" };

/** Who keeps others off the device file by a lock or a lock file; `undefined` where nobody does. */
export async function lockHolder(path: string, places: HolderPlaces = MACHINE): Promise<Holder | undefined> {
  const pid = (await flockHolder(path, places.proc)) ?? (await lockFileHolder(path, places.lockFolder));
  return pid === undefined ? undefined : named(pid, places.proc);
}

/** Every process but this one that has the device file locked or open, as far as this user may know. */
export async function deviceHolders(path: string, places: HolderPlaces = MACHINE): Promise<Holder[]> {
  const locked = await lockHolder(path, places);
  const open = await openHolders(path, places.proc);
  const pids = new Set([...(locked === undefined ? [] : [locked.pid]), ...open]);
  return Promise.all([...pids].map((pid) => named(pid, places.proc)));
}

/** `picocom (process 4711) and another one`. */
export function holderText(holders: readonly Holder[]): string {
  return holders.map(({ pid, program }) => describe(pid, program)).join(" and ");
}

function describe(pid: number, program: string | undefined): string {
  if (pid === 0) return "a process of another container";
  if (pid === process.pid) return "this gateway itself, as another port";
  return program === undefined ? `process ${pid}` : `${program} (process ${pid})`;
}

/** By proc(5): `1: FLOCK ADVISORY WRITE 4711 00:05:1234 0 EOF`, device numbers in hexadecimal. */
async function flockHolder(path: string, proc: string): Promise<number | undefined> {
  const file = await stat(path, { bigint: true }).catch(() => undefined);
  if (file === undefined) return undefined;
  const major = (file.dev >> 8n) & 0xfffn;
  const minor = (file.dev & 0xffn) | ((file.dev >> 12n) & 0xfff00n);
  const place = `${hex(major)}:${hex(minor)}:${file.ino}`;
  for (const line of (await readText(join(proc, "locks"))).split("\n")) {
    const [, kind, , , pid, where] = line.split(/\s+/);
    if (kind === "FLOCK" && where === place) return Math.max(0, Number(pid) || 0);
  }
  return undefined;
}

function hex(part: bigint): string {
  return part.toString(16).padStart(2, "0");
}

/** A lock file whose process has ended keeps nobody off. */
async function lockFileHolder(path: string, folder: string): Promise<number | undefined> {
  const device = await realpath(path).catch(() => path);
  const pid = Number.parseInt(await readLockFile(join(folder, `LCK..${basename(device)}`)), 10);
  return Number.isSafeInteger(pid) && pid > 0 && isRunning(pid) ? pid : undefined;
}

/** As long as a process id, the blanks before it, and who wrote it. */
const LOCK_FILE_BYTES = 64;

/** Anybody may write into the folder: a pipe that nobody writes to must not keep the reader waiting, nor a large file its memory. */
async function readLockFile(path: string): Promise<string> {
  const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK).catch(() => undefined);
  if (file === undefined) return "";
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(LOCK_FILE_BYTES), 0, LOCK_FILE_BYTES);
    return buffer.toString("latin1", 0, bytesRead);
  } catch {
    return "";
  } finally {
    await file.close();
  }
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return codeOf(error) === "EPERM";
  }
}

async function openHolders(path: string, proc: string): Promise<number[]> {
  const device = await realpath(path).catch(() => path);
  const pids = (await readdir(proc).catch(() => [])).map(Number).filter((pid) => pid > 0 && pid !== process.pid);
  const holds = await Promise.all(pids.map((pid) => hasOpen(join(proc, String(pid), "fd"), device)));
  return pids.filter((_, index) => holds[index]);
}

/** Whether one of a process's open files is the device; `false` where this user may not look. */
async function hasOpen(folder: string, device: string): Promise<boolean> {
  const descriptors = await readdir(folder).catch(() => []);
  const files = await Promise.all(descriptors.map((name) => readlink(join(folder, name)).catch(() => undefined)));
  return files.includes(device);
}

async function named(pid: number, proc: string): Promise<Holder> {
  const program = pid === 0 ? "" : (await readText(join(proc, String(pid), "comm"))).trim();
  return program === "" ? { pid } : { pid, program };
}

function readText(path: string): Promise<string> {
  return readFile(path, "utf8").catch(() => "");
}
