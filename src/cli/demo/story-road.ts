/**
 * The road that the demo's story goes along: devices, gateway and fusion, with everything that they leave behind in one
 * folder, and on ports that nobody else uses.
 */
import { createWriteStream } from "node:fs";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { stringify } from "yaml";
import type { Environment } from "../../config/environment.ts";
import { loadConfig } from "../../config/load.ts";
import { OVERRIDE_PREFIX } from "../../config/overrides.ts";
import type { Clock } from "../../kernel/clock.ts";
import { createLog, type Logger } from "../../kernel/telemetry.ts";
import type { Ledger } from "../../outbox/ledger.ts";
import { openOffline } from "../../outbox/offline.ts";
import { BATCH_PATH, FusionService } from "../../simulator/fusion.ts";
import { MAST_BAUD_RATE, MAST_COLUMNS } from "../../simulator/mast.ts";
import { Daemon } from "../daemon.ts";
import { closeSerialLines, Devices, developmentCa, openSerialLines, type SerialLines, SITE } from "./devices.ts";
import { freePorts } from "./free-ports.ts";
import { GatewayChild, type GatewayChildOptions } from "./gateway-child.ts";
import type { Undo } from "./undo.ts";

export interface RoadOptions {
  /** Empty; what is left in it is the caller's to remove. */
  readonly folder: string;
  /** How fast the ignition runs. */
  readonly speed: number;
  readonly env: Environment;
  readonly clock: Clock;
  readonly random: () => number;
  readonly stopping: AbortSignal;
}

/** MQTT sensors, and their messages per second, all together. */
export const SENSORS = 8;
const RATE = 60;

interface Ports {
  readonly mqtt: number;
  readonly http: number;
  readonly fusion: number;
}

export class StoryRoad {
  readonly daemon: Daemon;
  readonly fusion: FusionService;
  readonly #options: RoadOptions;
  readonly #ports: Ports;
  readonly #gatewayOptions: GatewayChildOptions;
  #gateway: GatewayChild | undefined;
  #devices: Devices | undefined;

  private constructor(options: RoadOptions, ports: Ports, fusion: FusionService) {
    const { folder, env, clock } = options;
    this.#options = options;
    this.#ports = ports;
    this.fusion = fusion;
    this.#gatewayOptions = {
      config: join(folder, "gateway.yaml"),
      env: withoutOverrides(env),
      api: { url: new URL(`http://127.0.0.1:${ports.http}`) },
      logFile: join(folder, "gateway.log"),
      clock,
    };
    this.daemon = new Daemon(this.#gatewayOptions.api);
  }

  /** Brings everything up, devices last. What has to be undone goes to `undo`, also where this fails. */
  static async open(options: RoadOptions, undo: Undo): Promise<StoryRoad> {
    const { folder, clock, random } = options;
    const output = createWriteStream(join(folder, "demo.log"));
    undo.add(() => new Promise<void>((closed) => output.end(closed)));
    const log = await createLog({ level: "info", format: "json" }, {}, output);
    const [mqtt = 0, http = 0, port = 0] = await freePorts(3, random);
    const fusion = new FusionService({ clock, log: log.child({ part: "fusion" }) });
    undo.add(() => fusion.dispose());
    await fusion.listen(port);
    const lines = await openSerialLines(clock, log);
    undo.add(() => closeSerialLines(lines));

    const road = new StoryRoad(options, { mqtt, http, fusion: port }, fusion);
    await writeFile(join(folder, "gateway.yaml"), stringify(road.#config(lines)));
    undo.add(() => road.#gateway?.stop());
    await road.startGateway();
    road.#devices = await road.#createDevices(lines, log.child({ part: "devices" }));
    undo.add(() => road.#devices?.stop(0));
    road.#devices.start();
    return road;
  }

  /** The gateway's process; another one after each start. */
  get gateway(): GatewayChild {
    if (this.#gateway === undefined) throw new Error("the gateway was never started");
    return this.#gateway;
  }

  get devices(): Devices {
    if (this.#devices === undefined) throw new Error("the devices were never started");
    return this.#devices;
  }

  async startGateway(): Promise<void> {
    this.#gateway = await GatewayChild.start(this.#gatewayOptions, this.#options.stopping);
  }

  /** From now on fusion refuses connections. */
  takeFusionAway(): Promise<void> {
    return this.fusion.close();
  }

  async bringFusionBack(): Promise<void> {
    await this.fusion.listen(this.#ports.fusion);
  }

  /** The ledger as the gateway, which must have ended, left it on the disk. */
  async ledgerOnDisk(): Promise<Ledger> {
    const { config, env } = this.#gatewayOptions;
    const offline = await openOffline(await loadConfig(config, env));
    try {
      return (await offline.admin.stats()).ledger;
    } finally {
      await offline.close();
    }
  }

  #config(lines: SerialLines): object {
    const { mqtt, http, fusion } = this.#ports;
    const baudRate = MAST_BAUD_RATE;
    return {
      gateway: { id: "demo", location: SITE, dataDir: this.#dataDir },
      mqtt: { listeners: [{ bind: "127.0.0.1", port: mqtt, tls: { development: true } }] },
      serial: [
        { name: "mast", path: lines.nmea.path, baudRate, codec: "nmea0183", class: "position" },
        { name: "weather", path: lines.csv.path, baudRate, codec: "csv", class: "weather", columns: MAST_COLUMNS },
      ],
      outbox: { maxBytes: "64MiB", reserveFreeDisk: "16MiB" },
      uplink: {
        url: `http://127.0.0.1:${fusion}${BATCH_PATH}`,
        // Quick to notice and small to send, so that a minute is enough to see both.
        reachability: "500ms",
        batch: { maxReadings: 100 },
        retry: { initial: "200ms", max: "1s" },
        breaker: { consecutiveFailures: 3, recovery: "5s" },
      },
      http: { port: http },
    };
  }

  async #createDevices(lines: SerialLines, log: Logger): Promise<Devices> {
    const ca = await readFile(developmentCa(this.#dataDir), "utf8");
    const { speed, clock } = this.#options;
    const broker = { url: `mqtts://127.0.0.1:${this.#ports.mqtt}`, ca };
    const load = { sensors: SENSORS, rate: RATE, seed: 1 };
    return new Devices({ broker, lines, scenario: "ignition", speed, ...load, clock, log });
  }

  get #dataDir(): string {
    return join(this.#options.folder, "data");
  }
}

/** The story has its own configuration: overrides for another gateway must not meddle. */
function withoutOverrides(env: Environment): Environment {
  return Object.fromEntries(Object.entries(env).filter(([name]) => !name.startsWith(OVERRIDE_PREFIX)));
}
