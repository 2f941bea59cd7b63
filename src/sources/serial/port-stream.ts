/** A port whose device speaks by itself: its bytes become frames, its frames readings. */
import type { Decoder } from "../../codec/decoder.ts";
import type { Frame } from "../../codec/framing.ts";
import type { PipelineConfig } from "../../codec/pipeline-config.ts";
import type { SerialPortConfig } from "../../config/schema.ts";
import type { Conditions } from "../../kernel/conditions.ts";
import { FrameJudge, type JudgeParts } from "./frame-judge.ts";
import { LineWatch } from "./line-watch.ts";
import { checkedPipeline, FrameStream, loadPipeline, type Pipeline } from "./pipeline.ts";
import type { Port } from "./port.ts";
import type { PortUse } from "./port-use.ts";

/** Codecs that may read the rest of a frame as a whole one, with a number that has lost its first digits. */
const CUT_UNSEEN: ReadonlySet<string> = new Set(["csv", "fields", "binary"]);
/**
 * A device that is speaking while its port is opened is heard within so many characters, and what an adapter keeps them back for
 * (16 ms is usual). What comes later begins a frame.
 */
const FIRST_BYTE_MS = 50;
const FIRST_CHARACTERS = 4;
const BITS_OF_CHARACTER = 10;

function characterMs({ baudRate }: SerialPortConfig): number {
  return (BITS_OF_CHARACTER * 1000) / baudRate;
}

export interface StreamParts extends JudgeParts {
  readonly conditions: Conditions;
  /** Closes the port, for it to be opened again. */
  readonly reopen: () => void;
}

export class PortStream implements PortUse {
  readonly #config: SerialPortConfig;
  readonly #pipelineConfig: PipelineConfig;
  readonly #parts: StreamParts;
  readonly #judge: FrameJudge;
  readonly #watch: LineWatch;
  #pipeline: Pipeline | undefined;
  #port: Port | undefined;
  #stream: FrameStream | undefined;
  /** Whether the port is paused until the intake has room again. */
  #heldBack = false;
  /** Waits for the end of a pause for too much having come; `undefined` where there is none. */
  #cancelThrottle: (() => void) | undefined;

  /** Throws a `GatewayError` `CONFIG_INVALID` where the port lacks what its codec needs. */
  constructor(config: SerialPortConfig, parts: StreamParts) {
    this.#config = config;
    this.#parts = parts;
    this.#pipelineConfig = checkedPipeline(config);
    this.#judge = new FrameJudge(config, this.#pipelineConfig, parts);
    this.#watch = new LineWatch(config, {
      clock: parts.clock,
      conditions: parts.conditions,
      isHeldBack: () => this.#heldBack,
      reopen: parts.reopen,
      throttle: (ms) => this.#throttle(ms),
    });
  }

  async prepare(): Promise<void> {
    this.#pipeline = await loadPipeline(this.#pipelineConfig);
  }

  opened(port: Port): void {
    if (this.#pipeline === undefined) return;
    const { decoder, framer } = this.#pipeline;
    this.#port = port;
    this.#stream = new FrameStream(framer(), this.#parts.clock, (frames) => this.#take(frames, decoder));
    if (port.isMidstream === true && CUT_UNSEEN.has(this.#pipelineConfig.codec))
      this.#stream.beginInside(FIRST_BYTE_MS + FIRST_CHARACTERS * characterMs(this.#config));
    this.#watch.opened();
    if (this.#heldBack) this.#leaveOff();
  }

  heard(chunk: Uint8Array): void {
    this.#watch.heard(chunk);
    this.#stream?.push(chunk);
    this.#watch.settle(chunk);
  }

  async closed(): Promise<void> {
    this.#port = undefined;
    this.#stream?.end();
    this.#stream = undefined;
    this.#cancelThrottle?.();
    this.#cancelThrottle = undefined;
    this.#watch.closed();
  }

  #take(frames: readonly Frame[], decoder: Decoder): void {
    for (const frame of frames) {
      if (frame.kind === "discarded") {
        this.#watch.judged("discarded", this.#judge.discard(frame));
        continue;
      }
      const decoded = this.#judge.decode(frame.bytes, decoder);
      if (decoded.kind === "refused") this.#watch.judged("refused", decoded.detail);
      else this.#watch.judged("good");
      if (decoded.kind === "reading") this.#judge.submit(frame.bytes, decoded);
    }
    if (this.#parts.intake.saturated) this.#holdBack();
  }

  #holdBack(): void {
    if (this.#heldBack) return;
    this.#heldBack = true;
    this.#leaveOff();
    this.#parts.intake.onceRelieved(() => {
      this.#heldBack = false;
      this.#watch.resumed();
      this.#goOn();
    });
  }

  #throttle(ms: number): void {
    this.#parts.meters.throttled.inc({ port: this.#config.name });
    this.#leaveOff();
    this.#cancelThrottle?.();
    this.#cancelThrottle = this.#parts.clock.after(ms, () => {
      this.#cancelThrottle = undefined;
      this.#goOn();
    });
  }

  #leaveOff(): void {
    this.#port?.pause();
    this.#stream?.leaveOff();
  }

  /** Reads on, where there is no other reason not to. */
  #goOn(): void {
    if (this.#heldBack || this.#cancelThrottle !== undefined) return;
    this.#stream?.goOn();
    this.#port?.resume();
  }
}
