/**
 * What the broker remembers of its clients' sessions: subscriptions, QoS 2 packets on their way in, messages on their way
 * out, retained messages.
 *
 * aedes-persistence keeps all of that without bounds. Here it keeps only the subscriptions and the retained messages, each
 * counted before they reach it; the rest is kept per session, so that it ends with the session:
 *  - a client that is away has at most `offlineQueue` messages waiting, the oldest dropped first; all that waits for
 *    acknowledgements and absent clients is at most `maxQueuedBytes`;
 *  - at most `maxSessions` sessions of clients that are away, for `sessionExpiry`, those with nothing in them included, for CONNACK
 *    tells whether there was one (MQTT 3.1.1, section 3.1.2.4). The one away for longest is forgotten, one with nothing in it first;
 *  - a client has at most `maxSubscriptions` topic filters; all of them together are bounded as well, by their levels;
 *  - retained messages are bounded in number and bytes.
 * Nothing here survives a restart, and no reading depends on it: readings are in the outbox before they come here.
 */
import { Readable } from "node:stream";
import type { AedesPublishPacket, Client, Subscription } from "aedes";
import aedesMemoryPersistence from "aedes-persistence";
import type { MqttLimits } from "../../config/schema.ts";
import type { ClientIdentity, SessionHolder } from "../../identity/access.ts";
import type { Clock } from "../../kernel/clock.ts";
import { AbsentSessions } from "./absent-sessions.ts";
import { levelsOf } from "./client-limits.ts";
import { RetainedMessages, type RetainedStore } from "./retained-messages.ts";
import {
  type ClientRef,
  costOf,
  fingerprintOf,
  forgetOnTheirWay,
  isSameMessage,
  type OutgoingPacket,
  ownCopy,
  type QoS,
  Session,
} from "./session.ts";
import { covers, parseTopicFilter } from "./topics.ts";

/** Levels of all topic filters together: each costs some 300 bytes. Ten filters of five levels for 1,000 clients. */
export const MAX_FILTER_LEVELS = 50_000;
/** What the sessions of absent clients hold together: levels of filters, and QoS 2 packets that were not released. */
const MAX_ABSENT_WEIGHT = 20_000;
/** Messages sent to one connected subscriber with a persistent session that it has not acknowledged; the oldest are forgotten. */
const MAX_UNACKNOWLEDGED = 1000;
/** Topic filters that are looked through, one by one, for who takes a message that no route matches. */
const MAX_FILTERS_ASKED = 1000;

type Identified = { readonly messageId?: number | undefined };

export interface SessionStoreOptions {
  /** Messages kept per absent subscriber. */
  readonly offlineQueue: number;
  readonly limits: SessionLimits;
  readonly clock: Clock;
  /** Told when a bound made the store forget or not keep something. */
  readonly dropped: (what: Dropped, clientId: string | undefined) => void;
}

/** A client that has subscribed to a topic, by one of its filters. */
interface Subscriber {
  readonly clientId: string;
  readonly qos: number;
}

/** Bytes and milliseconds. */
export type SessionLimits = Pick<
  MqttLimits,
  "maxSubscriptions" | "maxQueuedBytes" | "maxRetainedMessages" | "maxRetainedBytes" | "maxSessions" | "sessionExpiry"
>;

export type Dropped = "offline-message" | "retained-message" | "subscription" | "session" | "expired-session";

/** The half of aedes-persistence that is used; its own types describe only a callback form that aedes no longer uses. */
interface MemoryPersistence extends RetainedStore {
  setup(broker: unknown): Promise<void>;
  addSubscriptions(client: ClientRef, subscriptions: readonly Subscription[]): Promise<void>;
  removeSubscriptions(client: ClientRef, filters: readonly string[]): Promise<void>;
  subscriptionsByClient(client: ClientRef): Promise<Subscription[]>;
  subscriptionsByTopic(topic: string): Promise<Subscriber[]>;
  cleanSubscriptions(client: ClientRef): Promise<void>;
  destroy(): Promise<void>;
}

/**
 * Answers at once. The engine asks twice for every PUBLISH of QoS 1 and 2, with nothing but `then`; promises would cost
 * a tenth of all it does for one.
 */
function settled<T>(value: T): PromiseLike<T> {
  // biome-ignore lint/suspicious/noThenProperty: it is to be called as a promise
  return { then: (resolve: ((value: T) => unknown) | null | undefined) => resolve?.(value) } as PromiseLike<T>;
}
const DONE: Promise<void> = Promise.resolve();
const DONE_AT_ONCE = settled(undefined);
const NOBODY = settled<Subscriber[]>([]);

export class SessionStore {
  readonly #options: SessionStoreOptions;
  readonly #memory = (aedesMemoryPersistence as unknown as () => MemoryPersistence)();
  readonly #sessions = new Map<string, Session>();
  /** Which session a connection belongs to: after a clean reconnect, late calls for the old one must not touch the new. */
  readonly #ofClient = new WeakMap<ClientRef, Session>();
  readonly #absent: AbsentSessions<Session>;
  readonly #retained: RetainedMessages;
  #queuedBytes = 0;
  #subscriptions = 0;
  #filterLevels = 0;

  constructor(options: SessionStoreOptions) {
    this.#options = options;
    const { maxSessions, sessionExpiry } = options.limits;
    this.#retained = new RetainedMessages(this.#memory, options.limits, () =>
      options.dropped("retained-message", undefined),
    );
    this.#absent = new AbsentSessions({
      clock: options.clock,
      max: maxSessions,
      maxWeight: MAX_ABSENT_WEIGHT,
      expiry: sessionExpiry,
      weigh: ({ filterLevels, inflight }) => filterLevels + inflight.size,
      isEmpty: ({ idle }) => idle,
      forget: (session, why) => {
        this.#forget(session);
        options.dropped(why, session.clientId);
      },
    });
  }

  /** Sessions known, connected or away. */
  get size(): number {
    return this.#sessions.size;
  }

  /** Who holds the session of a client id; `undefined` where there is none. */
  holderOf(clientId: string): SessionHolder | undefined {
    const session = this.#sessions.get(clientId);
    return session === undefined ? undefined : { name: session.owner.name, connected: session.connections > 0 };
  }

  /** Forgets sessions, present or away, by whom they belong to. */
  forgetOf(isMeant: (owner: ClientIdentity) => boolean): void {
    for (const session of [...this.#sessions.values()]) if (isMeant(session.owner)) this.#forget(session);
  }

  /**
   * A client was let in. A clean session starts afresh, another goes on where there is one of the same verified name's (or
   * of nobody's): what was kept for somebody else is forgotten, not handed over.
   */
  opened(client: Client, owner: ClientIdentity): Session {
    this.#absent.expire();
    const known = this.#sessions.get(client.id);
    const resumed = known !== undefined && !known.clean && !client.clean && known.owner.name === owner.name;
    if (known !== undefined && !resumed) this.#forget(known);
    const session = resumed ? known : new Session(client.id, client.clean, owner);
    this.#absent.delete(session);
    session.owner = owner;
    session.connections++;
    session.resumed = resumed;
    this.#sessions.set(client.id, session);
    this.#ofClient.set(client, session);
    return session;
  }

  /** A connection that was opened has ended. */
  closed(client: Client): void {
    const session = this.#ofClient.get(client);
    if (session === undefined) return;
    forgetOnTheirWay(session, client);
    if (--session.connections > 0 || !this.#isCurrent(session)) return;
    const excess = session.outgoing.length - this.#options.offlineQueue;
    for (let index = 0; index < excess; index++) this.#takeOut(session, 0);
    if (session.clean) {
      this.#forget(session);
      return;
    }
    this.#absent.add(session);
  }

  /** Subscriptions granted to clients, present or absent. */
  get subscriptions(): number {
    return this.#subscriptions;
  }

  /** A client was granted a topic filter; `false` where it is none, or where there are as many as there may be. */
  grant(session: Session, text: string, qos: QoS): boolean {
    const filter = parseTopicFilter(text);
    if (filter === undefined) return false;
    const isNew = !session.filters.has(text);
    const levels = isNew ? levelsOf(text) : 0;
    if (isNew && !this.#hasRoom(session, levels)) {
      this.#options.dropped("subscription", session.clientId);
      return false;
    }
    session.filters.set(text, { filter, qos });
    session.filterLevels += levels;
    if (isNew && this.#isCurrent(session)) {
      this.#subscriptions++;
      this.#filterLevels += levels;
    }
    return true;
  }

  #hasRoom(session: Session, levels: number): boolean {
    const { maxSubscriptions } = this.#options.limits;
    return session.filters.size < maxSubscriptions && this.#filterLevels + levels <= MAX_FILTER_LEVELS;
  }

  /** The highest QoS that a client was granted for a topic (MQTT-3.3.5-1); `undefined` where no filter of its covers that. */
  grantedQos(session: Session, topic: string): QoS | undefined {
    let highest: QoS | undefined;
    for (const { filter, qos } of session.filters.values()) {
      if (highest === 2) break;
      if (qos > (highest ?? -1) && covers(filter, topic)) highest = qos;
    }
    return highest;
  }

  /**
   * Whether somebody takes a message: a client that is connected, or one that is away and for which messages are kept. `mayReceive` says
   * whether the holder of a session may have it. Beyond `MAX_FILTERS_ASKED` nobody looks, and somebody does.
   */
  takes(topic: string, mayReceive: (owner: ClientIdentity) => boolean): boolean {
    if (this.#subscriptions === 0) return false;
    if (this.#subscriptions > MAX_FILTERS_ASKED) return true;
    for (const session of this.#sessions.values()) {
      if (session.connections === 0 && this.#options.offlineQueue === 0) continue;
      if (this.grantedQos(session, topic) !== undefined && mayReceive(session.owner)) return true;
    }
    return false;
  }

  /** A client gave a topic filter up, or may not have it any more. */
  revoke(session: Session, filter: string): void {
    if (!session.filters.delete(filter)) return;
    const levels = levelsOf(filter);
    session.filterLevels -= levels;
    if (!this.#isCurrent(session)) return;
    this.#subscriptions--;
    this.#filterLevels -= levels;
  }

  // What aedes calls, by its names.

  async setup(broker: unknown): Promise<void> {
    await this.#memory.setup(broker);
  }

  async destroy(): Promise<void> {
    this.#absent.stop();
    await this.#memory.destroy();
  }

  storeRetained(packet: AedesPublishPacket): Promise<void> {
    return this.#retained.store(packet);
  }

  createRetainedStreamCombi(filters: readonly string[]): Readable {
    return this.#retained.matching(filters);
  }

  /** Keeps only what was granted: aedes hands over every filter of a SUBSCRIBE, the refused ones included. */
  addSubscriptions(client: Client, subscriptions: readonly Subscription[]): Promise<void> {
    const session = this.#ofClient.get(client);
    if (session === undefined || this.#sessions.get(client.id) !== session) return DONE;
    const granted: Subscription[] = [];
    for (const subscription of subscriptions) {
      if (session.filters.has(subscription.topic)) granted.push(subscription);
      if (granted.length === session.filters.size) break;
    }
    return this.#memory.addSubscriptions(client, granted);
  }

  removeSubscriptions(client: Client, filters: readonly string[]): Promise<void> {
    const granted = this.#ofClient.get(client)?.filters;
    const held = filters.filter((filter) => granted?.has(filter));
    return held.length === 0 ? DONE : this.#memory.removeSubscriptions(client, held);
  }

  subscriptionsByClient(client: ClientRef): Promise<Subscription[]> {
    return this.#memory.subscriptionsByClient(client);
  }

  subscriptionsByTopic(topic: string): PromiseLike<Subscriber[]> {
    return this.#subscriptions > 0 ? this.#memory.subscriptionsByTopic(topic) : NOBODY;
  }

  cleanSubscriptions(client: ClientRef): Promise<void> {
    return this.#memory.cleanSubscriptions(client);
  }

  outgoingEnqueue(subscriber: Subscriber, packet: AedesPublishPacket): PromiseLike<void> {
    return this.outgoingEnqueueCombi([subscriber], packet);
  }

  outgoingEnqueueCombi(subscribers: readonly Subscriber[], packet: AedesPublishPacket): PromiseLike<void> {
    for (const { clientId, qos } of subscribers) {
      const session = this.#sessions.get(clientId);
      if (session !== undefined) this.#enqueue(session, packet, qos < packet.qos ? qos : packet.qos);
    }
    return DONE_AT_ONCE;
  }

  /** Never fails: what a bound has dropped in the meantime is sent all the same. */
  outgoingUpdate(client: Client, packet: OutgoingPacket): Promise<void> {
    const session = this.#ofClient.get(client);
    if (session === undefined) return DONE;
    const queue = session.outgoing;
    const sent = queue.findIndex((kept) => isSameMessage(kept, packet));
    if (sent >= 0) {
      const kept = queue[sent];
      if (kept !== undefined) kept.messageId = packet.messageId;
      return DONE;
    }
    if (packet.cmd === "publish") return DONE;
    const released = queue.findIndex((kept) => kept.messageId === packet.messageId);
    if (released >= 0) this.#account(session, costOf(packet) - costOf(queue.splice(released, 1, packet)[0]));
    return DONE;
  }

  /** Takes out what a packet identifier stands for, or, before one was given, the message itself. */
  outgoingClearMessageId(client: Client, packet: OutgoingPacket): Promise<OutgoingPacket | undefined> {
    const session = this.#ofClient.get(client);
    if (session === undefined) return Promise.resolve(undefined);
    const at = session.outgoing.findIndex((kept) =>
      packet.messageId === undefined ? isSameMessage(kept, packet) : kept.messageId === packet.messageId,
    );
    return Promise.resolve(at < 0 ? undefined : this.#takeOut(session, at));
  }

  /** What a client that is back is sent; DUP where it was sent before (MQTT-3.3.1-1). */
  outgoingStream(client: Client): Readable {
    const outgoing = this.#ofClient.get(client)?.outgoing ?? [];
    return Readable.from(
      outgoing.map((packet) =>
        packet.messageId === undefined || packet.cmd !== "publish" ? packet : { ...packet, dup: true },
      ),
    );
  }

  incomingStorePacket(client: Client, packet: AedesPublishPacket): Promise<void> {
    const received = this.#ofClient.get(client)?.received;
    if (received === undefined || packet.messageId === undefined) return DONE;
    received.set(packet.messageId, fingerprintOf(packet));
    return DONE;
  }

  /** aedes asks only whether there is one. */
  async incomingGetPacket(client: Client, packet: Identified): Promise<string> {
    const received = this.#ofClient.get(client)?.received.get(packet.messageId ?? 0);
    if (received === undefined) throw new Error("no such packet");
    return received;
  }

  incomingDelPacket(client: Client, packet: Identified): Promise<void> {
    const session = this.#ofClient.get(client);
    session?.received.delete(packet.messageId ?? 0);
    session?.inflight.delete(packet.messageId ?? 0);
    return DONE;
  }

  cleanIncoming(client: Client): Promise<void> {
    this.#ofClient.get(client)?.received.clear();
    return DONE;
  }

  // Wills live in aedes' client objects. What is stored is only for other brokers of a cluster, to publish when this one
  // has died, which it tells by wall time: a clock that is set forward would publish the wills of connected clients.

  putWill(): Promise<void> {
    return DONE;
  }

  delWill(): Promise<void> {
    return DONE;
  }

  streamWill(): Readable {
    return Readable.from([]);
  }

  #enqueue(session: Session, packet: AedesPublishPacket, qos: number): void {
    const last = session.outgoing.at(-1);
    if (last !== undefined && isSameMessage(last, packet)) {
      // Two filters of one client cover the topic.
      if ((last.qos ?? 0) < qos) last.qos = qos;
      return;
    }
    const limit = session.connections === 0 ? this.#options.offlineQueue : MAX_UNACKNOWLEDGED;
    if (limit === 0) return;
    const { maxQueuedBytes } = this.#options.limits;
    const bytes = costOf(packet);
    while (session.outgoing.length >= limit || session.outgoingBytes + bytes > maxQueuedBytes / 2) {
      if (this.#takeOut(session, 0) === undefined) break;
      this.#options.dropped("offline-message", session.clientId);
    }
    if (session.outgoingBytes + bytes > maxQueuedBytes / 2 || this.#queuedBytes + bytes > maxQueuedBytes) {
      this.#options.dropped("offline-message", session.clientId);
      return;
    }
    session.outgoing.push({ ...packet, payload: ownCopy(packet.payload), qos, messageId: undefined });
    this.#account(session, bytes);
  }

  #takeOut(session: Session, at: number): OutgoingPacket | undefined {
    const [packet] = session.outgoing.splice(at, 1);
    if (packet !== undefined) this.#account(session, -costOf(packet));
    return packet;
  }

  #account(session: Session, bytes: number): void {
    session.outgoingBytes += bytes;
    this.#queuedBytes += bytes;
  }

  /** Whether it is the one of its client id: not one that a clean connection has replaced. */
  #isCurrent(session: Session): boolean {
    return this.#sessions.get(session.clientId) === session;
  }

  #forget(session: Session): void {
    this.#absent.delete(session);
    if (this.#isCurrent(session)) {
      this.#sessions.delete(session.clientId);
      this.#subscriptions -= session.filters.size;
      this.#filterLevels -= session.filterLevels;
    }
    this.#account(session, -session.outgoingBytes);
    session.outgoing = [];
    if (!session.clean) void this.#memory.cleanSubscriptions({ id: session.clientId });
  }
}
