/**
 * What comes over a serial port, as lines of JSON for one who looks on.
 *
 * It never slows the port down, and holds `MAX_HELD_BYTES` at most: what its reader does not take in time, and frames beyond
 * `MAX_LINES_PER_SECOND`, is left out, and a line says how much that was. The port knows of it only while somebody looks on.
 */
import { Readable } from "node:stream";
import type { Clock } from "../kernel/clock.ts";
import { RateLimit } from "../kernel/telemetry.ts";
import type { SerialEvent } from "../sources/serial/traffic.ts";
import { ALIVE_EVERY_MS, SHOWN_BYTES, type Shown, type TailLine, type TailWhat } from "./tail-line.ts";
import type { WatchedPort } from "./view.ts";

/** Of lines that the reader has not taken yet. */
export const MAX_HELD_BYTES = 256 * 1024;
/** Frames a second that are shown; raw bytes have no such bound, as the line's own speed is one. */
export const MAX_LINES_PER_SECOND = 500;
/** Emits `ended` once nothing will come any more because the gateway stops. */
export class SerialTail extends Readable {
  readonly #clock: Clock;
  readonly #what: TailWhat;
  readonly #startedAt: number;
  readonly #rate: RateLimit;
  #unwatch = (): void => {};
  #cancelAlive = (): void => {};
  #left = { lines: 0, bytes: 0 };
  #ended = false;

  constructor(port: WatchedPort, clock: Clock, what: TailWhat) {
    super();
    this.#clock = clock;
    this.#what = what;
    this.#startedAt = clock.monotonic();
    this.#rate = new RateLimit(clock, MAX_LINES_PER_SECOND, 1000);
    const { state, path, device = null, detail = null } = port.status();
    this.#say({ kind: "port", name: port.name, state, path, device, detail, ...port.settings });
    this.#stayAlive();
    this.#unwatch = port.watch((event) => this.#take(event));
  }

  override _read(): void {
    this.#sayLeftOut();
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.#cancelAlive();
    this.#unwatch();
    done(error);
  }

  #take(event: SerialEvent): void {
    switch (event.kind) {
      case "ended":
        this.#end();
        break;
      case "opened":
        this.#say(event);
        break;
      case "closed":
        this.#say({ kind: "closed", detail: event.detail ?? null });
        break;
      case "bytes":
        if (this.#what === "bytes") this.#say({ kind: "bytes", hex: hexOf(event.bytes) }, event.bytes.length);
        break;
      default:
        if (this.#what !== "frames") break;
        if (this.#rate.admit() === undefined) this.#left.lines++;
        else this.#say(lineOf(event));
    }
  }

  #end(): void {
    this.#say({ kind: "ended" });
    this.#ended = true;
    this.#cancelAlive();
    this.push(null);
    // Whoever makes a tail of a port that has ended already gets to listen first.
    process.nextTick(() => this.emit("ended"));
  }

  #stayAlive(): void {
    this.#cancelAlive = this.#clock.after(ALIVE_EVERY_MS, () => {
      this.#say({ kind: "alive" });
      this.#stayAlive();
    });
  }

  /** `bytes`: how many of the port's are lost with the line where it is left out. */
  #say(line: TailLine, bytes = 0): void {
    if (this.#ended || this.destroyed) return;
    this.#sayLeftOut();
    if (this.#write(line)) return;
    this.#left.lines++;
    this.#left.bytes += bytes;
  }

  #sayLeftOut(): void {
    if (this.#left.lines === 0 || this.#ended) return;
    const left = this.#left;
    this.#left = { lines: 0, bytes: 0 };
    if (!this.#write({ kind: "dropped", ...left })) this.#left = left;
  }

  /** Whether there was room for it. */
  #write(line: TailLine): boolean {
    const ms = Math.round((this.#clock.monotonic() - this.#startedAt) * 1000) / 1000;
    const timed = { at: new Date(this.#clock.now()).toISOString(), ms, ...line };
    const text = Buffer.from(`${textOf(timed)}\n`);
    if (this.readableLength + text.length > MAX_HELD_BYTES) return false;
    this.push(text);
    return true;
  }
}

type FrameEvent = Exclude<SerialEvent, { readonly kind: "opened" | "closed" | "bytes" | "ended" }>;

function lineOf(event: FrameEvent): TailLine {
  if (event.kind === "fault") return event;
  const { bytes } = event;
  const shown: Shown = { length: bytes.length, hex: hexOf(bytes.subarray(0, SHOWN_BYTES)) };
  switch (event.kind) {
    case "reading": {
      const { accepted, duplicates, refused } = event.admission;
      const source = event.source === undefined ? {} : { source: event.source };
      const reading = bytes.length > SHOWN_BYTES ? null : event.payload;
      return {
        kind: "reading",
        class: event.class ?? null,
        ...source,
        ...shown,
        reading,
        accepted,
        duplicates,
        refused,
      };
    }
    case "refused":
      return { kind: "refused", detail: event.detail, ...shown };
    case "ignored":
      return { kind: "ignored", ...shown };
    case "discarded":
      return { kind: "discarded", reason: event.reason, ...shown, length: event.length };
  }
}

function hexOf(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("hex");
}

/** A codec may have made what JSON cannot write. */
function textOf(line: object): string {
  try {
    return JSON.stringify(line);
  } catch {
    return JSON.stringify({ ...line, reading: null });
  }
}
