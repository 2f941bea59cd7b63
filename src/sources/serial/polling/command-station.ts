/** The one device of a port with declared commands: each is answered by a frame of the port's own framing and codec. */
import type { AnswerFault, Decoded, Decoder } from "../../../codec/decoder.ts";
import type { Frame, Framer } from "../../../codec/framing.ts";
import { createDecoder, createFramer, createFrameWriter } from "../../../codec/pipeline.ts";
import { bytesOf, type PipelineConfig } from "../../../codec/pipeline-config.ts";
import type { CommandConfig, PollConfig, SerialPortConfig } from "../../../config/schema.ts";
import { FrameJudge } from "../frame-judge.ts";
import { FrameStream } from "../pipeline.ts";
import type { BusLine, Question, Reply } from "./bus-line.ts";
import type { Station, StationParts, Turn } from "./station.ts";

/** A frame, and the reading in it. */
interface Reading {
  readonly bytes: Uint8Array;
  readonly decoded: Decoded & { readonly kind: "reading" };
}

/** A command as it is sent, and as its echo would be a frame. */
interface Command {
  readonly text: string;
  readonly bytes: Uint8Array;
  readonly echo: Uint8Array;
}

export async function commandStations(
  config: SerialPortConfig,
  pipeline: PipelineConfig,
  poll: PollConfig,
  parts: StationParts,
): Promise<Station[]> {
  return [new CommandStation(config, pipeline, poll, await createDecoder(pipeline), parts)];
}

class CommandStation implements Station {
  readonly device: string;
  readonly label: string;
  readonly every: number;
  readonly #poll: PollConfig;
  readonly #pipeline: PipelineConfig;
  readonly #decoder: Decoder;
  readonly #parts: StationParts;
  readonly #judge: FrameJudge;
  readonly #start: readonly Command[];
  readonly #requests: readonly Command[];
  #isStarted = false;

  constructor(
    config: SerialPortConfig,
    pipeline: PipelineConfig,
    poll: PollConfig,
    decoder: Decoder,
    parts: StationParts,
  ) {
    this.device = config.name;
    this.label = config.source ?? config.name;
    this.every = poll.every;
    this.#poll = poll;
    this.#pipeline = pipeline;
    this.#decoder = decoder;
    this.#parts = parts;
    this.#judge = new FrameJudge(config, pipeline, parts);
    const write = poll.framed ? createFrameWriter(pipeline) : (bytes: Uint8Array) => bytes;
    this.#start = poll.start.map((command) => commandOf(command, write, createFramer(pipeline)));
    this.#requests = poll.requests.map((command) => commandOf(command, write, createFramer(pipeline)));
  }

  restart(): void {
    this.#isStarted = false;
  }

  /** After a fault the device is started again: it may have been without power. */
  async turn(line: BusLine, patience: boolean): Promise<Turn> {
    const retries = patience ? this.#poll.retries : 0;
    if (!this.#isStarted) {
      // Not every device answers these, and whether it is there its requests tell.
      for (const command of this.#start)
        await this.#ask(line, command, retries, (found) => {
          found(true);
          return undefined;
        });
      this.#isStarted = true;
    }
    for (const [index, command] of this.#requests.entries()) {
      const reply = await this.#ask<Reading>(line, command, retries, (found, frame) => {
        const decoded = this.#judge.decode(frame, this.#decoder);
        if (decoded.kind !== "reading") return "bad-answer";
        found({ bytes: frame.slice(), decoded });
        return undefined;
      });
      if (reply.kind === "answer") {
        this.#judge.submit(reply.answer.bytes, reply.answer.decoded);
        continue;
      }
      this.#isStarted = false;
      const fault = reply.fault === "closed" ? "timeout" : reply.fault;
      return { kind: "fault", fault, partly: index > 0, detail: `command ${command.text}` };
    }
    return { kind: "well" };
  }

  #ask<T>(
    line: BusLine,
    { bytes, echo }: Command,
    retries: number,
    take: (found: (answer: T) => void, frame: Uint8Array) => AnswerFault | undefined,
  ): Promise<Reply<T>> {
    const question: Question<T> = {
      device: this.device,
      bytes,
      timeout: this.#poll.timeout,
      answerBytes: 0,
      listen: (found) => {
        let fault: AnswerFault = "timeout";
        let isFound = false;
        const foundOnce = (answer: T): void => {
          isFound = true;
          found(answer);
        };
        const takeAll = (frames: readonly Frame[]): void => {
          for (const frame of frames) {
            if (isFound) return;
            if (frame.kind === "discarded") {
              this.#judge.discard(frame);
              fault = frame.reason === "bad-checksum" ? "bad-crc" : "bad-answer";
            } else if (!isSame(frame.bytes, echo)) {
              fault = take(foundOnce, frame.bytes) ?? fault;
            }
          }
        };
        const stream = new FrameStream(createFramer(this.#pipeline), this.#parts.clock, takeAll);
        const end = (): void => stream.end();
        // What is left of a frame tells that there was one.
        const faultAtEnd = (): AnswerFault => {
          end();
          return fault;
        };
        return { push: (chunk) => stream.push(chunk), fault: faultAtEnd, end };
      },
    };
    return line.ask(question, retries, (reply) => {
      const outcome = reply.kind === "fault" ? reply.fault : "answered";
      this.#parts.meters.polls.inc({ port: this.device, device: this.device, outcome });
    });
  }
}

function commandOf(
  { send, text = "" }: CommandConfig,
  write: (frame: Uint8Array) => Uint8Array,
  framer: Framer,
): Command {
  const plain = send === undefined ? Buffer.from(text) : bytesOf(send);
  const bytes = write(plain);
  const [frame] = framer.push(bytes, 0);
  return { text: send ?? JSON.stringify(text), bytes, echo: frame?.kind === "frame" ? frame.bytes.slice() : bytes };
}

function isSame(one: Uint8Array, other: Uint8Array): boolean {
  return one.length === other.length && one.every((byte, index) => byte === other[index]);
}
