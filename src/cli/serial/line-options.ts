/** The options that say how a serial line is set up. */
import { type Command, Option } from "commander";
import type { LineSettings } from "../../sources/serial/port.ts";
import { wholeNumber } from "../arguments.ts";
import { PLAIN_LINE } from "./raw-port.ts";

export interface LineOptions {
  readonly baudRate?: number;
  readonly dataBits?: string;
  readonly parity?: LineSettings["parity"];
  readonly stopBits?: string;
}

export function withLineOptions(command: Command): Command {
  return command
    .option("--baud-rate <n>", "of a path: bits per second (default: 9600)", wholeNumber(50, 4_000_000))
    .addOption(new Option("--data-bits <n>", "of a path (default: 8)").choices(["5", "6", "7", "8"]))
    .addOption(new Option("--parity <name>", "of a path (default: none)").choices(["none", "even", "odd"]))
    .addOption(new Option("--stop-bits <n>", "of a path (default: 1)").choices(["1", "1.5", "2"]));
}

/** Whether any of them was given. */
export function saysHow({ baudRate, dataBits, parity, stopBits }: LineOptions): boolean {
  return [baudRate, dataBits, parity, stopBits].some((given) => given !== undefined);
}

/** The line as the options say, 9600 bit/s 8N1 where they do not. */
export function lineOf({ baudRate, dataBits, parity, stopBits }: LineOptions): LineSettings {
  return {
    ...PLAIN_LINE,
    ...(baudRate !== undefined && { baudRate }),
    ...(dataBits !== undefined && { dataBits: Number(dataBits) as LineSettings["dataBits"] }),
    ...(parity !== undefined && { parity }),
    ...(stopBits !== undefined && { stopBits: Number(stopBits) as LineSettings["stopBits"] }),
  };
}
