/**
 * Stands between a socket and the broker's protocol engine, which has no limits of its own before CONNECT.
 *
 * It finds MQTT's packets (3.1.1, section 2.2) in the bytes and lets only these pass, each whole:
 *  - first a CONNECT of at most `maxConnectBytes`, in time; nothing behind it until the client was let in (`open`), in time;
 *  - then packets of at most `maxPacketBytes`; no more than `publishRate` PUBLISH a second, in the long run, and likewise for
 *    SUBSCRIBE and UNSUBSCRIBE.
 * What is too large or late ends the connection before its bytes are kept; what is too fast waits in the socket: the client
 * is not read, never disconnected. The packets themselves pass unchanged, in both directions, with backpressure; only a
 * PUBLISH that the lane takes does not reach the engine. So the keep-alive is watched here as well. A client that does not take
 * what is sent to it holds nobody up for long (`SlowReader`).
 *
 * What a packet holds is judged by the conversation. Where that finds a fault, what came before it still passes, wherever the
 * bytes were cut; then the connection ends. The gate itself knows nothing of topics or identities, and keeps of what came in
 * at most one packet that has not ended yet, and what one read brought.
 */
import type { Socket } from "node:net";
import { Duplex } from "node:stream";
import type { MqttLimits } from "../../config/schema.ts";
import type { Clock } from "../../kernel/clock.ts";
import { Conversation } from "./conversation.ts";
import type { CutOffCode } from "./cut-offs.ts";
import { KeepAlive } from "./keep-alive.ts";
import { type FaultKind, type ProtocolFault, PUBLISH, SUBSCRIBE, UNSUBSCRIBE } from "./packets.ts";
import { Pieces } from "./pieces.ts";
import { PublishLane } from "./publish-lane.ts";
import { sendQueueOf } from "./send-queue.ts";
import { SlowReader, STUCK_MS } from "./slow-reader.ts";
import { TokenBucket } from "./token-bucket.ts";

/** Sizes in bytes, headers included; times in milliseconds; rates a second, 0 for no limit. */
export type GateLimits = Pick<
  MqttLimits,
  "maxConnectBytes" | "maxPacketBytes" | "connectTimeout" | "authenticateTimeout" | "publishRate" | "subscribeRate"
>;

/** Longest wait for the rest of a connection that the client has half closed, or that does not take our last bytes. */
const CLOSING_MS = 10_000;
/** How often is looked whether a client that has closed its half has all its answers. */
const ANSWERED_LOOK_MS = 20;
/** Unsent bytes that may wait for a slow reader before whoever publishes to it is slowed down. */
const OUTPUT_HIGH_WATER = 256 * 1024;
const INPUT_HIGH_WATER = 64 * 1024;
/** A packet that waits costs some 300 bytes besides its own: so many pushes wait at most. */
const MAX_CHUNKS = 256;
/** The engine takes all that it reads in hand at once, some kilobytes a packet however small: so many packets it may read at a time. */
const MAX_PACKETS = 500;
/** Small writes that are sent as one; larger ones are not copied. */
const MERGE_BYTES = 16 * 1024;

const MAX_LENGTH_BYTES = 4;
const CONNECT_HEADER = 0x10;
/** CONNACK with return code 3. */
const SERVER_UNAVAILABLE = Buffer.of(0x20, 2, 0, 3);

/** Who holds a gate while the client does not take what it is answered. */
const ANSWERS = {};

/**
 * Told why, once, when the gate ends the connection itself; and the kind of fault where the protocol was violated.
 */
type Refused = (code: CutOffCode, reason: string, fault?: FaultKind) => void;

/** What becomes of a packet: it passes to the engine, the lane has taken it, or neither, now or for ever. */
type Verdict = "passes" | "taken" | "waits" | "over";

export class MqttGate extends Duplex {
  readonly #socket: Socket;
  readonly #limits: GateLimits;
  readonly #clock: Clock;
  readonly #refused: Refused;
  readonly #conversation = new Conversation();
  #fault: ProtocolFault | undefined;
  #opened = false;
  #connectSeen = false;
  /** Nothing more is to pass: the client has ended its half, or is cut off. */
  #over = false;
  /** Where the body of the packet that is looked at begins, and where it ends: beyond what has come, where more is to come. */
  #bodyAt = 0;
  #packetEnd = 0;
  /** The beginning of a packet, and how many bytes make it worth another look. */
  readonly #beginning = new Pieces();
  #wanted = 0;
  readonly #publishes: TokenBucket;
  readonly #subscribes: TokenBucket;
  readonly #slowReader: SlowReader;
  /** Pushes that have passed and were not read yet. */
  #chunks = 0;
  /** Packets that have passed and were not read yet. */
  #packets = 0;
  /** What came in and may not pass yet. */
  #held: Buffer | undefined;
  /** Where what the engine need not see goes, once the client was let in. */
  #lane: PublishLane | undefined;
  readonly #keepAlive: KeepAlive;
  #cancelRate: (() => void) | undefined;
  #cancelDeadline: (() => void) | undefined;
  #cancelClosing: (() => void) | undefined;
  #cancelEnding: (() => void) | undefined;
  #drained: (() => void) | undefined;
  #silenced = false;
  /** Those who want nothing to pass for the moment, because what has passed is as much as may wait. */
  readonly #holders = new Set<object>();
  /** The client has closed its half; a paused socket says so too, while something is still held. */
  #ended = false;

  constructor(socket: Socket, limits: GateLimits, clock: Clock, refused: Refused) {
    super({
      allowHalfOpen: true,
      readableHighWaterMark: INPUT_HIGH_WATER,
      writableHighWaterMark: OUTPUT_HIGH_WATER,
    });
    this.#socket = socket;
    this.#limits = limits;
    this.#clock = clock;
    this.#refused = refused;
    this.#publishes = new TokenBucket(limits.publishRate, clock);
    this.#subscribes = new TokenBucket(limits.subscribeRate, clock);
    this.#slowReader = new SlowReader({
      clock,
      full: () => this.writableNeedDrain,
      low: () => this.writableLength < OUTPUT_HIGH_WATER / 2,
      queued: () => sendQueueOf(socket),
      release: () => this.emit("drain"),
      stuck: () => {
        this.#refuse("slow-reader", `took nothing of what was sent to it for ${STUCK_MS / 1000} s`);
        this.#socket.destroy();
      },
    });
    this.#keepAlive = new KeepAlive({
      clock,
      deaf: () => this.#ended || socket.isPaused(),
      silent: (reason) => this.#refuse("keep-alive", reason),
    });
    this.#cancelDeadline = clock.after(limits.connectTimeout, () =>
      this.#refuse("connect-timeout", "no CONNECT within mqtt.limits.connectTimeout"),
    );
    socket.on("data", (chunk: Buffer) => this.#admit(chunk));
    socket.on("end", () => {
      this.#ended = true;
      if (this.#held === undefined) this.#endOnceAnswered();
    });
    socket.on("drain", () => {
      const drained = this.#drained;
      this.#drained = undefined;
      this.#slowReader.took();
      drained?.();
      if (this.#drained === undefined) this.#slowReader.stop();
    });
    socket.on("error", (error) => this.destroy(error));
    socket.on("close", () => {
      this.#cancelClosing?.();
      this.destroy();
    });
  }

  /** Whether the client takes so little that what is forwarded to it had better be dropped. */
  get lagging(): boolean {
    return this.#slowReader.lagging;
  }

  /** The CONNECT was answered: its deadline no longer holds. */
  answered(): void {
    this.#cancelDeadline?.();
    this.#cancelDeadline = undefined;
  }

  /** The login waits for others that are verified before it. Should that take too long, the client is told to come again. */
  loginWaits(): void {
    this.#restartDeadline(() => {
      this.#socket.write(SERVER_UNAVAILABLE);
      this.#refuse("busy", "its password did not come to its turn within mqtt.limits.authenticateTimeout");
    });
  }

  /** The login's turn has come: only from now on does it count how long that takes. */
  loginBegins(): void {
    this.#restartDeadline(() =>
      this.#refuse("authenticate-timeout", "its login was not decided within mqtt.limits.authenticateTimeout"),
    );
  }

  /** CONNACK is to say that the session was there before. */
  resumesSession(): void {
    this.#conversation.sessionPresent = true;
  }

  /** The client was let in with this keep-alive, in seconds (0: none): what it sends may pass, or goes to the lane. */
  open(lane?: PublishLane, keepAlive = 0): void {
    this.answered();
    this.#opened = true;
    this.#lane = lane;
    this.#keepAlive.begin(keepAlive);
    this.#release();
  }

  /** Writes whole packets to the client, between those of the engine. One that does not take them is not read. */
  answer(packets: Buffer): void {
    if (this.destroyed || this.writableEnded || this.write(packets)) return;
    if (this.#holders.has(ANSWERS)) return;
    this.hold(ANSWERS);
    const drained = (): void => {
      // Those who forward to it are released although it has taken nothing.
      if (this.writableNeedDrain) this.once("drain", drained);
      else this.goOn(ANSWERS);
    };
    this.once("drain", drained);
  }

  /** Ends the connection for a fault that is not the client's bytes'. */
  fail(error: Error): void {
    this.destroy(error);
  }

  /** Lets nothing more pass from the client; what is on its way to it still goes out. */
  silence(): void {
    this.#silenced = true;
    this.#socket.pause();
  }

  /** Lets nothing more pass until `goOn`: what has passed is as much as may wait. The client is slowed down, not lost. */
  hold(by: object): void {
    this.#holders.add(by);
    this.#socket.pause();
  }

  goOn(by: object): void {
    if (!this.#holders.delete(by) || this.#stopped) return;
    this.#release();
    if (this.#stopped) return;
    if (this.readableLength > 0) this.emit("readable");
    this._read();
  }

  get #stopped(): boolean {
    return this.#silenced || this.#holders.size > 0;
  }

  override read(size?: number): unknown {
    if (this.#stopped) return null;
    const chunk: unknown = super.read(size);
    if (this.readableLength === 0) this.#allRead();
    return chunk;
  }

  override _read(): void {
    if (this.#held !== undefined || this.#stopped || this.#over || this.#chunks >= MAX_CHUNKS) return;
    if (!this.#socket.isPaused()) return;
    this.#keepAlive.heard(); // what it has sent meanwhile comes only now
    this.#socket.resume();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    this.#send(this.#conversation.sending(chunk), done);
  }

  override _writev(writes: { chunk: Buffer }[], done: () => void): void {
    const chunks = writes.map(({ chunk }) => this.#conversation.sending(chunk));
    const bytes = chunks.reduce((sum, chunk) => sum + chunk.length, 0);
    if (bytes <= MERGE_BYTES) {
      this.#send(Buffer.concat(chunks, bytes), done);
      return;
    }
    this.#socket.cork();
    let ready = true;
    for (const chunk of chunks) ready = this.#socket.write(chunk);
    this.#socket.uncork();
    if (ready) done();
    else this.#wait(done);
  }

  override _final(done: () => void): void {
    this.#socket.end();
    this.#closeWithin();
    done();
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.#cancelRate?.();
    this.#cancelDeadline?.();
    this.#keepAlive.stop();
    this.#cancelEnding?.();
    this.#slowReader.stop();
    this.#held = undefined;
    this.#beginning.take();
    if (error !== null || this.#socket.writableLength === 0) this.#socket.destroy();
    if (!this.#socket.destroyed) {
      this.#socket.destroySoon();
      this.#closeWithin();
    }
    done(error);
  }

  #send(bytes: Buffer, done: () => void): void {
    if (this.#socket.write(bytes)) done();
    else this.#wait(done);
  }

  #wait(done: () => void): void {
    this.#drained = done;
    this.#slowReader.clogged();
  }

  /** Lets pass what may pass of what came in, and keeps the rest. */
  #admit(chunk: Buffer): void {
    if (this.#over || this.destroyed) return;
    const bytes = this.#withBeginning(chunk);
    if (bytes === undefined) return;
    let passed = 0;
    let at = 0;
    while (at < bytes.length) {
      const verdict = this.#judge(bytes, at, at === passed);
      if (verdict === "waits" || verdict === "over") break;
      if (verdict === "taken") {
        this.#pass(bytes, passed, at);
        passed = this.#packetEnd;
      }
      at = this.#packetEnd;
    }
    if (this.destroyed) return;
    if (at > 0) this.#keepAlive.heard();
    this.#pass(bytes, passed, at);
    if (this.#fault !== undefined) this.#cutOff(this.#fault);
    else if (at < bytes.length) this.#keep(bytes.subarray(at));
  }

  /**
   * What becomes of the packet that begins at `at`; its end is then known. The lane takes it only where nothing is on its way to the
   * engine, here (`isNext`) or in its buffer: what a client sends is taken in the order in which it came.
   */
  #judge(bytes: Buffer, at: number, isNext: boolean): Verdict {
    const header = bytes[at] ?? 0;
    this.#wanted = 0;
    if (!this.#mayBegin(header)) return this.destroyed || this.#fault !== undefined ? "over" : "waits";
    if (!this.#measure(bytes, at)) return "over";
    if (this.#packetEnd > bytes.length) {
      this.#wanted = this.#packetEnd - at;
      return "waits";
    }
    if (!this.#isInTime(header >> 4)) return "waits";
    if (!this.#connectSeen) this.#awaitLogin();
    this.#fault = this.#conversation.whole(header, bytes, this.#bodyAt, this.#packetEnd);
    if (this.#fault !== undefined) return "over";
    const lane = isNext && this.readableLength === 0 && PublishLane.takes(header) ? this.#lane : undefined;
    if (lane?.take(header, bytes, this.#bodyAt, this.#packetEnd)) return "taken";
    this.#packets++;
    return "passes";
  }

  /** Whether a packet with this first byte may pass now; where it never may, the connection is to end. */
  #mayBegin(header: number): boolean {
    if (!this.#connectSeen) {
      return header === CONNECT_HEADER || this.#refuse("protocol", "the first packet is not a CONNECT");
    }
    if (!this.#opened || this.#stopped || this.#packets >= MAX_PACKETS || this.#conversation.over) return false;
    this.#fault = this.#conversation.begins(header);
    return this.#fault === undefined;
  }

  /** Finds where the packet at `at` ends, beyond the bytes where more must come to know; `false` where it may not be. */
  #measure(bytes: Buffer, at: number): boolean {
    let length = 0;
    for (let index = 1, scale = 1; index <= MAX_LENGTH_BYTES; index++, scale *= 128) {
      const byte = bytes[at + index];
      length += ((byte ?? 0) & 0x7f) * scale;
      this.#bodyAt = at + index + 1;
      this.#packetEnd = byte === undefined ? bytes.length + 1 : this.#bodyAt + length;
      const key = this.#connectSeen ? "maxPacketBytes" : "maxConnectBytes";
      const limit = this.#limits[key];
      if (index + 1 + length > limit) {
        return this.#refuse("packet-size", `a packet larger than ${limit} bytes, mqtt.limits.${key}`);
      }
      if (byte === undefined || (byte & 0x80) === 0) return true;
    }
    this.#fault = { kind: "malformed", reason: "a malformed remaining length" };
    return false;
  }

  /** The beginning of a packet waits for its end; what may not pass yet stands in the way of what the socket has. */
  #keep(bytes: Buffer): void {
    if (this.#wanted > 0) this.#beginning.add(bytes);
    else {
      this.#held = bytes;
      this.#socket.pause();
    }
  }

  /** What came in together with what was kept before it; `undefined` where that is still too little. */
  #withBeginning(chunk: Buffer): Buffer | undefined {
    if (this.#beginning.length === 0) return chunk;
    this.#beginning.add(chunk);
    return this.#beginning.length < this.#wanted ? undefined : this.#beginning.take();
  }

  #pass(bytes: Buffer, from: number, to: number): void {
    if (from === to) return;
    const room = this.push(from === 0 && to === bytes.length ? bytes : bytes.subarray(from, to));
    this.#chunks++;
    if (this.readableLength === 0) this.#allRead();
    if (!room || this.#chunks >= MAX_CHUNKS) this.#socket.pause();
  }

  /** All that has passed was read: more may. */
  #allRead(): void {
    const waits = this.#chunks >= MAX_CHUNKS || this.#packets >= MAX_PACKETS;
    this.#chunks = 0;
    this.#packets = 0;
    if (!waits) return;
    process.nextTick(() => {
      this.#release();
      this._read();
    });
  }

  /** Whether a packet of this type is not above its rate; else what is held is looked at again when it is not. */
  #isInTime(type: number): boolean {
    const bucket =
      type === PUBLISH ? this.#publishes : type === SUBSCRIBE || type === UNSUBSCRIBE ? this.#subscribes : undefined;
    const wait = bucket?.take() ?? 0;
    if (wait === 0) return true;
    this.#cancelRate ??= this.#clock.after(wait, () => {
      this.#cancelRate = undefined;
      this.#release();
    });
    return false;
  }

  /** The CONNECT is whole: from now on its answer is awaited. */
  #awaitLogin(): void {
    this.#connectSeen = true;
    this.loginBegins();
  }

  #restartDeadline(missed: () => void): void {
    if (this.#cancelDeadline === undefined) return; // answered already
    this.#cancelDeadline();
    this.#cancelDeadline = this.#clock.after(this.#limits.authenticateTimeout, missed);
  }

  #release(): void {
    if (this.#held === undefined || this.destroyed || this.#stopped) return;
    const held = this.#held;
    this.#held = undefined;
    this.#admit(held);
    if (this.#held !== undefined) return;
    if (this.#ended) this.#endOnceAnswered();
    else if (this.readableLength < this.readableHighWaterMark) this._read();
  }

  /** Ends a connection whose client has violated the protocol; what it sent before that is still taken. */
  #cutOff({ kind, reason, returnCode }: ProtocolFault): void {
    this.#refused("protocol", reason, kind);
    this.answered();
    this.#held = undefined;
    this.#socket.pause();
    if (returnCode !== undefined) this.#socket.write(Buffer.of(0x20, 2, 0, returnCode));
    this.#end();
  }

  /**
   * The client has ended its half, and may still read: it gets the PUBACKs of what it sent before, within `CLOSING_MS`. Looked
   * for again and again, because they wait in three places that know nothing of each other.
   */
  #endOnceAnswered(): void {
    if (this.destroyed) return;
    this.#closeWithin();
    const answered =
      this.#lane === undefined || (this.#lane.answered && this.readableLength + this.writableLength === 0);
    if (answered) this.#end();
    else this.#cancelEnding = this.#clock.after(ANSWERED_LOOK_MS, () => this.#endOnceAnswered());
  }

  #end(): void {
    if (this.#over) return;
    this.#over = true;
    this.push(null);
    this.#closeWithin();
  }

  #refuse(code: CutOffCode, reason: string): false {
    if (this.destroyed) return false;
    this.#refused(code, reason);
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
