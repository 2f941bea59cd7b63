/** The simulated devices of the demo: sensors over MQTT, and a weather mast on two serial lines. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { Config } from "../../config/schema.ts";
import type { Clock } from "../../kernel/clock.ts";
import type { Logger } from "../../kernel/telemetry.ts";
import { type BrokerAddress, type FleetCounts, SensorFleet } from "../../simulator/devices.ts";
import { MAST_BAUD_RATE, WeatherMast } from "../../simulator/mast.ts";
import type { Scenario, ScenarioKind } from "../../simulator/scenario.ts";
import { openVirtualPort, type VirtualPort } from "../../simulator/virtual-port.ts";

/** Where the simulated site is: a ridge in the Sierra Nevada. */
export const SITE = { lat: 38.94, lon: -120.05 } as const;

/** The far ends of the gateway's two serial ports. They outlive a gateway that is killed, as cables do. */
export interface SerialLines {
  readonly nmea: VirtualPort;
  readonly csv: VirtualPort;
}

export async function openSerialLines(clock: Clock, log: Pick<Logger, "warn">): Promise<SerialLines> {
  const open = (): Promise<VirtualPort> => openVirtualPort({ baudRate: MAST_BAUD_RATE, clock, log });
  const [nmea, csv] = await Promise.all([open(), open()]);
  return { nmea, csv };
}

export async function closeSerialLines({ nmea, csv }: SerialLines): Promise<void> {
  await Promise.all([nmea.close(), csv.close()]);
}

/** The authority of the development certificates, which the gateway makes when it first starts. */
export function developmentCa(dataDir: string): string {
  return join(dataDir, "certs-development", "ca.pem");
}

/** How the sensors reach a gateway that runs: by TLS where it has development certificates, else plain; `undefined`: not at all. */
export async function brokerOf({
  gateway,
  mqtt,
}: Pick<Config, "gateway" | "mqtt">): Promise<BrokerAddress | undefined> {
  const secure = mqtt.listeners.find(({ tls }) => tls?.development === true && tls.clientCertificate !== "required");
  if (secure !== undefined) {
    const ca = await readFile(developmentCa(gateway.dataDir), "utf8");
    return { url: `mqtts://127.0.0.1:${secure.port}`, ca };
  }
  const plain = mqtt.listeners.find(({ tls }) => tls === undefined);
  return plain && { url: `mqtt://127.0.0.1:${plain.port}` };
}

export interface DevicesOptions {
  readonly broker: BrokerAddress;
  readonly lines: SerialLines;
  readonly scenario: ScenarioKind;
  /** How fast the scenario runs. */
  readonly speed: number;
  /** MQTT sensors, and how many messages they publish per second, all together. */
  readonly sensors: number;
  readonly rate: number;
  readonly seed: number;
  readonly clock: Clock;
  readonly log: Pick<Logger, "info" | "warn">;
}

/** All of them together: they start with the scenario, and end together. */
export class Devices {
  readonly fleet: SensorFleet;
  readonly #mast: WeatherMast;
  #stopped: Promise<FleetCounts> | undefined;

  constructor(options: DevicesOptions) {
    const { broker, lines, speed, sensors, rate, seed, clock, log } = options;
    const scenario: Scenario = { kind: options.scenario, seed, ...SITE, startedAt: clock.now() };
    this.fleet = new SensorFleet({ broker, devices: sensors, rate, scenario, speed, clock, log });
    this.#mast = new WeatherMast({ name: "mast", ...lines, scenario, speed, clock });
  }

  start(): void {
    this.fleet.start();
    this.#mast.start();
  }

  /** Says nothing more, and waits up to `drainMs` for the acknowledgements that are due. Further calls join the first. */
  stop(drainMs: number): Promise<FleetCounts> {
    this.#mast.stop();
    this.#stopped ??= this.fleet.stop(drainMs);
    return this.#stopped;
  }
}
