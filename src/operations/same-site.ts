/**
 * Keeps web pages of others out of what an operator's browser can reach. A page that rebinds its own name to this address
 * is told by its `Host`, a page that calls across sites by its `Origin`. Pure.
 */

export interface Caller {
  /** The `Host` header as it came. */
  readonly host: string | undefined;
  /** The `Origin` header, where there is one: programs send none. */
  readonly origin: string | undefined;
  /** The address at which the connection came in. */
  readonly localAddress: string | undefined;
}

/** By what the gateway may be called. */
export interface Site {
  readonly scheme: "http" | "https";
  /** `http.bind` as configured. */
  readonly bind: string;
  /** `http.hosts` as configured. */
  readonly hosts: readonly string[];
  /** Whether the certificate, if there is one, is for that name or address. */
  readonly isCertified: (name: string) => boolean;
  /** `http.cors` as configured: origins besides the gateway's own. */
  readonly cors: readonly string[];
}

export type Refusal = { readonly code: "FORBIDDEN_HOST" | "FORBIDDEN_ORIGIN"; readonly detail: string };

/**
 * Why a call is refused, or `undefined` where it may go ahead. `writes`: it may change something, so that its `Origin`
 * matters too; what a page of another origin reads, the browser keeps from it. The port in `Host` does not matter: a rebound
 * name gives itself away by the name, and a tunnel has a port of its own.
 */
export function refusalOf(caller: Caller, site: Site, writes: boolean): Refusal | undefined {
  const name = hostName(caller.host);
  if (name === undefined || !isOurs(name, caller.localAddress, site)) {
    const detail =
      "Host names neither loopback, nor the address that the gateway listens on, nor a name that it is known by (http.hosts)";
    return { code: "FORBIDDEN_HOST", detail };
  }
  const { origin } = caller;
  if (!writes || origin === undefined || site.cors.includes(origin)) return undefined;
  if (origin.toLowerCase() !== `${site.scheme}://${caller.host?.toLowerCase()}`)
    return { code: "FORBIDDEN_ORIGIN", detail: "Origin is neither the gateway's own page nor in http.cors" };
  return undefined;
}

/** The name or address in a `Host` header, in lower case, without port and brackets. */
function hostName(host: string | undefined): string | undefined {
  const match = /^(?:\[([0-9a-f:.]+)\]|([a-z0-9.-]+))(?::\d{1,5})?$/i.exec(host ?? "");
  return (match?.[1] ?? match?.[2])?.toLowerCase();
}

function isOurs(name: string, localAddress: string | undefined, { bind, hosts, isCertified }: Site): boolean {
  if (name === "localhost" || name === "::1" || /^127(?:\.\d{1,3}){3}$/.test(name)) return true;
  const known = [bind, localAddress, ...hosts].some((each) => each?.toLowerCase().replace(/^::ffff:/, "") === name);
  return known || isCertified(name);
}
