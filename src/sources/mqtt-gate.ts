/**
 * Stands between a socket and the broker's protocol engine, which has no limits of its own before CONNECT.
 *
 * It follows MQTT's fixed headers (3.1.1, section 2.2) through the bytes and lets only these pass:
 *  - first a CONNECT of at most 4 KiB, in time; nothing behind it until the client was let in (`open`);
 *  - then packets of at most `maxPacketBytes`; no more than `publishRate` PUBLISH a second, in the long run.
 * What is too large, malformed or late ends the connection before its bytes are kept; what is too fast waits in the socket:
 * the client is not read, never disconnected. The bytes themselves pass unchanged, in both directions, with backpressure.
 *
 * It does not parse packets, and knows nothing of topics or identities.
 */
import type { Socket } from "node:net";
import { Duplex } from "node:stream";
import type { Clock } from "../kernel/clock.ts";

export interface GateLimits {
  /** Largest packet after CONNECT, its header included. */
  readonly maxPacketBytes: number;
  /** Time for CONNECT to come and be answered, in milliseconds. */
  readonly connectTimeout: number;
  /** PUBLISH packets a second; 0: no limit. */
  readonly publishRate: number;
}

/** Largest CONNECT, its header included. */
export const MAX_CONNECT_BYTES = 4096;
/** Longest wait for the rest of a connection that the client has half closed, or that does not take our last bytes. */
const CLOSING_MS = 10_000;
/** Unsent bytes that may wait for a slow reader before whoever publishes to it is slowed down. */
const OUTPUT_HIGH_WATER = 256 * 1024;
const INPUT_HIGH_WATER = 64 * 1024;
/** Small writes that are sent as one; larger ones are not copied. */
const MERGE_BYTES = 16 * 1024;
/** A client above its rate is let through in portions of so many milliseconds' worth. */
const PORTION_MS = 50;

const CONNECT_HEADER = 0x10;
const PUBLISH_TYPE = 3;

export class MqttGate extends Duplex {
  readonly #socket: Socket;
  readonly #limits: GateLimits;
  readonly #clock: Clock;
  readonly #refused: (reason: string) => void;
  #opened = false;
  /** Whether the first packet has begun, and whether it has ended. */
  #begun = false;
  #connectSeen = false;
  /** Bytes of the current packet still to come; −1 within a fixed header. */
  #remaining = 0;
  #headerBytes = 0;
  #length = 0;
  #scale = 1;
  /** PUBLISH packets that may pass before the clock is asked again. */
  #allowance: number;
  #allowedAt: number;
  /** What came in and may not pass yet. */
  #held: Buffer | undefined;
  #cancelRate: (() => void) | undefined;
  #cancelDeadline: (() => void) | undefined;
  #cancelClosing: (() => void) | undefined;
  #drained: (() => void) | undefined;
  #silenced = false;
  /** Whether nothing passes for the moment, because what has passed waits for the outbox. */
  #stopped = false;
  /** The client has closed its half; a paused socket says so too, while something is still held. */
  #ended = false;

  /** `refused` is told why, once, when the gate ends the connection itself. */
  constructor(socket: Socket, limits: GateLimits, clock: Clock, refused: (reason: string) => void) {
    super({
      allowHalfOpen: true,
      readableHighWaterMark: INPUT_HIGH_WATER,
      writableHighWaterMark: OUTPUT_HIGH_WATER,
    });
    this.#socket = socket;
    this.#limits = limits;
    this.#clock = clock;
    this.#refused = refused;
    this.#allowance = limits.publishRate;
    this.#allowedAt = clock.monotonic();
    this.#cancelDeadline = clock.after(limits.connectTimeout, () => this.#refuse("no CONNECT in time"));
    socket.on("data", (chunk: Buffer) => this.#admit(chunk));
    socket.on("end", () => {
      this.#ended = true;
      if (this.#held === undefined) this.#end();
    });
    socket.on("drain", () => {
      const drained = this.#drained;
      this.#drained = undefined;
      drained?.();
    });
    socket.on("error", (error) => this.destroy(error));
    socket.on("close", () => {
      this.#cancelClosing?.();
      this.destroy();
    });
  }

  /** The CONNECT was answered: its deadline no longer holds. */
  answered(): void {
    this.#cancelDeadline?.();
    this.#cancelDeadline = undefined;
  }

  /** The client was let in: what it sends may pass. */
  open(): void {
    this.answered();
    this.#opened = true;
    this.#release();
  }

  /** Lets nothing more pass from the client; what is on its way to it still goes out. */
  silence(): void {
    this.#silenced = true;
    this.#socket.pause();
  }

  /** Lets nothing more pass until `goOn`: what has passed is as much as may wait. The client is slowed down, not lost. */
  hold(): void {
    this.#stopped = true;
    this.#socket.pause();
  }

  goOn(): void {
    if (!this.#stopped) return;
    this.#stopped = false;
    if (this.readableLength > 0) this.emit("readable");
    this._read();
  }

  override read(size?: number): unknown {
    return this.#silenced || this.#stopped ? null : super.read(size);
  }

  override _read(): void {
    if (this.#held === undefined && !this.#silenced && !this.#stopped) this.#socket.resume();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    if (this.#socket.write(chunk)) done();
    else this.#drained = done;
  }

  override _writev(writes: { chunk: Buffer }[], done: () => void): void {
    const chunks = writes.map(({ chunk }) => chunk);
    const bytes = chunks.reduce((sum, chunk) => sum + chunk.length, 0);
    if (bytes <= MERGE_BYTES) {
      this._write(Buffer.concat(chunks, bytes), "binary", done);
      return;
    }
    this.#socket.cork();
    let ready = true;
    for (const chunk of chunks) ready = this.#socket.write(chunk);
    this.#socket.uncork();
    if (ready) done();
    else this.#drained = done;
  }

  override _final(done: () => void): void {
    this.#socket.end();
    this.#closeWithin();
    done();
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.#cancelRate?.();
    this.#cancelDeadline?.();
    this.#held = undefined;
    if (error !== null || this.#socket.writableLength === 0) this.#socket.destroy();
    if (!this.#socket.destroyed) {
      this.#socket.destroySoon();
      this.#closeWithin();
    }
    done(error);
  }

  /** Lets pass what may pass of a chunk, and holds the rest. */
  #admit(chunk: Buffer): void {
    const end = this.#scan(chunk);
    if (end < 0 || this.destroyed) return;
    if (end < chunk.length) {
      this.#held = end === 0 ? chunk : chunk.subarray(end);
      this.#socket.pause();
    }
    if (end > 0 && !this.push(end === chunk.length ? chunk : chunk.subarray(0, end))) this.#socket.pause();
  }

  /** Follows the headers; returns how many bytes may pass now, −1 where the connection was ended. */
  #scan(chunk: Buffer): number {
    let at = 0;
    while (at < chunk.length) {
      if (this.#remaining > 0) {
        const step = Math.min(this.#remaining, chunk.length - at);
        this.#remaining -= step;
        at += step;
      } else if (this.#remaining === 0) {
        const header = chunk[at] ?? 0;
        if (!this.#mayBegin(header)) return this.destroyed ? -1 : at;
        this.#begin();
        at++;
      } else {
        if (!this.#lengthByte(chunk[at] ?? 0)) return -1;
        at++;
      }
      if (this.#remaining === 0) this.#connectSeen = true;
    }
    return at;
  }

  /** Whether a packet with this first byte may pass now; where it may never, the connection is ended. */
  #mayBegin(header: number): boolean {
    if (!this.#begun) {
      if (header === CONNECT_HEADER) return true;
      this.#refuse("the first packet is not a CONNECT");
      return false;
    }
    if (!this.#opened) return false;
    return header >> 4 !== PUBLISH_TYPE || this.#limits.publishRate === 0 || this.#mayPublish();
  }

  #begin(): void {
    this.#begun = true;
    this.#remaining = -1;
    this.#headerBytes = 1;
    this.#length = 0;
    this.#scale = 1;
  }

  /** Takes one byte of the remaining length; `false` where the connection was ended. */
  #lengthByte(byte: number): boolean {
    this.#headerBytes++;
    this.#length += (byte & 0x7f) * this.#scale;
    this.#scale *= 128;
    const limit = this.#connectSeen ? this.#limits.maxPacketBytes : MAX_CONNECT_BYTES;
    if (this.#headerBytes + this.#length > limit) return this.#refuse(`a packet larger than ${limit} bytes`);
    if ((byte & 0x80) === 0) this.#remaining = this.#length;
    else if (this.#headerBytes === 5) return this.#refuse("a malformed remaining length");
    return true;
  }

  /** A token bucket of one second's worth, filled up only when it is empty: the clock is not asked per packet. */
  #mayPublish(): boolean {
    if (this.#allowance >= 1) {
      this.#allowance--;
      return true;
    }
    const rate = this.#limits.publishRate;
    const now = this.#clock.monotonic();
    this.#allowance = Math.min(rate, this.#allowance + ((now - this.#allowedAt) * rate) / 1000);
    this.#allowedAt = now;
    const portion = Math.max(1, (rate * PORTION_MS) / 1000);
    if (this.#allowance >= Math.min(portion, rate)) return this.#mayPublish();
    const wait = ((portion - this.#allowance) * 1000) / rate;
    this.#cancelRate ??= this.#clock.after(Math.max(1, wait), () => {
      this.#cancelRate = undefined;
      this.#release();
    });
    return false;
  }

  #release(): void {
    if (this.#held === undefined || this.destroyed) return;
    const held = this.#held;
    this.#held = undefined;
    this.#admit(held);
    if (this.#held !== undefined) return;
    if (this.#ended) this.#end();
    else if (this.readableLength < this.readableHighWaterMark) this._read();
  }

  #end(): void {
    this.push(null);
    this.#closeWithin();
  }

  #refuse(reason: string): false {
    if (this.destroyed) return false;
    this.#refused(reason);
    this.destroy();
    return false;
  }

  #closeWithin(): void {
    this.#cancelClosing ??= this.#clock.after(CLOSING_MS, () => {
      this.destroy();
      this.#socket.destroy();
    });
  }
}
