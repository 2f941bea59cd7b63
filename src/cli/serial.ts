/** `summit-edge serial`: what comes over a serial port, live or into a file. */
import { realpath } from "node:fs/promises";
import { type Command, InvalidArgumentError, Option } from "commander";
import { loadConfig } from "../config/load.ts";
import type { SerialPortConfig } from "../config/schema.ts";
import { parseSize } from "../config/units.ts";
import { systemClock } from "../kernel/clock.ts";
import { GatewayError, messageOf } from "../kernel/errors.ts";
import type { TailWhat, TimedTailLine } from "../operations/tail-line.ts";
import { placeOf } from "../sources/serial/port-place.ts";
import { wholeNumber } from "./arguments.ts";
import { configOption } from "./config-file.ts";
import { configOf, Daemon, type DaemonOptions, daemonOrConfig, withKeyOptions } from "./daemon.ts";
import { count, json, span } from "./format.ts";
import { CaptureFile, type CaptureResult } from "./serial/capture.ts";
import { type LineOptions, lineOf, saysHow, withLineOptions } from "./serial/line-options.ts";
import { tailText } from "./serial/tail-text.ts";
import { unavailable } from "./serial/unavailable.ts";
import { untilStopped } from "./signals.ts";
import { processTerminal, type Terminal } from "./terminal.ts";

interface CaptureOptions extends DaemonOptions, LineOptions {
  readonly out: string;
  readonly overwrite?: true;
  readonly seconds?: number;
  readonly bytes: number;
  readonly json?: true;
}

interface TailOptions extends DaemonOptions {
  readonly hex?: true;
  readonly json?: true;
  readonly seconds?: number;
}

/** A day. */
const MOST_SECONDS = 86_400;
/** What a capture may hold, so that it can be played from memory; its file takes about twice as much. */
const MOST_BYTES = 16 * 1024 * 1024;

/** Adds `summit-edge serial` with all its commands. */
export function addSerialCommand(program: Command, terminal: Terminal = processTerminal): void {
  const serial = program.command("serial").description("what comes over a serial port: live, or into a file");
  withPortOptions(serial.command("tail <name-or-path>"))
    .description("show frames, readings and refusals of a port as they come, until Ctrl-C")
    .option("--hex", "show every frame in hexadecimal, also where it is text")
    .option("--json", "print a line of JSON for each")
    .option("--seconds <n>", "end by itself after so many seconds", wholeNumber(1, MOST_SECONDS))
    .addHelpText(
      "after",
      `${HOW_IT_READS}\nA path is looked up among the configured ports.\n\nExample:\n  summit-edge serial tail mast`,
    )
    .action((name: string, options: TailOptions) => tail(name, options, terminal));
  withLineOptions(withPortOptions(serial.command("capture <name-or-path>")))
    .description("record what comes over a port, with its times, to be played again")
    .requiredOption("--out <file>", "where it is written to")
    .option("--overwrite", "replace the file if it is there already")
    .option("--seconds <n>", "end by itself after so many seconds", wholeNumber(1, MOST_SECONDS))
    .addOption(
      new Option("--bytes <size>", "end after so many bytes").argParser(sizeOption).default(MOST_BYTES, "16MiB"),
    )
    .option("--json", "print the result as JSON")
    .addHelpText(
      "after",
      `${HOW_IT_READS}\nA path (/dev/…, tcp://…) is opened as the options say; one that is a configured port's, as the configuration says.\n\nExample:\n  summit-edge serial capture mast --seconds 60 --out mast.capture\n  summit-edge simulate serial --replay mast.capture`,
    )
    .action((port: string, options: CaptureOptions) => capture(port, options, terminal));
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
  const known = name.includes("/") ? await configuredPort(name, options, terminal) : name;
  if (known === undefined) throw notConfigured(name);
  await follow(known, "frames", options, terminal, signal, (line) => {
    if (!options.json) terminal.write(tailText(line, options.hex === true));
    else if (line.kind !== "alive") terminal.write(json(line));
  });
}

async function capture(port: string, options: CaptureOptions, terminal: Terminal): Promise<void> {
  const ended = new AbortController();
  const { out, overwrite = false, bytes: maxBytes } = options;
  const known = port.includes("/") ? await configuredPort(port, options, terminal) : port;
  const file = await CaptureFile.create(out, { overwrite, maxBytes, full: () => ended.abort() });
  const signal = AbortSignal.any([endOf(options.seconds), ended.signal]);
  if (!options.json) terminal.write(`capturing ${port} into ${out}; Ctrl-C ends it\n`);
  let result: CaptureResult | undefined;
  try {
    if (known === undefined) await record(port, options, signal, (line) => file.take(line));
    else await follow(known, "bytes", options, terminal, signal, (line) => file.take(line));
  } finally {
    result = await file.close();
  }
  if (result.bytes === 0) throw nothingCame(port);
  terminal.write(options.json ? json(result) : resultText(result));
}

function resultText({ file, bytes, dropped, seconds }: CaptureResult): string {
  const lost = dropped === 0 ? "" : `; ${count(dropped)} more came than could be kept`;
  return `${count(bytes)} bytes in ${span(seconds)}: ${file}${lost}\n`;
}

function nothingCame(port: string): GatewayError {
  return new GatewayError({
    code: "NOTHING_CAPTURED",
    op: "serial.capture",
    message: `nothing came over ${port} in all that time`,
    hint: "Look at the device's power and its cable; some devices speak only when they are asked.",
  });
}

/** How the frames of a device are to be read, only a configured port says. */
function notConfigured(path: string): GatewayError {
  return new GatewayError({
    code: "SERIAL_PORT_UNKNOWN",
    op: "serial.tail",
    message: `${path} is no port of the configuration`,
    hint: `Name one, or the configuration with --config FILE; summit-edge doctor serial --listen ${path} says what speaks there, summit-edge serial capture ${path} records it.`,
  });
}

/** The name of the configured port that is this device, where no option says how else it is to be opened. */
async function configuredPort(
  path: string,
  options: DaemonOptions & LineOptions,
  terminal: Terminal,
): Promise<string | undefined> {
  const file = configOf(options, terminal);
  if (file === undefined || saysHow(options)) return undefined;
  const { serial } = await loadConfig(file, terminal.env);
  const device = await deviceOf(path);
  for (const port of serial) {
    const place = await placeOf(port);
    if (place.kind === "found" && (await deviceOf(place.path)) === device) return port.name;
  }
  return undefined;
}

const deviceOf = (path: string): Promise<string> => realpath(path).catch(() => path);

/** Records a port that is none of the configuration's. @throws GatewayError SERIAL_PORT_UNAVAILABLE */
async function record(
  path: string,
  options: LineOptions,
  signal: AbortSignal,
  take: (line: TimedTailLine) => void,
): Promise<void> {
  const { listen } = await import("./serial/raw-port.ts");
  const line = lineOf(options);
  const { baudRate, dataBits, parity, stopBits } = line;
  const start = { kind: "port", name: "", state: "open", path, device: path, detail: null } as const;
  const stamp = (ms: number) => ({ at: new Date(systemClock.now()).toISOString(), ms: Math.round(ms * 1000) / 1000 });
  take({ ...stamp(0), ...start, baudRate, dataBits, parity, stopBits, framing: "", codec: "" });
  const fault = await listen(path, line, signal, (bytes, ms) =>
    take({ ...stamp(ms), kind: "bytes", hex: Buffer.from(bytes).toString("hex") }),
  );
  if (fault !== undefined) throw unavailable(fault.detail);
}

/** Aborted at the first Ctrl-C, or after so many seconds. */
function endOf(seconds: number | undefined): AbortSignal {
  const ended = new AbortController();
  void untilStopped(systemClock).then(() => ended.abort());
  if (seconds !== undefined) systemClock.after(seconds * 1000, () => ended.abort());
  return ended.signal;
}

function sizeOption(text: string): number {
  let bytes = 0;
  try {
    bytes = parseSize(text);
  } catch (error) {
    throw new InvalidArgumentError(error instanceof GatewayError ? error.hint : messageOf(error));
  }
  if (bytes >= 1 && bytes <= MOST_BYTES) return bytes;
  throw new InvalidArgumentError("It must be a size from 1B to 16MiB.");
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
