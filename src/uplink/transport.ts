/** What carries a batch to fusion, as the forwarder sees it. Types only. */

/** One request, but for what the transport adds itself: credentials, lengths, its own name. */
export interface UplinkRequest {
  readonly body: Uint8Array;
  readonly contentEncoding: "gzip" | undefined;
  readonly idempotencyKey: string;
  /** W3C Trace Context, fresh for each request. */
  readonly traceparent: string;
}

/** Fusion's answer, as it came. */
export interface Answer {
  readonly kind: "answer";
  readonly status: number;
  /** Names in lower case. */
  readonly headers: Readonly<Record<string, string | readonly string[] | undefined>>;
  readonly body: string;
  /** The answer was longer than the transport reads; `body` is its beginning. */
  readonly truncated: boolean;
}

/**
 * What is wrong with the uplink when a batch could not be delivered.
 *
 * - `unreachable`: no connection came about (refused, no route, no name, no answer to the SYN). The only fault that a
 *   successful TCP connect disproves.
 * - `failing`: connected, but hung, reset, failed its TLS handshake, or answered 408, 425, 429 or 5xx.
 * - `credentials`: 401, 403, or a token that cannot be read.
 * - `misconfigured`: 404, 405, 410, 415, or TLS files that cannot be read.
 * - `unexpected`: an answer that the contract does not know.
 */
export type Fault = "unreachable" | "failing" | "credentials" | "misconfigured" | "unexpected";

/** No answer came. */
export interface NoAnswer {
  readonly kind: "no-answer";
  readonly fault: Fault;
  /** A system error (`ECONNREFUSED`), OpenSSL's code, `connect-timeout`, `write-timeout`, `read-timeout`, …. */
  readonly code: string;
  readonly detail: string;
}

/** What became of a request; `aborted` where the caller's signal ended it. */
export type Exchange = Answer | NoAnswer | { readonly kind: "aborted" };

export interface Transport {
  /** Where to look for reachability. */
  readonly endpoint: { readonly host: string; readonly port: number };
  /** The longest that `post` can take, in milliseconds. */
  readonly longestPostMs: number;
  /** Reads credentials that are not read yet; says what stands in the way. Need not be called before `post`. */
  prepare(): Promise<NoAnswer | undefined>;
  /** Sends one request. Never rejects for anything that the network or fusion does. */
  post(request: UplinkRequest, signal: AbortSignal): Promise<Exchange>;
  /** The credentials were refused: read them again before the next request. */
  forgetCredentials(): void;
  /** `action` is called whenever certificates or token are others than before. One action at most. */
  onRenewed(action: () => void): void;
  /** Closes idle connections; requests under way end as `no-answer`. */
  close(): void;
}
