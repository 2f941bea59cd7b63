/** How a command ends that did not succeed: what is said, and the exit status. */
import { CommanderError } from "commander";
import { ExitStatus, GatewayError } from "../kernel/errors.ts";

/** Codes of a wrong call or configuration: the same try can never succeed. */
const USAGE_CODES = new Set([
  "ACL_FILE_INVALID",
  "CONFIG_INVALID",
  "CONFIG_MISSING",
  "INVALID_DURATION",
  "INVALID_SIZE",
  "NOT_AN_OUTBOX",
  "PASSWORD_FILE_INVALID",
  "PASSWORD_FILE_UNSET",
  "PORT_UNKNOWN",
  "PROFILE_ASKS",
  "PROFILE_INVALID",
  "PROFILE_UNKNOWN",
  "SERIAL_PORT_UNKNOWN",
  "UPLINK_URL_REFUSED",
  "URL_INVALID",
  "USAGE",
]);

/** Exit status for whatever a command threw; help and version are no failures. */
export function exitStatusOf(thrown: unknown): number {
  if (thrown instanceof CommanderError) return thrown.exitCode === 0 ? 0 : ExitStatus.usage;
  if (thrown instanceof GatewayError && thrown.code === "OUTBOX_IO_ERROR") return ExitStatus.ioError;
  return thrown instanceof GatewayError && USAGE_CODES.has(thrown.code) ? ExitStatus.usage : ExitStatus.failed;
}

/** Commands that take a configuration, as hints write them; not where it is named already. */
const COMMAND =
  /\bsummit-edge (?:(?:audit|certs|dead-letters|devices|keys|outbox) [a-z]+|config (?:check|show)|doctor(?: serial)?|serial tail|status)\b(?! --config)/g;

/**
 * A hint whose commands work as they are pasted: with the configuration that this command was given in `args`, without which
 * they would look for the installed one.
 */
export function pasteable(hint: string, args: readonly string[]): string {
  const at = args.findIndex((arg) => arg === "--config" || arg.startsWith("--config="));
  const file = args[at] === "--config" ? args[at + 1] : args[at]?.slice("--config=".length);
  if (file === undefined) return hint;
  const quoted = /^[\w./:@%+-]+$/.test(file) ? file : `'${file.replaceAll("'", `'\\''`)}'`;
  return hint.replaceAll(COMMAND, (command) => `${command} --config ${quoted}`);
}

/**
 * What is said about it on standard error; nothing where the command line's parser has spoken already. `args`: what the
 * command was called with.
 */
export function failureText(thrown: unknown, withStack: boolean, args: readonly string[] = []): string {
  if (thrown instanceof CommanderError) return "";
  const stack = withStack && thrown instanceof Error ? `${thrown.stack}\n` : "";
  if (thrown instanceof GatewayError) {
    return `error: ${thrown.message}\nhint: ${pasteable(thrown.hint, args)}\n${stack}`;
  }
  const message = thrown instanceof Error ? `${thrown.name}: ${thrown.message}` : String(thrown);
  const hint = "hint: This is a fault in the program: please report it, with what SUMMIT_EDGE_DEBUG=1 adds.\n";
  return `error: ${message}\n${withStack ? "" : hint}${stack}`;
}
