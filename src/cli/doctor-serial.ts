/** `summit-edge doctor serial`: which serial ports there are, and what speaks on one. */
import { realpath } from "node:fs/promises";
import type { Command } from "commander";
import { recognise } from "../codec/recognise.ts";
import { loadConfig } from "../config/load.ts";
import { shippedCandidates } from "../config/profile-vectors.ts";
import { findProfile } from "../config/profiles.ts";
import type { Config } from "../config/schema.ts";
import { systemClock } from "../kernel/clock.ts";
import { ExitStatus, GatewayError } from "../kernel/errors.ts";
import type { LineSettings } from "../sources/serial/port.ts";
import { wholeNumber } from "./arguments.ts";
import { configOption } from "./config-file.ts";
import { configOf, Daemon, daemonAddress } from "./daemon.ts";
import {
  type Attempt,
  bytesOf,
  isFound,
  type LineTry,
  type Recognise,
  searchLine,
  textOf,
} from "./doctor/line-search.ts";
import { createListener, PortUnavailable } from "./doctor/port-listen.ts";
import { portsText } from "./doctor/ports-text.ts";
import { openInDaemon, type PortsReport, probeSerialPorts } from "./doctor/probe-ports.ts";
import { nameFor, snippet, USUAL_LINE } from "./doctor/snippet.ts";
import { count, json, printable } from "./format.ts";
import { type LineOptions, lineOf, saysHow, withLineOptions } from "./serial/line-options.ts";
import { hexText } from "./serial/tail-text.ts";
import { unavailable } from "./serial/unavailable.ts";
import { untilStopped } from "./signals.ts";
import type { Terminal } from "./terminal.ts";

interface Options extends LineOptions {
  readonly config?: string;
  readonly json?: true;
  readonly listen?: string;
  readonly seconds: number;
}

const DEFAULT_SECONDS = 30;
/** Of what nobody understood, so many bytes are shown. */
const SHOWN_BYTES = 64;

/** Adds it to `summit-edge doctor`. */
export function addDoctorSerialCommand(doctor: Command, terminal: Terminal): void {
  withLineOptions(doctor.command("serial"))
    .description("list the serial ports, or listen on one and guess what speaks there")
    .addOption(configOption("configuration whose ports are looked up"))
    .option("--json", "print one JSON object")
    .option("--listen <path>", "listen on this port, and print a configuration for what is heard")
    .option("--seconds <n>", "how long to listen at most", wholeNumber(1, 3600), DEFAULT_SECONDS)
    .addHelpText(
      "after",
      "\nWith an option for the line only that one is tried; without, speeds and parities in turn.\n\nExample:\n  summit-edge doctor serial --listen /dev/ttyUSB0",
    )
    // Options that `doctor` has too are taken by it, wherever they stand.
    .action(async (_options: object, command: Command) => {
      const options = command.optsWithGlobals<Options>();
      if (options.listen === undefined) await list(options, terminal);
      else await listenAndGuess(options.listen, options, terminal);
    });
}

async function list(options: Options, terminal: Terminal): Promise<void> {
  const config = await configured(options, terminal);
  const ports = config?.serial ?? [];
  const report = await probeSerialPorts(ports);
  const open = config === undefined ? new Set<string>() : await openPorts(options, terminal);
  if (options.json) terminal.write(json({ ...report, open: [...open] }, 2));
  else terminal.write(portsText(report, { configured: ports, open }));
}

async function configured(options: Options, terminal: Terminal): Promise<Config | undefined> {
  const file = configOf(options, terminal);
  return file === undefined ? undefined : await loadConfig(file, terminal.env);
}

/** The ports that a running daemon has open; none where it does not say. */
async function openPorts(options: Options, terminal: Terminal): Promise<ReadonlySet<string>> {
  try {
    return openInDaemon(await new Daemon(await daemonAddress(options, terminal)).status());
  } catch (error) {
    if (error instanceof GatewayError) return openInDaemon(undefined);
    throw error;
  }
}

async function listenAndGuess(path: string, options: Options, terminal: Terminal): Promise<void> {
  const stopped = new AbortController();
  void untilStopped(systemClock).then(() => stopped.abort());
  const { listen } = await import("./serial/raw-port.ts");
  const settings: LineSettings = lineOf(options);
  const onlyOne = saysHow(options) || (await hasNoLine(path));
  const profiles = await shippedCandidates();
  const recogniseIt: Recognise = (heard) => recognise(heard, profiles);
  const hear = createListener({
    recognise: recogniseIt,
    clock: systemClock,
    listenOn: (line, signal, take) => listen(path, { ...settings, ...line }, signal, take),
    totalMs: options.seconds * 1000,
    onlyOne,
    signal: stopped.signal,
  });
  const attempts: Attempt[] = [];
  const said = (line: LineTry) => {
    if (!options.json) terminal.write(`listening on ${path} at ${textOf(line)} …\n`);
    return hear(line);
  };
  try {
    for await (const attempt of searchLine(settings, said, recogniseIt)) {
      attempts.push(attempt);
      if (onlyOne) break;
    }
  } catch (error) {
    throw error instanceof PortUnavailable ? unavailable(error.message) : error;
  }
  const best = attempts.findLast(isFound) ?? attempts.toSorted((one, other) => worth(other) - worth(one))[0];
  if (best === undefined || bytesOf(best).length === 0) throw nothingHeard(path, options.seconds);
  const report = await probeSerialPorts([]);
  const brought = await lineOfProfile(best.found[0]?.profile);
  // Where no speed is wrong, none is known to be right.
  const line = onlyOne && !saysHow(options) ? brought : best.line;
  sayResult({ ...best, line }, brought, await stableName(path, report), options, terminal);
}

/** Of attempts that have shown nothing for sure: what is likely before what may be, and how much of what was heard it explains. */
function worth({ found: [best] }: Attempt): number {
  return best === undefined ? 0 : (best.certainty === "likely" ? 2 : 1) - best.rest;
}

/** At a pseudo-terminal and at the other end of a connection every speed is right. */
async function hasNoLine(path: string): Promise<boolean> {
  if (path.startsWith("tcp://")) return true;
  return (await realpath(path).catch(() => path)).startsWith("/dev/pts/");
}

async function stableName(path: string, { ports }: PortsReport): Promise<string> {
  if (path.startsWith("/dev/serial/")) return path;
  const device = await realpath(path).catch(() => path);
  return ports.find((port) => port.path === device)?.name ?? path;
}

/** What a device profile sets the line to. */
async function lineOfProfile(name: string | undefined): Promise<LineTry> {
  const found = name === undefined ? undefined : await findProfile(name, process.cwd());
  return found?.kind === "found" ? found.profile : USUAL_LINE;
}

function sayResult(attempt: Attempt, brought: LineTry, path: string, options: Options, terminal: Terminal): void {
  const { line, found } = attempt;
  const [best] = found;
  const bytes = bytesOf(attempt);
  const config = best === undefined ? null : snippet(nameFor(path, best), path, line, best, brought);
  if (best === undefined || best.certainty === "perhaps") process.exitCode = ExitStatus.failed;
  if (options.json) {
    const guesses = found.map(({ name: _name, ...guess }) => guess);
    terminal.write(json({ path, line, bytes: bytes.length, guesses, config }, 2));
    return;
  }
  const heard = `${count(bytes.length)} bytes at ${textOf(line)}`;
  if (best === undefined || config === null) {
    const shown = hexText(bytes.subarray(0, SHOWN_BYTES).toString("hex"));
    terminal.write(`${heard}: nothing known here makes sense of them\n  ${shown}\n${UNKNOWN_ADVICE}`);
    return;
  }
  const others = found.slice(1, 4).map(({ what, certainty }) => `  otherwise, ${certainty}: ${what}\n`);
  const samples = best.samples.map((sample) => `  ${printable(JSON.stringify(sample))}\n`);
  terminal.write(
    `${heard}: ${best.what} (${best.certainty}; ${count(best.frames)} frames${restText(best.rest)})\n` +
      `${samples.join("")}${others.join("")}\nFor the configuration:\n\n${config}`,
  );
}

function restText(rest: number): string {
  const percent = Math.round(rest * 100);
  return percent === 0 ? "" : `, and ${percent}% of the bytes in none`;
}

const UNKNOWN_ADVICE =
  "Look up its speed and protocol, and try that: --baud-rate, --parity. summit-edge serial capture keeps what comes.\n";

function nothingHeard(path: string, seconds: number): GatewayError {
  return new GatewayError({
    code: "NOTHING_HEARD",
    op: "doctor.listen",
    message: `nothing came on ${path} in ${seconds} s`,
    hint: "Look at the device's power, and whether its TX goes to the adapter's RX. Some speak only when they are asked (Modbus, SDI-12), some only every few minutes: --seconds.",
  });
}
