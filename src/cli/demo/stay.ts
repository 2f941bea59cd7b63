/**
 * `summit-edge demo --stay`: the whole road on this machine until Ctrl-C, to look at and to play with. It supervises the
 * gateway as systemd does in the field: one that is killed is started again, on the same data.
 */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Environment } from "../../config/environment.ts";
import { readConfig } from "../../config/load.ts";
import { OVERRIDE_PREFIX } from "../../config/overrides.ts";
import type { Config, SerialPortConfig } from "../../config/schema.ts";
import type { Clock } from "../../kernel/clock.ts";
import { GatewayError } from "../../kernel/errors.ts";
import { createLog, type Logger } from "../../kernel/telemetry.ts";
import { BATCH_PATH, FusionService } from "../../simulator/fusion.ts";
import type { ScenarioKind } from "../../simulator/scenario.ts";
import { daemonAddress } from "../daemon.ts";
import { brokerOf, closeSerialLines, Devices, type DevicesOptions, openSerialLines } from "./devices.ts";
import { endingText, GatewayChild } from "./gateway-child.ts";
import { Interrupted } from "./interrupted.ts";
import type { Screen } from "./screen.ts";
import { Undo } from "./undo.ts";
import { welcome } from "./welcome.ts";

export interface StayOptions {
  /** The gateway's configuration; the shipped `config/demo.yaml` without it. */
  readonly config?: string;
  /** Instead of the port in `uplink.url`; 0 takes any free one. */
  readonly fusionPort?: number;
  readonly env: Environment;
  readonly clock: Clock;
  readonly screen: Screen;
  readonly stopping: AbortSignal;
}

const SHIPPED = fileURLToPath(new URL("../../../config/demo.yaml", import.meta.url));
const DEFAULT_FUSION_PORT = 8490;
/** Sensors, and their messages per second, all together: enough to see something move, and little on the disk. */
const LOAD = { sensors: 6, rate: 3, seed: 1 } as const;
interface Episode {
  readonly scenario: ScenarioKind;
  readonly speed: number;
  readonly lastsMs: number;
  readonly text: string;
}
/** What the site goes through, again and again: an active fire comes after a minute and a quarter, and lasts a while. */
const EPISODES: readonly Episode[] = [
  { scenario: "day", speed: 1, lastsMs: 180_000, text: "Nothing burns: an ordinary day." },
  { scenario: "ignition", speed: 4, lastsMs: 150_000, text: "Something burns: the sensors will raise alerts." },
];
/** Before a gateway that was killed is started again. */
const RESTART_MS = 1_000;
/** How long the end of an episode waits for acknowledgements; there may be no gateway to give them. */
const DRAIN_MS = 2_000;

/** Runs until `stopping`. @throws GatewayError where a part cannot start, or the gateway cannot be started again. */
export async function stay(options: StayOptions): Promise<void> {
  const undo = new Undo();
  try {
    await run(options, undo);
  } catch (fault) {
    if (!(fault instanceof Interrupted)) throw fault;
  } finally {
    await undo.all();
  }
  options.screen.say("Stopped. What was accepted is kept for the next time.");
}

async function run(options: StayOptions, undo: Undo): Promise<void> {
  const { clock, env, screen, stopping } = options;
  const { file, config } = await readConfig(options.config ?? SHIPPED, env, { credentials: "required" });
  assertPortsKnown(config);
  const log = await createLog({ level: "info", format: "pretty" }, {});
  const fusion = await startFusion(options, config, log, undo);
  const lines = await openSerialLines(clock, log);
  undo.add(() => closeSerialLines(lines));

  const ofGateway = {
    config: file,
    env: {
      ...env,
      ...pathOverride(config.serial, "nmea0183", lines.nmea.path),
      ...pathOverride(config.serial, "csv", lines.csv.path),
      [`${OVERRIDE_PREFIX}UPLINK__URL`]: `${fusion}${BATCH_PATH}`,
    },
    api: await daemonAddress({ config: file }, { env, installedConfig: () => undefined }),
    clock,
  };
  let gateway = await GatewayChild.start(ofGateway, stopping);
  undo.add(() => gateway.stop());
  const broker = await brokerOf(config);
  screen.heading("Summit Edge is running: devices, gateway and fusion, all on this machine.");
  for (const line of welcome(config, ofGateway.api.url, fusion, gateway.pid)) screen.verbatim(line);
  if (broker !== undefined) liveThrough({ ...LOAD, broker, lines, clock, log }, screen, undo);

  const stopped = new Promise<void>((resolve) => stopping.addEventListener("abort", () => resolve(), { once: true }));
  while (!stopping.aborted) {
    await Promise.race([gateway.ended, stopped]);
    if (stopping.aborted) return;
    screen.say(
      `The gateway is gone: ${endingText(gateway.ending)}. It is started again, as systemd would in the field.`,
    );
    await clock.sleep(RESTART_MS, stopping);
    gateway = await GatewayChild.start(ofGateway, stopping);
    screen.say(`The gateway is back, as process ${gateway.pid}.`);
  }
}

/** Starts fusion, with what it receives in the dataDir, and returns its address. */
async function startFusion(options: StayOptions, config: Config, log: Logger, undo: Undo): Promise<string> {
  const { dataDir } = config.gateway;
  mkdirSync(dataDir, { recursive: true, mode: 0o750 });
  const service = new FusionService({
    db: join(dataDir, "fusion.db"),
    clock: options.clock,
    log: log.child({ part: "fusion" }),
  });
  undo.add(() => service.dispose());
  const url = config.uplink.url === undefined ? undefined : new URL(config.uplink.url);
  const configured = url?.protocol === "http:" && url.port !== "" ? Number(url.port) : DEFAULT_FUSION_PORT;
  const port = options.fusionPort ?? configured;
  try {
    return (await service.listen(port)).url;
  } catch (fault) {
    if (!(fault instanceof GatewayError && fault.code === "FUSION_PORT_TAKEN")) throw fault;
    const { code, op, message, cause } = fault;
    const hint = "Stop the program that has it, or choose another port with --fusion-port (or in uplink.url).";
    throw new GatewayError({ code, op, message: `fusion: ${message}`, hint, cause });
  }
}

/** The devices, episode after episode, until it is undone. */
function liveThrough(options: Omit<DevicesOptions, "scenario" | "speed">, screen: Screen, undo: Undo): void {
  const ending = new AbortController();
  const live = async (): Promise<void> => {
    while (!ending.signal.aborted) {
      for (const { text, lastsMs, ...scenario } of EPISODES) {
        if (ending.signal.aborted) return;
        screen.say(text);
        const devices = new Devices({ ...options, ...scenario });
        devices.start();
        await options.clock.sleep(lastsMs, ending.signal);
        await devices.stop(DRAIN_MS);
      }
    }
  };
  const lived = live();
  undo.add(() => {
    ending.abort();
    return lived;
  });
}

/** The environment variable that gives the first port with this codec the path of a simulated line; none without such a port. */
function pathOverride(ports: readonly SerialPortConfig[], codec: string, path: string): Environment {
  const index = ports.findIndex((port) => port.codec === codec);
  return index < 0 ? {} : { [`${OVERRIDE_PREFIX}SERIAL__${index}__PATH`]: path };
}

/** The demo has to find what it started, again after a restart. */
function assertPortsKnown({ http, mqtt }: Config): void {
  const keys = mqtt.listeners.map(({ port }, index) => ({ key: `mqtt.listeners[${index}].port`, port }));
  const unknown = [{ key: "http.port", port: http.port }, ...keys].find(({ port }) => port === 0);
  if (unknown === undefined) return;
  throw new GatewayError({
    code: "USAGE",
    op: "demo.stay",
    message: `${unknown.key} is 0: the demo could not find the gateway on a port that nobody knows`,
    hint: `Give ${unknown.key} a number.`,
  });
}
