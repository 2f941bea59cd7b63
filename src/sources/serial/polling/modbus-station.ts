/** A Modbus server on a polled port: one turn reads all its registers, which are one reading. */
import type { Values } from "../../../codec/binary.ts";
import {
  AnswerSearch,
  answerLength,
  encodeRequest,
  exceptionName,
  type ModbusAnswer,
  type ReadRequest,
} from "../../../codec/modbus.ts";
import { type Block, planReads, readBlock } from "../../../codec/modbus-plan.ts";
import type { ModbusConfig, SerialPortConfig } from "../../../config/schema.ts";
import type { Origin } from "../../intake.ts";
import { serialOrigin } from "../origin.ts";
import type { BusLine, Question, Reply } from "./bus-line.ts";
import { type Station, type StationParts, submitValues, type Turn } from "./station.ts";

type ServerConfig = ModbusConfig["servers"][number];

export function modbusStations(config: SerialPortConfig, modbus: ModbusConfig, parts: StationParts): Station[] {
  return modbus.servers.map((server) => new ModbusStation(config, { ...modbus, ...server }, parts));
}

class ModbusStation implements Station {
  readonly device: string;
  readonly label: string;
  readonly every: number;
  readonly #port: string;
  readonly #server: ServerConfig & Pick<ModbusConfig, "timeout" | "retries">;
  readonly #parts: StationParts;
  readonly #origin: Origin;
  readonly #blocks: readonly Block[];

  constructor(config: SerialPortConfig, server: ServerConfig & Omit<ModbusConfig, "servers">, parts: StationParts) {
    const source = server.source ?? `${config.name}-${server.address}`;
    this.device = String(server.address);
    this.label = `server ${server.address} (${source})`;
    this.every = server.every;
    this.#port = config.name;
    this.#server = server;
    this.#parts = parts;
    this.#origin = serialOrigin(config, "telemetry", { ...server, source });
    this.#blocks = planReads(server);
  }

  async turn(line: BusLine, patience: boolean): Promise<Turn> {
    const values: Values = {};
    const exceptions: string[] = [];
    let answers = 0;
    let fault: Turn | undefined;
    for (const block of this.#blocks) {
      const reply = await line.ask(this.#question(block), patience ? this.#server.retries : 0, (one) =>
        this.#count(one),
      );
      if (reply.kind === "fault") {
        if (reply.fault === "closed") break;
        // Its slot is used up: what else it has waits for its next turn.
        fault = { kind: "fault", fault: reply.fault, partly: answers > 0, detail: blockText(block) };
        break;
      }
      answers++;
      if (reply.answer.kind === "data") readBlock(block, reply.answer.data, values);
      else exceptions.push(`${exceptionName(reply.answer.code)} for ${blockText(block)}`);
    }
    if (Object.keys(values).length > 0) submitValues(values, this.#origin, this.#parts);
    if (fault !== undefined) return fault;
    return exceptions.length === 0 ? { kind: "well" } : { kind: "exception", detail: exceptions.join(", ") };
  }

  #question(block: Block): Question<ModbusAnswer> {
    const request: ReadRequest = { ...block, address: this.#server.address };
    return {
      device: this.device,
      bytes: encodeRequest(request),
      timeout: this.#server.timeout,
      answerBytes: answerLength(request),
      listen: (found) => {
        const search = new AnswerSearch(request);
        return {
          push: (chunk) => {
            const answer = search.push(chunk);
            if (answer !== undefined) found(answer);
          },
          fault: () => search.fault(),
        };
      },
    };
  }

  #count(reply: Reply<ModbusAnswer>): void {
    const refusedOrNot = (answer: ModbusAnswer): string => (answer.kind === "data" ? "answered" : "exception");
    const outcome = reply.kind === "fault" ? reply.fault : refusedOrNot(reply.answer);
    this.#parts.meters.polls.inc({ port: this.#port, device: this.device, outcome });
  }
}

function blockText({ function: code, at, count }: Block): string {
  const places = count === 1 ? `${at}` : `${at} to ${at + count - 1}`;
  return `function ${code}, ${code <= 2 ? "bits" : "registers"} ${places}`;
}
