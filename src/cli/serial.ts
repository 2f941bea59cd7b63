/** `summit-edge serial`: what comes over a serial port, live or into a file. */
import type { Command } from "commander";
import { loadConfig } from "../config/load.ts";
import type { SerialPortConfig } from "../config/schema.ts";
import { systemClock } from "../kernel/clock.ts";
import { GatewayError } from "../kernel/errors.ts";
import type { TailWhat, TimedTailLine } from "../operations/tail-line.ts";
import { wholeNumber } from "./arguments.ts";
import { configOption } from "./config-file.ts";
import { Daemon, type DaemonOptions, daemonOrConfig, withKeyOptions } from "./daemon.ts";
import { json } from "./format.ts";
import { tailText } from "./serial/tail-text.ts";
import { untilStopped } from "./signals.ts";
import { processTerminal, type Terminal } from "./terminal.ts";

interface TailOptions extends DaemonOptions {
  readonly hex?: true;
  readonly json?: true;
  readonly seconds?: number;
}

/** A day. */
const MOST_SECONDS = 86_400;

/** Adds `summit-edge serial` with all its commands. */
export function addSerialCommand(program: Command, terminal: Terminal = processTerminal): void {
  const serial = program.command("serial").description("what comes over a serial port: live, or into a file");
  withPortOptions(serial.command("tail <name>"))
    .description("show frames, readings and refusals of a port as they come, until Ctrl-C")
    .option("--hex", "show every frame in hexadecimal, also where it is text")
    .option("--json", "print a line of JSON for each")
    .option("--seconds <n>", "end by itself after so many seconds", wholeNumber(1, MOST_SECONDS))
    .addHelpText("after", `${HOW_IT_READS}\n\nExample:\n  summit-edge serial tail mast`)
    .action((name: string, options: TailOptions) => tail(name, options, terminal));
}

const HOW_IT_READS =
  "\nWhile the daemon runs, it is asked: it has the port, and goes on reading it. Without it the command opens the port itself,\nas the configuration says.";

/** The options that find the daemon, or the configuration where it does not run. */
function withPortOptions(command: Command): Command {
  return withKeyOptions(command)
    .addOption(configOption("configuration: where the daemon listens, and its ports when it does not run"))
    .option("--url <url>", "the daemon's address (default: the configuration's, else http://127.0.0.1:8480)");
}

async function tail(name: string, options: TailOptions, terminal: Terminal): Promise<void> {
  const signal = endOf(options.seconds);
  await follow(name, "frames", options, terminal, signal, (line) => {
    if (!options.json) terminal.write(tailText(line, options.hex === true));
    else if (line.kind !== "alive") terminal.write(json(line));
  });
}

/** Aborted at the first Ctrl-C, or after so many seconds. */
function endOf(seconds: number | undefined): AbortSignal {
  const ended = new AbortController();
  void untilStopped(systemClock).then(() => ended.abort());
  if (seconds !== undefined) systemClock.after(seconds * 1000, () => ended.abort());
  return ended.signal;
}

/** Hands what comes over the port of that name to `take`: from the running daemon, or from the port itself. */
async function follow(
  name: string,
  what: TailWhat,
  options: DaemonOptions,
  terminal: Terminal,
  signal: AbortSignal,
  take: (line: TimedTailLine) => void,
): Promise<void> {
  const found = await daemonOrConfig(options, terminal);
  if (found instanceof Daemon) return await found.tail(name, what, signal, take);
  const { serial } = await loadConfig(found.config, terminal.env);
  const port = serial.find((each) => each.name === name);
  if (port === undefined) throw unknownPort(name, serial, found.config);
  const { tailOwnPort } = await import("./serial/own-port.ts");
  await tailOwnPort(port, what, signal, take);
}

function unknownPort(name: string, ports: readonly SerialPortConfig[], config: string): GatewayError {
  const known =
    ports.length === 0 ? "it has no serial port" : `its ports: ${ports.map((port) => port.name).join(", ")}`;
  return new GatewayError({
    code: "SERIAL_PORT_UNKNOWN",
    op: "serial.find",
    message: `there is no serial port ${name} in ${config}`,
    hint: `Name one of the configuration (${known}).`,
  });
}
