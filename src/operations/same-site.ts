/**
 * Keeps web pages of others from writing through an operator's browser. A page that rebinds its own name to this address
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

export type Refusal = { readonly code: "FORBIDDEN_HOST" | "FORBIDDEN_ORIGIN"; readonly detail: string };

/**
 * Why a writing call is refused, or `undefined` where it may go ahead. `bind` is `http.bind` as configured. The port in
 * `Host` does not matter: a rebound name gives itself away by the name, and a tunnel has a port of its own.
 */
export function refusalOf(caller: Caller, bind: string): Refusal | undefined {
  const name = hostName(caller.host);
  if (name === undefined || !isOurs(name, [bind, caller.localAddress])) {
    const detail = "Host names neither loopback nor the address that the gateway listens on";
    return { code: "FORBIDDEN_HOST", detail };
  }
  if (caller.origin !== undefined && caller.origin.toLowerCase() !== `http://${caller.host?.toLowerCase()}`)
    return { code: "FORBIDDEN_ORIGIN", detail: "Origin is not the gateway's own page" };
  return undefined;
}

/** The name or address in a `Host` header, in lower case, without port and brackets. */
function hostName(host: string | undefined): string | undefined {
  const match = /^(?:\[([0-9a-f:.]+)\]|([a-z0-9.-]+))(?::\d{1,5})?$/i.exec(host ?? "");
  return (match?.[1] ?? match?.[2])?.toLowerCase();
}

function isOurs(name: string, addresses: readonly (string | undefined)[]): boolean {
  if (name === "localhost" || name === "::1" || /^127(?:\.\d{1,3}){3}$/.test(name)) return true;
  return addresses.some((address) => address?.toLowerCase().replace(/^::ffff:/, "") === name);
}
