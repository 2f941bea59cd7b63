/** A serial line at the other end of a TCP connection, as a port's path names it. Pure. */

export const NETWORK_SCHEME = "tcp://";

/** Where `path` leads; `undefined` where it is not of the form tcp://host:port, IPv6 addresses in brackets. */
export function networkAddress(path: string): { readonly host: string; readonly port: number } | undefined {
  if (!path.startsWith(NETWORK_SCHEME) || !URL.canParse(path)) return undefined;
  const { hostname, port, pathname, search, hash, username, password } = new URL(path);
  const extra = [pathname, search, hash, username, password].join("");
  if (hostname === "" || port === "" || Number(port) === 0 || extra !== "") return undefined;
  return { host: hostname.replace(/^\[(.*)\]$/, "$1"), port: Number(port) };
}
