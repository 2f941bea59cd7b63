/**
 * What becomes of a PUBLISH. This is where an acknowledgement waits: the broker's engine writes PUBACK and PUBREC as soon
 * as its `authorizePublish` hook calls back, and everything else happens behind that.
 *
 * Invariants:
 *  - on a route, the callback of a QoS 1 or 2 PUBLISH comes only after the commit of its readings (contract, section 1.1);
 *  - a QoS 2 PUBLISH that comes again before its PUBREL is not taken again: while the first copy waits for its commit it
 *    joins that wait, later the session knows it (MQTT 3.1.1, section 4.3.3). The copy is the same packet identifier and
 *    the same topic and payload: a device that has lost its state begins again at 1, and its new reading is no copy;
 *  - while the intake is saturated, or refuses, nothing new is handed over that its sender would send again; per connection at most
 *    what one read brought waits, and it goes with the connection. What may be critical does not wait with the rest, while there is
 *    room for critical readings.
 *
 * A PUBLISH that is not allowed is acknowledged and goes no further (MQTT 3.1.1, section 3.3.5, leaves only that or closing
 * the connection, and a device that is cut off sends the same thing for ever). Nor does one in which any reading claims a
 * source that its sender may not speak for: its other readings are taken, but no subscriber gets to see the claim.
 */
import { isUtf8 } from "node:buffer";
import type { Client, PublishPacket } from "aedes";
import { parseJson } from "../../codec/json.ts";
import type { ClientIdentity } from "../../identity/access.ts";
import type { AccessControl } from "../../identity/access-control.ts";
import type { Clock } from "../../kernel/clock.ts";
import { messageOf } from "../../kernel/errors.ts";
import type { Priority } from "../../observation/observation.ts";
import type { Admission, Intake, Origin } from "../intake.ts";
import type { Answer, AnswersInTurn } from "./answers.ts";
import { CutOff } from "./cut-offs.ts";
import type { RouteMatch, Routes } from "./routes.ts";
import { type Committing, fingerprintOf, type Session } from "./session.ts";
import { covers, type TopicFilter } from "./topics.ts";

interface Parked {
  readonly task: () => void;
  readonly mayBeCritical: boolean;
}

/** A client as this part sees it. */
export interface Publisher {
  readonly client: Client;
  readonly identity: ClientIdentity;
  readonly session: Session;
  /** To what it publishes with QoS 2. */
  readonly answers: AnswersInTurn;
  /** What is to be done for it, in order, once the intake is relieved. */
  readonly parked: Parked[];
  /** Its connection, which is not read while anything is parked. */
  readonly gate: { hold(by: object): void; goOn(by: object): void };
}

const BYTE_ORDER_MARK = 0xfeff;
const UNREADABLE = Symbol("unreadable");

export class MqttReadings {
  readonly #intake: Intake;
  readonly #access: AccessControl;
  readonly #routes: Routes;
  readonly #retained: readonly TopicFilter[];
  readonly #clock: Clock;
  readonly #maxInflightQos2: number;
  readonly #unrouted: (client: Client, topic: string) => void;
  readonly #parked = new Set<Publisher>();
  #awaitsRelief = false;
  readonly #withheld = new WeakSet<PublishPacket>();
  #outstanding = 0;
  #settled: (() => void) | undefined;

  constructor(parts: {
    intake: Intake;
    access: AccessControl;
    routes: Routes;
    retained: readonly TopicFilter[];
    clock: Clock;
    /** QoS 2 packets that one session may have open, between PUBLISH and PUBREL. */
    maxInflightQos2: number;
    /** Told of each message that no route matches, and that is not retained. */
    unrouted: (client: Client, topic: string) => void;
  }) {
    this.#intake = parts.intake;
    this.#access = parts.access;
    this.#routes = parts.routes;
    this.#retained = parts.retained;
    this.#clock = parts.clock;
    this.#maxInflightQos2 = parts.maxInflightQos2;
    this.#unrouted = parts.unrouted;
  }

  /**
   * Counts a PUBLISH of QoS 2, allowed or not, until its PUBREL. Returns why the client is to be cut off where it has as many
   * open as it may have; a copy of one that is open is none more.
   */
  open({ client, session: { inflight } }: Publisher, { qos, messageId = 0 }: PublishPacket): CutOff | undefined {
    if (qos !== 2 || client.closed) return undefined;
    if (inflight.has(messageId) || inflight.size < this.#maxInflightQos2) {
      inflight.set(messageId, client);
      return undefined;
    }
    const reason = `more than ${this.#maxInflightQos2} QoS 2 messages without PUBREL, mqtt.limits.maxInflightQos2`;
    return new CutOff("qos2-in-flight", reason);
  }

  /** Takes a PUBLISH (or a will) that is allowed; calls back when it may be acknowledged and forwarded. */
  take(publisher: Publisher, packet: PublishPacket, done: Answer): void {
    if (packet.retain && !this.#retained.some((filter) => covers(filter, packet.topic))) packet.retain = false;
    const route = this.#routes.match(packet.topic);
    // A connection that has ended leaves only its will.
    const isWill = publisher.client.closed;
    if (route === undefined) {
      if (!packet.retain) this.#unrouted(publisher.client, packet.topic);
      done();
      return;
    }
    if (isWill || (packet.qos === 0 && this.#intake.refuses("normal"))) {
      this.#takeUnacknowledged(publisher, packet, route, done);
      return;
    }
    const mayBeCritical = this.#held(false) && (route.priority === "critical" || speaksOfCritical(packet));
    if (this.#held(mayBeCritical) || (publisher.parked.length > 0 && !mayBeCritical)) {
      this.#park(publisher, { task: () => this.#takeRouted(publisher, packet, route, done), mayBeCritical });
    } else this.#takeRouted(publisher, packet, route, done);
  }

  /** Lets a PUBLISH that is not allowed be acknowledged, and go no further. */
  discard(
    client: Client,
    packet: PublishPacket,
    reason: string,
    done: Answer,
    as: "unauthorised" | "invalid" = "unauthorised",
  ): void {
    const origin: Origin = { kind: "mqtt", name: "mqtt", source: client.id, via: packet.topic };
    this.#intake.refuse(as, reason, packet.payload, origin);
    this.#withheld.add(packet);
    done();
  }

  /** Whether a packet is acknowledged and forwarded to nobody, nor retained. */
  isWithheld(packet: PublishPacket): boolean {
    return this.#withheld.has(packet);
  }

  /** The source that a topic names for the readings in it. */
  sourceIn(topic: string): string | undefined {
    return this.#routes.match(topic)?.source;
  }

  /** The connection has ended: what it had not handed over yet was never acknowledged, and is forgotten. */
  forget(publisher: Publisher): void {
    publisher.parked.length = 0;
    publisher.answers.end();
    this.#parked.delete(publisher);
  }

  /** Resolves when no acknowledgement waits for its commit any more, after `graceMs` at the latest. */
  settled(graceMs: number): Promise<void> {
    if (this.#outstanding === 0) return Promise.resolve();
    return new Promise((resolve) => {
      const cancel = this.#clock.after(graceMs, resolve);
      this.#settled = () => {
        cancel();
        resolve();
      };
    });
  }

  /** Whether what is to be acknowledged is not handed over at the moment. */
  #held(mayBeCritical: boolean): boolean {
    return this.#intake.saturated || this.#intake.refuses(mayBeCritical ? "critical" : "normal");
  }

  #takeRouted(publisher: Publisher, packet: PublishPacket, route: RouteMatch, done: Answer): void {
    if (packet.qos === 0) this.#takeUnacknowledged(publisher, packet, route, done);
    else this.#takeAcknowledged(publisher, packet, route, done);
  }

  #takeUnacknowledged(publisher: Publisher, packet: PublishPacket, route: RouteMatch, done: Answer): void {
    const origin = this.#originOf(publisher, packet, route);
    const payload = this.#decode(packet, origin);
    if (payload !== UNREADABLE) this.#keepBack(packet, this.#intake.submit(payload, origin));
    done();
  }

  #takeAcknowledged(publisher: Publisher, packet: PublishPacket, route: RouteMatch, done: Answer): void {
    const release = packet.qos === 2 ? this.#once(publisher, packet, done) : done;
    if (release === undefined) return;
    const origin = this.#originOf(publisher, packet, route);
    const payload = this.#decode(packet, origin);
    if (payload === UNREADABLE) {
      release();
      return;
    }
    this.#outstanding++;
    const admission = this.#intake.submit(payload, origin, () => {
      release();
      if (--this.#outstanding === 0) this.#settled?.();
    });
    this.#keepBack(packet, admission);
  }

  #keepBack(packet: PublishPacket, { unauthorised }: Admission): void {
    if (unauthorised > 0) this.#withheld.add(packet);
  }

  /** What to call when a QoS 2 PUBLISH is committed; `undefined` where it is a copy and has been dealt with. */
  #once({ client, session }: Publisher, packet: PublishPacket, done: Answer): (() => void) | undefined {
    const id = packet.messageId ?? 0;
    const fingerprint = fingerprintOf(packet);
    const first = session.committing.get(id);
    if (first?.fingerprint === fingerprint) {
      if (first.client !== client) first.copies = [];
      first.client = client;
      first.copies.push(() => done());
      return undefined;
    }
    const received = session.received.get(id);
    if (received === fingerprint) {
      done();
      return undefined;
    }
    session.received.delete(id);
    const committing: Committing = { fingerprint, client, copies: [] };
    session.committing.set(id, committing);
    const told = (): void => {
      // By the next turn the engine has stored the packet, so that it recognises the copies itself.
      setImmediate(() => {
        if (session.committing.get(id) === committing) session.committing.delete(id);
        for (const copy of committing.copies) copy();
      });
    };
    return () => done(null, told);
  }

  /** The payload's value, or `UNREADABLE` where it has none: then that is counted. */
  #decode(packet: PublishPacket, origin: Origin): unknown {
    const { payload } = packet;
    if (typeof payload !== "string" && !isUtf8(payload)) {
      this.#intake.refuse("invalid", "not UTF-8", payload, origin);
      return UNREADABLE;
    }
    try {
      const text = payload.toString();
      // RFC 8259, section 8.1: a parser may ignore a byte order mark.
      return parseJson(text.charCodeAt(0) === BYTE_ORDER_MARK ? text.slice(1) : text);
    } catch (error) {
      this.#intake.refuse("invalid", `not JSON: ${messageOf(error)}`, payload, origin);
      return UNREADABLE;
    }
  }

  #park(publisher: Publisher, parked: Parked): void {
    this.#awaitRelief();
    publisher.parked.push(parked);
    publisher.gate.hold(this);
    this.#parked.add(publisher);
  }

  /** One listener at most, however often clients come back while the intake takes nothing. */
  #awaitRelief(): void {
    if (this.#awaitsRelief) return;
    this.#awaitsRelief = true;
    this.#intake.onceRelieved(() => {
      this.#awaitsRelief = false;
      this.#unpark();
    });
  }

  /** Does what was parked, connection by connection, as far as the intake takes it. */
  #unpark(): void {
    for (const publisher of this.#parked) {
      for (
        let [next] = publisher.parked;
        next !== undefined && !this.#held(next.mayBeCritical);
        [next] = publisher.parked
      ) {
        publisher.parked.shift();
        next.task();
      }
      if (publisher.parked.length > 0) continue;
      this.#parked.delete(publisher);
      publisher.gate.goOn(this);
    }
    if (this.#parked.size > 0) this.#awaitRelief();
  }

  #originOf({ identity }: Publisher, packet: PublishPacket, route: RouteMatch): Origin {
    const origin: { -readonly [key in keyof Origin]: Origin[key] } = {
      kind: "mqtt",
      name: "mqtt",
      source: route.source ?? this.#access.ownSource(identity),
      via: packet.topic,
    };
    if (route.class !== undefined) origin.class = route.class;
    if (route.priority !== undefined) origin.priority = route.priority;
    if (identity.name !== undefined) {
      origin.objection = (source) => {
        const decision = this.#access.decide({ action: "speak", identity, source, topicSource: route.source });
        return decision.allowed ? undefined : decision.reason;
      };
    }
    return origin;
  }
}

const CRITICAL = Buffer.from('"critical"' satisfies `"${Priority}"`);

/** Whether a payload may hold a critical reading: looked at where only those are taken. One that holds none waits in the outbox. */
function speaksOfCritical({ payload }: PublishPacket): boolean {
  return (typeof payload === "string" ? Buffer.from(payload) : payload).includes(CRITICAL);
}
