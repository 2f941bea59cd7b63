/** What the `http` section must hold to be safe to run, and who needs a key under it. Pure. */
import type { Finding } from "./problem.ts";
import type { HttpConfig } from "./schema.ts";

/** Whether a host name or address can only mean this machine: 127.0.0.0/8, ::1, localhost. */
export function isLoopback(host: string): boolean {
  const bare = host.replace(/^\[(.*)\]$/, "$1").toLowerCase();
  return bare === "localhost" || bare === "::1" || /^127(\.\d{1,3}){3}$/.test(bare);
}

/** Whether callers need an API key: everybody does who can be on another machine, and so does who is not told apart from them. */
export function asksForKeys({ bind, auth }: Pick<HttpConfig, "bind" | "auth">): boolean {
  return auth === "always" || !isLoopback(bind);
}

/** Whether commands on the gateway's machine go by a socket in dataDir: it needs neither a key nor a certificate's name. */
export function opensLocalSocket(http: Pick<HttpConfig, "bind" | "auth" | "tls">): boolean {
  return asksForKeys(http) || http.tls !== undefined;
}

/** Everything that is wrong with a sound `http` section. */
export function httpProblems({ bind, tls, cors }: HttpConfig): Finding[] {
  const missing = (["certFile", "keyFile"] as const).filter((key) => tls?.[key] === undefined);
  const files =
    tls === undefined
      ? []
      : missing.map((key) => ({ path: ["http", "tls", key], message: "is missing: TLS needs it" }));
  const origins = cors.flatMap((origin, index) =>
    isOrigin(origin) ? [] : [{ path: ["http", "cors", index], message: originFault(origin) }],
  );
  if (isLoopback(bind) || tls !== undefined) return [...files, ...origins];
  const message = `${bind} is not loopback: whoever is on that network could read and change what is sent, keys included; set http.tls.certFile and http.tls.keyFile, or bind to 127.0.0.1`;
  return [{ path: ["http", "bind"], message }, ...origins];
}

function isOrigin(text: string): boolean {
  return URL.canParse(text) && new URL(text).origin === text && /^https?:/.test(text);
}

function originFault(text: string): string {
  if (text === "*")
    return "must name origins one by one: `*` would let every page that a browser shows call the gateway";
  return `must be an origin, scheme, host and port in lower case and nothing behind it, as https://console.example; not ${text}`;
}
