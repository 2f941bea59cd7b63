/**
 * The secrets that a configuration names: always files, never values. Who else on this machine may read or change them.
 *
 * Which keys they are follows from their names, so that a new one cannot be forgotten: `keyFile`, `tokenFile`, `passwordFile`,
 * `passphraseFile` and whatever else ends like them.
 */
import { stat } from "node:fs/promises";
import type { Environment } from "./environment.ts";
import type { Finding } from "./problem.ts";
import type { Config } from "./schema.ts";
import type { Path } from "./schema-node.ts";

const SECRET_KEY = /(key|token|password|passphrase|secret)s?file$/i;
/** Where systemd puts what `LoadCredential=` names: on a file system of its own, for the unit alone, whatever the bits say. */
const SYSTEMD_CREDENTIALS = "/run/credentials/";

export interface SecretFile {
  readonly path: Path;
  readonly file: string;
}

/** Every secret that a configuration names, a part of one included. Pure. */
export function secretFiles(value: unknown, path: Path = []): SecretFile[] {
  if (typeof value !== "object" || value === null) return [];
  return Object.entries(value).flatMap(([name, item]: [string, unknown]) => {
    const here = [...path, Array.isArray(value) ? Number(name) : name];
    return typeof item === "string" && SECRET_KEY.test(name) ? [{ path: here, file: item }] : secretFiles(item, here);
  });
}

export interface Ownership {
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
}

/**
 * Who else may read or change a secret, in words; `undefined` where nobody may. A file of root's that the daemon's own group
 * (`daemonGroup`) may read is as it should be: `root:summit-edge 0640`. Pure.
 */
export function exposure({ mode, uid, gid }: Ownership, daemonGroup: number | undefined): string | undefined {
  if ((mode & 0o002) !== 0) return "everybody on this machine may change it";
  if ((mode & 0o005) !== 0) return "everybody on this machine may read it";
  if ((mode & 0o020) !== 0) return "its group may change it";
  const isDaemons = uid === 0 && gid !== 0 && gid === daemonGroup;
  return (mode & 0o040) !== 0 && !isDaemons ? "its group may read it" : undefined;
}

/** Whether systemd handed a file over to the unit. */
export function isCredential(file: string, env: Environment): boolean {
  const folder = env.CREDENTIALS_DIRECTORY;
  return (
    file.startsWith(SYSTEMD_CREDENTIALS) || (folder !== undefined && folder !== "" && file.startsWith(`${folder}/`))
  );
}

/** The group that the daemon has: that of its data, where they are there already. */
export async function daemonGroup(dataDir: string): Promise<number | undefined> {
  return (await stat(dataDir).catch(() => undefined))?.gid;
}

/** The secrets of a configuration that others may read or change. One that is not there, or not to be looked at, is left to whoever uses it. */
export async function exposedSecrets(config: Config, env: Environment): Promise<Finding[]> {
  const group = await daemonGroup(config.gateway.dataDir);
  const found: Finding[] = [];
  for (const { path, file } of secretFiles(config)) {
    const facts = isCredential(file, env) ? undefined : await stat(file).catch(() => undefined);
    const who = facts?.isFile() ? exposure(facts, group) : undefined;
    if (who === undefined || facts === undefined) continue;
    const mode = (facts.mode & 0o777).toString(8).padStart(4, "0");
    found.push({ path, message: `${file} is a secret, and ${who} (mode ${mode}): chmod 600 ${file}` });
  }
  return found;
}
