/**
 * A daemon whose writes and fsyncs strace records, and breaks where it is told to; and the card after it: what was never
 * synced is gone. Unlike `VolatileDisk` this needs no privileges, and it knows of files' contents only: a file's name and
 * length are never lost.
 */
import type { ChildProcess } from "node:child_process";
import { closeSync, existsSync, openSync, readFileSync, writeSync } from "node:fs";
import { until } from "./until.ts";

/** What a drive writes whole or not at all. Bytes beside those that were written are not at risk (SQLite's powersafe overwrite). */
const SECTOR_BYTES = 512;
const SYNCS = "fsync,fdatasync";

/**
 * The command to start a program under; the program stays the direct child. `fault` is an expression of strace's, as `syncs:error=EIO:when=3`; "syncs" stands for every kind of fsync. With
 * `path` only what happens to that file is recorded and broken.
 */
export function recording(log: string, fault?: string, path?: string): string[] {
  const inject = fault === undefined ? [] : ["-e", `inject=${fault.replace("syncs", SYNCS)}`];
  const only = path === undefined ? [] : ["-P", path];
  const what = ["-s", "0", "-e", `trace=pwrite64,ftruncate,unlink,${SYNCS}`];
  // With its filter in the kernel, which leaves alone what is not recorded, strace cannot deliver a signal at a call.
  const filter = fault?.includes(":signal=") ? [] : ["--seccomp-bpf"];
  return ["strace", "-D", "-f", ...filter, "-y", "-o", log, ...what, ...only, ...inject];
}

/** What is recorded of a program that may still run. */
export function recordSoFar(log: string): string {
  return existsSync(log) ? readFileSync(log, "latin1") : "";
}

/** Resolves once all is recorded of a program that has ended. */
export async function recorded(log: string, program: ChildProcess): Promise<string> {
  const end = new RegExp(`^${program.pid} +\\+\\+\\+ `, "m");
  let text = "";
  await until("strace has written its last line", () => {
    text = recordSoFar(log);
    return end.test(text);
  });
  return text;
}

/**
 * Sets to zero what was written and not synced, each piece of a sector where not `survives`, and what the kernel gave up
 * when an fsync failed and was not written again. The program has to have ended.
 */
export function forgetUnsynced(record: string, survives: () => boolean): { forgotten: number; unsynced: number } {
  let [forgotten, unsynced] = [0, 0];
  for (const [path, pieces] of unsyncedPieces(record)) {
    const file = openSync(path, "r+");
    for (const [offset, { bytes, givenUp }] of pieces) {
      unsynced++;
      if (!givenUp && survives()) continue;
      writeSync(file, Buffer.alloc(bytes), 0, bytes, offset);
      forgotten++;
    }
    closeSync(file);
  }
  return { forgotten, unsynced };
}

interface Piece {
  readonly bytes: number;
  readonly givenUp: boolean;
}

/** By file and offset. Shared memory is no matter of the disk. */
function unsyncedPieces(record: string): Map<string, Map<number, Piece>> {
  const files = new Map<string, Map<number, Piece>>();
  /** By thread: the file whose fsync it waits for. */
  const syncing = new Map<string, string>();
  for (const line of record.split("\n")) {
    const [, thread = "", call = "", rest = ""] = /^(\d+) +(?:<\.\.\. )?(\w+)(.*)$/.exec(line) ?? [];
    const path = /^\(\d+<([^>]*)>[,) ]/.exec(rest)?.[1];
    const failed = / = (-1|\?)/.test(rest);
    if (call === "unlink") files.delete(/"([^"]*)"/.exec(rest)?.[1] ?? "");
    else if (call === "pwrite64" && path !== undefined && !failed && !path.endsWith("-shm")) {
      const pieces = files.get(path) ?? new Map<number, Piece>();
      files.set(path, pieces);
      const [, bytes = 0, offset = 0] = (/, (\d+), (\d+)[) ]/.exec(rest) ?? []).map(Number);
      cut(offset, bytes, (at, length) => pieces.set(at, { bytes: length, givenUp: false }));
    } else if (call === "ftruncate" && path !== undefined && !failed) {
      const length = Number(/, (\d+)[) ]/.exec(rest)?.[1]);
      for (const at of files.get(path)?.keys() ?? []) if (at >= length) files.get(path)?.delete(at);
    } else if (SYNCS.split(",").includes(call)) {
      if (path !== undefined) syncing.set(thread, path);
      const pieces = files.get(syncing.get(thread) ?? "");
      if (/ = 0$/.test(rest) || / = 0 /.test(rest)) {
        for (const [at, { givenUp }] of pieces ?? []) if (!givenUp) pieces?.delete(at);
      } else if (/ = -1 /.test(rest))
        for (const [at, piece] of pieces ?? []) pieces?.set(at, { ...piece, givenUp: true });
    }
  }
  return new Map([...files].filter(([path]) => existsSync(path)));
}

function cut(offset: number, bytes: number, each: (at: number, length: number) => void): void {
  const end = offset + bytes;
  for (let at = offset; at < end; ) {
    const next = Math.min(end, (Math.floor(at / SECTOR_BYTES) + 1) * SECTOR_BYTES);
    each(at, next - at);
    at = next;
  }
}
