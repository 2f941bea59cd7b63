/** `summit-edge config`: is it valid, what is in effect, what may stand in it. */
import type { Command } from "commander";
import { environment } from "../config/environment.ts";
import { readConfig } from "../config/load.ts";
import { ConfigError, type Finding, located, type Problem, problemText } from "../config/problem.ts";
import { publishedSchema } from "../config/published-schema.ts";
import { presentable } from "../config/redact.ts";
import type { SerialPortConfig } from "../config/schema.ts";
import { exposedSecrets } from "../config/secret-files.ts";
import { asYaml, originsOf } from "../config/show.ts";
import { examineFiles } from "../gateway-files.ts";
import { unlistedRevocations } from "../identity/unlisted-revocations.ts";
import { ExitStatus } from "../kernel/errors.ts";
import { configFile, configOption } from "./config-file.ts";
import { checkSerial } from "./doctor/check-files.ts";
import { probeSerial } from "./doctor/probe-files.ts";
import { probeDataDir } from "./doctor/probe-host.ts";
import { pasteable } from "./failure.ts";

interface Options {
  readonly config?: string;
  readonly json?: boolean;
  readonly origin?: boolean;
}

/** Adds the command group `config`. */
export function addConfigCommand(program: Command): void {
  const group = program.command("config").description("check and show the configuration");
  group.addHelpText("after", "\nExample:\n  summit-edge config check --config /etc/summit-edge/gateway.yaml");
  group
    .command("check")
    .description(
      "validate the configuration, environment overrides included, and the files it names; exit status 2 where something is wrong",
    )
    .addOption(configOption())
    .option("--json", "print one JSON object")
    .addHelpText("after", "\nExample:\n  summit-edge config check --config gateway.yaml")
    .action(check);
  group
    .command("show")
    .description("print the effective configuration, secrets redacted")
    .addOption(configOption())
    .option("--json", "print one JSON object")
    .option("--origin", "say where each value comes from")
    .addHelpText("after", "\nExample:\n  summit-edge config show --config gateway.yaml --origin")
    .action(show);
  group
    .command("schema")
    .description("print the configuration's JSON Schema, for editors")
    .option("--json", "the same: the schema is JSON")
    .addHelpText("after", "\nExample:\n  summit-edge config schema > gateway.schema.json")
    .action(() => print(publishedSchema()));
}

async function check(options: Options): Promise<void> {
  const file = configFile(options.config);
  try {
    const loaded = await readConfig(file, environment);
    const { config, originOf } = loaded;
    const { asDaemon } = await probeDataDir(config.gateway.dataDir);
    const files = await examineFiles(config, environment, asDaemon);
    const at = (finding: Finding): Problem => located(finding, originOf(finding.path));
    if (files.problems.length > 0)
      throw new ConfigError(
        loaded.file,
        files.problems.map((finding) => at(named(finding, options))),
      );
    const exposed = await exposedSecrets(config, environment);
    const unlisted = (await unlistedRevocations(config)).map(
      ({ index, message }): Finding => ({
        path: ["mqtt", "listeners", index, "tls", "crlFile"],
        message: `is missing: ${message}`,
      }),
    );
    const warnings = [...loaded.warnings, ...[...files.warnings, ...exposed, ...unlisted].map(at)];
    const notes = (await portNotes(config.serial, asDaemon)).map(at);
    if (options.json) return print({ ok: true, file, problems: [], warnings, notes });
    for (const warning of warnings) process.stderr.write(`warning: ${problemText(warning)}\n`);
    for (const note of notes) process.stderr.write(`note: ${problemText(note)}\n`);
    process.stdout.write("ok\n");
  } catch (thrown) {
    if (!options.json || !(thrown instanceof ConfigError)) throw thrown;
    print({ ok: false, file, problems: thrown.problems, warnings: [], notes: [] });
    process.exitCode = ExitStatus.usage;
  }
}

/** Its commands as they are pasted, where this one was given a configuration. */
function named({ path, message }: Finding, { config }: Options): Finding {
  return { path, message: pasteable(message, config === undefined ? [] : ["--config", config]) };
}

/** What `run` would find of serial ports here and now: nothing that is wrong with the configuration, nor keeps the gateway from starting. */
async function portNotes(ports: readonly SerialPortConfig[], asDaemon: boolean): Promise<Finding[]> {
  const found = await Promise.all(ports.map((port) => probeSerial(port, NONE_OPEN)));
  return found.flatMap((fact, index): Finding[] => {
    const { level, detail, hint } = checkSerial(fact, asDaemon);
    // Whoever holds it may well be the gateway.
    if (level === "ok" || fact.state === "held") return [];
    const key = ports[index]?.path === undefined ? "match" : "path";
    return [{ path: ["serial", index, key], message: [detail, hint].join(". ") }];
  });
}

const NONE_OPEN: ReadonlySet<string> = new Set();

async function show(options: Options): Promise<void> {
  const loaded = await readConfig(configFile(options.config), environment);
  const config = presentable(loaded.config);
  const origin = options.origin ? originsOf(loaded) : undefined;
  if (!options.json) process.stdout.write(asYaml(config, origin));
  else print(origin === undefined ? config : { config, origin });
}

function print(value: unknown): void {
  process.stdout.write(`${JSON.stringify(value, undefined, 2)}\n`);
}
