/**
 * Who gets as far as a route: each call is asked by what name it came, from which page, with which key, and how often.
 *
 * Invariants: a call is refused before its body is read. Who shows a key is held to it, also where none is needed. What is
 * refused is told to the log and the audit trail, at most `REPORTS` a minute; a key's text is told to nobody, its id is.
 */
import type { FastifyReply, FastifyRequest } from "fastify";
import { asksForKeys } from "../config/http-access.ts";
import type { HttpConfig } from "../config/schema.ts";
import type { ApiKey, KeyVerdict, Scope } from "../identity/api-keys.ts";
import type { Audit } from "../kernel/audit.ts";
import type { Clock } from "../kernel/clock.ts";
import { type Logger, RateLimit } from "../kernel/telemetry.ts";
import { pathOf } from "./http-errors.ts";
import { type Refused, refusal } from "./refused.ts";
import { addressCaller, RequestRates } from "./request-rates.ts";
import { refusalOf, type Site } from "./same-site.ts";

/** Longer addresses are nobody's: the longest that the API knows has a few hundred characters. */
export const MAX_URL_LENGTH = 2048;
/** Refused calls that are reported per minute. */
const REPORTS = 20;
const MINUTE_MS = 60_000;
/** How long a browser may remember what a preflight told it, in seconds. */
const PREFLIGHT_SECONDS = 600;

/** What a route asks of its caller: nothing at all, or a key of at least this scope wherever keys are asked for. */
export type Need = "open" | Scope;

/** Who calls. */
export type ApiCaller =
  | { readonly kind: "key"; readonly key: ApiKey }
  /** By the socket in dataDir, which only root and the daemon's user can open. */
  | { readonly kind: "local" }
  | { readonly kind: "anonymous"; readonly address: string };

export interface GuardParts {
  readonly config: HttpConfig;
  readonly clock: Pick<Clock, "monotonic">;
  readonly log: Logger;
  readonly audit: Audit;
  readonly checkKey: (text: string) => Promise<KeyVerdict>;
  readonly isCertified: (name: string) => boolean;
  /** Whether a request came in by the socket in dataDir. */
  readonly isLocal: (request: FastifyRequest) => boolean;
}

const RANK: Readonly<Record<Scope, number>> = { read: 1, write: 2, admin: 3 };
/** Refusals that tell of somebody who tries; a call without a key, or too often, mostly tells of somebody who errs. */
const AUDITED: ReadonlySet<string> = new Set([
  "KEY_INVALID",
  "KEY_EXPIRED",
  "SCOPE_INSUFFICIENT",
  "FORBIDDEN_HOST",
  "FORBIDDEN_ORIGIN",
]);
/** Told to the log too; the others are what any client does now and then. */
const LOGGED: ReadonlySet<string> = new Set([...AUDITED, "RATE_LIMIT_EXCEEDED"]);

const callers = new WeakMap<FastifyRequest, ApiCaller>();
/** Ids of keys that were shown and are good no more, or never were. */
const refusedKeys = new WeakMap<FastifyRequest, string>();

/** Who makes a call that was let in, as the audit trail names it: `key:ops`, `local`, `address:10.0.0.7`. */
export function actorOf(request: FastifyRequest): string {
  return actor(callers.get(request) ?? anonymous(request));
}

/** Lets calls in, or refuses them. */
export class Guard {
  readonly #parts: GuardParts;
  readonly #site: Site;
  readonly #keysNeeded: boolean;
  readonly #rates: RequestRates;
  readonly #reports: RateLimit;

  constructor(parts: GuardParts) {
    const { config, clock, isCertified } = parts;
    this.#parts = parts;
    const scheme = config.tls === undefined ? "http" : "https";
    this.#site = { scheme, bind: config.bind, hosts: config.hosts, cors: config.cors, isCertified };
    this.#keysNeeded = asksForKeys(config);
    this.#rates = new RequestRates(config.limits.requestRate, clock);
    this.#reports = new RateLimit(clock, REPORTS, MINUTE_MS);
  }

  /**
   * Lets a call in that is for a route with that need. Resolves to whether it was answered here, as a preflight is.
   * @throws Refused
   */
  async admit(request: FastifyRequest, reply: FastifyReply, need: Need): Promise<boolean> {
    callers.set(request, anonymous(request));
    try {
      if (request.url.length > MAX_URL_LENGTH)
        throw refusal("URL_TOO_LONG", `an address may have ${MAX_URL_LENGTH} characters`);
      const local = this.#parts.isLocal(request);
      if (!local) {
        this.#checkSite(request);
        if (this.#answerPreflight(request, reply)) return true;
      }
      // A probe with an old key is a probe all the same.
      if (need === "open") return false;
      const caller = await this.#identify(request, local);
      callers.set(request, caller);
      this.#checkRate(caller);
      this.#checkScope(caller, need);
      return false;
    } catch (error) {
      this.#report(request, error as Refused);
      throw error;
    }
  }

  /** Whether a call that was let in, and goes on, would be let in still: its key may have been revoked meanwhile, or have expired. */
  async stillAllowed(request: FastifyRequest): Promise<boolean> {
    if (callers.get(request)?.kind !== "key") return true;
    const text = keyIn(request);
    return text !== undefined && (await this.#parts.checkKey(text)).kind === "valid";
  }

  #checkSite(request: FastifyRequest): void {
    const { host, origin } = request.headers;
    const names = request.raw.rawHeaders.filter((name, at) => at % 2 === 0 && name.toLowerCase() === "host");
    if (names.length !== 1) throw refusal("BAD_REQUEST", "a request has one Host, and only one");
    const writes = !["GET", "HEAD", "OPTIONS"].includes(request.method);
    const found = refusalOf({ host, origin, localAddress: request.socket.localAddress }, this.#site, writes);
    if (found !== undefined) throw refusal(found.code, found.detail, HINTS[found.code]);
  }

  /** Tells a browser that pages of a configured origin may read the answer; answers where it only asks. */
  #answerPreflight(request: FastifyRequest, reply: FastifyReply): boolean {
    if (this.#site.cors.length === 0) return false;
    const { origin } = request.headers;
    reply.header("vary", "Origin");
    if (origin === undefined || !this.#site.cors.includes(origin)) return false;
    reply.headers({
      "access-control-allow-origin": origin,
      "access-control-expose-headers": "Retry-After",
      "cross-origin-resource-policy": "cross-origin",
    });
    if (request.method !== "OPTIONS" || request.headers["access-control-request-method"] === undefined) return false;
    reply.headers({
      "access-control-allow-methods": "GET, POST, DELETE",
      "access-control-allow-headers": "Authorization, Content-Type",
      "access-control-max-age": String(PREFLIGHT_SECONDS),
    });
    reply.code(204).send();
    return true;
  }

  async #identify(request: FastifyRequest, local: boolean): Promise<ApiCaller> {
    if (request.headers.authorization === undefined) return local ? { kind: "local" } : anonymous(request);
    const text = keyIn(request);
    const verdict = text === undefined ? UNKNOWN : await this.#parts.checkKey(text);
    if (verdict.kind === "valid") return { kind: "key", key: verdict.key };
    const id = verdict.kind === "expired" ? verdict.key.id : verdict.id;
    if (id !== undefined) refusedKeys.set(request, id);
    // Counted for the address: whoever guesses shall not do so for ever, and who has a key is not held up by him.
    this.#checkRate(anonymous(request));
    if (verdict.kind === "expired") {
      const detail = `the key ${verdict.key.name} has expired`;
      const { name, scope } = verdict.key;
      const hint = `On the gateway, revoke it (summit-edge keys revoke ${name}) and make another: summit-edge keys create ${name} --scope ${scope}`;
      throw refusal("KEY_EXPIRED", detail, hint, challenge("invalid_token"));
    }
    if (verdict.fault !== undefined) this.#parts.log.error({ code: verdict.fault.code }, verdict.fault.message);
    const detail =
      text === undefined
        ? "Authorization is not of the form Bearer KEY"
        : "the key is none of this gateway's, or was revoked";
    throw refusal("KEY_INVALID", detail, HINTS.KEY_INVALID, challenge("invalid_token"));
  }

  #checkRate(caller: ApiCaller): void {
    if (caller.kind === "local") return;
    const name = caller.kind === "key" ? `key ${caller.key.id}` : `address ${addressCaller(caller.address)}`;
    const seconds = this.#rates.take(name);
    if (seconds === undefined) return;
    const { requestRate } = this.#parts.config.limits;
    const detail = `more than ${requestRate} requests a second (http.limits.requestRate)`;
    throw refusal("RATE_LIMIT_EXCEEDED", detail, `Ask again in ${seconds} s.`, { "retry-after": String(seconds) });
  }

  #checkScope(caller: ApiCaller, need: Scope): void {
    if (caller.kind === "local") return;
    if (caller.kind === "anonymous") {
      if (!this.#keysNeeded) return;
      throw refusal("KEY_REQUIRED", `this call needs an API key of scope ${need}`, HINTS.KEY_REQUIRED, challenge());
    }
    const { scope, name } = caller.key;
    if (RANK[scope] >= RANK[need]) return;
    const detail = `the key ${name} has the scope ${scope}, and this call needs ${need}`;
    const hint = `Use a key of that scope, made on the gateway: summit-edge keys create NAME --scope ${need}`;
    throw refusal("SCOPE_INSUFFICIENT", detail, hint, challenge("insufficient_scope"));
  }

  #report(request: FastifyRequest, { code }: Refused): void {
    if (!LOGGED.has(code)) return;
    const heldBack = this.#reports.admit();
    if (heldBack === undefined) return;
    const { address } = anonymous(request);
    const subject = `${request.method} ${pathOf(request)}`.slice(0, 200);
    const actor = actorOf(request);
    const keyId = refusedKeys.get(request);
    const told = { code, address, ...(keyId !== undefined && { keyId }), heldBack };
    this.#parts.log.warn({ actor, call: subject, ...told }, "a call was refused");
    if (AUDITED.has(code)) this.#parts.audit({ action: "api.refused", actor, subject, detail: told });
  }
}

/** The key that a call shows; `undefined` where it shows none. */
function keyIn({ headers: { authorization = "" } }: FastifyRequest): string | undefined {
  return /^Bearer +(\S+) *$/i.exec(authorization)?.[1];
}

const UNKNOWN: KeyVerdict = { kind: "unknown" };

const HINTS = {
  FORBIDDEN_HOST: "Call it by its address, or put the name into http.hosts.",
  FORBIDDEN_ORIGIN: "Use the gateway's own page, or put the origin into http.cors.",
  KEY_REQUIRED:
    "Make one on the gateway (summit-edge keys create NAME --scope read), and send it as Authorization: Bearer KEY.",
  KEY_INVALID: "See which keys there are on the gateway (summit-edge keys list), or make a new one.",
} as const;

/** RFC 6750, section 3. */
function challenge(error?: string): Readonly<Record<string, string>> {
  const reason = error === undefined ? "" : `, error="${error}"`;
  return { "www-authenticate": `Bearer realm="summit-edge"${reason}` };
}

function anonymous(request: FastifyRequest): { readonly kind: "anonymous"; readonly address: string } {
  return { kind: "anonymous", address: request.socket.remoteAddress ?? "unknown" };
}

function actor(caller: ApiCaller): string {
  if (caller.kind === "key") return `key:${caller.key.name}`;
  return caller.kind === "local" ? "local" : `address:${caller.address}`;
}
