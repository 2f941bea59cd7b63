/** What every `certs` command begins with: the configuration, the authority's folder and its lock, the passphrase. */
import { chmodSync, mkdirSync, statSync } from "node:fs";
import { dirname, resolve } from "node:path";
import type { Command } from "commander";
import { readConfig } from "../../config/load.ts";
import type { Config } from "../../config/schema.ts";
import { SiteAuthority } from "../../identity/site-authority.ts";
import { type Clock, systemClock } from "../../kernel/clock.ts";
import { clockSources } from "../../kernel/clock-source.ts";
import { codeOf, GatewayError } from "../../kernel/errors.ts";
import { DataDirLock } from "../../outbox/data-dir-lock.ts";
import type { TellTrail } from "../audit-trail.ts";
import { configFile, configOption } from "../config-file.ts";
import { span } from "../format.ts";
import { readOptionFile } from "../option-file.ts";
import type { Terminal } from "../terminal.ts";

export interface SiteOptions {
  readonly config?: string;
  readonly passphraseFile?: string;
  readonly json?: true;
}

/** What a command works with. */
export interface CertsContext {
  readonly terminal: Terminal;
  readonly tell: TellTrail;
  readonly clock: Pick<Clock, "now">;
  /** Tells a person something that is no result. */
  warn(text: string): void;
}

export interface Site {
  readonly config: Config;
  /** Where the authority is, or is to be. */
  readonly folder: string;
}

export const certsContext = (terminal: Terminal, tell: TellTrail): CertsContext => ({
  terminal,
  tell,
  clock: systemClock,
  warn: (text) => void process.stderr.write(`warning: ${text}\n`),
});

/** The options of every `certs` command. */
export function withSiteOptions(command: Command): Command {
  return command
    .addOption(configOption("configuration: gateway.dataDir and certs"))
    .option("--json", "print the result as JSON");
}

/** Those of a command that signs. */
export function withSigningOptions(command: Command): Command {
  return withSiteOptions(command).option(
    "--passphrase-file <file>",
    "file with the passphrase of the authority's key (default: certs.passphraseFile)",
  );
}

export async function siteOf({ config: named }: SiteOptions, { terminal }: CertsContext): Promise<Site> {
  const { config } = await readConfig(configFile(named ?? terminal.installedConfig()), terminal.env);
  return { config, folder: resolve(config.gateway.dataDir, config.certs.folder) };
}

/** Makes the authority's folder where it is missing, and runs `work` while nobody else changes it. */
export async function alone<T>(folder: string, work: () => Promise<T>): Promise<T> {
  const lock = lockOf(folder);
  try {
    return await work();
  } finally {
    lock.release();
  }
}

/** The same for an authority that is there. */
export async function withAuthority<T>(site: Site, work: (authority: SiteAuthority) => Promise<T>): Promise<T> {
  SiteAuthority.open(site.folder);
  return await alone(site.folder, () => work(SiteAuthority.open(site.folder)));
}

function lockOf(folder: string): DataDirLock {
  try {
    mkdirSync(dirname(folder), { recursive: true, mode: 0o750 }); // dataDir, as a rule, before the daemon's first start
    // The daemon, which is another user, reads what is not secret in there, whatever umask root has.
    if (mkdirSync(folder, { recursive: true }) !== undefined) chmodSync(folder, 0o755);
    return DataDirLock.acquire(folder);
  } catch (error) {
    const busy = codeOf(error) === "DATA_DIR_LOCKED";
    throw new GatewayError({
      code: busy ? "CERTS_BUSY" : "CERTS_UNWRITABLE",
      op: "certs.lock",
      message: busy
        ? `another certs command is at work in ${folder}`
        : `${folder} cannot be written by this user (${codeOf(error)})`,
      hint: busy
        ? "Wait until it is done, and try again."
        : "Run the command as the user who made the authority (sudo); for a new one, check gateway.dataDir and certs.folder.",
      cause: error,
    });
  }
}

/**
 * The passphrase of the authority's key, where one is configured or named.
 * @throws GatewayError FILE_UNREADABLE, PASSPHRASE_EMPTY
 */
export async function passphraseOf(
  { passphraseFile }: SiteOptions,
  { config }: Site,
  context: CertsContext,
): Promise<string | undefined> {
  const [option, file] =
    passphraseFile === undefined
      ? ["certs.passphraseFile", config.certs.passphraseFile]
      : ["--passphrase-file", passphraseFile];
  return await readSecret(option, file, context);
}

/** A secret from a file, without the line's end. Warns where everybody may read it. */
export async function readSecret(
  option: string,
  file: string | undefined,
  { warn }: CertsContext,
): Promise<string | undefined> {
  const text = (await readOptionFile(option, file))?.replace(/\r?\n$/, "");
  if (file === undefined || text === undefined) return undefined;
  if (text === "" || /[\r\n]/.test(text)) {
    throw new GatewayError({
      code: "PASSPHRASE_EMPTY",
      op: "certs.readSecret",
      message: `${file} does not hold one line of text`,
      hint: `Write it there, on one line; a new one: openssl rand -base64 24 > ${file}`,
    });
  }
  if ((statSync(file).mode & 0o007) !== 0) warn(`everybody on this machine may read ${file}: chmod 600 ${file}`);
  return text;
}

/** Says what makes the dates of new certificates doubtful: a clock that is not synchronised, or behind what was issued. */
export async function warnOfClock(authority: SiteAuthority | undefined, context: CertsContext): Promise<void> {
  const behind = authority?.behind(context.clock.now()) ?? 0;
  if (behind > 0) {
    context.warn(
      `the clock of this machine is ${span(behind / 1000)} behind the newest certificate here; that one's date is taken for today's. Set the clock right: timedatectl`,
    );
    return;
  }
  for (const source of clockSources()) {
    const synchronised = await source.ask();
    if (synchronised === false) {
      context.warn("the clock of this machine is not synchronised: check that the dates are right (timedatectl)");
    }
    if (synchronised !== undefined) return;
  }
}
