/**
 * The short way for what a gateway mostly gets: a PUBLISH of QoS 1 that is not retained. It is understood where it lies in
 * the bytes that came in, and acknowledged from here; the broker's engine, which does twice as much work for a message as
 * all the rest of the gateway, sees it only where somebody has subscribed to it.
 *
 * Invariants:
 *  - PUBACKs go out in the order in which the PUBLISHes came (MQTT-4.6.0-2), each once its message may be acknowledged; those
 *    included that the engine writes, for a retained PUBLISH or an odd one (`follow`);
 *  - at most `MAX_UNACKNOWLEDGED` messages wait here, and little more than `MAX_WAITING_BYTES`; then the connection is not read;
 *  - what this does not take (`take` gives false) is left to the engine untouched, errors included.
 *
 * It does not decide who may publish, and does not wait for subscribers before it acknowledges, as the engine does not.
 */
import type { PublishPacket } from "aedes";

/** QoS 1 messages of one connection between PUBLISH and PUBACK. Each is no larger than the packet limit. */
export const MAX_UNACKNOWLEDGED = 1000;
/** Payloads of one connection that wait, in bytes. */
export const MAX_WAITING_BYTES = 1024 * 1024;
const PUBACK = 0x40;
const PUBACK_BYTES = 4;
const DUP = 0x08;
/** Length of the topic, one character of it, packet identifier. */
const LEAST_BYTES = 5;
/** Longer or deeper topics are rare, and the engine has bounds of its own for them. */
const MAX_TOPIC_BYTES = 1024;
const MAX_TOPIC_LEVELS = 32;

const SLASH = 0x2f;
const PLUS = 0x2b;
const HASH = 0x23;
const DOLLAR = 0x24;

type Done = (error?: Error | null) => void;

export interface PublishLaneParts {
  /** Decides and takes the message; calls back when it may be acknowledged, with an error where the connection is to end. */
  readonly publish: (packet: PublishPacket, done: Done) => void;
  /** Hands the message to local subscribers; calls back when they have taken it. */
  readonly forward: (packet: PublishPacket, done: () => void) => void;
  readonly connection: {
    /** Writes whole packets to the client. */
    answer(bytes: Buffer): void;
    /** The connection is not read until `goOn`. */
    hold(by: object): void;
    goOn(by: object): void;
    fail(error: Error): void;
  };
}

interface Waiting {
  readonly packet: PublishPacket;
  /** Has the engine acknowledge it, and do all else; `undefined` where that is done here. */
  readonly engine: Done | undefined;
  mayBeAcknowledged: boolean;
}

export class PublishLane {
  readonly #parts: PublishLaneParts;
  /** In the order in which they came. */
  #waiting: Waiting[] = [];
  /** Messages that were acknowledged and that subscribers have not taken yet. */
  #forwarding = 0;
  /** Payload bytes of all that waits here. */
  #bytes = 0;
  #answers = false;
  #held = false;
  /** A device publishes to the same topic again and again. */
  #topicBytes = Buffer.alloc(0);
  #topic = "";

  constructor(parts: PublishLaneParts) {
    this.#parts = parts;
  }

  /**
   * Takes the PUBLISH whose fixed header is `header` and whose other bytes lie from `start` to `end`; `false` where the
   * engine is to have it.
   */
  take(header: number, bytes: Buffer, start: number, end: number): boolean {
    if (end - start < LEAST_BYTES) return false;
    const topicEnd = start + 2 + bytes.readUInt16BE(start);
    if (topicEnd + 2 > end || !this.#readTopic(bytes, start + 2, topicEnd)) return false;
    const messageId = bytes.readUInt16BE(topicEnd);
    if (messageId === 0) return false;
    const packet = {
      cmd: "publish" as const,
      topic: this.#topic,
      payload: bytes.subarray(topicEnd + 2, end),
      qos: 1 as const,
      dup: (header & DUP) !== 0,
      retain: false,
      messageId,
    };
    this.#await(packet, undefined);
    return true;
  }

  /**
   * Has a QoS 1 PUBLISH that came to the engine wait for its turn among the others: `done` is called when the engine may
   * acknowledge it and forward it, or with an error where the connection is to end.
   */
  follow(packet: PublishPacket, done: Done): void {
    this.#await(packet, done);
  }

  /** Whether every PUBLISH has its PUBACK. */
  get answered(): boolean {
    return this.#waiting.length === 0;
  }

  /** Whether a whole PUBLISH with this first byte is for `take`: QoS 1, not retained. */
  static takes(header: number): boolean {
    return (header & 0xf7) === 0x32;
  }

  #await(packet: PublishPacket, engine: Done | undefined): void {
    const waiting: Waiting = { packet, engine, mayBeAcknowledged: false };
    this.#waiting.push(waiting);
    this.#bytes += packet.payload.length;
    if (!this.#held && this.#fill >= 1) {
      this.#held = true;
      this.#parts.connection.hold(this);
    }
    this.#parts.publish(packet, (error) => {
      if (!error) {
        waiting.mayBeAcknowledged = true;
        this.#answerSoon();
      } else if (engine === undefined) this.#parts.connection.fail(error);
      else engine(error);
    });
  }

  /** All that a commit has made durable is acknowledged in one write. */
  #answerSoon(): void {
    if (this.#answers) return;
    this.#answers = true;
    process.nextTick(() => {
      this.#answers = false;
      this.#answer();
    });
  }

  #answer(): void {
    const waiting = this.#waiting;
    let count = waiting.findIndex((one) => !one.mayBeAcknowledged);
    if (count === -1) count = waiting.length;
    if (count === 0) return;
    const ready = count === waiting.length ? waiting : waiting.splice(0, count);
    if (ready === waiting) this.#waiting = [];
    this.#acknowledge(ready);
    this.#forwarding += count;
    for (const { packet, engine } of ready) {
      if (engine !== undefined) this.#forwarded(packet.payload.length);
      else this.#parts.forward(packet, () => this.#forwarded(packet.payload.length));
    }
  }

  /** Writes the PUBACKs, as many as possible in one piece. */
  #acknowledge(ready: readonly Waiting[]): void {
    const answers = Buffer.allocUnsafe(ready.length * PUBACK_BYTES);
    let from = 0;
    let to = 0;
    for (const { packet, engine } of ready) {
      if (engine === undefined) {
        answers[to] = PUBACK;
        answers[to + 1] = 2;
        answers.writeUInt16BE(packet.messageId ?? 0, to + 2);
        to += PUBACK_BYTES;
        continue;
      }
      if (from < to) this.#parts.connection.answer(answers.subarray(from, to));
      from = to;
      engine();
    }
    if (from < to) this.#parts.connection.answer(answers.subarray(from, to));
  }

  #forwarded(bytes: number): void {
    this.#forwarding--;
    this.#bytes -= bytes;
    if (!this.#held || this.#fill > 0.5) return;
    this.#held = false;
    this.#parts.connection.goOn(this);
  }

  /** How much waits, of as much as may. */
  get #fill(): number {
    const messages = this.#waiting.length + this.#forwarding;
    return Math.max(messages / MAX_UNACKNOWLEDGED, this.#bytes / MAX_WAITING_BYTES);
  }

  /** Whether the bytes are a topic name that the engine would take; then `#topic` is it. */
  #readTopic(bytes: Buffer, start: number, end: number): boolean {
    if (end - start === this.#topicBytes.length && bytes.compare(this.#topicBytes, 0, undefined, start, end) === 0) {
      return this.#topic !== "";
    }
    if (!isPlainTopic(bytes, start, end)) return false;
    this.#topicBytes = Buffer.from(bytes.subarray(start, end));
    this.#topic = this.#topicBytes.toString("utf8");
    return true;
  }
}

function isPlainTopic(bytes: Buffer, start: number, end: number): boolean {
  if (end === start || end - start > MAX_TOPIC_BYTES || bytes[start] === DOLLAR) return false;
  let levels = 1;
  for (let at = start; at < end; at++) {
    const byte = bytes[at];
    if (byte === PLUS || byte === HASH || byte === 0) return false;
    if (byte === SLASH) levels++;
  }
  return levels <= MAX_TOPIC_LEVELS;
}
