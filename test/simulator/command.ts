/** The two commands of this room as a program of their own, ended as the real one ends them. */
import { Command, CommanderError } from "commander";
import { addFusionCommand } from "#src/cli/fusion.js";
import { addSimulateCommand } from "#src/cli/simulate.js";
import { GatewayError } from "#src/kernel/errors.js";

const program = new Command("summit-edge").exitOverride();
addFusionCommand(program);
addSimulateCommand(program);
try {
  await program.parseAsync();
} catch (error) {
  process.exitCode = error instanceof CommanderError ? (error.exitCode === 0 ? 0 : 2) : 1;
  if (error instanceof GatewayError) console.error(`error ${error.code}: ${error.message}\nhint: ${error.hint}`);
  else if (!(error instanceof CommanderError)) throw error;
}
