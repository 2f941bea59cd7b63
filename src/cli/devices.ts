/** `summit-edge devices`: which devices may log in with a password, and what each may do. */
import { readFile } from "node:fs/promises";
import type { Command } from "commander";
import { loadConfig } from "../config/load.ts";
import type { Config } from "../config/schema.ts";
import { readAcl } from "../identity/access-control.ts";
import { type AclRule, type AclRules, IDENTITY_NAME, IDENTITY_NAME_RULE, rulesFor } from "../identity/acl.ts";
import { changePasswords, loadPasswords, withEntry, withoutEntries } from "../identity/password-file.ts";
import { entryFor, generatePassword, MAX_PASSWORD_BYTES, type PasswordEntries } from "../identity/passwords.ts";
import { documentAt } from "../kernel/documentation.ts";
import { codeOf, ExitStatus, GatewayError, messageOf } from "../kernel/errors.ts";
import { callerOf, type TellTrail, tellTrail } from "./audit-trail.ts";
import { configFile, configOption } from "./config-file.ts";
import { pasteable } from "./failure.ts";
import { json, printable, table } from "./format.ts";
import { WHEN_IN_FORCE } from "./in-force.ts";
import { readSecret } from "./secret-input.ts";
import { processTerminal, type Terminal } from "./terminal.ts";

interface Options {
  readonly config?: string;
  readonly json?: true;
}
interface AddOptions extends Options {
  readonly passwordFile?: string;
  readonly generate?: true;
  readonly replace?: true;
}

/** What `devices list` tells of one. */
interface Device {
  readonly name: string;
  /** Whether it may log in with a password; a certificate may do so all the same. */
  readonly password: boolean;
  /** The access rules about it; `null` where none are configured, absent where their file cannot be used. */
  readonly rules?: readonly AclRule[] | null;
  /** What it may speak for, beside itself. */
  readonly sources: readonly string[];
}

/** Adds `summit-edge devices` with `add`, `list` and `remove`. `tell` is told what was changed. */
export function addDevicesCommand(
  program: Command,
  terminal: Terminal = processTerminal,
  tell: TellTrail = tellTrail(terminal),
): void {
  const group = program.command("devices").description("passwords of devices, and what each device may do");
  group.addHelpText(
    "after",
    `\nExample:\n  summit-edge devices add mast-3 --generate\n\nWho may do what, on a page: ${documentAt("docs/access.md")}`,
  );
  withOptions(group.command("add <name>").description("let a device log in with its name and a password"))
    .option("--password-file <file>", "take the password from a file's first line (default: from standard input)")
    .option("--generate", "make a password that cannot be guessed, and show it once")
    .option("--replace", "give a device that is there another password")
    .addHelpText("after", "\nExample:\n  summit-edge devices add mast-3 --generate")
    .action((name: string, options: AddOptions, command: Command) => add(name, options, command, terminal, tell));
  withOptions(group.command("list").description("which devices there are, and what each may do"))
    .addHelpText("after", "\nExample:\n  summit-edge devices list --json")
    .action((options: Options) => list(options, terminal));
  withOptions(
    group.command("remove <name...>").description("take devices' passwords away, and close their connections"),
  )
    .addHelpText("after", "\nExample:\n  summit-edge devices remove mast-3")
    .action((names: string[], options: Options) => remove(names, options, terminal, tell));
}

function withOptions(command: Command): Command {
  return command
    .addOption(configOption("configuration: mqtt.passwordFile is the file that is changed"))
    .option("--json", "print the result as JSON");
}

async function add(
  name: string,
  options: AddOptions,
  command: Command,
  terminal: Terminal,
  tell: TellTrail,
): Promise<void> {
  const usage = (message: string): never => command.error(`error: ${message}`, { exitCode: ExitStatus.usage });
  if (!IDENTITY_NAME.test(name)) usage(`a device's name is ${IDENTITY_NAME_RULE}, which ${printable(name)} is not`);
  if (options.generate && options.passwordFile !== undefined) usage("give either --generate or --password-file");
  const { file, config } = await passwordsOf(options, terminal);
  const mayReplace = options.replace === true;
  mustBeNew(name, await loadPasswords(file), mayReplace);

  const password = options.generate
    ? generatePassword()
    : await readSecret("password", "--password-file", options.passwordFile);
  if (Buffer.byteLength(password) > MAX_PASSWORD_BYTES) usage(`a password has at most ${MAX_PASSWORD_BYTES} bytes`);
  const entry = await entryFor(Buffer.from(password));
  let replaced = false;
  await changePasswords(file, config.gateway.dataDir, terminal.pause, (text, entries) => {
    mustBeNew(name, entries, mayReplace);
    replaced = entries.has(name);
    return withEntry(text, name, entry);
  });
  await tell(config, { action: "device.added", actor: callerOf(terminal), subject: name, detail: { replaced } });

  const shown = options.generate ? { password } : {};
  if (options.json) return terminal.write(json({ name, file, replaced, ...shown }, 2));
  const once = options.generate ? `password: ${password}\nIt is shown this once, and kept nowhere.\n` : "";
  const done = replaced ? `${name} has another password.` : `${name} may log in.`;
  terminal.write(`${once}${done}\n${WHEN_IN_FORCE}\n`);
}

async function list(options: Options, terminal: Terminal): Promise<void> {
  const { config } = await configOf(options, terminal);
  const { passwordFile, aclFile } = config.mqtt;
  if (passwordFile === undefined) warn("no mqtt.passwordFile is configured: devices have no passwords");
  const entries: PasswordEntries = passwordFile === undefined ? new Map() : await loadPasswords(passwordFile);
  let acl: AclRules | null | undefined = null;
  try {
    if (aclFile !== undefined) acl = await rulesIn(aclFile);
  } catch (error) {
    if (!(error instanceof GatewayError)) throw error;
    acl = undefined;
    warn(`what they may do is not known, and the gateway does not start so: ${error.message}. ${error.hint}`);
  }
  const devices = devicesOf(config, entries, acl);
  if (options.json) return terminal.write(json(devices, 2));
  if (devices.length === 0) {
    const given = options.config === undefined ? [] : ["--config", options.config];
    const command = pasteable("summit-edge devices add NAME --generate", given);
    const first = passwordFile === undefined ? "Set mqtt.passwordFile in the configuration; then, to" : "To";
    return terminal.write(`There are no devices. ${first} make one: ${command}\n`);
  }
  const rows = devices.map((device) => [
    device.name,
    device.password ? "yes" : "no",
    mayText(device),
    device.sources.join(", "),
  ]);
  terminal.write(table(rows, ["device", "password", "may", "speaks for"]));
}

/** Standard error: the list alone is the result. */
const warn = (text: string): void => void process.stderr.write(`warning: ${printable(text)}\n`);

/** `acl`: `null` where none is configured, `undefined` where it is not known. */
function devicesOf(
  { mqtt: { sources } }: Config,
  entries: PasswordEntries,
  acl: AclRules | null | undefined,
): Device[] {
  const names = new Set([...entries.keys(), ...(acl?.users.keys() ?? []), ...sources.map(({ user }) => user)]);
  return [...names].sort().map((name) => ({
    name,
    password: entries.has(name),
    // Which client id it will have nobody knows yet.
    ...(acl !== undefined && { rules: acl && rulesFor(acl, { name, clientId: "%c" }) }),
    sources: sources.filter(({ user }) => user === name).flatMap(({ names: others }) => others),
  }));
}

function mayText({ rules }: Device): string {
  if (rules === undefined) return "not known";
  return rules === null ? "every topic, in its own name" : rules.map(ruleText).join("; ") || "nothing";
}

/** @throws GatewayError FILE_UNREADABLE, ACL_FILE_INVALID */
async function rulesIn(path: string): Promise<AclRules> {
  try {
    return readAcl({ path, content: await readFile(path) }).rules;
  } catch (cause) {
    if (cause instanceof GatewayError) throw cause;
    throw new GatewayError({
      code: "FILE_UNREADABLE",
      op: "devices.list",
      message: `${path} cannot be read: ${codeOf(cause) ?? messageOf(cause)}`,
      hint: `Put the access rules there (${documentAt("docs/access.md")} has the syntax), or leave mqtt.aclFile out.`,
      cause,
    });
  }
}

const ruleText = ({ access, filter }: AclRule): string => `${access} ${filter}`;

async function remove(names: readonly string[], options: Options, terminal: Terminal, tell: TellTrail): Promise<void> {
  const { file, config } = await passwordsOf(options, terminal);
  const gone = [...new Set(names)];
  await changePasswords(file, config.gateway.dataDir, terminal.pause, (text, entries) => {
    const unknown = gone.filter((name) => !entries.has(name));
    if (unknown.length > 0) throw unknownDevices(unknown);
    return withoutEntries(text, gone);
  });
  const actor = callerOf(terminal);
  await tell(config, ...gone.map((subject) => ({ action: "device.removed" as const, actor, subject })));
  const done = `${gone.join(", ")} may not log in with a password any more.\n${WHEN_IN_FORCE}\n`;
  terminal.write(options.json ? json({ removed: gone, file }, 2) : done);
}

async function configOf(options: Options, terminal: Terminal): Promise<{ named: string; config: Config }> {
  const named = configFile(options.config ?? terminal.installedConfig());
  return { named, config: await loadConfig(named, terminal.env) };
}

async function passwordsOf(options: Options, terminal: Terminal): Promise<{ file: string; config: Config }> {
  const { named, config } = await configOf(options, terminal);
  const file = config.mqtt.passwordFile;
  if (file !== undefined) return { file, config };
  throw new GatewayError({
    code: "PASSWORD_FILE_UNSET",
    op: "devices.find",
    message: `${named} names no mqtt.passwordFile: devices have no passwords`,
    hint: "Set mqtt.passwordFile there, for example to /etc/summit-edge/passwords, and try again; then restart the gateway: systemctl restart summit-edge",
  });
}

function mustBeNew(name: string, entries: ReadonlyMap<string, string>, mayReplace: boolean): void {
  if (mayReplace || !entries.has(name)) return;
  throw new GatewayError({
    code: "DEVICE_EXISTS",
    op: "devices.add",
    message: `there is a device ${name} already`,
    hint: `Say --replace to give it another password, which ends the one it has: summit-edge devices add ${name} --replace --generate`,
  });
}

function unknownDevices(names: readonly string[]): GatewayError {
  return new GatewayError({
    code: "RESOURCE_NOT_FOUND",
    op: "devices.remove",
    message: `no device has a password and is called ${names.map(printable).join(" or ")}; nothing was changed`,
    hint: "See which there are: summit-edge devices list",
  });
}
