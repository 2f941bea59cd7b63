/**
 * Tells the audit trail when the configuration in effect is not the one that was there before. What it was is kept in a file
 * beside the trail, by key, as salted digests: which keys have changed can be told, and no value is kept or can be guessed from the trail.
 */
import { createHmac, randomBytes } from "node:crypto";
import { readFile, stat } from "node:fs/promises";
import { userInfo } from "node:os";
import { join } from "node:path";
import type { Config } from "../../config/schema.ts";
import type { AuditEvent } from "../../kernel/audit.ts";

const FILE = "configuration.json";
/** Keys that are named in an entry. */
const NAMED = 20;

export interface ConfigRecord {
  /** What to tell the trail; `undefined` where nothing has changed. */
  readonly event: AuditEvent | undefined;
  /** What to keep in `path` once that is durable. */
  readonly path: string;
  readonly text: string;
}

/** Compares the configuration in effect with what was recorded last. `file` is where it was read. */
export async function recordOf(folder: string, file: string, config: Config): Promise<ConfigRecord> {
  const path = join(folder, FILE);
  const before = await readRecord(path);
  const salt = before?.salt ?? randomBytes(16).toString("hex");
  const salted = (value: unknown): string => createHmac("sha256", salt).update(JSON.stringify(value)).digest("hex");
  const digest = salted(config);
  const keys = Object.fromEntries(leaves(config).map(([key, value]) => [key, salted(value).slice(0, 12)]));
  const text = `${JSON.stringify({ salt, digest, keys })}\n`;
  if (before?.digest === digest) return { event: undefined, path, text };
  const changed = before === undefined ? [] : different(before.keys, keys);
  const event: AuditEvent = {
    action: before === undefined ? "config.first-seen" : "config.changed",
    actor: "gateway",
    subject: file,
    detail: {
      digest,
      ...(before !== undefined && { before: before.digest, keys: named(changed) }),
      ...(await authorOf(file)),
    },
  };
  return { event, path, text };
}

function leaves(value: unknown, key = ""): [string, unknown][] {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return [[key, value]];
  return Object.entries(value).flatMap(([name, item]) => leaves(item, key === "" ? name : `${key}.${name}`));
}

function different(before: Readonly<Record<string, string>>, now: Readonly<Record<string, string>>): string[] {
  return [...new Set([...Object.keys(before), ...Object.keys(now)])].filter((key) => before[key] !== now[key]).sort();
}

const named = (keys: readonly string[]): string =>
  keys.length > NAMED ? `${keys.slice(0, NAMED).join(" ")} and ${keys.length - NAMED} more` : keys.join(" ");

interface Kept {
  readonly salt: string;
  readonly digest: string;
  readonly keys: Readonly<Record<string, string>>;
}

async function readRecord(path: string): Promise<Kept | undefined> {
  try {
    return JSON.parse(await readFile(path, "utf8")) as Kept;
  } catch {
    return undefined;
  }
}

/** The nearest that can be known to who changed it: whose file it is, and when it was written. */
async function authorOf(file: string): Promise<{ owner: string; written: string } | undefined> {
  try {
    const { uid, mtimeMs } = await stat(file);
    return {
      owner: uid === process.getuid?.() ? userInfo().username : await nameOf(uid),
      written: new Date(mtimeMs).toISOString(),
    };
  } catch {
    return undefined;
  }
}

async function nameOf(uid: number): Promise<string> {
  const users = await readFile("/etc/passwd", "utf8").catch(() => "");
  return (
    users
      .split("\n")
      .find((line) => line.split(":")[2] === String(uid))
      ?.split(":")[0] ?? `uid ${uid}`
  );
}
