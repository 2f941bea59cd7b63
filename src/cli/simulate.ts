/** `summit-edge simulate`: simulated devices that speak to a gateway over MQTT and on serial lines. */
import { type Command, InvalidArgumentError, Option } from "commander";
import { parseDuration } from "../config/units.ts";
import { systemClock } from "../kernel/clock.ts";
import { codeOf, GatewayError, messageOf } from "../kernel/errors.ts";
import type { Logger } from "../kernel/telemetry.ts";
import type { FleetCounts, SensorFleet } from "../simulator/devices.ts";
import type { WeatherMast } from "../simulator/mast.ts";
import { SCENARIO_KINDS, type Scenario, type ScenarioKind } from "../simulator/scenario.ts";
import type { VirtualPort } from "../simulator/virtual-port.ts";
import { moment, positiveNumber } from "./arguments.ts";
import { readOptionFile } from "./option-file.ts";
import { untilStopped } from "./signals.ts";
import { addSerialCommand } from "./simulate-serial.ts";

interface Options {
  readonly mqtt?: string;
  readonly ca?: string;
  readonly cert?: string;
  readonly key?: string;
  readonly serial?: boolean;
  readonly devices: number;
  readonly rate: number;
  readonly seed: number;
  readonly scenario: ScenarioKind;
  readonly start?: string;
  readonly speed: number;
  readonly duration?: number;
  readonly json?: boolean;
}

const DEFAULT_BROKER = "mqtt://127.0.0.1:1883";
/** Where the simulated site is: a ridge in the Sierra Nevada. */
const SITE = { lat: 38.94, lon: -120.05 };
const HOUR_MS = 3_600_000;
/** How long the end waits for acknowledgements that are still on their way. */
const DRAIN_MS = 5000;

/** Adds the command to the program. */
export function addSimulateCommand(program: Command): void {
  const simulate = program
    .command("simulate")
    .description("simulate sensors over MQTT, and a weather mast on serial lines")
    .option("--mqtt <url>", `broker, mqtt:// or mqtts:// (default without --serial: ${DEFAULT_BROKER})`, parseBrokerUrl)
    .option("--ca <file>", "PEM file with the authority that signed the broker's certificate")
    .option("--cert <file>", "PEM file with the devices' own certificate")
    .option("--key <file>", "PEM file with its private key")
    .option("--serial", "weather mast on two pseudo-terminals, one NMEA 0183, one CSV")
    .option("--devices <n>", "how many MQTT sensors", parsePositiveInteger, 4)
    .option("--rate <n>", "MQTT messages per second, all sensors together", positiveNumber, 4)
    .option("--seed <n>", "the same seed and start give the same values", parsePositiveInteger, 1)
    .addOption(new Option("--scenario <name>", "what happens").choices(SCENARIO_KINDS).default("day"))
    .option("--start <time>", "when it begins in the scenario, RFC 3339 (default: the hour that has begun)", moment)
    .option("--speed <x>", "how fast the scenario runs", positiveNumber, 1)
    .option("--duration <time>", "when to end, for example 60s (default: at Ctrl-C)", parseDurationOption)
    .option("--json", "print JSON: what is simulated, and the counts at the end")
    .action(runSimulation);
  addSerialCommand(simulate);
}

async function runSimulation(options: Options): Promise<void> {
  const { createLog } = await import("../kernel/telemetry.ts");
  const log = await createLog({ level: "info", format: "json" }, { part: "simulate" }, process.stderr);
  const { seed, scenario: kind } = options;
  const startedAt = options.start === undefined ? hourOf(systemClock.now()) : Date.parse(options.start);
  const scenario: Scenario = { kind, seed, ...SITE, startedAt };
  const ended = new AbortController();
  const stopped = untilStopped(systemClock).then(() => ended.abort());

  const url = options.mqtt ?? (options.serial === true ? undefined : DEFAULT_BROKER);
  const fleet = url === undefined ? undefined : await startFleet(url, options, scenario, log);
  const mast = options.serial === true ? await startMast(options, scenario, log) : undefined;
  const start = new Date(startedAt).toISOString();
  print(options, { scenario: kind, seed, start, mqtt: url ?? null, serial: mast?.paths ?? null }, () => [
    `simulating scenario ${kind}, seed ${seed}, start ${start}`,
    ...(url === undefined ? [] : [`  ${options.devices} sensors, ${options.rate} messages/s, to ${url}`]),
    ...(mast === undefined ? [] : mast.describe()),
  ]);

  await (options.duration === undefined ? stopped : systemClock.sleep(options.duration, ended.signal));
  const interrupted = ended.signal.aborted;
  const serial = await mast?.stop();
  const mqtt = await fleet?.stop(DRAIN_MS);
  print(options, { mqtt: mqtt ?? null, serial: serial ?? null }, () => [
    ...(mqtt === undefined
      ? []
      : [`mqtt: published=${mqtt.published} acknowledged=${mqtt.acknowledged} skipped=${mqtt.skipped}`]),
    ...(serial === undefined
      ? []
      : [`serial: nmeaLines=${serial.nmeaLines} csvLines=${serial.csvLines} dropped=${serial.dropped}`]),
  ]);
  if (url !== undefined && mqtt !== undefined && !interrupted && isSilence(mqtt))
    throw nothingAcknowledged(url, options, fleet?.lastFault);
}

/** A run that is started again a minute later is the same one, and the day goes on all the same. */
function hourOf(now: number): number {
  return Math.floor(now / HOUR_MS) * HOUR_MS;
}

/** Whether the broker never answered; one that is there while nothing was due has not been asked. */
function isSilence({ acknowledged, published, skipped, connected }: FleetCounts): boolean {
  return acknowledged === 0 && (published + skipped > 0 || connected === 0);
}

function nothingAcknowledged(url: string, { ca }: Options, fault: unknown): GatewayError {
  return new GatewayError({
    code: "NOTHING_ACKNOWLEDGED",
    op: "simulate.publish",
    message: `${new URL(url).host} acknowledged nothing in all that time`,
    hint: silenceHint(codeOf(fault), ca),
  });
}

function silenceHint(code: string | undefined, ca: string | undefined): string {
  if (/SELF_SIGNED|UNABLE_TO_(GET|VERIFY)/.test(code ?? "")) {
    return ca === undefined
      ? "Nobody known here has signed the broker's certificate: name its authority with --ca (the site's ca.crt; with tls.development: true, certs-development/ca.pem in the gateway's dataDir)."
      : `The broker's certificate is not of the authority in ${ca}: name the one that signed it with --ca.`;
  }
  if (code === "ERR_TLS_CERT_ALTNAME_INVALID") return "Write the host in --mqtt as the broker's certificate names it.";
  return "See whether the gateway runs and listens there (summit-edge status), or name its broker with --mqtt.";
}

async function startFleet(url: string, options: Options, scenario: Scenario, log: Logger): Promise<SensorFleet> {
  const { SensorFleet } = await import("../simulator/devices.ts");
  const [ca, cert, key] = await Promise.all([
    readOptionFile("--ca", options.ca),
    readOptionFile("--cert", options.cert),
    readOptionFile("--key", options.key),
  ]);
  const { devices, rate, speed } = options;
  const broker = { url, ...(ca && { ca }), ...(cert && { cert }), ...(key && { key }) };
  const fleet = new SensorFleet({ broker, devices, rate, speed, scenario, clock: systemClock, log });
  fleet.start();
  return fleet;
}

interface Mast {
  readonly paths: { readonly nmea: string; readonly csv: string };
  describe(): string[];
  stop(): Promise<ReturnType<WeatherMast["stop"]>>;
}

async function startMast(options: Options, scenario: Scenario, log: Logger): Promise<Mast> {
  const [{ openVirtualPort }, { MAST_BAUD_RATE, MAST_COLUMNS, WeatherMast }] = await Promise.all([
    import("../simulator/virtual-port.ts"),
    import("../simulator/mast.ts"),
  ]);
  const open = (): Promise<VirtualPort> => openVirtualPort({ baudRate: MAST_BAUD_RATE, clock: systemClock, log });
  const [nmea, csv] = await Promise.all([open(), open()]);
  const mast = new WeatherMast({ name: "mast", nmea, csv, scenario, speed: options.speed, clock: systemClock });
  mast.start();
  const columns = MAST_COLUMNS.map(({ name, type }) => `{ name: ${name}, type: ${type} }`).join(", ");
  return {
    paths: { nmea: nmea.path, csv: csv.path },
    describe: () => [
      "  a weather mast on two serial lines; in the gateway's configuration:",
      "  serial:",
      `    - { name: mast, path: "${nmea.path}", baudRate: ${MAST_BAUD_RATE}, codec: nmea0183 }`,
      `    - { name: weather, path: "${csv.path}", baudRate: ${MAST_BAUD_RATE}, codec: csv, class: weather,`,
      `        columns: [${columns}] }`,
    ],
    async stop() {
      const counts = mast.stop();
      await Promise.all([nmea.close(), csv.close()]);
      return counts;
    },
  };
}

function print(options: Options, result: object, lines: () => string[]): void {
  console.log(options.json === true ? JSON.stringify(result) : lines().join("\n"));
}

function parseBrokerUrl(text: string): string {
  if (!URL.canParse(text) || !["mqtt:", "mqtts:"].includes(new URL(text).protocol)) {
    throw new InvalidArgumentError("Write mqtt://host:port or mqtts://host:port.");
  }
  return text;
}

function parsePositiveInteger(text: string): number {
  const number = positiveNumber(text);
  if (!Number.isSafeInteger(number)) throw new InvalidArgumentError("Write a whole number above 0.");
  return number;
}

function parseDurationOption(text: string): number {
  try {
    return parseDuration(text);
  } catch (error) {
    throw new InvalidArgumentError(error instanceof GatewayError ? error.hint : messageOf(error));
  }
}
