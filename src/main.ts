#!/usr/bin/env node
/** The command line: which command, and how the process ends. What a command does is in `cli/`. */
import { Command } from "commander";
import { sayHowConfigIsNamed } from "./cli/arguments.ts";
import { exitStatusOf, failureText } from "./cli/failure.ts";
import { debugging, environment } from "./config/environment.ts";
import { codeOf } from "./kernel/errors.ts";
import { version } from "./kernel/version.ts";

type AddCommand = (program: Command) => void;

/** Command groups in the order of the help, each loaded only when it is needed. */
const GROUPS: Readonly<Record<string, () => Promise<AddCommand>>> = {
  run: async () => (await import("./cli/run.ts")).addRunCommand,
  config: async () => (await import("./cli/config.ts")).addConfigCommand,
  status: async () => (await import("./cli/status.ts")).addStatusCommand,
  outbox: async () => {
    const { addOutboxCommand } = await import("./cli/outbox.ts");
    const { addReplayCommand } = await import("./cli/replay.ts");
    return (program) => addReplayCommand(addOutboxCommand(program));
  },
  "dead-letters": async () => (await import("./cli/dead-letters.ts")).addDeadLettersCommand,
  quarantine: async () => (await import("./cli/quarantine.ts")).addQuarantineCommand,
  certs: async () => (await import("./cli/certs.ts")).addCertsCommand,
  devices: async () => (await import("./cli/devices.ts")).addDevicesCommand,
  keys: async () => (await import("./cli/keys.ts")).addKeysCommand,
  audit: async () => (await import("./cli/audit.ts")).addAuditCommand,
  serial: async () => (await import("./cli/serial.ts")).addSerialCommand,
  profiles: async () => (await import("./cli/profiles.ts")).addProfilesCommand,
  doctor: async () => (await import("./cli/doctor.ts")).addDoctorCommand,
  demo: async () => (await import("./cli/demo.ts")).addDemoCommand,
  simulate: async () => (await import("./cli/simulate.ts")).addSimulateCommand,
  fusion: async () => (await import("./cli/fusion.ts")).addFusionCommand,
};

const VERSION_FLAGS = ["-V", "--version"];

/** The program, with the one command group that was asked for, or with all where that is help or unknown. */
async function createProgram(args: readonly string[]): Promise<Command> {
  const program = new Command("summit-edge")
    .description("field gateway for wildfire sensors: store and forward, with books that balance")
    .version(version, "-V, --version", "print the version")
    .helpOption("-h, --help", "print help")
    .showHelpAfterError("(summit-edge --help lists the commands; each has --help of its own)")
    .addHelpText("after", "\nExample:\n  summit-edge run --config /etc/summit-edge/gateway.yaml")
    .exitOverride();
  if (VERSION_FLAGS.includes(args[0] ?? "")) return program;
  const asked = args.find((arg) => !arg.startsWith("-")) ?? "";
  const wanted = Object.hasOwn(GROUPS, asked) ? [asked] : Object.keys(GROUPS);
  for (const name of wanted) (await GROUPS[name]?.())?.(program);
  sayHowConfigIsNamed(program);
  return program;
}

// Whoever reads our output may stop reading, as `head` does; that is no failure.
process.stdout.on("error", (error) => {
  if (codeOf(error) !== "EPIPE") throw error;
  process.exit();
});

try {
  const args = process.argv.slice(2);
  const program = await createProgram(args);
  await program.parseAsync(args, { from: "user" });
} catch (thrown) {
  process.stderr.write(failureText(thrown, debugging(environment), process.argv.slice(2)));
  process.exitCode = exitStatusOf(thrown);
}
