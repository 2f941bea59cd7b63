import { EventEmitter, once } from "node:events";
import { connect, type Socket } from "node:net";

export interface RawPacket {
  readonly type: number;
  /** The first byte: type and flags. */
  readonly header: number;
  readonly body: Buffer;
}

/** An MQTT 3.1.1 client, byte by byte: for what proper clients do not do. */
export class RawMqtt {
  readonly socket: Socket;
  readonly #events = new EventEmitter().setMaxListeners(0);
  /** Packets received whole, oldest first. */
  readonly packets: RawPacket[] = [];
  #rest: Buffer = Buffer.alloc(0);
  closed = false;

  /** `from`: which of this machine's addresses it comes from; `to`: which it connects to. */
  constructor(port: number, { from = "127.0.0.1", to = "127.0.0.1" }: { from?: string; to?: string } = {}) {
    this.socket = connect({ host: to, port, localAddress: from });
    this.socket.on("data", (chunk: Buffer) => this.#receive(chunk));
    this.socket.on("error", () => {});
    this.socket.on("close", () => {
      this.closed = true;
      this.#events.emit("change");
    });
  }

  send(...packets: Buffer[]): void {
    this.socket.write(Buffer.concat(packets));
  }

  /** Connects and resolves with the return code. */
  async connect(clientId: string, options: ConnectOptions = {}): Promise<number> {
    this.send(connectPacket(clientId, options));
    return (await this.next(CONNACK)).body[1] ?? -1;
  }

  /** Subscribes to each filter with its QoS; resolves with the codes granted. */
  async subscribe(wanted: Readonly<Record<string, number>>): Promise<number[]> {
    const fields = Object.entries(wanted).flatMap(([filter, qos]) => [text(filter), Buffer.of(qos)]);
    this.send(packet(0x82, identifier(77), ...fields));
    return [...(await this.next(SUBACK)).body.subarray(2)];
  }

  /** The next packet of a type that nobody has taken yet. */
  async next(type: number): Promise<RawPacket> {
    for (;;) {
      const at = this.packets.findIndex((packet) => packet.type === type);
      const [packet] = at < 0 ? [] : this.packets.splice(at, 1);
      if (packet !== undefined) return packet;
      if (this.closed) throw new Error(`closed while waiting for packet type ${type}`);
      await once(this.#events, "change");
    }
  }

  /** Resolves once the broker has answered a PING: everything sent before has been read. */
  async ping(): Promise<void> {
    this.send(Buffer.from([0xc0, 0]));
    await this.next(PINGRESP);
  }

  async whenClosed(): Promise<void> {
    while (!this.closed) await once(this.#events, "change");
  }

  /** Goes away without DISCONNECT. */
  async vanish(): Promise<void> {
    this.socket.destroy();
    await this.whenClosed();
  }

  #receive(chunk: Buffer): void {
    this.#rest = Buffer.concat([this.#rest, chunk]);
    for (;;) {
      const lengthBytes = this.#rest.subarray(1, 5).findIndex((byte) => (byte & 0x80) === 0) + 1;
      if (lengthBytes === 0) break;
      let length = 0;
      for (let index = lengthBytes; index > 0; index--) length = length * 128 + ((this.#rest[index] ?? 0) & 0x7f);
      const end = 1 + lengthBytes + length;
      if (this.#rest.length < end) break;
      const header = this.#rest[0] ?? 0;
      this.packets.push({ type: header >> 4, header, body: this.#rest.subarray(1 + lengthBytes, end) });
      this.#rest = this.#rest.subarray(end);
    }
    this.#events.emit("change");
  }
}

export const CONNACK = 2;
export const PUBLISH = 3;
export const PUBACK = 4;
export const PUBREC = 5;
export const PUBREL = 6;
export const PUBCOMP = 7;
export const SUBACK = 9;
export const UNSUBACK = 11;
export const PINGRESP = 13;

export interface Will {
  readonly topic: string;
  readonly payload: string;
  readonly qos?: 0 | 1 | 2;
}

export interface ConnectOptions {
  readonly clean?: boolean;
  readonly username?: string;
  readonly password?: string;
  readonly will?: Will;
  /** Seconds. */
  readonly keepAlive?: number;
}

export function connectPacket(
  clientId: string,
  { clean = true, username, password, will, keepAlive = 0 }: ConnectOptions = {},
): Buffer {
  const credentials = (username === undefined ? 0 : 0x80) | (password === undefined ? 0 : 0x40);
  const willFlags = will === undefined ? 0 : 4 | ((will.qos ?? 0) << 3);
  const flags = (clean ? 2 : 0) | credentials | willFlags;
  const fields = [text("MQTT"), Buffer.from([4, flags, keepAlive >> 8, keepAlive & 0xff]), text(clientId)];
  if (will !== undefined) fields.push(text(will.topic), text(will.payload));
  if (username !== undefined) fields.push(text(username));
  if (password !== undefined) fields.push(text(password));
  return packet(0x10, ...fields);
}

export function publishPacket(
  topic: string,
  payload: string | Buffer,
  {
    qos = 0,
    id = 1,
    dup = false,
    retain = false,
  }: { qos?: 0 | 1 | 2; id?: number; dup?: boolean; retain?: boolean } = {},
): Buffer {
  const header = 0x30 | (dup ? 8 : 0) | (qos << 1) | (retain ? 1 : 0);
  return packet(header, text(topic), qos === 0 ? Buffer.alloc(0) : identifier(id), Buffer.from(payload));
}

export function pubrelPacket(id: number): Buffer {
  return packet(0x62, identifier(id));
}

export function subscribePacket(id: number, filters: readonly string[], qos = 0): Buffer {
  return packet(0x82, identifier(id), ...filters.flatMap((filter) => [text(filter), Buffer.from([qos])]));
}

/** PUBACK, PUBREC or PUBCOMP. */
export function acknowledgement(type: number, id: number): Buffer {
  return packet(type << 4, identifier(id));
}

export function unsubscribePacket(id: number, filters: readonly string[]): Buffer {
  return packet(0xa2, identifier(id), ...filters.map(text));
}

/** What a PUBLISH says. */
export function messageOf({ header, body }: RawPacket) {
  const qos = (header >> 1) & 3;
  const end = 2 + body.readUInt16BE(0);
  return {
    topic: body.toString("utf8", 2, end),
    payload: body.toString("utf8", qos === 0 ? end : end + 2),
    qos,
    id: qos === 0 ? 0 : body.readUInt16BE(end),
    dup: (header & 8) !== 0,
    retain: (header & 1) !== 0,
  };
}

/** A packet with any first byte and body. */
export function packet(header: number, ...fields: Buffer[]): Buffer {
  const body = Buffer.concat(fields);
  return Buffer.concat([Buffer.from([header]), remainingLength(body.length), body]);
}

export function remainingLength(length: number): Buffer {
  const bytes: number[] = [];
  let rest = length;
  do {
    const low = rest % 128;
    rest = Math.floor(rest / 128);
    bytes.push(low | (rest > 0 ? 0x80 : 0));
  } while (rest > 0);
  return Buffer.from(bytes);
}

function text(value: string): Buffer {
  const bytes = Buffer.from(value);
  return Buffer.concat([identifier(bytes.length), bytes]);
}

function identifier(id: number): Buffer {
  return Buffer.from([id >> 8, id & 0xff]);
}
