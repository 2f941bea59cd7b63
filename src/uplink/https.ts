/**
 * The transport to fusion over HTTP/1.1: connections that are kept alive, credentials from files, and the headers of the
 * contract (section 5). It does not know what an answer means, and tries nothing again but a request that met a
 * connection which the server had already closed.
 */
import { readFile } from "node:fs/promises";
import http from "node:http";
import https from "node:https";
import { createSecureContext, type SecureContext } from "node:tls";
import type { UplinkConfig } from "../config/schema.ts";
import type { Clock } from "../kernel/clock.ts";
import { codeOf, GatewayError, messageOf } from "../kernel/errors.ts";
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

interface Credentials {
  readonly authorization: string | undefined;
}

export interface HttpsTransportParts {
  /** `url` must be set; so says `uplinkUrl`. */
  readonly config: UplinkConfig;
  readonly clock: Pick<Clock, "after">;
  /** The gateway's version, for `user-agent`. */
  readonly version: string;
}

export class HttpsTransport implements Transport {
  readonly endpoint: { readonly host: string; readonly port: number };
  readonly longestPostMs: number;
  readonly #config: UplinkConfig;
  readonly #clock: Pick<Clock, "after">;
  readonly #userAgent: string;
  readonly #url: URL;
  readonly #secure: boolean;
  #agent: http.Agent | undefined;
  #credentials: Credentials | undefined;

  /** @throws GatewayError `UPLINK_URL_REFUSED` */
  constructor({ config, clock, version }: HttpsTransportParts) {
    this.#url = uplinkUrl(config.url ?? "");
    this.#secure = this.#url.protocol === "https:";
    this.#config = config;
    this.#clock = clock;
    this.#userAgent = `summit-edge/${version}`;
    // Twice: a stale connection costs one try more.
    this.longestPostMs = 2 * longestExchangeMs(config.timeouts, config.batch.maxBytes);
    this.endpoint = {
      host: this.#url.hostname.replace(/^\[|\]$/g, ""),
      port: Number(this.#url.port) || (this.#secure ? 443 : 80),
    };
  }

  async prepare(): Promise<NoAnswer | undefined> {
    try {
      this.#agent ??= this.#secure
        ? new https.Agent({ ...this.#agentOptions(), secureContext: await this.#secureContext() })
        : new http.Agent(this.#agentOptions());
    } catch (error) {
      const detail = `the files of uplink.tls cannot be used: ${messageOf(error)}`;
      return { kind: "no-answer", fault: "misconfigured", code: codeOf(error) ?? "tls-files", detail };
    }
    try {
      this.#credentials ??= { authorization: await this.#readToken() };
    } catch (error) {
      const detail = `uplink.tokenFile cannot be used: ${messageOf(error)}`;
      return { kind: "no-answer", fault: "credentials", code: codeOf(error) ?? "token-file", detail };
    }
    return undefined;
  }

  async post(request: UplinkRequest, signal: AbortSignal): Promise<Exchange> {
    const obstacle = await this.prepare();
    if (obstacle !== undefined) return obstacle;
    const settings = this.#settingsFor(request);
    const first = await exchange(settings, request.body, signal);
    if (!first.stale) return first.exchange;
    // What idles beside a stale connection is as old: the second try must not meet another one.
    for (const sockets of Object.values(this.#agent?.freeSockets ?? {})) {
      for (const socket of sockets ?? []) socket.destroy();
    }
    return (await exchange(settings, request.body, signal)).exchange;
  }

  forgetCredentials(): void {
    this.#credentials = undefined;
  }

  close(): void {
    this.#agent?.destroy();
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
    const authorization = this.#credentials?.authorization;
    return {
      "content-type": "application/json",
      ...(request.contentEncoding === undefined ? {} : { "content-encoding": request.contentEncoding }),
      "content-length": request.body.length,
      "idempotency-key": request.idempotencyKey,
      traceparent: request.traceparent,
      ...(authorization === undefined ? {} : { authorization }),
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

  /** Made once: files that OpenSSL cannot use show here, and not as an exception of the first request. */
  async #secureContext(): Promise<SecureContext> {
    const { caFile, certFile, keyFile } = this.#config.tls;
    return createSecureContext({
      minVersion: "TLSv1.2",
      ...(caFile === undefined ? {} : { ca: await readFile(caFile) }),
      ...(certFile === undefined ? {} : { cert: await readFile(certFile) }),
      ...(keyFile === undefined ? {} : { key: await readFile(keyFile) }),
    });
  }

  async #readToken(): Promise<string | undefined> {
    const { tokenFile } = this.#config;
    if (tokenFile === undefined) return undefined;
    const token = (await readFile(tokenFile, "utf8")).trim();
    // Anything else could not stand in a header, and the error that says so would show the token.
    if (!/^[\x21-\x7e]+$/.test(token)) throw new Error(`${tokenFile} does not hold a token`);
    return `Bearer ${token}`;
  }
}
