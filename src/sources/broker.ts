/**
 * The MQTT broker: devices publish their readings here, and programs on this machine may listen in.
 *
 * aedes speaks the protocol. Around it stand the listeners (how many come in), a gate before every connection (what bytes
 * may pass), the access decision (who may do what), the session store (what is remembered), and the hook in which a
 * PUBLISH becomes readings and waits for their commit. This file puts them together; it holds no policy of its own.
 */
import type { Aedes, AedesOptions, AedesPublishPacket, AuthenticateError, Client, Subscription } from "aedes";
import { Counter, Gauge } from "prom-client";
import type { ListenerConfig, MqttConfig } from "../config/schema.ts";
import { type AccessDecision, type AccessPolicy, type ClientIdentity, decide } from "../identity/access.ts";
import { developmentCertificates } from "../identity/development-certificates.ts";
import { serverTlsOptions } from "../identity/server-tls.ts";
import type { Clock } from "../kernel/clock.ts";
import { GatewayError, messageOf } from "../kernel/errors.ts";
import { type Logger, RateLimit, type Telemetry } from "../kernel/telemetry.ts";
import type { Intake } from "./intake.ts";
import { MqttEngine } from "./mqtt-engine.ts";
import { MqttGate } from "./mqtt-gate.ts";
import { type Arrival, type BoundListener, MqttListeners } from "./mqtt-listeners.ts";
import { MqttReadings, type Publisher } from "./mqtt-readings.ts";
import { Routes } from "./routes.ts";
import { SessionStore } from "./session-store.ts";
import { isTopicName, parseTopicFilter } from "./topics.ts";

export interface BrokerStatus {
  readonly state: "listening" | "stopped";
  readonly listening: readonly BoundListener[];
  /** Connections open now, before and after CONNECT. */
  readonly connections: number;
  /** Sessions known, those of absent clients included. */
  readonly sessions: number;
}

/** Time that acknowledgements get for their commit when the broker stops. */
const STOP_GRACE_MS = 5_000;
/** A subscriber that takes nothing for so long while its output is full is cut off: it slows down whoever publishes to it. */
const DRAIN_TIMEOUT_MS = 5_000;
/** Sessions of absent clients, as a multiple of the connections allowed. */
const SESSIONS_PER_CONNECTION = 4;
/** Refused connections and logins are logged at most so often, each kind. */
const REFUSALS_LOGGED = 10;
const REFUSALS_WINDOW_MS = 60_000;

/** One connection, from its arrival on. */
interface Connection {
  readonly gate: MqttGate;
  readonly arrival: Arrival;
  /** Topic of the will that its CONNECT brought. */
  willTopic: string | undefined;
  /** Once it was let in. */
  admitted: (Publisher & { readonly identity: ClientIdentity }) | undefined;
}

export class MqttBroker {
  readonly #config: MqttConfig;
  readonly #dataDir: string;
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #policy: AccessPolicy;
  readonly #readings: MqttReadings;
  readonly #store: SessionStore;
  readonly #listeners: MqttListeners;
  readonly #aedes: Aedes;
  readonly #connections = new WeakMap<Client, Connection>();
  readonly #gates = new Set<MqttGate>();
  readonly #counters: ReturnType<typeof countersIn>;
  readonly #connectionLog: RateLimit;
  readonly #loginLog: RateLimit;
  #running = false;

  /** Makes the broker; nothing is opened before `start`. @throws GatewayError where a route or filter is none. */
  constructor(parts: { config: MqttConfig; dataDir: string; intake: Intake; clock: Clock; telemetry: Telemetry }) {
    const { config, clock, intake } = parts;
    this.#config = config;
    this.#dataDir = parts.dataDir;
    this.#clock = clock;
    this.#log = parts.telemetry.log.child({ part: "mqtt" });
    this.#policy = { anonymous: config.anonymous };
    this.#connectionLog = new RateLimit(clock, REFUSALS_LOGGED, REFUSALS_WINDOW_MS);
    this.#loginLog = new RateLimit(clock, REFUSALS_LOGGED, REFUSALS_WINDOW_MS);
    const retained = config.retained.map((filter, index) => retainedFilter(filter, `mqtt.retained[${index}]`));
    this.#readings = new MqttReadings({ intake, routes: new Routes(config.routes), retained, clock });
    this.#store = new SessionStore({
      offlineQueue: config.offlineQueue,
      maxSessions: config.limits.maxConnections * SESSIONS_PER_CONNECTION,
      dropped: (what, clientId) => {
        this.#counters.dropped.inc({ what });
        this.#log.debug({ what, client: clientId }, "dropped at a bound");
      },
    });
    this.#listeners = new MqttListeners({
      maxConnections: config.limits.maxConnections,
      handshakeTimeout: config.limits.connectTimeout,
      arrived: (arrival) => this.#arrive(arrival),
      refused: (why, reason, address) => this.#refuseConnection(why, reason, address),
      failed: (error) => this.#log.error({ error: messageOf(error) }, "a listener failed"),
    });
    this.#counters = countersIn(parts.telemetry.metrics, this.#listeners);
    this.#aedes = this.#engine();
    this.#follow();
  }

  /**
   * Binds every configured listener. Where one fails, none stays bound.
   * @throws GatewayError naming the listener's key.
   */
  async start(): Promise<void> {
    await this.#aedes.listen();
    this.#running = true;
    try {
      for (const [index, listener] of this.#config.listeners.entries()) {
        await this.#listen(listener, `mqtt.listeners[${index}]`);
      }
    } catch (error) {
      await this.stop(0);
      throw error;
    }
  }

  /**
   * Closes the listeners, then lets acknowledgements that wait for their commit go out, for `graceMs` at most, then closes
   * the clients. Their wills are published, as the protocol asks.
   */
  async stop(graceMs = STOP_GRACE_MS): Promise<void> {
    if (!this.#running) return;
    this.#running = false;
    this.#listeners.stopAccepting();
    for (const gate of this.#gates) gate.silence();
    await this.#readings.settled(graceMs);
    await new Promise((resolve) => setImmediate(resolve)); // the engine writes in the next turn
    await new Promise<void>((resolve) => this.#aedes.close(resolve));
    for (const gate of this.#gates) gate.destroy();
    await this.#listeners.close();
    await this.#store.destroy();
  }

  status(): BrokerStatus {
    return {
      state: this.#running ? "listening" : "stopped",
      listening: [...this.#listeners.bound],
      connections: this.#listeners.connections,
      sessions: this.#store.size,
    };
  }

  async #listen(listener: ListenerConfig, key: string): Promise<void> {
    const development = listener.tls?.development
      ? await developmentCertificates(this.#dataDir, this.#clock)
      : undefined;
    const tls =
      listener.tls === undefined
        ? undefined
        : await serverTlsOptions({ ...development?.files, ...listener.tls }, `${key}.tls`);
    const bound = await this.#listeners.listen(listener, tls, key);
    this.#log.info(bound, "mqtt listening");
    if (development === undefined) return;
    const { caFile } = development.files;
    this.#log.warn(
      { listener: key, caFile },
      `TLS with a development certificate, never for the field; try: mosquitto_pub --cafile ${caFile} -h localhost ` +
        `-p ${bound.port} -q 1 -t telemetry/test -m '{"temperature":21.5}'`,
    );
  }

  #engine(): Aedes {
    const options: AedesOptions = {
      persistence: this.#store,
      connectTimeout: this.#config.limits.connectTimeout,
      drainTimeout: DRAIN_TIMEOUT_MS,
      maxInflightInbound: 0, // bounded per session, in MqttReadings: the engine would refuse after the commit
      preConnect: (client, packet, done) => {
        const connection = this.#connections.get(client);
        const valid = packet.will === undefined || (isTopicName(packet.will.topic) && (packet.will.qos ?? 0) <= 2);
        if (connection !== undefined) connection.willTopic = packet.will?.topic;
        if (valid) done(null, true);
        else done(new Error("its will has no valid topic or QoS"), false);
      },
      authenticate: (client, username, _password, done) => {
        const decision = this.#admit(client, username);
        if (decision.allowed) done(null, true);
        else done(loginError(decision), null);
      },
      authorizePublish: (client, packet, done) => {
        const admitted = client === null ? undefined : this.#connections.get(client)?.admitted;
        if (admitted === undefined) return done(new Error("not connected"));
        const { identity } = admitted;
        const decision = decide({ action: "publish", identity, topic: packet.topic }, this.#policy);
        if (decision.allowed) this.#readings.take(admitted, packet, done);
        else this.#readings.discard(admitted.client, packet, decision.reason, done);
      },
      authorizeSubscribe: (client, subscription, done) => {
        done(null, this.#maySubscribe(client, subscription) ? subscription : null);
      },
      authorizeForward: (client, packet) => (this.#mayReceive(client, packet) ? packet : null),
    };
    return new MqttEngine(options, () => this.#store.subscriptions > 0);
  }

  /** What the engine reports, for the gates, the sessions and the log. */
  #follow(): void {
    const aedes = this.#aedes;
    aedes.on("connackSent", (packet, client) => {
      if (packet.returnCode === 0) this.#connections.get(client)?.gate.answered();
    });
    aedes.on("clientReady", (client) => {
      this.#log.debug({ client: client.id, clean: client.clean }, "client connected");
      this.#connections.get(client)?.gate.open();
    });
    aedes.on("clientDisconnect", (client) => this.#log.debug({ client: client.id }, "client disconnected"));
    aedes.on("clientError", (client, error) => {
      this.#log.debug({ client: client.id, error: messageOf(error) }, "client failed");
    });
    aedes.on("connectionError", (_client, error) => {
      this.#log.debug({ error: messageOf(error) }, "connection failed before its CONNECT was accepted");
    });
    aedes.on("subscribe", (subscriptions, client) => {
      this.#log.debug({ client: client.id, filters: subscriptions.length }, "client subscribed");
    });
    aedes.on("unsubscribe", (filters, client) => {
      const session = this.#connections.get(client)?.admitted?.session;
      if (session !== undefined) for (const filter of filters) this.#store.revoke(session, filter);
    });
    // EventEmitter's own overload: the engine's types do not name its `error` event.
    (aedes as NodeJS.EventEmitter).on("error", (error: unknown) => {
      this.#log.error({ error: messageOf(error) }, "the broker's engine failed");
    });
  }

  #arrive(arrival: Arrival): void {
    const gate = new MqttGate(arrival.socket, this.#config.limits, this.#clock, (reason) =>
      this.#refuseConnection("protocol", reason, arrival.address),
    );
    this.#gates.add(gate);
    const client = this.#aedes.handle(gate);
    const connection: Connection = { gate, arrival, willTopic: undefined, admitted: undefined };
    this.#connections.set(client, connection);
    gate.once("close", () => {
      this.#gates.delete(gate);
      if (connection.admitted === undefined) return;
      this.#readings.forget(connection.admitted);
      this.#store.closed(client);
    });
  }

  #admit(client: Client, username: string | undefined): AccessDecision {
    const connection = this.#connections.get(client);
    if (connection === undefined) return { allowed: false, reason: "not connected", badCredentials: false };
    const { arrival, willTopic } = connection;
    const { loopback, certificateName } = arrival;
    const identity: ClientIdentity = { clientId: client.id, username, certificateName, loopback };
    let decision = decide({ action: "connect", identity }, this.#policy);
    if (decision.allowed && willTopic !== undefined) {
      decision = decide({ action: "will", identity, topic: willTopic }, this.#policy);
    }
    if (decision.allowed) {
      connection.admitted = {
        client,
        identity,
        session: this.#store.opened(client),
        parked: [],
        gate: connection.gate,
      };
      return decision;
    }
    this.#counters.refused.inc({ reason: "login" });
    const heldBack = this.#loginLog.admit();
    if (heldBack !== undefined) {
      const { reason } = decision;
      this.#log.warn({ client: client.id, address: arrival.address, reason, heldBack }, "login refused");
    }
    return decision;
  }

  #maySubscribe(client: Client, { topic }: Subscription): boolean {
    const admitted = this.#connections.get(client)?.admitted;
    if (admitted === undefined || parseTopicFilter(topic) === undefined) return false;
    const { identity, session } = admitted;
    if (decide({ action: "subscribe", identity, topic }, this.#policy).allowed)
      return this.#store.grant(session, topic);
    this.#store.revoke(session, topic);
    return false;
  }

  #mayReceive(client: Client, { topic }: AedesPublishPacket): boolean {
    const identity = this.#connections.get(client)?.admitted?.identity;
    return identity !== undefined && decide({ action: "receive", identity, topic }, this.#policy).allowed;
  }

  #refuseConnection(why: "limit" | "tls" | "protocol", reason: string, address: string | undefined): void {
    this.#counters.refused.inc({ reason: why });
    const heldBack = this.#connectionLog.admit();
    if (heldBack !== undefined) this.#log.warn({ address, reason, heldBack }, "connection refused");
  }
}

function countersIn(metrics: Telemetry["metrics"], listeners: MqttListeners) {
  new Gauge({
    name: "summit_edge_mqtt_connections",
    help: "MQTT connections open.",
    registers: [metrics],
    collect() {
      this.set(listeners.connections);
    },
  });
  return {
    refused: new Counter({
      name: "summit_edge_mqtt_connections_refused_total",
      help: "MQTT connections turned away, by reason.",
      labelNames: ["reason"],
      registers: [metrics],
    }),
    dropped: new Counter({
      name: "summit_edge_mqtt_dropped_total",
      help: "Messages for subscribers, retained messages and sessions dropped at a bound; never readings.",
      labelNames: ["what"],
      registers: [metrics],
    }),
  };
}

function loginError({ reason, badCredentials }: Extract<AccessDecision, { allowed: false }>): AuthenticateError {
  return Object.assign(new Error(reason), { returnCode: badCredentials ? 4 : 5 });
}

function retainedFilter(text: string, key: string): NonNullable<ReturnType<typeof parseTopicFilter>> {
  const filter = parseTopicFilter(text);
  if (filter !== undefined) return filter;
  throw new GatewayError({
    code: "CONFIG_INVALID",
    op: "mqtt.retained",
    message: `${key}: ${text} is not a topic filter`,
    hint: `Mend ${key}: + stands for one whole level, # for all the rest, at the end only.`,
  });
}
