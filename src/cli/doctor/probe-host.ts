/** Looks at the machine: the folder of the data, the file system below it, and the clock. Changes nothing. */
import { constants } from "node:fs";
import { access, lstat, readdir, stat, statfs } from "node:fs/promises";
import { dirname, join } from "node:path";
import { clockSources } from "../../kernel/clock-source.ts";
import { codeOf } from "../../kernel/errors.ts";
import type { ClockQuality } from "../../observation/observation.ts";
import type { DataDirFacts } from "./check-host.ts";

export async function probeDataDir(path: string): Promise<DataDirFacts> {
  let nearest = path;
  let owner: number | undefined;
  for (;;) {
    const found = await stat(nearest).catch((error: unknown) => codeOf(error) ?? "EACCES");
    if (typeof found !== "string") {
      if (nearest === path) owner = found.uid;
      break;
    }
    if (found !== "ENOENT" || dirname(nearest) === nearest) break;
    nearest = dirname(nearest);
  }
  const writeFault = await faultOf(nearest, constants.W_OK | constants.X_OK);
  const me = process.getuid?.();
  const foreign = owner === undefined || owner === 0 ? [] : await foreignIn(path, owner);
  return { path, nearest, writeFault, asDaemon: me === 0 || (me !== undefined && me === owner), foreign };
}

/** What the daemon writes in the dataDir. The authority's folder is root's as a rule. */
const DAEMONS = /^(lock|audit|api-keys|outbox\..*)$/;

/** Names of what the daemon writes and is not its folder's owner's; none where that cannot be seen. */
async function foreignIn(folder: string, owner: number): Promise<string[]> {
  const names = await readdir(folder).catch(() => []);
  const looked = names.filter((name) => DAEMONS.test(name)).sort();
  const owners = await Promise.all(looked.map((name) => lstat(join(folder, name)).catch(() => undefined)));
  return looked.filter((_, index) => (owners[index]?.uid ?? owner) !== owner);
}

/** Why whoever asks may not do this with a path; `undefined` where they may. */
export async function faultOf(path: string, mode: number): Promise<string | undefined> {
  return await access(path, mode).then(
    () => undefined,
    (error: unknown) => codeOf(error) ?? "EACCES",
  );
}

export interface FileSystemFacts {
  /** statfs(2)'s `f_type`. */
  readonly type: number;
  readonly freeBytes: number;
  readonly freeFiles: number | undefined;
}

/** The file system that `path` is on; `undefined` where it cannot be asked. */
export async function probeFileSystem(path: string): Promise<FileSystemFacts | undefined> {
  const found = await statfs(path).catch(() => undefined);
  if (found === undefined) return undefined;
  const { type, bavail, bsize, files, ffree } = found;
  return { type, freeBytes: bavail * bsize, freeFiles: files === 0 ? undefined : ffree };
}

/** What the machine says of its clock, where no daemon tells what it has seen. */
export async function probeClock(): Promise<ClockQuality> {
  for (const source of clockSources()) {
    const answer = await source.ask();
    if (answer !== undefined) return answer ? "synchronised" : "unsynchronised";
  }
  return "unsynchronised";
}
