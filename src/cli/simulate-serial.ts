/** `summit-edge simulate serial`: a simulated device of a profile, or a captured serial line, on a pseudo-terminal. */
import { readFile, stat } from "node:fs/promises";
import { resolve } from "node:path";
import type { Command } from "commander";
import { type Capture, parseCapture } from "../codec/capture.ts";
import { systemClock } from "../kernel/clock.ts";
import { deviceHolders } from "../kernel/device-holders.ts";
import { GatewayError, messageOf } from "../kernel/errors.ts";
import { positiveNumber } from "./arguments.ts";
import { count, json, span } from "./format.ts";
import { linkTo } from "./port-link.ts";
import { untilStopped } from "./signals.ts";
import type { SimulateProfileOptions } from "./simulate-profile.ts";

interface ReplayOptions {
  readonly replay: string;
  readonly speed: number;
  readonly port?: string;
  readonly repeat?: true;
  readonly keepOpen?: true;
  readonly json?: true;
}

/** A capture has 16 MiB of bytes at most, each two digits. */
const MOST_FILE_BYTES = 128 * 1024 * 1024;
/** How often it is looked whether somebody has opened the port. */
const LOOK_EVERY_MS = 100;
/** How long a reader has for the last bytes before the line goes away. */
const LAST_BYTES_MS = 2000;

/** The options of `simulate` count as well. */
type SerialOptions = Partial<ReplayOptions> & Omit<SimulateProfileOptions, "profile"> & { readonly profile?: string[] };

/** Adds it to `summit-edge simulate`. */
export function addSerialCommand(simulate: Command): void {
  simulate
    .command("serial")
    .description("simulate devices of a profile, or play a captured line with its pauses, on pseudo-terminals")
    .option("--profile <name...>", "devices, by names of summit-edge profiles list or files of your own")
    .option("--replay <file>", "what summit-edge serial capture has recorded")
    .option("--speed <x>", "how many times as fast", positiveNumber, 1)
    .option("--port <path>", "where the one port is to be found: a symbolic link that is made here and goes with it")
    .option("--repeat", "of a replay: from the beginning again, until Ctrl-C")
    .option("--keep-open", "of a replay: leave the port there at the end, until Ctrl-C")
    .option("--json", "print JSON: the port, and what was played")
    .addHelpText(
      "after",
      "\nA replay begins once somebody has opened the port. For devices, --scenario, --seed and --duration of simulate count too.\n\nExamples:\n  summit-edge simulate serial --profile victron-ve-direct nova-sds011\n  summit-edge simulate serial --profile nova-sds011 --port /tmp/dust\n  summit-edge simulate serial --replay mast.capture --port /tmp/mast",
    )
    // Options that `simulate` has too are taken by it, wherever they stand.
    .action((_options: object, command: Command) => simulateSerial(command.optsWithGlobals<SerialOptions>()));
}

async function simulateSerial({ profile, replay: file, ...options }: SerialOptions): Promise<void> {
  if (profile !== undefined && file === undefined) {
    const ofReplay = [options.repeat, options.keepOpen].some((given) => given !== undefined);
    if (ofReplay) throw usage("--repeat and --keep-open go with --replay", "Leave them out.");
    const { simulateProfiles } = await import("./simulate-profile.ts");
    return simulateProfiles({ ...options, profile });
  }
  if (profile === undefined && file !== undefined) return replay({ ...options, replay: file });
  const either = "either --profile or --replay says what is on the line";
  throw usage(either, "summit-edge profiles list has the devices that can be simulated.");
}

function usage(message: string, hint: string): GatewayError {
  return new GatewayError({ code: "USAGE", op: "simulate.serial", message, hint });
}

async function replay(options: ReplayOptions): Promise<void> {
  const [{ openPseudoTerminal }, { lineSpeedFor, playCapture }] = await Promise.all([
    import("../simulator/pseudo-terminal.ts"),
    import("../simulator/replay.ts"),
  ]);
  const capture = await readCapture(options.replay);
  const { pieces, header } = capture;
  const ended = new AbortController();
  void untilStopped(systemClock).then(() => ended.abort());
  const { signal } = ended;
  const { speed } = options;
  const baudRate = Math.max((header.baudRate ?? 0) * speed, lineSpeedFor(pieces, speed));
  const terminal = await openPseudoTerminal({ baudRate, clock: systemClock });
  const unlinkPort = await linkTo(terminal.path, options.port).catch(async (error: unknown) => {
    await terminal.close();
    throw error;
  });
  try {
    sayStart(options, capture, terminal.path);
    await untilOpened(terminal.path, signal);
    const total = { bytes: 0, dropped: 0 };
    do {
      const played = await playCapture(pieces, terminal, { clock: systemClock, speed, signal });
      total.bytes += played.bytes;
      total.dropped += played.dropped;
    } while (options.repeat && !signal.aborted);
    sayEnd(options, total);
    if (!signal.aborted) await systemClock.sleep(options.keepOpen ? FOR_EVER_MS : LAST_BYTES_MS, signal);
  } finally {
    await unlinkPort();
    await terminal.close();
  }
}

const FOR_EVER_MS = 2 ** 52;

async function readCapture(file: string): Promise<Capture> {
  const fault = (message: string, hint: string): GatewayError =>
    new GatewayError({ code: "CAPTURE_FILE", op: "simulate.replay", message, hint });
  const text = await read(file).catch((error: unknown) => messageOf(error));
  if (!Buffer.isBuffer(text)) throw fault(`${file} cannot be read: ${text}`, "Name a file that can be read.");
  const found = parseCapture(text.toString());
  const make = "Make one with summit-edge serial capture NAME --out FILE.";
  if ("message" in found) throw fault(`${file} is no capture: line ${found.line} ${found.message}`, make);
  if (found.pieces.length === 0) throw fault(`${file} holds no bytes`, make);
  return found;
}

async function read(file: string): Promise<Buffer> {
  const { size } = await stat(file);
  if (size > MOST_FILE_BYTES) throw new Error(`it has more than ${MOST_FILE_BYTES} bytes`);
  return await readFile(file);
}

/** Besides those who hold it from the beginning: what makes the terminal has it open too. */
async function untilOpened(path: string, signal: AbortSignal): Promise<void> {
  const pids = async (): Promise<number[]> => (await deviceHolders(path)).map(({ pid }) => pid);
  const own = new Set(await pids());
  while (!signal.aborted && (await pids()).every((pid) => own.has(pid))) await systemClock.sleep(LOOK_EVERY_MS, signal);
}

function sayStart(
  { json: asJson, speed, port }: ReplayOptions,
  { header, pieces, dropped }: Capture,
  pty: string,
): void {
  const path = port === undefined ? pty : resolve(port);
  const bytes = pieces.reduce((sum, piece) => sum + piece.bytes.length, 0);
  const seconds = ((pieces.at(-1)?.ms ?? 0) - (pieces[0]?.ms ?? 0)) / 1000 / speed;
  if (asJson) return void process.stdout.write(json({ path, bytes, seconds }));
  const { baudRate = 9600, dataBits = 8, parity = "none", stopBits = 1 } = header;
  const line = `${baudRate} bit/s ${dataBits}${parity.charAt(0).toUpperCase()}${stopBits}`;
  const lost = dropped === 0 ? "" : `; ${count(dropped)} bytes are missing in it`;
  console.log(
    `playing ${count(bytes)} bytes in ${span(seconds)} on ${path} (captured at ${line}${lost}), once it is open`,
  );
}

function sayEnd({ json: asJson }: ReplayOptions, { bytes, dropped }: { bytes: number; dropped: number }): void {
  if (asJson) return void process.stdout.write(json({ bytes, dropped }));
  console.log(`played ${count(bytes)} bytes${dropped === 0 ? "" : `; ${count(dropped)} were not read, and dropped`}`);
}
