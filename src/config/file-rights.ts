/** Whether the daemon's user may read a file that somebody else looks at: root may read everything, and would find nothing wrong. */
import { stat } from "node:fs/promises";
import { dirname } from "node:path";
import type { Ownership } from "./secret-files.ts";

export type Identity = Pick<Ownership, "uid" | "gid">;

/** Whether a user has a right (4: to read, 1: to go through a folder), by the permission bits alone. Pure. */
export function hasRight(user: Identity, { mode, uid, gid }: Ownership, right: 4 | 1): boolean {
  if (user.uid === 0) return true;
  const shift = user.uid === uid ? 6 : user.gid === gid ? 3 : 0;
  return ((mode >> shift) & right) !== 0;
}

/** The file, or the folder above it, that keeps a user from reading it; `undefined` where none does, or it is not there. */
export async function barrierTo(file: string, user: Identity): Promise<string | undefined> {
  for (let path = file, right: 4 | 1 = 4; ; path = dirname(path), right = 1) {
    const facts = await stat(path).catch(() => undefined);
    if (facts === undefined) return undefined;
    if (!hasRight(user, facts, right)) return path;
    if (dirname(path) === path) return undefined;
  }
}
