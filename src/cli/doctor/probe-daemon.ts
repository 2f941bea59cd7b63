/**
 * Looks for the daemon without getting in its way: it is asked over HTTP, and where it does not answer the kernel's list of locks
 * tells whether it holds the data folder. The lock itself is never taken, and the outbox's file never opened.
 */
import { readFile, stat } from "node:fs/promises";
import { join, resolve } from "node:path";
import type { Config } from "../../config/schema.ts";
import { GatewayError, messageOf } from "../../kernel/errors.ts";
import { isUntouched, readState } from "../../outbox/file-state.ts";
import { Daemon, daemonAddress } from "../daemon.ts";
import type { Terminal } from "../terminal.ts";
import type { DaemonFact, OutboxFileFact } from "./check-daemon.ts";

/** How the daemon of the configuration in `file` is. */
export async function probeDaemon(file: string, dataDir: string, terminal: Terminal): Promise<DaemonFact> {
  try {
    const daemon = new Daemon(await daemonAddress({ config: file }, terminal));
    return { kind: "answers", status: await daemon.status() };
  } catch (error) {
    if (!(error instanceof GatewayError)) throw error;
    const pid = await lockHolder(dataDir);
    return pid === undefined ? { kind: "stopped" } : { kind: "silent", pid, why: messageOf(error) };
  }
}

/** The process that holds the data folder's lock (fcntl locks on the file `lock`); 0 where it is in another container. */
async function lockHolder(dataDir: string): Promise<number | undefined> {
  try {
    const { ino } = await stat(join(dataDir, "lock"));
    return lockHolderIn(await readFile("/proc/locks", "utf8"), ino);
  } catch {
    return undefined;
  }
}

/** Where SQLite puts its locks in a file, from 2^30 on: what tells this file from one of the same number elsewhere. */
const SQLITE_LOCKS = /^\d+: +\S+ +\S+ +WRITE +(\d+) +[^ :]+:[^ :]+:(\d+) +10737418\d\d /;

/** The process that holds a SQLite write lock on the file of inode `ino`, by the text of /proc/locks. */
export function lockHolderIn(locks: string, ino: number): number | undefined {
  for (const line of locks.split("\n")) {
    const [, pid, inode] = SQLITE_LOCKS.exec(line) ?? [];
    if (Number(inode) === ino) return Number(pid);
  }
  return undefined;
}

/** The outbox's files; `undefined` where they may not be looked at. */
export async function probeOutboxFile({ gateway, outbox }: Config): Promise<OutboxFileFact | undefined> {
  const path = resolve(gateway.dataDir, outbox.file);
  const [bytes, walBytes] = await Promise.all([sizeOf(path), sizeOf(`${path}-wal`)]);
  if (bytes === "denied" || walBytes === "denied") return undefined;
  const wal = walBytes ?? 0;
  const state = readState(path);
  return {
    path,
    exists: bytes !== undefined,
    bytes: (bytes ?? 0) + wal,
    walBytes: wal,
    maxBytes: outbox.maxBytes,
    state,
    untouched: isUntouched(path, state),
  };
}

async function sizeOf(path: string): Promise<number | undefined | "denied"> {
  try {
    return (await stat(path)).size;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EACCES" ? "denied" : undefined;
  }
}
