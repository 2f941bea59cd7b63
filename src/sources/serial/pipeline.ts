/** What a port's configuration makes of its bytes: the pure pipeline of `codec/pipeline.ts`, with a clock for pauses. */
import type { Decoder } from "../../codec/decoder.ts";
import type { Frame, Framer } from "../../codec/framing.ts";
import {
  type CodecConfig,
  type FramingConfig,
  type PipelineConfig,
  type PipelineFault,
  pipelineFaults,
} from "../../codec/pipeline-config.ts";
import type { Clock } from "../../kernel/clock.ts";
import { GatewayError } from "../../kernel/errors.ts";

type NamedPort = FramingConfig & Partial<CodecConfig> & { readonly name: string };

/**
 * The port's pipeline. Throws a `GatewayError` `CONFIG_INVALID` that names the key where something in it is missing or does not
 * fit together.
 */
export function checkedPipeline(config: NamedPort): PipelineConfig {
  const { codec } = config;
  if (codec === undefined) throw unfit(config, { path: ["codec"], message: "is missing" });
  const pipeline = { ...config, codec };
  const [fault] = pipelineFaults(pipeline);
  if (fault !== undefined) throw unfit(config, fault);
  return pipeline;
}

function unfit({ name }: NamedPort, { path, message }: PipelineFault): GatewayError {
  return new GatewayError({
    code: "CONFIG_INVALID",
    op: "serial.configure",
    message: `serial port ${name}: ${path.join(".")} ${message}`,
    hint: "Mend that key of the port; `summit-edge config check --config FILE` lists everything that is wrong.",
  });
}

export interface Pipeline {
  readonly decoder: Decoder;
  /** A new one for each time that the port is opened. */
  readonly framer: () => Framer;
}

/** What `config` means. A gateway without serial ports never loads it. */
export async function loadPipeline(config: PipelineConfig): Promise<Pipeline> {
  const { createDecoder, createFramer } = await import("../../codec/pipeline.ts");
  return { decoder: await createDecoder(config), framer: () => createFramer(config) };
}

/** The bytes of a port while it is open, as frames. Ends those that a pause ends; `take` gets them as they come. */
export class FrameStream {
  readonly #framer: Framer;
  readonly #clock: Clock;
  readonly #take: (frames: readonly Frame[]) => void;
  /** Until then the first byte is taken for one inside a frame. */
  #insideUntil = Number.NEGATIVE_INFINITY;
  #lastByteAt = 0;
  #cancel: (() => void) | undefined;
  /** When reading was left off; `undefined` while the port is read. */
  #leftOffAt: number | undefined;
  /** For how long the port was not read, altogether, in milliseconds. */
  #unread = 0;

  constructor(framer: Framer, clock: Clock, take: (frames: readonly Frame[]) => void) {
    this.#framer = framer;
    this.#clock = clock;
    this.#take = take;
  }

  /** The device may be speaking: what comes within `ms` from now on is the rest of a frame. Before the first byte. */
  beginInside(ms: number): void {
    this.#insideUntil = this.#readingTime() + ms;
  }

  push(chunk: Uint8Array): void {
    const now = this.#readingTime();
    if (now < this.#insideUntil) this.#framer.beginInside?.();
    this.#insideUntil = Number.NEGATIVE_INFINITY;
    this.#awaitSilence(now);
    this.#take(this.#framer.push(chunk, now));
  }

  /** The port is not read for a while: that nothing comes is no silence of the device. */
  leaveOff(): void {
    this.#leftOffAt ??= this.#clock.monotonic();
    this.#cancel?.();
    this.#cancel = undefined;
  }

  /** The port is read again. */
  goOn(): void {
    if (this.#leftOffAt === undefined) return;
    this.#unread += this.#clock.monotonic() - this.#leftOffAt;
    this.#leftOffAt = undefined;
    this.#framer.heldUp?.();
    this.#awaitSilence(this.#readingTime());
  }

  /** The port was closed. */
  end(): void {
    this.#cancel?.();
    this.#cancel = undefined;
    this.#take(this.#framer.end());
  }

  /** A clock that stands while the port is not read. */
  #readingTime(): number {
    return (this.#leftOffAt ?? this.#clock.monotonic()) - this.#unread;
  }

  #awaitSilence(since: number): void {
    const { idleAfter } = this.#framer;
    if (idleAfter === undefined) return;
    this.#lastByteAt = since;
    if (this.#leftOffAt === undefined) this.#cancel ??= this.#clock.after(idleAfter, () => this.#wake(idleAfter));
  }

  /** One timer a frame, not one a chunk: where bytes came meanwhile it goes on for what is left. */
  #wake(idleAfter: number): void {
    const left = this.#lastByteAt + idleAfter - this.#readingTime();
    this.#cancel = left > 0 ? this.#clock.after(left, () => this.#wake(idleAfter)) : undefined;
    if (left <= 0) this.#take(this.#framer.idle?.() ?? []);
  }
}

/** Why bytes that were given up count as a refused reading; `undefined` where no reading is known to have been in them. */
export function discardDetail(frame: Frame & { kind: "discarded" }, config: PipelineConfig): string | undefined {
  switch (frame.reason) {
    case "too-long":
      // What a length field says is too long is given up before it has come.
      return frame.length > config.maxFrameBytes
        ? `a frame of ${frame.length} bytes where ${config.maxFrameBytes} are allowed`
        : `a frame of more than the ${config.maxFrameBytes} bytes that are allowed`;
    case "bad-checksum":
      return `a wrong checksum (${config.checksum?.type ?? "none"})`;
    case "bad-length":
      return "a length field that no frame can have";
    case "bad-encoding":
      return `not ${config.framing}: bytes that it never writes`;
    case "unfinished":
    case "noise":
      // Cut when the port was closed, and what an open line picks up: never said to its end, so nothing to refuse.
      return undefined;
  }
}
