/** What the broker remembers of one client, and of the messages in it. */
import { hash } from "node:crypto";
import type { AedesPublishPacket, Client, Subscription } from "aedes";
import type { ClientIdentity } from "../../identity/access.ts";
import type { TopicFilter } from "./topics.ts";

/** What a message that waits costs besides its payload and topic. */
const MESSAGE_BYTES = 256;

/** A message on its way to a client, or a PUBREL in its place (QoS 2). */
export interface OutgoingPacket {
  readonly cmd?: string | undefined;
  readonly brokerId?: string | undefined;
  readonly brokerCounter?: number | undefined;
  readonly topic?: string | undefined;
  readonly payload?: string | Buffer | undefined;
  messageId?: number | undefined;
  qos?: number;
}
export type QoS = Subscription["qos"];
/** The aedes objects that stand for a client: itself, or only its id. */
export type ClientRef = Pick<Client, "id">;

/** One client's session, from its first connection until a clean one or oblivion. */
export class Session {
  readonly clientId: string;
  readonly clean: boolean;
  /** Whether the connection that it has now goes on with it, rather than having begun it. */
  resumed = false;
  /** Who used it last: another one, but of the same verified name, may go on with it. */
  owner: ClientIdentity;
  /** 2 for a moment, when a connection pushes out an older one. */
  connections = 0;
  /** Topic filters that the client was granted, and the QoS of each. */
  readonly filters = new Map<string, { readonly filter: TopicFilter; readonly qos: QoS }>();
  /** QoS 2 packets that were taken and not yet released: their fingerprints, by packet identifier. */
  readonly received = new Map<number, string>();
  /** QoS 2 packets whose readings wait for their commit, by packet identifier. */
  readonly committing = new Map<number, Committing>();
  /**
   * QoS 2 packets between PUBLISH and PUBREL, those included that are on their way into the two above: the connection that brought
   * each last. What was on its way when that ends is forgotten with it.
   */
  readonly inflight = new Map<number, ClientRef>();
  outgoing: OutgoingPacket[] = [];
  /** What `outgoing` holds, as `maxQueuedBytes` counts it. */
  outgoingBytes = 0;
  /** Levels of `filters`. */
  filterLevels = 0;

  constructor(clientId: string, clean: boolean, owner: ClientIdentity) {
    this.clientId = clientId;
    this.clean = clean;
    this.owner = owner;
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
export function fingerprintOf({ topic, payload }: Pick<AedesPublishPacket, "topic" | "payload">): string {
  return `${hash("sha1", payload, "base64")} ${topic.length > 64 ? hash("sha1", topic, "base64") : topic}`;
}

/** Forgets the QoS 2 packets that a connection brought and that nobody took: they were not acknowledged, nor will they be released. */
export function forgetOnTheirWay({ inflight, received, committing }: Session, client: ClientRef): void {
  for (const [id, broughtBy] of inflight) {
    if (broughtBy === client && !received.has(id) && !committing.has(id)) inflight.delete(id);
  }
}

/** Whether two are copies of one message, as the engine counts them. */
export function isSameMessage(one: OutgoingPacket, other: OutgoingPacket): boolean {
  return one.brokerId === other.brokerId && one.brokerCounter === other.brokerCounter && one.brokerId !== undefined;
}

/** What a message costs while it waits. */
export function costOf(packet: OutgoingPacket | undefined): number {
  return MESSAGE_BYTES + (packet?.payload?.length ?? 0) + (packet?.topic?.length ?? 0);
}

/** A payload is a window on what was read from its socket together with it; one that is kept must not keep all of that. */
export function ownCopy(payload: string | Buffer): string | Buffer {
  if (typeof payload === "string" || payload.buffer.byteLength <= 2 * payload.length) return payload;
  const copy = Buffer.allocUnsafeSlow(payload.length);
  payload.copy(copy);
  return copy;
}
