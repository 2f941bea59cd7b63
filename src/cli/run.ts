/** `summit-edge run`: the daemon, in the foreground. */
import type { Command } from "commander";
import { readConfigApart } from "../config/load-apart.ts";
import { problemText } from "../config/problem.ts";
import type { Config } from "../config/schema.ts";
import { systemClock } from "../kernel/clock.ts";
import { createLog } from "../kernel/telemetry.ts";
import { version } from "../kernel/version.ts";
import { configFile, configOption } from "./config-file.ts";
import { standBy, supervise } from "./supervise.ts";

/** Adds the command `run`. */
export function addRunCommand(program: Command): void {
  program
    .command("run")
    .description("run the gateway in the foreground until SIGTERM or SIGINT; SIGHUP reloads what can be reloaded")
    .addOption(configOption())
    .addHelpText("after", "\nExample:\n  summit-edge run --config /etc/summit-edge/gateway.yaml")
    .action(run);
}

async function run(options: { config?: string }): Promise<void> {
  const exit = (status: number): void => process.exit(status);
  const handOver = standBy({ events: process, exit });
  const { file, config, warnings } = await readConfigApart(configFile(options.config), { credentials: "required" });
  const log = await createLog(config.log, { gateway: config.gateway.id, version });
  for (const warning of warnings) log.warn({ config: file }, problemText(warning));
  const { Gateway } = await import("../gateway.ts");
  const kill = (): boolean => process.kill(process.pid, "SIGKILL");
  const start = () => startOf(Gateway.start(config, { configPath: file, log, exit }), config);
  const supervised = supervise(start, { events: process, clock: systemClock, log, exit, kill });
  handOver();
  await supervised;
}

async function startOf<T>(starting: Promise<T>, config: Config): Promise<T> {
  try {
    return await starting;
  } catch (fault) {
    const { withMaker } = await import("../gateway-files.ts");
    throw withMaker(fault, config);
  }
}
