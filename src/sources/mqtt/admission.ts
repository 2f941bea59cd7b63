/**
 * Who is let in to the broker, and who may stay: by what a client shows, by its will, by who holds the session of its client id, and by
 * how many of its identity are there. Everybody who is turned away is counted, named in the log, and stands in the audit trail.
 *
 * What a client may do once it is in is asked elsewhere, of the same `AccessControl`.
 */
import type { AuthenticateError, Client } from "aedes";
import type { MqttLimits } from "../../config/schema.ts";
import { type AccessDecision, type ClientIdentity, MAX_CLIENT_ID_LENGTH } from "../../identity/access.ts";
import type { AccessControl } from "../../identity/access-control.ts";
import type { Audit } from "../../kernel/audit.ts";
import type { Logger } from "../../kernel/telemetry.ts";
import { AnswersInTurn } from "./answers.ts";
import { topicExcess } from "./client-limits.ts";
import type { Connection } from "./connection.ts";
import type { CutOffs } from "./cut-offs.ts";
import { Headcount } from "./headcount.ts";
import type { Arrival } from "./listeners.ts";
import type { MqttReadings } from "./readings.ts";
import type { SessionStore } from "./session-store.ts";
import type { TurnedAway } from "./tls-door.ts";

/** Longest part of a user name that is logged: nobody has verified it. */
const MAX_USER_SHOWN = 256;
/** MQTT 3.1.1, table 3.1. */
const RETURN_CODES = { "client-id": 2, unavailable: 3, credentials: 4, rights: 5 } as const;
const NOT_CONNECTED: LoginDecision = { allowed: false, reason: "not connected", because: "rights" };
const BUSY = {
  allowed: false,
  reason: "its address has given wrong passwords, and as many more of it as may wait to be verified already",
  because: "unavailable",
} as const;

type Denial = Extract<LoginDecision, { readonly allowed: false }>;
export type LoginDecision =
  | AccessDecision
  /** Not about who the client is. */
  | { readonly allowed: false; readonly reason: string; readonly because: "unavailable" };

export interface AdmissionParts {
  readonly limits: MqttLimits;
  readonly access: AccessControl;
  readonly store: SessionStore;
  readonly readings: MqttReadings;
  readonly cutOffs: CutOffs;
  readonly audit: Audit;
  readonly log: Logger;
}

export class Admission {
  readonly #parts: AdmissionParts;
  /** Client ids of each identity that are connected. */
  readonly #ofIdentity: Headcount<string>;
  #closed = false;

  constructor(parts: AdmissionParts) {
    this.#parts = parts;
    this.#ofIdentity = new Headcount(parts.limits.maxConnectionsPerIdentity);
  }

  /** Decides a login. Where it is allowed, the connection has its session from then on, until `left`. */
  async decide(
    client: Client,
    connection: Connection,
    username: string | undefined,
    password: Buffer | undefined,
  ): Promise<LoginDecision> {
    const { arrival, ended, clientIdGiven, willTopic, gate } = connection;
    const { loopback, certificateName, address } = arrival;
    const shown = { clientId: client.id, clientIdGiven, username, password, certificateName, loopback, address };
    const queue = { signal: ended, waits: () => gate.loginWaits(), begins: () => gate.loginBegins() };
    const identity = await this.#parts.access.identify(shown, queue);
    // Whoever has gone meanwhile must not leave a session that nobody closes.
    if (ended.aborted || this.#closed) return NOT_CONNECTED;
    if (identity === "busy") {
      this.#parts.cutOffs.report("busy", BUSY.reason, { address, clientId: client.id });
      return BUSY;
    }
    const decision = this.#decideConnect(identity, willTopic);
    if (!decision.allowed) {
      this.#refuseLogin(identity, arrival, decision);
      return decision;
    }
    const crowd = this.#crowd(identity, address);
    if (crowd !== undefined) return crowd;
    const session = this.#parts.store.opened(client, identity);
    if (session.resumed) connection.gate.resumesSession();
    connection.admitted = {
      client,
      identity,
      session,
      answers: new AnswersInTurn(),
      parked: [],
      gate: connection.gate,
    };
    return decision;
  }

  /** The connection has ended; one that was never let in has nothing to leave. */
  left({ admitted }: Connection): void {
    if (admitted === undefined) return;
    const { client, identity } = admitted;
    this.#parts.readings.forget(admitted);
    if (identity.name !== undefined) this.#ofIdentity.leave(identity.name, client.id);
    this.#parts.store.closed(client);
  }

  /** Lets nobody in any more. */
  close(): void {
    this.#closed = true;
  }

  /** The access policy has changed: who may not be here any more goes, and so do the sessions of users who are gone. */
  review(open: Iterable<Connection>): void {
    this.#parts.store.forgetOf((identity) => !this.#parts.access.decide({ action: "keep", identity }).allowed);
    for (const { gate, admitted } of open) {
      if (admitted === undefined) continue;
      const { identity } = admitted;
      const decision = this.#parts.access.decide({ action: "stay", identity });
      if (decision.allowed) continue;
      this.#parts.log.warn(
        { client: identity.clientId, user: identity.name, reason: decision.reason },
        "client cut off",
      );
      gate.destroy();
    }
  }

  /** A client whom TLS turned away. */
  refuseHandshake({ kind, reason, name: certificate, serial }: TurnedAway, address = "unknown"): void {
    const code = kind === "handshake-timeout" ? kind : "tls";
    this.#parts.cutOffs.report(code, reason, { address, certificate }, { kind, serial });
    // Below TLS nobody has said who it is: a scanner's noise as well as a device with the wrong certificate.
    const detail = { address, reason, ...(certificate !== undefined && { certificate }) };
    this.#parts.audit({ action: "connection.refused", actor: `address:${address}`, subject: "mqtt", detail });
  }

  /** One that had been let in is no longer welcome: its certificate is accepted no longer. */
  expelled({ kind, reason, name: certificate, serial }: TurnedAway, address: string | undefined): void {
    this.#parts.log.warn({ kind, certificate, serial, address, reason }, "connection ended");
    const subject = certificate ?? "unnamed";
    this.#parts.audit({
      action: "session.ended",
      actor: "gateway",
      subject,
      detail: { reason: kind, serial: serial ?? "" },
    });
  }

  #decideConnect(identity: ClientIdentity, willTopic: string | undefined): AccessDecision {
    const holder = this.#parts.store.holderOf(identity.clientId);
    const decision = this.#parts.access.decide({ action: "connect", identity, holder });
    if (!decision.allowed || willTopic === undefined) return decision;
    const excess = topicExcess(willTopic, this.#parts.limits);
    if (excess !== undefined) return { allowed: false, reason: `its will has ${excess}`, because: "rights" };
    const source = this.#parts.readings.sourceIn(willTopic);
    return this.#parts.access.decide({ action: "will", identity, topic: willTopic, source });
  }

  #refuseLogin(
    { clientId: claimed, clientIdGiven, username, name }: ClientIdentity,
    { address, certificateName: certificate }: Arrival,
    { reason, because: kind }: Denial,
  ): void {
    // One that the engine made up means nothing to anybody.
    const clientId = clientIdGiven ? claimed.slice(0, MAX_CLIENT_ID_LENGTH) : undefined;
    const user = username === undefined ? {} : { user: username.slice(0, MAX_USER_SHOWN) };
    this.#parts.cutOffs.report("login", reason, { address, clientId, certificate }, { kind, ...user });
    this.#parts.audit({
      action: "login.refused",
      actor: name === undefined ? `address:${address}` : `device:${name}`,
      subject: "mqtt",
      detail: { address, reason, ...(clientId !== undefined && { client: clientId }), ...user },
    });
  }

  /** Counts a client under its identity; where there are as many as may be, why it is refused. */
  #crowd({ name, clientId }: ClientIdentity, address: string): LoginDecision | undefined {
    if (name === undefined || this.#ofIdentity.enter(name, clientId)) return undefined;
    const most = this.#parts.limits.maxConnectionsPerIdentity;
    const reason = `${most} clients of ${name}, the most allowed (mqtt.limits.maxConnectionsPerIdentity), are connected`;
    this.#parts.cutOffs.report("connections-per-identity", reason, { address, clientId });
    return { allowed: false, reason, because: "unavailable" };
  }
}

/** What the engine answers such a login with. */
export function loginError({ reason, because }: Denial): AuthenticateError {
  return Object.assign(new Error(reason), { returnCode: RETURN_CODES[because] });
}
