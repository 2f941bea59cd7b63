/**
 * The MQTT broker: devices publish their readings here, and programs on this machine may listen in.
 *
 * aedes speaks the protocol. Around it stand the listeners (how many come in), a gate before every connection (what bytes
 * may pass), the admission (who is let in), the access decision (who may do what), the session store (what is remembered),
 * and the hook in which a PUBLISH becomes readings and waits for their commit. This file puts them together; it holds no
 * policy of its own.
 */
import type { AedesOptions, AedesPublishPacket, Client, PublishPacket, Subscription } from "aedes";
import type { ListenerConfig, MqttConfig } from "../../config/schema.ts";
import type { AccessControl } from "../../identity/access-control.ts";
import { developmentCertificates } from "../../identity/development-certificates.ts";
import type { Audit } from "../../kernel/audit.ts";
import type { Clock } from "../../kernel/clock.ts";
import type { Conditions } from "../../kernel/conditions.ts";
import { GatewayError, messageOf } from "../../kernel/errors.ts";
import type { Reloads } from "../../kernel/reloading.ts";
import type { Logger, Telemetry } from "../../kernel/telemetry.ts";
import type { Intake } from "../intake.ts";
import { Admission, type LoginDecision, loginError } from "./admission.ts";
import type { Answer } from "./answers.ts";
import { countersIn } from "./broker-metrics.ts";
import { keepAliveOf, topicExcess } from "./client-limits.ts";
import type { Connection } from "./connection.ts";
import { CutOff, type CutOffCode, CutOffs } from "./cut-offs.ts";
import { MqttEngine } from "./engine.ts";
import { MqttGate } from "./gate.ts";
import { ListenerCertificates } from "./listener-certificates.ts";
import { type Arrival, type BoundListener, MqttListeners } from "./listeners.ts";
import { PublishLane } from "./publish-lane.ts";
import { MqttReadings, type Publisher } from "./readings.ts";
import { Routes } from "./routes.ts";
import { SessionStore } from "./session-store.ts";
import { parseTopicFilter } from "./topics.ts";
import { UnroutedMessages } from "./unrouted-messages.ts";

export interface BrokerStatus {
  readonly state: "listening" | "stopped";
  readonly listening: readonly BoundListener[];
  /** Connections open now, before and after CONNECT. */
  readonly connections: number;
  /** Sessions known, those of absent clients included. */
  readonly sessions: number;
  /** Messages since the start that no route matched and no subscriber took. */
  readonly unrouted: number;
}

/** Time that acknowledgements get for their commit when the broker stops. */
const STOP_GRACE_MS = 5_000;
/** The engine's own time-outs are for when the gate's have failed: they do not say why. */
const CONNECT_BACKSTOP_MS = 60_000;
/** A client that takes 100 bytes a second has taken all that may wait for it by then. */
const DRAIN_BACKSTOP_MS = 3_600_000;

export interface BrokerParts {
  readonly config: MqttConfig;
  readonly dataDir: string;
  readonly intake: Intake;
  readonly clock: Clock;
  readonly telemetry: Telemetry;
  readonly reloads: Reloads;
  readonly conditions: Conditions;
  readonly audit: Audit;
  readonly access: AccessControl;
}

export class MqttBroker {
  readonly #config: MqttConfig;
  readonly #dataDir: string;
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #access: AccessControl;
  readonly #readings: MqttReadings;
  readonly #unrouted: UnroutedMessages;
  readonly #store: SessionStore;
  readonly #listeners: MqttListeners;
  readonly #engine: MqttEngine;
  readonly #connections = new WeakMap<Client, Connection>();
  readonly #open = new Set<Connection>();
  readonly #counters: ReturnType<typeof countersIn>;
  readonly #cutOffs: CutOffs;
  readonly #admission: Admission;
  readonly #certificates: ListenerCertificates;
  #running = false;

  /** Makes the broker; nothing is opened before `start`. @throws GatewayError where a route or filter is none. */
  constructor(parts: BrokerParts) {
    const { config, clock, intake, access } = parts;
    const { limits } = config;
    this.#config = config;
    this.#dataDir = parts.dataDir;
    this.#clock = clock;
    this.#log = parts.telemetry.log.child({ part: "mqtt" });
    this.#access = access;
    this.#certificates = new ListenerCertificates(parts);
    this.#cutOffs = new CutOffs(clock, { log: this.#log, metrics: parts.telemetry.metrics });
    const retained = config.retained.map((filter, index) => retainedFilter(filter, `mqtt.retained[${index}]`));
    const topics = config.routes.map(({ topic }) => topic);
    this.#unrouted = new UnroutedMessages(topics, clock, this.#log);
    this.#readings = new MqttReadings({
      intake,
      access,
      routes: new Routes(config.routes),
      retained,
      clock,
      maxInflightQos2: limits.maxInflightQos2,
      unrouted: (client, topic) => {
        if (this.#isTaken(topic)) return;
        const { clientIdGiven, arrival } = this.#connections.get(client) ?? {};
        this.#unrouted.add(clientIdGiven ? client.id : undefined, arrival?.address, topic);
      },
    });
    this.#store = new SessionStore({
      offlineQueue: config.offlineQueue,
      limits,
      clock,
      dropped: (what, clientId) => {
        this.#counters.dropped.inc({ what });
        this.#log.debug({ what, client: clientId }, "dropped at a bound");
      },
    });
    this.#admission = new Admission({
      limits,
      access,
      store: this.#store,
      readings: this.#readings,
      cutOffs: this.#cutOffs,
      audit: parts.audit,
      log: this.#log,
    });
    this.#listeners = new MqttListeners({
      maxConnections: limits.maxConnections,
      maxConnectionsPerAddress: limits.maxConnectionsPerAddress,
      handshakeTimeout: limits.handshakeTimeout ?? limits.connectTimeout,
      clock,
      arrived: (arrival) => this.#arrive(arrival),
      refused: (code, reason, address, client) => {
        if (client === undefined) this.#cutOffs.report(code, reason, { address });
        else this.#admission.refuseHandshake(client, address);
      },
      expelled: (client, address) => this.#admission.expelled(client, address),
      failed: (error) => this.#log.error({ error: messageOf(error) }, "a listener failed"),
    });
    this.#counters = countersIn(
      parts.telemetry.metrics,
      () => this.#listeners.connections,
      () => this.#unrouted.count,
    );
    this.#engine = this.#makeEngine();
    this.#follow();
    access.onChange(() => this.#admission.review(this.#open));
  }

  /**
   * Binds every configured listener. Where one fails, none stays bound.
   * @throws GatewayError naming the listener's key.
   */
  async start(): Promise<void> {
    await this.#engine.listen();
    this.#running = true;
    try {
      for (const [index, listener] of this.#config.listeners.entries()) {
        await this.#listen(listener, index);
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
    this.#admission.close();
    this.#certificates.close();
    this.#listeners.stopAccepting();
    for (const { gate } of this.#open) gate.silence();
    await this.#readings.settled(graceMs);
    await new Promise((resolve) => setImmediate(resolve)); // the engine writes in the next turn
    await new Promise<void>((resolve) => this.#engine.close(resolve));
    for (const { gate } of this.#open) gate.destroy();
    await this.#listeners.close();
    await this.#store.destroy();
  }

  status(): BrokerStatus {
    return {
      state: this.#running ? "listening" : "stopped",
      listening: [...this.#listeners.bound],
      connections: this.#listeners.connections,
      sessions: this.#store.size,
      unrouted: this.#unrouted.count,
    };
  }

  async #listen(listener: ListenerConfig, index: number): Promise<void> {
    const key = `mqtt.listeners[${index}]`;
    const development = listener.tls?.development
      ? await developmentCertificates(this.#dataDir, this.#clock)
      : undefined;
    const tls =
      listener.tls === undefined
        ? undefined
        : await this.#certificates.open({ ...development?.files, ...listener.tls }, `${key}.tls`, index, (renewed) =>
            this.#listeners.renew(key, renewed),
          );
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

  #makeEngine(): MqttEngine {
    const { limits } = this.#config;
    const options: AedesOptions = {
      persistence: this.#store,
      // The emitter's queue of what waits for slow readers recurses when it is released, until the stack ends.
      concurrency: 0,
      connectTimeout: limits.connectTimeout + CONNECT_BACKSTOP_MS,
      drainTimeout: DRAIN_BACKSTOP_MS,
      maxInflightInbound: 0, // bounded per session, in MqttReadings: the engine would refuse after the commit
      preConnect: (client, packet, done) => {
        const connection = this.#connections.get(client);
        if (connection !== undefined) {
          connection.clientIdGiven = packet.clientId !== "";
          connection.willTopic = packet.will?.topic;
          connection.keepAlive = keepAliveOf(packet.keepalive ?? 0, limits);
          packet.keepalive = 0; // the gate watches it: the engine does not see all that the client sends
        }
        done(null, true);
      },
      authenticate: (client, username, password, done) => {
        const connection = this.#connections.get(client);
        if (connection === undefined) return done(Object.assign(new Error("not connected"), { returnCode: 3 }), null);
        const decided = (decision: LoginDecision): void => {
          if (decision.allowed) done(null, true);
          else done(loginError(decision), null);
        };
        this.#admission.decide(client, connection, username, password).then(decided, (error: unknown) => {
          this.#log.error({ client: client.id, error: messageOf(error) }, "a login could not be decided");
          done(Object.assign(new Error("cannot be decided"), { returnCode: 3 }), null);
        });
      },
      authorizePublish: (client, packet, done) => {
        const connection = client === null ? undefined : this.#connections.get(client);
        if (connection?.admitted === undefined) return done(new Error("not connected"));
        const { admitted, lane } = connection;
        // A will comes from a client that has gone.
        if (lane !== undefined && packet.qos === 1 && !admitted.client.closed) lane.follow(packet, done);
        else this.#publish(admitted, packet, done);
      },
      authorizeSubscribe: (client, subscription, done) => {
        // QoS 2 for the engine, which otherwise lowers that of a message by the filter that happens to come first, or by none;
        // SUBACK and the session bear what was asked for, and #forward lowers each message to it.
        done(null, this.#maySubscribe(client, subscription) ? { ...subscription, qos: 2 } : null);
      },
      authorizeForward: (client, packet) => this.#forward(client, packet),
    };
    return new MqttEngine(options, {
      anySubscriber: () => this.#store.subscriptions > 0,
      isWithheld: (packet) => this.#readings.isWithheld(packet),
    });
  }

  /** What the engine reports, for the gates, the sessions and the log. */
  #follow(): void {
    const aedes = this.#engine;
    aedes.on("connackSent", (packet, client) => {
      if (packet.returnCode === 0) this.#connections.get(client)?.gate.answered();
    });
    aedes.on("clientReady", (client) => {
      this.#log.debug({ client: client.id, clean: client.clean }, "client connected");
      this.#letIn(client);
    });
    aedes.on("clientDisconnect", (client) => this.#log.debug({ client: client.id }, "client disconnected"));
    aedes.on("clientError", (client, error) => {
      this.#log.debug({ client: client.id, error: messageOf(error) }, "client failed");
      if (error instanceof CutOff) this.#cutOff(client, error.code, error.message);
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
    const gate = new MqttGate(arrival.socket, this.#config.limits, this.#clock, (code, reason, fault) => {
      if (fault !== undefined) this.#counters.faults.inc({ reason: fault });
      this.#cutOff(client, code, reason);
    });
    const client = this.#engine.handle(gate);
    const ended = new AbortController();
    const connection: Connection = {
      gate,
      arrival,
      ended: ended.signal,
      clientIdGiven: false,
      willTopic: undefined,
      keepAlive: 0,
      admitted: undefined,
      lane: undefined,
    };
    this.#connections.set(client, connection);
    this.#open.add(connection);
    gate.once("close", () => {
      this.#open.delete(connection);
      ended.abort();
      this.#admission.left(connection);
    });
  }

  /** A PUBLISH, or a will: what it brings is decided and taken; calls back when it may be acknowledged and forwarded. */
  #publish(admitted: Publisher, packet: PublishPacket, engine: Answer): void {
    const cutOff = this.#readings.open(admitted, packet);
    if (cutOff !== undefined) {
      engine(cutOff);
      return;
    }
    // A will is not acknowledged.
    const done = packet.qos === 2 && !admitted.client.closed ? admitted.answers.behind(engine) : engine;
    const excess = topicExcess(packet.topic, this.#config.limits);
    if (excess !== undefined) {
      this.#readings.discard(admitted.client, packet, excess, done, "invalid");
      return;
    }
    const { identity } = admitted;
    const source = this.#readings.sourceIn(packet.topic);
    const decision = this.#access.decide({ action: "publish", identity, topic: packet.topic, source });
    if (decision.allowed) this.#readings.take(admitted, packet, done);
    else this.#readings.discard(admitted.client, packet, decision.reason, done);
  }

  /** The client was let in: from here on it is read. */
  #letIn(client: Client): void {
    const connection = this.#connections.get(client);
    const admitted = connection?.admitted;
    if (connection === undefined || admitted === undefined) return;
    const lane = new PublishLane({
      publish: (packet, done) => this.#publish(admitted, packet, done),
      forward: (packet, done) => this.#engine.publish(packet, client, done),
      connection: connection.gate,
    });
    connection.lane = lane;
    connection.gate.open(lane, connection.keepAlive);
  }

  /** Whether a local subscriber gets a message on this topic. */
  #isTaken(topic: string): boolean {
    return this.#store.takes(topic, (identity) => this.#access.decide({ action: "receive", identity, topic }).allowed);
  }

  #maySubscribe(client: Client, { topic, qos }: Subscription): boolean {
    const admitted = this.#connections.get(client)?.admitted;
    if (admitted === undefined) return false;
    if (topicExcess(topic, this.#config.limits) !== undefined) return false;
    const { identity, session } = admitted;
    if (this.#access.decide({ action: "subscribe", identity, topic }).allowed) {
      return this.#store.grant(session, topic, qos);
    }
    this.#store.revoke(session, topic);
    return false;
  }

  /** The message as a client may have it: of the highest QoS that it was granted (MQTT-3.3.5-1, MQTT-3.8.4-6). */
  #forward(client: Client, packet: AedesPublishPacket): AedesPublishPacket | null {
    const admitted = this.#connections.get(client)?.admitted;
    if (admitted === undefined) return null;
    const { identity, session } = admitted;
    if (!this.#access.decide({ action: "receive", identity, topic: packet.topic }).allowed) return null;
    if (this.#lags(client, packet)) return null;
    const granted = this.#store.grantedQos(session, packet.topic);
    // The engine hands over a copy of its own for each client.
    if (granted !== undefined && granted < packet.qos) packet.qos = granted;
    return packet;
  }

  /** Whether a message that is on its way to a client had better be dropped, because it takes so little. */
  #lags(client: Client, packet: AedesPublishPacket): boolean {
    // Retained and queued messages are read only as fast as the client takes them.
    const waitsForItself = packet.retain || packet.messageId !== undefined;
    if (waitsForItself || this.#connections.get(client)?.gate.lagging !== true) return false;
    this.#counters.dropped.inc({ what: "slow-reader" });
    return true;
  }

  #cutOff(client: Client, code: CutOffCode, reason: string): void {
    const connection = this.#connections.get(client);
    const admitted = connection?.admitted !== undefined;
    const address = connection?.arrival.address;
    this.#cutOffs.report(code, reason, { address, clientId: client.id ?? undefined, admitted });
  }
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
