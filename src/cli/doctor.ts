/** `summit-edge doctor`: what is wrong on this machine, and how to mend it. It looks and changes nothing. */
import { existsSync } from "node:fs";
import type { Command } from "commander";
import { type LoadedConfig, readConfig } from "../config/load.ts";
import { problemText } from "../config/problem.ts";
import { unlistedRevocations } from "../identity/unlisted-revocations.ts";
import { systemClock } from "../kernel/clock.ts";
import { ExitStatus } from "../kernel/errors.ts";
import { configFile, configOption } from "./config-file.ts";
import { examineTrail } from "./doctor/check-audit.ts";
import {
  checkConditions,
  checkDaemon,
  checkOutbox,
  checkOutboxFile,
  checkWear,
  type DaemonFact,
} from "./doctor/check-daemon.ts";
import { checkFile, checkSerial } from "./doctor/check-files.ts";
import {
  checkClock,
  checkDataDir,
  checkFileSystem,
  checkNode,
  checkSpace,
  type DataDirFacts,
} from "./doctor/check-host.ts";
import { checkPort, checkUplink } from "./doctor/check-network.ts";
import { type Finding, type Level, ok, warn } from "./doctor/finding.ts";
import { probeDaemon, probeOutboxFile } from "./doctor/probe-daemon.ts";
import { probeFiles, probeSerial } from "./doctor/probe-files.ts";
import { probeClock, probeDataDir, probeFileSystem } from "./doctor/probe-host.ts";
import { probePorts, probeUplink } from "./doctor/probe-network.ts";
import { addDoctorSerialCommand } from "./doctor-serial.ts";
import { json, printable } from "./format.ts";
import { processTerminal, type Terminal } from "./terminal.ts";

interface DoctorOptions {
  readonly config?: string;
  readonly json?: true;
}

/** Adds `summit-edge doctor`. */
export function addDoctorCommand(program: Command, terminal: Terminal = processTerminal): void {
  const command = program
    .command("doctor")
    .description(
      "look for what is wrong (ports, permissions, disk, clock, certificates, uplink) and say how to mend it",
    )
    .addOption(configOption())
    .option("--json", "print one JSON object")
    .addHelpText(
      "after",
      "\nIt changes nothing, sends no reading and does not disturb a running daemon. Exit status 1 where something fails.\n\nExample:\n  sudo summit-edge doctor --config /etc/summit-edge/gateway.yaml",
    )
    .action((options: DoctorOptions) => doctor(options, terminal));
  addDoctorSerialCommand(command, terminal);
}

async function doctor(options: DoctorOptions, terminal: Terminal): Promise<void> {
  const loaded = await readConfig(
    configFile(options.config ?? terminal.installedConfig()),
    withCredentials(terminal.env),
  );
  const findings: Finding[] = [];
  for await (const finding of examine(loaded, terminal)) {
    findings.push(finding);
    if (!options.json) terminal.write(lineOf(finding));
  }
  const of = (level: Level): number => findings.filter((finding) => finding.level === level).length;
  if (options.json) terminal.write(json({ ok: of("fail") === 0, config: loaded.file, findings }, 2));
  else terminal.write(`\n${findings.length} checks: ${of("ok")} ok, ${of("warn")} to look at, ${of("fail")} failed.\n`);
  if (of("fail") > 0) process.exitCode = ExitStatus.failed;
}

/** Where systemd keeps what it has handed over to the running unit; root may look. */
const UNIT_CREDENTIALS = "/run/credentials/summit-edge.service";

function withCredentials(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  if (env.CREDENTIALS_DIRECTORY !== undefined || !existsSync(UNIT_CREDENTIALS)) return env;
  return { ...env, CREDENTIALS_DIRECTORY: UNIT_CREDENTIALS };
}

const CHECK_WIDTH = 12;

function lineOf({ check, level, detail, hint }: Finding): string {
  const end = detail.endsWith(".") ? "" : ".";
  const advice = hint === undefined ? "" : `${end} ${hint}`;
  return `${level.padEnd(4)}  ${printable(check).padEnd(CHECK_WIDTH)}  ${printable(`${detail}${advice}`)}\n`;
}

/** Everything that is looked at, each finding as soon as it is there: the network may take its time. */
async function* examine({ file, config, warnings }: LoadedConfig, terminal: Terminal): AsyncGenerator<Finding> {
  const { gateway, mqtt, serial, uplink } = config;
  yield checkNode(process.version);
  yield ok("config", `${file} is valid`);
  for (const warning of warnings) yield warn("config", problemText(warning), `Look at ${file}.`);

  const found = await probeDaemon(file, gateway.dataDir, terminal);
  yield checkDaemon(found, gateway.id);
  // What another gateway says at this address tells nothing of this one.
  const isOwn = found.kind !== "answers" || found.status.gateway === gateway.id;
  const daemon: DaemonFact = isOwn ? found : { kind: "stopped" };
  if (daemon.kind === "answers") yield* checkConditions(daemon.status);
  for (const port of await probePorts(config, daemon.kind !== "stopped")) {
    yield checkPort(port, daemon.kind !== "stopped");
  }

  const dataDir = await probeDataDir(gateway.dataDir);
  yield* examineData(config, dataDir, daemon);
  if (!toldOfTrail(daemon)) yield await examineTrail(gateway.dataDir, dataDir.asDaemon);
  yield checkWear(daemon);
  const now = systemClock.now();
  yield checkClock(daemon.kind === "answers" ? daemon.status.clock.quality : await probeClock(), now);
  for (const fact of await probeFiles(config)) yield checkFile(fact, now, dataDir.asDaemon);
  // While the daemon answers, it is among its conditions.
  for (const { index, message } of daemon.kind === "answers" ? [] : await unlistedRevocations(config))
    yield warn(
      "files",
      `mqtt.listeners[${index}].tls.crlFile is missing`,
      `${message.charAt(0).toUpperCase()}${message.slice(1)}.`,
    );
  if (mqtt.listeners.some(({ tls }) => tls?.development))
    yield warn("files", "a listener uses development certificates", "Never for the field: name certFile and keyFile.");
  const sources = daemon.kind === "answers" ? daemon.status.sources : [];
  const openPorts = new Set(sources.filter(({ state }) => state === "open").map(({ name }) => name));
  for (const port of serial) yield checkSerial(await probeSerial(port, openPorts), dataDir.asDaemon);
  yield checkUplink(await probeUplink(uplink), now);
}

const toldOfTrail = (daemon: DaemonFact): boolean =>
  daemon.kind === "answers" && daemon.status.conditions.some(({ component }) => component === "audit");

/** The folder of the data, what it lies on, and the outbox in it. */
async function* examineData(
  config: LoadedConfig["config"],
  dataDir: DataDirFacts,
  daemon: DaemonFact,
): AsyncGenerator<Finding> {
  yield checkDataDir(dataDir);
  const file = await probeOutboxFile(config);
  const system = await probeFileSystem(dataDir.nearest);
  if (system !== undefined) {
    const { maxBytes, reserveFreeDisk } = config.outbox;
    yield checkFileSystem(system.type, dataDir.nearest);
    yield checkSpace({ ...system, outboxBytes: file?.bytes ?? 0, maxBytes, reserveFreeDisk });
  }
  if (daemon.kind === "answers") yield* checkOutbox(daemon.status);
  else if (daemon.kind === "stopped" && file !== undefined) yield checkOutboxFile(file);
}
