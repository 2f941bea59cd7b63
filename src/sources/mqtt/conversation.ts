/**
 * The strict half of MQTT 3.1.1, packet by packet in both directions: the small layer between a connection's gate and the
 * broker's engine, which takes much that the standard forbids, and answers some of it wrongly.
 *
 *  - Inwards, the gate shows it each packet before it passes. One with a fault never reaches the engine, and nothing passes
 *    behind a DISCONNECT.
 *  - An acknowledgement must fit the QoS of the message it is for. The engine keeps that for some sessions only, so the
 *    messages sent are followed on their way out; at most `MAX_FOLLOWED` of a connection, the oldest forgotten. One that is not known
 *    here is let pass: it may be for a message that an earlier connection was sent.
 *  - Outwards, CONNACK says whether the session was there before (3.2.2.2), which the engine tells from its subscriptions.
 *
 * A connection has one of these.
 */
import {
  connectFault,
  DISCONNECT,
  headerFault,
  type ProtocolFault,
  PUBACK,
  PUBCOMP,
  PUBLISH,
  PUBREC,
  packetFault,
} from "./packets.ts";

/** Unacknowledged messages whose QoS is known. */
export const MAX_FOLLOWED = 1000;

const CONNACK = 2;
/** What a message that was sent waits for: the type of the packet that acknowledges it. */
type Awaited = typeof PUBACK | typeof PUBREC | typeof PUBCOMP;
const WRONG: Readonly<Record<number, string>> = {
  [PUBACK]: "PUBACK for a QoS 2 message [MQTT-4.3.3-2]",
  [PUBREC]: "PUBREC for a QoS 1 message [MQTT-4.3.2-2]",
  [PUBCOMP]: "PUBCOMP for a message that was not released [MQTT-4.3.3-2]",
};
/** Where the packet identifier of a packet on its way out stands, while that is not known yet; where it is of no matter. */
const BEHIND_TOPIC = 2 + 0xffff + 1;
const NOWHERE = -2;

export class Conversation {
  /** Whether the session that CONNACK tells of was there before. */
  sessionPresent = false;
  #connected = false;
  #over = false;
  readonly #sent = new Map<number, Awaited>();
  /** The packet on its way out: its first byte; what is left of it, −1 within its fixed header. */
  #header = 0;
  #left = 0;
  #length = 0;
  #scale = 1;
  /** Where in its body the next byte stands; where its packet identifier does, of a PUBLISH; what has been read of both numbers. */
  #offset = 0;
  #identifierAt = 0;
  #number = 0;

  /** Whether nothing may pass any more: the client has taken its leave. */
  get over(): boolean {
    return this.#over;
  }

  /** What is wrong with the first byte of a packet behind CONNECT. */
  begins(header: number): ProtocolFault | undefined {
    return headerFault(header);
  }

  /** What is wrong with a whole packet, whose body is `bytes[from..to)`. */
  whole(header: number, bytes: Buffer, from: number, to: number): ProtocolFault | undefined {
    if (!this.#connected) {
      this.#connected = true;
      return connectFault(bytes, from, to);
    }
    const fault = packetFault(header, bytes, from, to);
    const type = header >> 4;
    if (fault !== undefined || type === PUBLISH) return fault;
    if (type === DISCONNECT) this.#over = true;
    return type === PUBACK || type === PUBREC || type === PUBCOMP
      ? this.#acknowledged(type, bytes.readUInt16BE(from))
      : undefined;
  }

  #acknowledged(type: Awaited, id: number): ProtocolFault | undefined {
    const awaited = this.#sent.get(id);
    if (awaited === undefined) return undefined;
    // PUBREC may come again: for a copy, or because PUBREL was long on its way.
    if (awaited !== type && !(awaited === PUBCOMP && type === PUBREC)) {
      return { kind: "acknowledgement", reason: WRONG[type] ?? "" };
    }
    if (type === PUBREC) this.#sent.set(id, PUBCOMP);
    else this.#sent.delete(id);
    return undefined;
  }

  /** Follows what goes out; returns what is to be sent in its place, mostly the same. */
  sending(chunk: Buffer): Buffer {
    let bytes = chunk;
    let at = 0;
    while (at < chunk.length) {
      if (this.#left === 0) this.#beginSending(chunk[at++] ?? 0);
      else if (this.#left < 0) this.#lengthByte(chunk[at++] ?? 0);
      else if (this.#header === CONNACK << 4) {
        if (this.#offset === 0) {
          // The engine's chunks are its constants.
          bytes = Buffer.from(chunk);
          bytes[at] = this.sessionPresent ? 1 : 0;
        }
        this.#pass(1);
        at++;
      } else if (this.#offset > this.#identifierAt + 1) at += this.#pass(chunk.length - at);
      else {
        this.#headByte(chunk[at++] ?? 0);
        this.#pass(1);
      }
    }
    return bytes;
  }

  #beginSending(header: number): void {
    this.#header = header;
    this.#left = -1;
    this.#length = 0;
    this.#scale = 1;
    this.#offset = 0;
    this.#number = 0;
    const followed = header >> 4 === PUBLISH && (header & 6) !== 0;
    this.#identifierAt = followed ? BEHIND_TOPIC : NOWHERE;
  }

  #lengthByte(byte: number): void {
    this.#length += (byte & 0x7f) * this.#scale;
    this.#scale *= 128;
    if ((byte & 0x80) === 0) this.#left = this.#length;
  }

  /** Passes over at most so many bytes of the body; returns how many there were. */
  #pass(most: number): number {
    const step = Math.min(this.#left, most);
    this.#left -= step;
    this.#offset += step;
    return step;
  }

  /** A byte of the head of a PUBLISH: the length of its topic, the topic, the packet identifier. */
  #headByte(byte: number): void {
    const offset = this.#offset;
    if (offset < 2 || offset >= this.#identifierAt) this.#number = ((this.#number << 8) | byte) & 0xffff;
    if (offset === 1) this.#identifierAt = 2 + this.#number;
    if (offset === this.#identifierAt + 1) this.#follow(this.#number, (this.#header & 6) === 2 ? PUBACK : PUBREC);
  }

  #follow(id: number, awaited: Awaited): void {
    this.#sent.delete(id);
    this.#sent.set(id, awaited);
    if (this.#sent.size <= MAX_FOLLOWED) return;
    for (const oldest of this.#sent.keys()) {
      this.#sent.delete(oldest);
      return;
    }
  }
}
