import { closeSync, constants, openSync } from "node:fs";
import { basename, dirname, join } from "node:path";

/** What the kernel takes for a Unix socket's address, in bytes (sun_path, without its final NUL). */
const LONGEST = 107;

/** A Unix socket's file by a name that the kernel takes. */
export interface SocketAddress {
  readonly address: string;
  /** Once nobody connects to, listens at, or closes a listener at `address` any more. */
  release(): void;
}

/** A name for the socket at `path`; one that is too long is reached through its folder's descriptor. Throws where there is no such folder. */
export function socketAddress(path: string): SocketAddress {
  if (Buffer.byteLength(path) <= LONGEST) return { address: path, release: () => {} };
  const folder = openSync(dirname(path), constants.O_RDONLY | constants.O_DIRECTORY);
  return { address: join("/proc/self/fd", String(folder), basename(path)), release: () => closeSync(folder) };
}

/** Where commands on this machine reach the daemon's API when it asks others for keys. */
export const localSocketPath = (dataDir: string): string => join(dataDir, "api.sock");
