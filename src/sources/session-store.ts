/**
 * What the broker remembers of its clients' sessions: subscriptions, QoS 2 packets on their way in, messages on their way
 * out, retained messages.
 *
 * aedes-persistence keeps all of that without bounds. Here it keeps only the subscriptions and the retained messages, each
 * counted before they reach it; the rest is kept per session, so that it ends with the session:
 *  - a client that is away has at most `offlineQueue` messages waiting, the oldest dropped first;
 *  - at most `maxSessions` sessions of clients that are away; the one away for longest is forgotten;
 *  - retained messages are bounded in number and bytes.
 * Nothing here survives a restart, and no reading depends on it: readings are in the outbox before they come here.
 */
import { hash } from "node:crypto";
import { Readable } from "node:stream";
import type { AedesPublishPacket, Client, Subscription } from "aedes";
import aedesMemoryPersistence from "aedes-persistence";

/** Subscriptions of one client. */
export const MAX_SUBSCRIPTIONS_PER_CLIENT = 128;
/** Messages sent to one connected subscriber with a persistent session that it has not acknowledged; the oldest are forgotten. */
const MAX_UNACKNOWLEDGED = 1000;
/** Payload bytes waiting for absent subscribers, over all; beyond it nothing more is kept for them. */
const MAX_OFFLINE_BYTES = 64 * 1024 * 1024;
export const MAX_RETAINED_MESSAGES = 1000;
export const MAX_RETAINED_BYTES = 8 * 1024 * 1024;

/** A message on its way to a client, or a PUBREL in its place (QoS 2). */
interface OutgoingPacket {
  readonly brokerId?: string | undefined;
  readonly brokerCounter?: number | undefined;
  readonly payload?: string | Buffer | undefined;
  messageId?: number | undefined;
}
type Identified = { readonly messageId?: number | undefined };
/** The aedes objects that stand for a client: itself, or only its id. */
type ClientRef = Pick<Client, "id">;

/** One client's session, from its first connection until a clean one or oblivion. */
export class Session {
  readonly clientId: string;
  readonly clean: boolean;
  /** 2 for a moment, when a connection pushes out an older one. */
  connections = 0;
  /** Topic filters that the client was granted. */
  readonly filters = new Set<string>();
  /** QoS 2 packets that were taken and not yet released: their fingerprints, by packet identifier. */
  readonly received = new Map<number, string>();
  /** QoS 2 packets whose readings wait for their commit, by packet identifier. */
  readonly committing = new Map<number, Committing>();
  outgoing: OutgoingPacket[] = [];

  constructor(clientId: string, clean: boolean) {
    this.clientId = clientId;
    this.clean = clean;
  }

  get idle(): boolean {
    return [this.filters.size, this.received.size, this.committing.size, this.outgoing.length].every((n) => n === 0);
  }
}

/** A QoS 2 PUBLISH that waits for its commit, and the callbacks of copies of it that its client sent in the meantime. */
export interface Committing {
  readonly fingerprint: string;
  /** The connection that waits for the answer: the one that sent the newest copy. */
  client: ClientRef;
  copies: (() => void)[];
}

/** What tells one PUBLISH from another that bears the same packet identifier: its topic and payload. */
export function fingerprintOf(packet: Pick<AedesPublishPacket, "topic" | "payload">): string {
  return `${hash("sha1", packet.payload, "base64")} ${packet.topic}`;
}

export interface SessionStoreOptions {
  /** Messages kept per absent subscriber. */
  readonly offlineQueue: number;
  /** Sessions kept of clients that are away. */
  readonly maxSessions: number;
  /** Told when a bound made the store forget or not keep something. */
  readonly dropped: (what: "offline-message" | "retained-message" | "session", clientId: string | undefined) => void;
}

/** The half of aedes-persistence that is used; its own types describe only a callback form that aedes no longer uses. */
interface MemoryPersistence {
  setup(broker: unknown): Promise<void>;
  storeRetained(packet: AedesPublishPacket): Promise<void>;
  createRetainedStreamCombi(filters: readonly string[]): Readable;
  addSubscriptions(client: ClientRef, subscriptions: readonly Subscription[]): Promise<void>;
  removeSubscriptions(client: ClientRef, filters: readonly string[]): Promise<void>;
  subscriptionsByClient(client: ClientRef): Promise<Subscription[]>;
  subscriptionsByTopic(topic: string): Promise<{ clientId: string }[]>;
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
const NOBODY = settled<{ clientId: string }[]>([]);

export class SessionStore {
  readonly #options: SessionStoreOptions;
  readonly #memory = (aedesMemoryPersistence as unknown as () => MemoryPersistence)();
  readonly #sessions = new Map<string, Session>();
  /** Which session a connection belongs to: after a clean reconnect, late calls for the old one must not touch the new. */
  readonly #ofClient = new WeakMap<ClientRef, Session>();
  /** Sessions of clients that are away, the one away for longest first. */
  readonly #absent = new Set<Session>();
  readonly #retainedBytes = new Map<string, number>();
  #retainedTotal = 0;
  #offlineBytes = 0;
  #subscriptions = 0;

  constructor(options: SessionStoreOptions) {
    this.#options = options;
  }

  /** Sessions known, connected or away. */
  get size(): number {
    return this.#sessions.size;
  }

  /** A client was let in. A clean session starts afresh, another goes on where there is one. */
  opened(client: Client): Session {
    const known = this.#sessions.get(client.id);
    const resumed = known !== undefined && !known.clean && !client.clean;
    if (known !== undefined && !resumed) this.#forget(known);
    const session = resumed ? known : new Session(client.id, client.clean);
    if (this.#absent.delete(session)) this.#offlineBytes -= bytesOf(session.outgoing);
    session.connections++;
    this.#sessions.set(client.id, session);
    this.#ofClient.set(client, session);
    return session;
  }

  /** A connection that was opened has ended. */
  closed(client: Client): void {
    const session = this.#ofClient.get(client);
    if (session === undefined || --session.connections > 0 || this.#sessions.get(session.clientId) !== session) return;
    const excess = session.outgoing.length - this.#options.offlineQueue;
    if (excess > 0) session.outgoing.splice(0, excess);
    if (session.clean || session.idle) {
      this.#forget(session);
      return;
    }
    this.#absent.add(session);
    this.#offlineBytes += bytesOf(session.outgoing);
    if (this.#absent.size <= this.#options.maxSessions) return;
    const [longestAway] = this.#absent;
    if (longestAway !== undefined) this.#forget(longestAway);
    this.#options.dropped("session", longestAway?.clientId);
  }

  /** Subscriptions granted to clients, present or absent. */
  get subscriptions(): number {
    return this.#subscriptions;
  }

  /** A client was granted a topic filter; `false` where it has as many as it may have. */
  grant(session: Session, filter: string): boolean {
    if (session.filters.has(filter)) return true;
    if (session.filters.size >= MAX_SUBSCRIPTIONS_PER_CLIENT) return false;
    session.filters.add(filter);
    if (this.#sessions.get(session.clientId) === session) this.#subscriptions++;
    return true;
  }

  /** A client gave a topic filter up, or may not have it any more. */
  revoke(session: Session, filter: string): void {
    if (session.filters.delete(filter) && this.#sessions.get(session.clientId) === session) this.#subscriptions--;
  }

  // What aedes calls, by its names.

  async setup(broker: unknown): Promise<void> {
    await this.#memory.setup(broker);
  }

  async destroy(): Promise<void> {
    await this.#memory.destroy();
  }

  storeRetained(packet: AedesPublishPacket): Promise<void> {
    const before = this.#retainedBytes.get(packet.topic);
    const bytes = packet.payload.length;
    if (bytes > 0) {
      const total = this.#retainedTotal - (before ?? 0) + bytes;
      if (total > MAX_RETAINED_BYTES || (before === undefined && this.#retainedBytes.size >= MAX_RETAINED_MESSAGES)) {
        this.#options.dropped("retained-message", undefined);
        return DONE;
      }
      this.#retainedBytes.set(packet.topic, bytes);
    } else this.#retainedBytes.delete(packet.topic);
    this.#retainedTotal += bytes - (before ?? 0);
    return this.#memory.storeRetained(packet);
  }

  createRetainedStreamCombi(filters: readonly string[]): Readable {
    return this.#retainedBytes.size === 0 ? Readable.from([]) : this.#memory.createRetainedStreamCombi(filters);
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
    return this.#memory.removeSubscriptions(client, filters);
  }

  subscriptionsByClient(client: ClientRef): Promise<Subscription[]> {
    return this.#memory.subscriptionsByClient(client);
  }

  subscriptionsByTopic(topic: string): PromiseLike<{ clientId: string }[]> {
    return this.#subscriptions > 0 ? this.#memory.subscriptionsByTopic(topic) : NOBODY;
  }

  cleanSubscriptions(client: ClientRef): Promise<void> {
    return this.#memory.cleanSubscriptions(client);
  }

  outgoingEnqueue(subscriber: { clientId: string }, packet: AedesPublishPacket): PromiseLike<void> {
    return this.outgoingEnqueueCombi([subscriber], packet);
  }

  outgoingEnqueueCombi(subscribers: readonly { clientId: string }[], packet: AedesPublishPacket): PromiseLike<void> {
    for (const { clientId } of subscribers) {
      const session = this.#sessions.get(clientId);
      if (session !== undefined) this.#enqueue(session, packet);
    }
    return DONE_AT_ONCE;
  }

  /** Never fails: what a bound has dropped in the meantime is sent all the same. */
  outgoingUpdate(client: Client, packet: OutgoingPacket): Promise<void> {
    const queue = this.#ofClient.get(client)?.outgoing ?? [];
    const sent = queue.findIndex((kept) => isSameMessage(kept, packet));
    if (sent >= 0) {
      const kept = queue[sent];
      if (kept !== undefined) kept.messageId = packet.messageId;
      return DONE;
    }
    const released = queue.findIndex((kept) => kept.messageId === packet.messageId);
    if (released >= 0) queue[released] = packet;
    return DONE;
  }

  /** Takes out what a packet identifier stands for, or, before one was given, the message itself. */
  outgoingClearMessageId(client: Client, packet: OutgoingPacket): Promise<OutgoingPacket | undefined> {
    const queue = this.#ofClient.get(client)?.outgoing ?? [];
    const at = queue.findIndex((kept) =>
      packet.messageId === undefined ? isSameMessage(kept, packet) : kept.messageId === packet.messageId,
    );
    return Promise.resolve(at < 0 ? undefined : queue.splice(at, 1)[0]);
  }

  outgoingStream(client: Client): Readable {
    return Readable.from([...(this.#ofClient.get(client)?.outgoing ?? [])]);
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
    this.#ofClient.get(client)?.received.delete(packet.messageId ?? 0);
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

  #enqueue(session: Session, packet: AedesPublishPacket): void {
    const last = session.outgoing.at(-1);
    if (last !== undefined && isSameMessage(last, packet)) return; // two filters of one client cover the topic
    const absent = session.connections === 0;
    const limit = absent ? this.#options.offlineQueue : MAX_UNACKNOWLEDGED;
    const bytes = packet.payload.length;
    if (limit === 0) return;
    if (absent && this.#offlineBytes + bytes > MAX_OFFLINE_BYTES) {
      this.#options.dropped("offline-message", session.clientId);
      return;
    }
    session.outgoing.push({ ...packet, messageId: undefined });
    if (absent) this.#offlineBytes += bytes;
    if (session.outgoing.length <= limit) return;
    const oldest = session.outgoing.shift();
    if (absent) this.#offlineBytes -= oldest?.payload?.length ?? 0;
    this.#options.dropped("offline-message", session.clientId);
  }

  #forget(session: Session): void {
    if (this.#absent.delete(session)) this.#offlineBytes -= bytesOf(session.outgoing);
    if (this.#sessions.get(session.clientId) === session) {
      this.#sessions.delete(session.clientId);
      this.#subscriptions -= session.filters.size;
    }
    session.outgoing = [];
    if (!session.clean) void this.#memory.cleanSubscriptions({ id: session.clientId });
  }
}

function isSameMessage(one: OutgoingPacket, other: OutgoingPacket): boolean {
  return one.brokerId === other.brokerId && one.brokerCounter === other.brokerCounter && one.brokerId !== undefined;
}

function bytesOf(packets: readonly OutgoingPacket[]): number {
  return packets.reduce((sum, { payload }) => sum + (payload?.length ?? 0), 0);
}
