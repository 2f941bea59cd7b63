/**
 * The transport to fusion over HTTP/1.1: connections that are kept alive, credentials from files, and the headers of the
 * contract (section 5). It does not know what an answer means, and tries nothing again but a request that met a
 * connection which the server had already closed.
 */
import http from "node:http";
import https from "node:https";
import type { UplinkConfig } from "../config/schema.ts";
import type { Clock } from "../kernel/clock.ts";
import { codeOf, GatewayError, messageOf } from "../kernel/errors.ts";
import type { Reloads } from "../kernel/reloading.ts";
import { Credentials } from "./credentials.ts";
import { type ExchangeSettings, exchange, longestExchangeMs } from "./exchange.ts";
import type { Exchange, NoAnswer, Transport, UplinkRequest } from "./transport.ts";

/** The longest answer that is read is this, or what `BYTES_PER_REJECTION` makes of a large batch. */
export const MAX_ANSWER_BYTES = 1024 * 1024;
/** Room for one reading's rejection, so that the answer to a batch in which all are rejected can be read. */
const BYTES_PER_REJECTION = 512;
/** A connection idle for longer is not used again: a NAT on the way may have forgotten it without a word. */
const IDLE_CONNECTION_MS = 30_000;
/** The forwarder's requests beside `uplink.concurrency`: critical readings alone, and a replay. */
const REQUESTS_BESIDE = 2;
/**
 * How long one of several addresses has before the next is tried as well. Node's own 250 ms gives up on every
 * satellite link.
 */
export const ADDRESS_ATTEMPT_MS = 2500;

/**
 * The uplink's address as a URL.
 *
 * @throws GatewayError `UPLINK_URL_REFUSED` unless it is https, or http to loopback, without credentials in it.
 */
export function uplinkUrl(text: string): URL {
  const refuse = (message: string, hint: string): GatewayError =>
    new GatewayError({ code: "UPLINK_URL_REFUSED", op: "uplink.open", message, hint });
  if (!URL.canParse(text)) {
    throw refuse("uplink.url is not a URL", "Write it as https://host/path.");
  }
  const url = new URL(text);
  if (url.username !== "" || url.password !== "") {
    throw refuse("uplink.url carries credentials", "Put the token into a file and name it in uplink.tokenFile.");
  }
  if (url.protocol === "https:" || (url.protocol === "http:" && isLoopback(url.hostname))) return url;
  throw refuse(
    `uplink.url is refused: ${url.protocol}//${url.host} would carry readings in the clear`,
    "Use an https URL; plain http is for loopback only.",
  );
}

/** `hostname` as the URL parser normalises it: addresses in dotted form, IPv6 in brackets. */
function isLoopback(hostname: string): boolean {
  return hostname === "localhost" || hostname === "[::1]" || /^127\.\d+\.\d+\.\d+$/.test(hostname);
}

const REDACTED = "[redacted]";
/** A shorter value in the address's query is a version or a switch. */
const SHORTEST_SECRET = 6;

export interface HttpsTransportParts {
  /** `url` must be set; so says `uplinkUrl`. */
  readonly config: UplinkConfig;
  readonly clock: Pick<Clock, "after">;
  /** The gateway's version, for `user-agent`. */
  readonly version: string;
  readonly reloads: Reloads;
}

export class HttpsTransport implements Transport {
  readonly endpoint: { readonly host: string; readonly port: number };
  readonly longestPostMs: number;
  readonly #config: UplinkConfig;
  readonly #clock: Pick<Clock, "after">;
  readonly #userAgent: string;
  readonly #url: URL;
  readonly #secure: boolean;
  readonly #credentials: Credentials;
  /** What `uplink.url` may hold of a secret. */
  readonly #querySecrets: readonly string[];
  #agent: http.Agent | undefined;
  #token: string | undefined;
  #renewed: () => void = () => {};

  /** @throws GatewayError `UPLINK_URL_REFUSED` */
  constructor({ config, clock, version, reloads }: HttpsTransportParts) {
    this.#url = uplinkUrl(config.url ?? "");
    this.#secure = this.#url.protocol === "https:";
    const values = [...this.#url.searchParams.values()].flatMap((value) => [value, encodeURIComponent(value)]);
    this.#querySecrets = values.filter(({ length }) => length >= SHORTEST_SECRET);
    this.#config = config;
    this.#clock = clock;
    this.#userAgent = `summit-edge/${version}`;
    this.#credentials = new Credentials({ config, reloads, renewed: (what) => this.#renew(what) });
    // Twice: a stale connection costs one try more.
    this.longestPostMs = 2 * longestExchangeMs(config.timeouts, config.batch.maxBytes);
    this.endpoint = {
      host: this.#url.hostname.replace(/^\[|\]$/g, ""),
      port: Number(this.#url.port) || (this.#secure ? 443 : 80),
    };
  }

  async prepare(): Promise<NoAnswer | undefined> {
    try {
      const secureContext = this.#secure ? await this.#credentials.secureContext() : undefined;
      this.#agent ??=
        secureContext === undefined
          ? new http.Agent(this.#agentOptions())
          : new https.Agent({ ...this.#agentOptions(), secureContext });
    } catch (error) {
      const detail = `the files of uplink.tls cannot be used: ${messageOf(error)}`;
      return { kind: "no-answer", fault: "misconfigured", code: causeOf(error) ?? "tls-files", detail };
    }
    try {
      this.#token = await this.#credentials.token();
    } catch (error) {
      const detail = `uplink.tokenFile cannot be used: ${messageOf(error)}`;
      return { kind: "no-answer", fault: "credentials", code: causeOf(error) ?? "token-file", detail };
    }
    return undefined;
  }

  async post(request: UplinkRequest, signal: AbortSignal): Promise<Exchange> {
    const obstacle = await this.prepare();
    if (obstacle !== undefined) return obstacle;
    const settings = this.#settingsFor(request);
    const first = await exchange(settings, request.body, signal);
    if (!first.stale) return this.#withoutSecrets(first.exchange);
    // What idles beside a stale connection is as old: the second try must not meet another one.
    closeIdle(this.#agent);
    return this.#withoutSecrets((await exchange(settings, request.body, signal)).exchange);
  }

  /** A service may quote in its answer what it was sent; what it answers is logged, shown and kept. */
  #withoutSecrets(exchange: Exchange): Exchange {
    if (exchange.kind !== "answer") return exchange;
    const secrets = [...(this.#token === undefined ? [] : [this.#token]), ...this.#querySecrets];
    if (!secrets.some((secret) => exchange.body.includes(secret))) return exchange;
    return { ...exchange, body: secrets.reduce((body, secret) => body.replaceAll(secret, REDACTED), exchange.body) };
  }

  forgetCredentials(): void {
    this.#credentials.refused();
  }

  onRenewed(action: () => void): void {
    this.#renewed = action;
  }

  close(): void {
    this.#credentials.close();
    this.#agent?.destroy();
  }

  /** Requests under way end on the connections that they have; the next one opens another. */
  #renew(what: "tls" | "token"): void {
    if (what === "tls") {
      closeIdle(this.#agent);
      this.#agent = undefined;
    }
    this.#renewed();
  }

  #settingsFor(request: UplinkRequest): ExchangeSettings {
    const { batch, timeouts } = this.#config;
    return {
      request: this.#secure ? https.request : http.request,
      options: {
        method: "POST",
        host: this.endpoint.host,
        port: this.endpoint.port,
        path: this.#url.pathname + this.#url.search,
        agent: this.#agent,
        headers: this.#headersFor(request),
      },
      secure: this.#secure,
      timeouts,
      maxAnswerBytes: Math.max(MAX_ANSWER_BYTES, batch.maxReadings * BYTES_PER_REJECTION),
      clock: this.#clock,
    };
  }

  #headersFor(request: UplinkRequest): http.OutgoingHttpHeaders {
    const token = this.#token;
    return {
      "content-type": "application/json",
      ...(request.contentEncoding === undefined ? {} : { "content-encoding": request.contentEncoding }),
      "content-length": request.body.length,
      "idempotency-key": request.idempotencyKey,
      traceparent: request.traceparent,
      ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
      accept: "application/json, application/problem+json",
      "accept-encoding": "identity",
      "user-agent": this.#userAgent,
    };
  }

  #agentOptions(): http.AgentOptions & { autoSelectFamilyAttemptTimeout: number } {
    return {
      keepAlive: true,
      maxSockets: this.#config.concurrency + REQUESTS_BESIDE,
      timeout: IDLE_CONNECTION_MS,
      autoSelectFamilyAttemptTimeout: ADDRESS_ATTEMPT_MS,
    };
  }
}

function closeIdle(agent: http.Agent | undefined): void {
  for (const sockets of Object.values(agent?.freeSockets ?? {})) {
    for (const socket of sockets ?? []) socket.destroy();
  }
}

/** The system's own code where a file could not be read (`ENOENT`), else ours. */
function causeOf(error: unknown): string | undefined {
  return (error instanceof GatewayError ? codeOf(error.cause) : undefined) ?? codeOf(error);
}
