/**
 * An SDI-12 sensor on a polled port (SDI-12 1.4, section 4.4): it is told to measure, waited for, and asked for its values. While one
 * measures for `M` nobody else may be spoken to; for `C` the line is free meanwhile.
 */
import type { AnswerFault } from "../../../codec/decoder.ts";
import {
  isConcurrent,
  LineSearch,
  MOST_ANSWER_BYTES,
  nameValues,
  parseData,
  parsePromise,
  type Sdi12Promise,
} from "../../../codec/sdi12.ts";
import type { Sdi12Config, SerialPortConfig } from "../../../config/schema.ts";
import type { Origin } from "../../intake.ts";
import { serialOrigin } from "../origin.ts";
import type { BusLine, Question, Reply } from "./bus-line.ts";
import { type Station, type StationParts, submitValues, type Turn } from "./station.ts";

type SensorConfig = Sdi12Config["sensors"][number];

/** `D0` to `D9`. */
const DATA_COMMANDS = 10;
/** Of the answer to a measurement command: `atttnn`, CR and LF. */
const PROMISE_BYTES = 8;

export function sdi12Stations(config: SerialPortConfig, sdi12: Sdi12Config, parts: StationParts): Station[] {
  const measuring: Measuring = new Map();
  return sdi12.sensors.map((sensor) => new Sdi12Station(config, { ...sdi12, ...sensor }, parts, measuring));
}

/**
 * For each sensor, by its address, when the concurrent measurement that is under way is over, by the monotonic clock: a second command
 * to it would give that up, and the values that it has would be those of another measurement (4.4.8).
 */
type Measuring = Map<string, number>;
/** How much later than the measurement that it waits for another one of the same sensor has its turn, in milliseconds. */
const AFTER_IT_MS = 1;

/** What a line of the sensor's turns out to be: the answer, or why it is none. */
type Read<T> = { readonly answer: T } | { readonly fault: AnswerFault };

class Sdi12Station implements Station {
  readonly device: string;
  readonly label: string;
  readonly every: number;
  readonly #port: string;
  readonly #sensor: SensorConfig & Pick<Sdi12Config, "timeout" | "retries">;
  readonly #parts: StationParts;
  readonly #origin: Origin;
  readonly #measuring: Measuring;
  /** What it has promised, and is to be asked for in its next turn. */
  #promised: Sdi12Promise | undefined;

  constructor(
    config: SerialPortConfig,
    sensor: SensorConfig & Omit<Sdi12Config, "sensors">,
    parts: StationParts,
    measuring: Measuring,
  ) {
    const source = sensor.source ?? `${config.name}-${sensor.address}`;
    this.device = sensor.address;
    this.label = `sensor ${sensor.address}${sensor.measure === "M" ? "" : ` ${sensor.measure}`} (${source})`;
    this.every = sensor.every;
    this.#port = config.name;
    this.#sensor = sensor;
    this.#parts = parts;
    this.#origin = serialOrigin(config, "telemetry", { ...sensor, source });
    this.#measuring = measuring;
  }

  restart(): void {
    this.#promised = undefined;
    this.#measuring.delete(this.#sensor.address);
  }

  async turn(line: BusLine, patience: boolean): Promise<Turn> {
    const { address, measure } = this.#sensor;
    const promised = this.#promised;
    if (promised !== undefined) {
      this.#promised = undefined;
      this.#measuring.delete(address);
      return this.#collect(line, promised, patience);
    }
    const { clock } = this.#parts;
    const busyUntil = this.#measuring.get(address);
    if (busyUntil !== undefined) return { kind: "later", ms: Math.max(0, busyUntil - clock.monotonic()) + AFTER_IT_MS };
    const reply = await this.#ask(line, measure, PROMISE_BYTES, patience, (text) => {
      const promise = parsePromise(text, address, measure);
      return promise === undefined ? { fault: "bad-answer" } : { answer: promise };
    });
    if (reply.kind === "fault") return this.#fault(reply.fault, measure, false);
    const { seconds, values } = reply.answer;
    if (values === 0) return this.#fault("bad-answer", `${measure}, for which it has no values`, true);
    if (seconds === 0) return this.#collect(line, reply.answer, patience);
    if (isConcurrent(measure)) {
      this.#promised = reply.answer;
      this.#measuring.set(address, clock.monotonic() + seconds * 1000);
      return { kind: "later", ms: seconds * 1000 };
    }
    await this.#served(line, seconds);
    return this.#collect(line, reply.answer, patience);
  }

  /** Waits for the service request, or for as long as the sensor said (4.4.6). */
  async #served(line: BusLine, seconds: number): Promise<void> {
    const { address } = this.#sensor;
    const request: Question<true> = {
      // Not every sensor says that it is ready: it owes nothing.
      device: `${address} ready`,
      bytes: new Uint8Array(),
      timeout: seconds * 1000,
      answerBytes: 0,
      listen: (found) => {
        const search = new LineSearch(address);
        return {
          push: (chunk) => {
            if (search.push(chunk).includes(address)) found(true);
          },
          fault: () => "timeout",
        };
      },
    };
    await line.ask(request, 0, () => {});
  }

  async #collect(line: BusLine, promised: Sdi12Promise, patience: boolean): Promise<Turn> {
    const { address, measure, values: names } = this.#sensor;
    const written: string[] = [];
    let fault: Turn | undefined;
    for (let number = 0; number < DATA_COMMANDS && written.length < promised.values; number++) {
      const command = `D${number}`;
      const reply = await this.#ask(line, command, MOST_ANSWER_BYTES, patience, (text) => {
        const data = parseData(text, address, measure);
        if (data.kind !== "values") return { fault: data.kind };
        // The address alone is a late service request, or says that there is nothing.
        return data.values.length === 0 ? { fault: "bad-answer" } : { answer: data.values };
      });
      if (reply.kind === "fault") {
        fault = this.#fault(reply.fault, command, written.length > 0);
        break;
      }
      written.push(...reply.answer);
    }
    const values = nameValues(written, names);
    if (Object.keys(values).length > 0) submitValues(values, this.#origin, this.#parts);
    return fault ?? { kind: "well" };
  }

  #fault(fault: AnswerFault | "closed", command: string, partly: boolean): Turn {
    // Of a port that is closed nobody looks at the turn.
    return { kind: "fault", fault: fault === "closed" ? "timeout" : fault, partly, detail: `command ${command}` };
  }

  #ask<T>(
    line: BusLine,
    command: string,
    answerBytes: number,
    patience: boolean,
    read: (text: string) => Read<T>,
  ): Promise<Reply<T>> {
    const { address, timeout, retries } = this.#sensor;
    const question: Question<T> = {
      device: address,
      bytes: Buffer.from(`${address}${command}!`),
      timeout,
      answerBytes,
      listen: (found) => {
        const search = new LineSearch(address);
        let fault: AnswerFault | undefined;
        return {
          push: (chunk) => {
            for (const text of search.push(chunk)) {
              const result = read(text);
              if ("answer" in result) return found(result.answer);
              fault = result.fault;
            }
          },
          fault: () => fault ?? (search.hasMore ? "bad-answer" : "timeout"),
        };
      },
    };
    return line.ask(question, patience ? retries : 0, (reply) => {
      const outcome = reply.kind === "fault" ? reply.fault : "answered";
      this.#parts.meters.polls.inc({ port: this.#port, device: this.device, outcome });
    });
  }
}
