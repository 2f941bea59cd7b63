/** What this gateway is called: the names and addresses that devices may reach it by. */
import { isIP } from "node:net";
import { hostname, networkInterfaces } from "node:os";
import type { Config } from "../../config/schema.ts";
import { MAX_COMMON_NAME } from "../../identity/authority.ts";

export interface Names {
  readonly dns: readonly string[];
  readonly addresses: readonly string[];
}

/** Labels of letters, digits, hyphens and underscores; the first may be a wildcard. */
const DNS_NAME = /^(?=.{1,253}$)(\*\.)?[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*$/;

export const isDnsName = (text: string): boolean => DNS_NAME.test(text) && isIP(text) === 0;

/**
 * An IP address as RFC 5952 writes it, hexadecimal throughout: makers of certificates misread `::ffff:192.0.2.7`. `undefined` for
 * what is none, and for one with a zone (`fe80::1%eth0`), which means something on this machine only and has no place in a certificate.
 */
export function plainAddress(text: string): string | undefined {
  if (isIP(text) === 0 || text.includes("%")) return undefined;
  return isIP(text) === 4 ? text : new URL(`http://[${text}]`).hostname.slice(1, -1);
}

/**
 * The host's name, alone and as mDNS has it, its addresses (but link-local ones, which need an interface beside them), those that
 * listeners are bound to, loopback, and what was given by hand.
 */
export function gatewayNames({ mqtt }: Pick<Config, "mqtt">, given: Names): Names {
  const host = hostname();
  const [short = host] = host.split(".");
  const interfaces = Object.values(networkInterfaces()).flatMap((addresses = []) => addresses);
  const own = interfaces
    .map(({ address }) => address)
    .filter((address) => !/^(fe[89ab][0-9a-f]:|169\.254\.)/i.test(address));
  const bound = mqtt.listeners.map(({ bind }) => bind);
  const dns = [...given.dns, host, short, `${short}.local`, "localhost", ...bound.filter((bind) => isIP(bind) === 0)];
  const addresses = [...given.addresses, ...own, ...bound, "127.0.0.1", "::1"].flatMap(
    (address) => plainAddress(address) ?? [],
  );
  return {
    dns: [...new Set(dns)].filter(isDnsName),
    addresses: [...new Set(addresses)].filter((address) => !["0.0.0.0", "::"].includes(address)),
  };
}

/** The common name for people to read; clients go by the names beside it. */
export const commonNameOf = ({ dns, addresses }: Names): string =>
  [...dns, ...addresses].find((name) => name.length <= MAX_COMMON_NAME) ?? "summit-edge";
