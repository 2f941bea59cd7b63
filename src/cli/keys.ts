/** `summit-edge keys`: who may use the HTTP API. Works on the keys' own files, whether the daemon runs or not. */
import { type Command, InvalidArgumentError, Option } from "commander";
import { loadConfig } from "../config/load.ts";
import type { Config } from "../config/schema.ts";
import { parseDuration } from "../config/units.ts";
import { type ApiKey, ApiKeys, KEY_NAME, SCOPES, type Scope, shownId } from "../identity/api-keys.ts";
import { type Clock, systemClock } from "../kernel/clock.ts";
import { documentAt } from "../kernel/documentation.ts";
import { GatewayError } from "../kernel/errors.ts";
import { moment } from "./arguments.ts";
import { callerOf, type TellTrail, tellTrail } from "./audit-trail.ts";
import { configFile, configOption } from "./config-file.ts";
import { json, printable, table } from "./format.ts";
import { processTerminal, type Terminal } from "./terminal.ts";

interface Options {
  readonly config?: string;
  readonly json?: true;
}
interface CreateOptions extends Options {
  readonly scope: Scope;
  readonly expires?: Expiry;
}

/** When a key's time runs out: wall time, or so long from now; both in milliseconds. */
type Expiry = { readonly at: number } | { readonly after: number };

export interface KeysSurroundings {
  readonly clock: Pick<Clock, "now">;
  readonly tell: TellTrail;
  readonly terminal: Terminal;
}

/** Adds `summit-edge keys` with `create`, `list` and `revoke`. */
export function addKeysCommand(program: Command, changes: Partial<KeysSurroundings> = {}): void {
  const terminal = changes.terminal ?? processTerminal;
  const around: KeysSurroundings = { clock: systemClock, terminal, tell: tellTrail(terminal), ...changes };
  const group = program
    .command("keys")
    .description("keys for the HTTP API: who may read it, and who may change what")
    .addHelpText(
      "after",
      "\nExample:\n  summit-edge keys create prometheus --scope read --expires 365d" +
        `\n\nWho may call, on a page: ${documentAt("docs/http-api.md")}`,
    );
  addCreate(group, around);
  addList(group, around);
  addRevoke(group, around);
}

const withOptions = (command: Command): Command =>
  command
    .addOption(configOption("configuration, which says where the keys are: gateway.dataDir"))
    .option("--json", "print the result as JSON");

function addCreate(group: Command, around: KeysSurroundings): void {
  const called = "what to call it: letters, digits, . _ - (default: its id)";
  withOptions(group.command("create").argument("[name]", called, keyName))
    .description("make a key and print it, this once: the gateway keeps no more than its hash")
    .addOption(new Option("--scope <scope>", SCOPE_HELP).choices(SCOPES).default("read"))
    .option("--expires <when>", "after so long (90d), or at a time (2027-07-01T00:00:00Z); never without it", expiry)
    .addHelpText("after", "\nExample:\n  summit-edge keys create prometheus --scope read --expires 365d")
    .action(async (name: string | undefined, { scope, expires, ...options }: CreateOptions) => {
      const { clock, terminal } = around;
      const { keys, config } = await openKeys(options, around);
      const now = clock.now();
      const expiresAt = expires && ("at" in expires ? expires.at : now + expires.after);
      if (expiresAt !== undefined && expiresAt <= now) throw expired(expiresAt);
      const { key, text } = await keys.create({
        scope,
        ...(name !== undefined && { name }),
        ...(expiresAt !== undefined && { expiresAt }),
      });
      await record(around, config, "key.created", key);
      terminal.write(options.json ? json({ ...out(key), key: text }, 2) : createdText(key, text));
    });
}

const SCOPE_HELP =
  "read: look; write: also requeue and drop dead letters, and replay; admin: everything, what is yet to come included";

function addList(group: Command, around: KeysSurroundings): void {
  withOptions(group.command("list").description("which keys there are, oldest first; never the keys themselves"))
    .addHelpText("after", "\nExample:\n  summit-edge keys list")
    .action(async (options: Options) => {
      const { keys: all } = await openKeys(options, around);
      const keys = await all.list();
      const now = around.clock.now();
      around.terminal.write(options.json ? json(keys.map(out), 2) : listText(keys, now));
    });
}

function addRevoke(group: Command, around: KeysSurroundings): void {
  withOptions(group.command("revoke").argument("<key>", "its name or its id"))
    .description("end a key: the running daemon refuses it from the next call on")
    .addHelpText("after", "\nExample:\n  summit-edge keys revoke prometheus")
    .action(async (idOrName: string, options: Options) => {
      const { keys, config } = await openKeys(options, around);
      const revoked = await keys.revoke(idOrName);
      if (revoked === undefined) throw unknown(idOrName);
      await record(around, config, "key.revoked", revoked);
      const text = `The key ${revoked.name} (${revoked.id}) is revoked.\n`;
      around.terminal.write(options.json ? json(out(revoked), 2) : text);
    });
}

async function openKeys(
  options: Options,
  { clock, terminal }: KeysSurroundings,
): Promise<{ keys: ApiKeys; config: Config }> {
  const file = options.config ?? terminal.installedConfig() ?? configFile(undefined);
  const config = await loadConfig(file, terminal.env);
  return { keys: new ApiKeys(config.gateway.dataDir, clock), config };
}

type Action = "key.created" | "key.revoked";

async function record(
  { tell, terminal }: KeysSurroundings,
  config: Config,
  action: Action,
  { id, name, scope }: ApiKey,
): Promise<void> {
  await tell(config, { action, actor: callerOf(terminal), subject: name, detail: { id, scope } });
}

const iso = (wall: number): string => new Date(wall).toISOString();

/** As `--json` shows a key. */
function out({ id, name, scope, createdAt, expiresAt }: ApiKey) {
  return { id, name, scope, createdAt: iso(createdAt), expiresAt: expiresAt === undefined ? null : iso(expiresAt) };
}

function createdText({ name, scope, expiresAt }: ApiKey, text: string): string {
  const until = expiresAt === undefined ? "does not expire" : `expires ${iso(expiresAt)}`;
  return [
    text,
    "",
    `This is the key ${name}, with the scope ${scope}; it ${until}.`,
    "Keep it now: it is shown this once. Send it as Authorization: Bearer KEY.",
    "",
  ].join("\n");
}

function listText(keys: readonly ApiKey[], now: number): string {
  if (keys.length === 0) return "There are no keys.\n";
  const until = (at: number | undefined): string => (at === undefined ? "never" : iso(at));
  const rows = keys.map(({ id, name, scope, createdAt, expiresAt }) => {
    const over = expiresAt !== undefined && expiresAt <= now ? " (has expired)" : "";
    return [name, scope, `se_${id}_…`, iso(createdAt), `${until(expiresAt)}${over}`];
  });
  return table(rows, ["name", "scope", "key", "created", "expires"]);
}

function keyName(text: string): string {
  if (KEY_NAME.test(text)) return text;
  throw new InvalidArgumentError(
    "It must begin with a letter or digit, and hold up to 64 letters, digits and . _ - only.",
  );
}

function expiry(text: string): Expiry {
  if (/^\d{4}-/.test(text)) return { at: Date.parse(moment(text)) };
  try {
    return { after: parseDuration(text) };
  } catch {
    throw new InvalidArgumentError("It must be a length of time (12h, 90d), or a time as 2027-07-01T00:00:00Z.");
  }
}

function expired(at: number): GatewayError {
  return new GatewayError({
    code: "USAGE",
    op: "keys.create",
    message: `${iso(at)} has passed: such a key would let nobody in`,
    hint: "Give --expires a time to come, or leave it out; see whether this machine's clock is right.",
  });
}

function unknown(idOrName: string): GatewayError {
  return new GatewayError({
    code: "RESOURCE_NOT_FOUND",
    op: "keys.revoke",
    message: `there is no key ${printable(shownId(idOrName))}`,
    hint: "See which there are: summit-edge keys list",
  });
}
