/** A port's frames as its codec judges them: what could not be one is counted, what could not be read is refused. */
import type { Decoded, Decoder } from "../../codec/decoder.ts";
import type { Frame } from "../../codec/framing.ts";
import { defaultClassOf, type PipelineConfig } from "../../codec/pipeline-config.ts";
import type { SerialPortConfig } from "../../config/schema.ts";
import type { Clock } from "../../kernel/clock.ts";
import type { Intake, Origin } from "../intake.ts";
import { serialOrigin } from "./origin.ts";
import { discardDetail } from "./pipeline.ts";
import type { SerialMeters } from "./port-use.ts";
import type { SerialTraffic } from "./traffic.ts";

export interface JudgeParts {
  readonly intake: Intake;
  readonly clock: Clock;
  readonly meters: SerialMeters;
  readonly traffic: SerialTraffic;
}

export class FrameJudge {
  readonly #config: SerialPortConfig;
  readonly #pipeline: PipelineConfig;
  readonly #parts: JudgeParts;
  readonly #origin: Origin;

  constructor(config: SerialPortConfig, pipeline: PipelineConfig, parts: JudgeParts) {
    this.#config = config;
    this.#pipeline = pipeline;
    this.#parts = parts;
    this.#origin = serialOrigin(config, defaultClassOf(pipeline.codec));
  }

  /** Counts what was given up before it could be decoded. Gives back why it is a reading refused; nothing where it is noise. */
  discard(frame: Frame & { readonly kind: "discarded" }): string | undefined {
    const { meters, intake, traffic } = this.#parts;
    traffic.discarded(frame);
    const labels = { port: this.#config.name, reason: frame.reason };
    meters.discardedFrames.inc(labels);
    meters.discardedBytes.inc(labels, frame.length);
    const detail = discardDetail(frame, this.#pipeline);
    if (detail !== undefined) intake.refuse("invalid", detail, frame.bytes, this.#origin);
    return detail;
  }

  /** Decodes a frame, and refuses what is no reading. What is one is for the caller to `submit`. */
  decode(bytes: Uint8Array, decoder: Decoder): Decoded {
    const { intake, clock, traffic } = this.#parts;
    const decoded = decoder.decode(bytes, clock.monotonic(), clock.now());
    if (decoded.kind !== "reading") traffic.decoded(bytes, decoded);
    if (decoded.kind === "refused") intake.refuse("invalid", decoded.detail, bytes, this.#origin);
    return decoded;
  }

  /** Hands over the reading of a frame. */
  submit(bytes: Uint8Array, reading: Decoded & { readonly kind: "reading" }): void {
    const { intake, traffic } = this.#parts;
    const origin = this.#originOf(reading.class);
    traffic.read(bytes, reading, origin.class, intake.submit(reading.payload, origin));
  }

  /**
   * The codec's class for this kind of reading counts where the port names none of its own, or just the codec's usual one: on a
   * port of class `position`, wind is still wind.
   */
  #originOf(ownClass: string | undefined): Origin {
    const { class: portClass } = this.#config;
    if (ownClass === undefined) return this.#origin;
    if (portClass !== undefined && portClass !== defaultClassOf(this.#pipeline.codec)) return this.#origin;
    return { ...this.#origin, class: ownClass };
  }
}
