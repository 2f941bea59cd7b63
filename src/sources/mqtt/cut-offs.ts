/**
 * Clients that the broker turns away or cuts off, and why: counted by reason, and named in the log.
 *
 * The log is bounded so that nobody can fill it and nobody can hide behind another: for each reason, each client has a few
 * lines, each address has some more, and so have all together. A client is its id once it was let in; before that, what it
 * says it is at its address. Reasons are told apart by code and kind, never by their texts, which may name anything.
 */
import { Counter } from "prom-client";
import type { Clock } from "../../kernel/clock.ts";
import { RateLimit, type Telemetry } from "../../kernel/telemetry.ts";

export type CutOffCode =
  /** `mqtt.limits.maxConnections` */
  | "connections"
  | "connections-per-address"
  | "connections-per-identity"
  /** A TLS handshake that failed, or a certificate that is not accepted; the kind says which. */
  | "tls"
  | "handshake-timeout"
  | "connect-timeout"
  /** Not let in for what it showed, or for what it asked; the kind is what that was. */
  | "login"
  | "authenticate-timeout"
  /** Too many passwords wait to be verified. */
  | "busy"
  | "packet-size"
  /** Bytes that are not MQTT. */
  | "protocol"
  | "keep-alive"
  | "qos2-in-flight"
  | "slow-reader";

/** Whom it befell. */
export interface CutOffClient {
  readonly address: string | undefined;
  /** As its CONNECT said, where one came. */
  readonly clientId?: string | undefined;
  /** The common name in its certificate, which nothing may have verified. */
  readonly certificate?: string | undefined;
  /** Whether it had been let in: its id is its own. */
  readonly admitted?: boolean;
}

/** What else the log is to say. */
export interface CutOffDetail {
  /** Tells reasons of one code apart: one of a few dozen at most. */
  readonly kind?: string;
  readonly [field: string]: string | undefined;
}

/** Ends a connection with a reason to be told, where only an error can be handed over. */
export class CutOff extends Error {
  readonly code: CutOffCode;

  constructor(code: CutOffCode, reason: string) {
    super(reason);
    this.name = "CutOff";
    this.code = code;
  }
}

const WINDOW_MS = 60_000;
/** Lines a window for one reason: of one client, of one address, of all. */
const LINES_PER_CLIENT = 3;
const LINES_PER_ADDRESS = 9;
const LINES_PER_REASON = 30;
/** Names whose lines are counted apart, each reason; the one not heard of for longest makes room. */
const MAX_NAMES = 256;

export class CutOffs {
  readonly #clock: Clock;
  readonly #log: Telemetry["log"];
  /** By code and kind. */
  readonly #reasons = new Map<string, LinesOfReason>();
  readonly #refused: Counter<"reason">;
  readonly #cutOff: Counter<"reason">;

  constructor(clock: Clock, { log, metrics }: Telemetry) {
    this.#clock = clock;
    this.#log = log;
    this.#refused = new Counter({
      name: "summit_edge_mqtt_connections_refused_total",
      help: "MQTT connections turned away before they were let in, by reason.",
      labelNames: ["reason"],
      registers: [metrics],
    });
    this.#cutOff = new Counter({
      name: "summit_edge_mqtt_clients_cut_off_total",
      help: "MQTT clients that were let in and cut off later, by reason.",
      labelNames: ["reason"],
      registers: [metrics],
    });
  }

  /** Counts one, and names it in the log. `reason` is for the operator: what happened, and which key bounds it. */
  report(code: CutOffCode, reason: string, client: CutOffClient, detail: CutOffDetail = {}): void {
    const { address, clientId, certificate, admitted = false } = client;
    (admitted ? this.#cutOff : this.#refused).inc({ reason: code });
    const name = clientId ?? certificate;
    const known = admitted ? `client ${name}` : `client ${name} at ${address}`;
    const lines = this.#linesOf(detail.kind === undefined ? code : `${code} ${detail.kind}`);
    const heldBack = lines.admit(`address ${address}`, name === undefined ? undefined : known);
    if (heldBack === undefined) return;
    const fields = { code, ...detail, address, client: clientId, certificate, reason, heldBack };
    this.#log.warn(fields, admitted ? "client cut off" : code === "login" ? "login refused" : "connection refused");
  }

  #linesOf(reason: string): LinesOfReason {
    const known = this.#reasons.get(reason);
    if (known !== undefined) return known;
    const lines = new LinesOfReason(this.#clock);
    this.#reasons.set(reason, lines);
    return lines;
  }
}

class LinesOfReason {
  readonly #clock: Clock;
  readonly #all: RateLimit;
  /** Of clients and addresses, the one not heard of for longest first. */
  readonly #names = new Map<string, RateLimit>();
  #heldBack = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#all = new RateLimit(clock, LINES_PER_REASON, WINDOW_MS);
  }

  /** How many were held back since the last line, of anybody; `undefined` where this one is. */
  admit(address: string, client: string | undefined): number | undefined {
    const limits =
      client === undefined
        ? [this.#of(address, LINES_PER_CLIENT)]
        : [this.#of(client, LINES_PER_CLIENT), this.#of(`clients of ${address}`, LINES_PER_ADDRESS)];
    if (![...limits, this.#all].every((limit) => limit.admit() !== undefined)) {
      this.#heldBack++;
      return undefined;
    }
    const heldBack = this.#heldBack;
    this.#heldBack = 0;
    return heldBack;
  }

  #of(name: string, lines: number): RateLimit {
    const limit = this.#names.get(name) ?? new RateLimit(this.#clock, lines, WINDOW_MS);
    this.#names.delete(name);
    this.#names.set(name, limit);
    if (this.#names.size > MAX_NAMES) {
      const [longestSilent] = this.#names.keys();
      if (longestSilent !== undefined) this.#names.delete(longestSilent);
    }
    return limit;
  }
}
