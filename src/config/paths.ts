/** Where the files that a configuration names lie. */
import { isAbsolute, resolve } from "node:path";
import type { Environment } from "./environment.ts";

/** As systemd names the folder of the secrets it hands over; may begin a path in the configuration. */
const CREDENTIALS = "$" + "{CREDENTIALS_DIRECTORY}";

/** A path taken from `folder`; an absolute one, and one that begins with a variable, stays as it is. */
export function fromFolder(folder: string, path: string): string {
  return isAbsolute(path) || path.startsWith("${") ? path : resolve(folder, path);
}

export type FoundPath =
  | { readonly path: string }
  /** Credentials are named, but nobody handed any over. */
  | { readonly path: string; readonly missing: string }
  | { readonly invalid: string };

/** The file that a path in the configuration stands for. */
export function findPath(folder: string, written: string, env: Environment): FoundPath {
  const credentials = env.CREDENTIALS_DIRECTORY;
  const inCredentials = written.startsWith(`${CREDENTIALS}/`);
  const rest = inCredentials ? written.slice(CREDENTIALS.length + 1) : written;
  if (rest.includes("${")) return { invalid: `only ${CREDENTIALS}/ at the beginning is replaced in a path` };
  if (/^~/.test(rest)) return { invalid: "~ is not replaced by a home folder; write the path in full" };
  if (rest.includes("\0")) return { invalid: "a path holds no NUL" };
  if (!inCredentials) return { path: fromFolder(folder, written) };
  if (credentials === undefined || credentials === "") {
    const missing = `CREDENTIALS_DIRECTORY is not set; systemd sets it for a unit with LoadCredential=${rest}:…`;
    return { path: written, missing };
  }
  return { path: resolve(credentials, rest) };
}
