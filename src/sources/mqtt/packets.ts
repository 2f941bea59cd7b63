/**
 * What an MQTT 3.1.1 client may not send: every control packet checked by itself, byte by byte, before the broker's engine
 * sees it. The engine's parser overlooks much of it, and closes without a word where it does not.
 *
 * A fault names the clause that it violates. Nothing is copied for a PUBLISH: only its header, its topic and its packet
 * identifier are looked at, in place. What depends on packets that went before stands in `conversation.ts`, sizes and
 * rates in `gate.ts`, and who may do what in the access decision. Pure.
 *
 * MQTT 3.1 (`MQIsdp`, level 3) is let in as well: its packets are the same, its client ids shorter. The bit by which
 * mosquitto's bridges mark themselves in the level is an unknown level; they try again without it.
 */
import { isUtf8 } from "node:buffer";
import { isTopicName, parseTopicFilter } from "./topics.ts";

export type FaultKind =
  | "malformed"
  | "header-flags"
  | "unexpected-packet"
  | "packet-identifier"
  | "text"
  | "topic-name"
  | "topic-filter"
  | "connect-flags"
  | "protocol-level"
  | "client-id"
  | "acknowledgement";

/** Why a client is to be cut off. */
export interface ProtocolFault {
  /** Few and fixed: for a metric. */
  readonly kind: FaultKind;
  /** For a person, with the clause of the standard. */
  readonly reason: string;
  /** What CONNACK says before the connection is closed; without one it is closed at once. */
  readonly returnCode?: 1 | 2;
}

export const PUBLISH = 3;
export const PUBACK = 4;
export const PUBREC = 5;
const PUBREL = 6;
export const PUBCOMP = 7;
export const SUBSCRIBE = 8;
export const UNSUBSCRIBE = 10;
const PINGREQ = 12;
export const DISCONNECT = 14;

const NAMES = [
  ...["packet of type 0", "CONNECT", "CONNACK", "PUBLISH", "PUBACK", "PUBREC", "PUBREL", "PUBCOMP"],
  ...["SUBSCRIBE", "SUBACK", "UNSUBSCRIBE", "UNSUBACK", "PINGREQ", "PINGRESP", "DISCONNECT", "packet of type 15"],
];
/** Types that a client sends after CONNECT, with the flags that each must bear (2.2.2); those of PUBLISH have a meaning. */
const FLAGS = new Map([
  [PUBACK, 0],
  [PUBREC, 0],
  [PUBREL, 2],
  [PUBCOMP, 0],
  [SUBSCRIBE, 2],
  [UNSUBSCRIBE, 2],
  [PINGREQ, 0],
  [DISCONNECT, 0],
]);

const HEADERS = Array.from({ length: 256 }, (_, header) => faultOfHeader(header));

/** What is wrong with a first byte, after CONNECT. */
export function headerFault(header: number): ProtocolFault | undefined {
  return HEADERS[header];
}

/**
 * What is wrong with a whole packet other than CONNECT whose first byte is right. Its body is
 * `bytes[from..to)`.
 */
export function packetFault(header: number, bytes: Buffer, from: number, to: number): ProtocolFault | undefined {
  const type = header >> 4;
  switch (type) {
    case PUBLISH:
      return publishFault((header >> 1) & 3, bytes, from, to);
    case SUBSCRIBE:
    case UNSUBSCRIBE:
      return filtersFault(type, bytes, from, to);
    case PINGREQ:
    case DISCONNECT:
      return from === to ? undefined : malformed(type, "with a body");
    default:
      if (to - from !== 2) return malformed(type, "that is not 4 bytes long");
      return identifierAt(bytes, from) === 0 ? zeroIdentifier(type) : undefined;
  }
}

/** What is wrong with a whole CONNECT, whose body is `bytes[from..to)` (3.1). */
export function connectFault(bytes: Buffer, from: number, to: number): ProtocolFault | undefined {
  const fields = new Fields(1, bytes, from, to);
  const protocol = fields.text("protocol name");
  const level = fields.byte();
  if (fields.fault !== undefined) return fields.fault;
  if (protocol !== "MQTT" && protocol !== "MQIsdp") {
    return fault("malformed", "CONNECT for another protocol than MQTT [MQTT-3.1.2-1]");
  }
  if (level !== (protocol === "MQTT" ? 4 : 3)) {
    const reason = `CONNECT with protocol ${protocol} level ${level}; MQTT level 4 (3.1.1) is spoken here [MQTT-3.1.2-2]`;
    return { kind: "protocol-level", reason, returnCode: 1 };
  }
  const flags = fields.byte();
  fields.number(); // keep-alive
  const clientId = fields.text("client id");
  const hasWill = (flags & 0x04) !== 0;
  const willTopic = hasWill ? fields.text("will topic") : undefined;
  if (hasWill) fields.data("will message");
  if ((flags & 0x80) !== 0) fields.text("user name");
  if ((flags & 0x40) !== 0) fields.data("password");
  fields.end();
  const wrong = connectFlagsFault(flags) ?? fields.fault;
  if (wrong !== undefined) return wrong;
  if (willTopic !== undefined && !isTopicName(willTopic)) {
    return fault("topic-name", "CONNECT whose will topic is empty or has a wildcard [MQTT-4.7.3-1, MQTT-3.3.2-2]");
  }
  return clientIdFault(clientId, level, (flags & 0x02) !== 0);
}

function faultOfHeader(header: number): ProtocolFault | undefined {
  const type = header >> 4;
  if (type === PUBLISH) {
    if ((header & 6) === 6) return fault("header-flags", "PUBLISH with QoS 3 [MQTT-3.3.1-4]");
    if ((header & 0xe) === 8) return fault("header-flags", "PUBLISH with QoS 0 and DUP [MQTT-3.3.1-2]");
    return undefined;
  }
  const flags = FLAGS.get(type);
  if (type === 1) return fault("unexpected-packet", "a second CONNECT [MQTT-3.1.0-2]");
  if (flags === undefined) {
    return fault("unexpected-packet", `${NAMES[type]}, which a client may not send [MQTT-4.8.0-1]`);
  }
  return (header & 15) === flags ? undefined : fault("header-flags", `${NAMES[type]} with wrong flags [MQTT-2.2.2-2]`);
}

function publishFault(qos: number, bytes: Buffer, from: number, to: number): ProtocolFault | undefined {
  const topic = from + 2;
  const end = topic > to ? topic : topic + identifierAt(bytes, from);
  if (end + (qos > 0 ? 2 : 0) > to) return malformed(PUBLISH, "that ends before its payload");
  if (end === topic) return fault("topic-name", "PUBLISH with an empty topic [MQTT-4.7.3-1]");
  let seen = 0;
  for (let at = topic; at < end; at++) {
    const byte = bytes[at] ?? 0;
    if (byte === 0x23 || byte === 0x2b) {
      return fault("topic-name", "PUBLISH with a wildcard in its topic [MQTT-3.3.2-2]");
    }
    if (byte === 0) return fault("text", "PUBLISH with U+0000 in its topic [MQTT-1.5.3-2]");
    seen |= byte;
  }
  if (seen >= 0x80 && !isUtf8(bytes.subarray(topic, end))) {
    return fault("text", "PUBLISH whose topic is not UTF-8 [MQTT-1.5.3-1]");
  }
  return qos > 0 && identifierAt(bytes, end) === 0 ? zeroIdentifier(PUBLISH) : undefined;
}

function filtersFault(type: number, bytes: Buffer, from: number, to: number): ProtocolFault | undefined {
  const fields = new Fields(type, bytes, from, to);
  const id = fields.number();
  if (fields.fault === undefined && id === 0) return zeroIdentifier(type);
  const clause = type === SUBSCRIBE ? "MQTT-3.8.3-3" : "MQTT-3.10.3-2";
  if (fields.fault === undefined && !fields.more) return malformed(type, `without a topic filter [${clause}]`);
  while (fields.fault === undefined && fields.more) {
    const filter = fields.text("topic filter");
    const qos = type === SUBSCRIBE ? fields.byte() : 0;
    if (fields.fault !== undefined) break;
    if (parseTopicFilter(filter) === undefined) {
      return fault("topic-filter", `${NAMES[type]} with a topic filter that is none [MQTT-4.7.1-2, -3, MQTT-4.7.3-1]`);
    }
    if (qos > 2) return malformed(type, "with a QoS that is none [MQTT-3.8.3-4]");
  }
  return fields.fault;
}

function connectFlagsFault(flags: number): ProtocolFault | undefined {
  const wrong = (what: string): ProtocolFault => fault("connect-flags", `CONNECT with ${what}`);
  if ((flags & 0x01) !== 0) return wrong("its reserved flag set [MQTT-3.1.2-3]");
  if ((flags & 0x18) === 0x18) return wrong("will QoS 3 [MQTT-3.1.2-14]");
  if ((flags & 0x04) === 0 && (flags & 0x18) !== 0) return wrong("a will QoS and no will [MQTT-3.1.2-13]");
  if ((flags & 0x04) === 0 && (flags & 0x20) !== 0) return wrong("will retain and no will [MQTT-3.1.2-15]");
  if ((flags & 0xc0) === 0x40) return wrong("a password and no user name [MQTT-3.1.2-22]");
  return undefined;
}

function clientIdFault(clientId: string, level: number, clean: boolean): ProtocolFault | undefined {
  if (level === 3 && (clientId.length === 0 || clientId.length > 23)) {
    const reason = "CONNECT of MQTT 3.1 with a client id that is not 1 to 23 characters long";
    return { kind: "client-id", reason, returnCode: 2 };
  }
  if (clientId.length > 0 || clean) return undefined;
  const reason = "CONNECT without a client id for a session that is to be kept [MQTT-3.1.3-8]";
  return { kind: "client-id", reason, returnCode: 2 };
}

/** The fields of a body, one after the other. The first fault stays; what is read behind it is empty. */
class Fields {
  readonly #type: number;
  readonly #bytes: Buffer;
  readonly #to: number;
  #at: number;
  fault: ProtocolFault | undefined;

  constructor(type: number, bytes: Buffer, from: number, to: number) {
    this.#type = type;
    this.#bytes = bytes;
    this.#at = from;
    this.#to = to;
  }

  get more(): boolean {
    return this.#at < this.#to;
  }

  byte(): number {
    return this.#take(1, "fields")?.[0] ?? 0;
  }

  number(): number {
    return this.#take(2, "fields")?.readUInt16BE() ?? 0;
  }

  data(what: string): Buffer | undefined {
    return this.#take(this.number(), what);
  }

  text(what: string): string {
    const bytes = this.data(what);
    if (bytes === undefined) return "";
    if (!isUtf8(bytes)) this.#fail("text", `whose ${what} is not UTF-8 [MQTT-1.5.3-1]`);
    else if (bytes.includes(0)) this.#fail("text", `with U+0000 in its ${what} [MQTT-1.5.3-2]`);
    else return bytes.toString();
    return "";
  }

  end(): void {
    if (this.more) this.#fail("malformed", "with bytes behind its last field");
  }

  #take(length: number, what: string): Buffer | undefined {
    const at = this.#at;
    if (at + length > this.#to) this.#fail("malformed", `that ends within its ${what}`);
    if (this.fault !== undefined) return undefined;
    this.#at += length;
    return this.#bytes.subarray(at, at + length);
  }

  #fail(kind: FaultKind, what: string): void {
    this.fault ??= fault(kind, `${NAMES[this.#type]} ${what}`);
  }
}

function identifierAt(bytes: Buffer, at: number): number {
  return ((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0);
}

function zeroIdentifier(type: number): ProtocolFault {
  return fault("packet-identifier", `${NAMES[type]} with packet identifier 0 [MQTT-2.3.1-1]`);
}

function malformed(type: number, what: string): ProtocolFault {
  return fault("malformed", `${NAMES[type]} ${what}`);
}

function fault(kind: FaultKind, reason: string): ProtocolFault {
  return { kind, reason };
}
