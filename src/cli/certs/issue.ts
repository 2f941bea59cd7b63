/** `certs issue`, and what `certs renew` shares with it: certificates for devices and for the gateway itself. */

import { randomBytes } from "node:crypto";
import { chownSync, readFileSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import { type Command, InvalidArgumentError, Option } from "commander";
import type { Config } from "../../config/schema.ts";
import { type Authority, readRequest, type SigningRequest } from "../../identity/authority.ts";
import { certificateFiles } from "../../identity/certificate-files.ts";
import { renewalDueAt } from "../../identity/certificate-life.ts";
import type { Issued } from "../../identity/issued.ts";
import { makeBundle } from "../../identity/pkcs12.ts";
import { DEVICE_ID, type Delivery, type Order, type SiteAuthority } from "../../identity/site-authority.ts";
import { writeDurably } from "../../kernel/durable-file.ts";
import { codeOf, ExitStatus, GatewayError, messageOf } from "../../kernel/errors.ts";
import { callerOf } from "../audit-trail.ts";
import { json, table } from "../format.ts";
import { WHEN_IN_FORCE } from "../in-force.ts";
import { commonNameOf, gatewayNames, isDnsName, plainAddress } from "./names.ts";
import {
  type CertsContext,
  passphraseOf,
  readSecret,
  type Site,
  type SiteOptions,
  siteOf,
  warnOfClock,
  withAuthority,
  withSigningOptions,
} from "./site.ts";

export interface TargetOptions extends SiteOptions {
  readonly device?: string;
  readonly server?: true;
  readonly csr?: string;
  readonly name?: readonly string[];
  readonly address?: readonly string[];
  readonly pkcs12?: true;
  readonly pkcs12PasswordFile?: string;
}
interface IssueOptions extends TargetOptions {
  readonly force?: true;
}
export function addIssue(group: Command, context: CertsContext): void {
  const command = withTargetOptions(
    group.command("issue").description("issue a certificate for a device, or for this gateway"),
  )
    .option("--force", "although there is one that is still valid; that one stays valid beside it")
    .addHelpText(
      "after",
      "\nExamples:\n  summit-edge certs issue --server\n  summit-edge certs issue --device mast-3 --pkcs12\n  summit-edge certs issue --csr mast-3.csr",
    );
  command.action(async (options: IssueOptions) => {
    const site = await siteOf(options, context);
    const result = await withAuthority(site, async (folder) => {
      await warnOfClock(folder, context);
      const request = await requestOf(options);
      const order = orderOf(options, request, site, command);
      const authority = folder.unlock(await passphraseOf(options, site, context));
      return await deliver({ ...order, again: options.force === true }, options, { site, folder, authority, context });
    });
    context.terminal.write(options.json ? json(result.json, 2) : result.text);
  });
}

export function withTargetOptions(command: Command): Command {
  return withSigningOptions(command)
    .addOption(new Option("--device <id>", "for the device of that id: letters, digits, _ and -").argParser(deviceId))
    .option("--server", "for this gateway, with its names and addresses")
    .option(
      "--csr <file>",
      "for the key of a signing request (PKCS#10); without --server its common name is the device's id",
    )
    .addOption(
      new Option("--name <dns>", "with --server: another name of this gateway; may be repeated").argParser(
        another(isDnsName, "a DNS name"),
      ),
    )
    .addOption(
      new Option("--address <ip>", "with --server: another address of it; may be repeated").argParser(
        another((text) => plainAddress(text) !== undefined, "an IP address, without a zone"),
      ),
    )
    .option("--p12, --pkcs12", "with --device: a PKCS#12 bundle as well, of key, certificate and authority")
    .option("--pkcs12-password-file <file>", "its password (default: one is made, and written beside it)");
}

export function deviceId(text: string): string {
  if (DEVICE_ID.test(text)) return text;
  throw new InvalidArgumentError("It must be 1 to 64 letters, digits, underscores and hyphens.");
}

const another =
  (isValid: (text: string) => boolean, what: string) =>
  (text: string, before: readonly string[] = []): readonly string[] => {
    if (isValid(text)) return [...before, text];
    throw new InvalidArgumentError(`It must be ${what}.`);
  };

export async function requestOf({ csr }: TargetOptions): Promise<SigningRequest | undefined> {
  if (csr === undefined) return undefined;
  try {
    return await readRequest(readFileSync(csr));
  } catch (error) {
    if (error instanceof GatewayError) throw error;
    throw new GatewayError({
      code: "FILE_UNREADABLE",
      op: "certs.readRequest",
      message: `cannot read ${csr}: ${codeOf(error) ?? messageOf(error)}`,
      hint: "Name a file that exists and can be read with --csr.",
      cause: error,
    });
  }
}

/** What is to be issued. */
export function orderOf(
  options: TargetOptions,
  request: SigningRequest | undefined,
  { config }: Site,
  command: Command,
): Omit<Order, "again"> {
  const { device, server, name: dns = [], address: addresses = [] } = options;
  const usage = (message: string): never => command.error(`error: ${message}`, { exitCode: ExitStatus.usage });
  if (device !== undefined && server) usage("give either --device or --server");
  if (!server && dns.length + addresses.length > 0)
    usage("--name and --address go with --server: a device is called by its id");
  if (wantsBundle(options) && (server || request !== undefined))
    usage("a bundle holds a device's key, which is made here: give --device, and no --csr");
  const key = request?.publicKey ?? "new";
  if (server) {
    const names = gatewayNames(config, { dns, addresses });
    return { purpose: "server", name: commonNameOf(names), names, key };
  }
  const unnamed =
    request === undefined
      ? "give --device ID, --server or --csr FILE"
      : "the request has not exactly one common name: give the device's id with --device";
  const id = device ?? request?.commonName ?? usage(unnamed);
  if (!DEVICE_ID.test(id))
    usage(`the request's common name, ${JSON.stringify(id)}, cannot be a device's id: give it with --device`);
  if (request?.commonName !== undefined && request.commonName !== id)
    usage(`the request is for ${JSON.stringify(request.commonName)}, not for ${id}`);
  return { purpose: "device", name: id, key };
}

export const wantsBundle = ({ pkcs12, pkcs12PasswordFile }: TargetOptions): boolean =>
  pkcs12 === true || pkcs12PasswordFile !== undefined;

export interface Bench {
  readonly site: Site;
  readonly folder: SiteAuthority;
  readonly context: CertsContext;
}

export interface Result {
  readonly text: string;
  readonly json: object;
}

export async function deliver(
  order: Order,
  options: TargetOptions,
  bench: Bench & { authority: Authority },
): Promise<Result> {
  const { site, folder, authority, context } = bench;
  const delivery = await folder.issue(authority, order, site.config.certs, context.clock.now());
  const { issued, files } = delivery;
  if (order.purpose === "server" && delivery.key !== undefined) handOver(files.keyFile, dirname(folder.folder));
  await context.tell(site.config, {
    action: "certificate.issued",
    actor: callerOf(context.terminal),
    subject: issued.name,
    detail: { kind: issued.kind, serial: issued.serial, until: iso(issued.notAfter) },
  });
  const bundle = await bundleOf(delivery, options, bench);
  const paths = {
    certFile: files.certFile,
    ...(delivery.key !== undefined && { keyFile: files.keyFile }),
    caFile: folder.caFile,
    ...bundle,
  };
  return { json: { ...summary(issued), ...paths }, text: deliveryText(issued, paths, site.config) };
}

/** The daemon, not root, is to read the gateway's key: it goes to whoever owns the folder that the daemon's data is in. */
function handOver(file: string, folder: string): void {
  if (process.getuid?.() !== 0) return;
  const { uid, gid } = statSync(folder);
  chownSync(file, uid, gid);
}

async function bundleOf(
  { issued, certificate, key, files }: Delivery,
  options: TargetOptions,
  { folder, context }: Bench,
): Promise<{ pkcs12File?: string; pkcs12PasswordFile?: string }> {
  if (key === undefined || !wantsBundle(options)) return {};
  const given = await readSecret("--pkcs12-password-file", options.pkcs12PasswordFile, context);
  const password = given ?? randomBytes(18).toString("base64url");
  const authority = readFileSync(folder.caFile, "utf8");
  writeDurably(files.bundleFile, await makeBundle({ name: issued.name, key, certificate, authority }, password));
  if (given !== undefined) return { pkcs12File: files.bundleFile };
  writeDurably(files.bundlePasswordFile, `${password}\n`);
  return { pkcs12File: files.bundleFile, pkcs12PasswordFile: files.bundlePasswordFile };
}

export const iso = (time: number): string => new Date(time).toISOString();

/** A certificate as JSON has it. */
export const summary = (issued: Issued): object => ({
  kind: issued.kind,
  name: issued.name,
  serial: issued.serial,
  fingerprint: issued.fingerprint,
  issuedAt: iso(issued.issuedAt),
  notBefore: iso(issued.notBefore),
  notAfter: iso(issued.notAfter),
  renewalDue: iso(renewalDueAt(issued)),
});

const LABELS: Readonly<Record<string, string>> = {
  certFile: "certificate",
  keyFile: "key",
  caFile: "authority",
  pkcs12File: "bundle",
  pkcs12PasswordFile: "its password",
};

/** What is to be done for the gateway to use its certificate: nothing, where the configuration names it already. */
function nextForServer({ certFile, keyFile, caFile }: Readonly<Record<string, string>>, config: Config): string {
  if (certificateFiles(config).some(({ path }) => path === certFile)) return WHEN_IN_FORCE;
  const yaml = (files: Readonly<Record<string, string | undefined>>): string =>
    Object.entries(files)
      .flatMap(([key, path]) => (path === undefined ? [] : [`${key}: ${path}`]))
      .join(", ");
  const crlFile = caFile === undefined ? undefined : join(dirname(caFile), "ca.crl");
  const listener = yaml({ clientCertificate: "required", certFile, keyFile, caFile, crlFile });
  return `In the configuration, for a listener below mqtt.listeners:\n  tls: { ${listener} }\nand for the HTTP API off loopback, below http:\n  tls: { ${yaml({ certFile, keyFile })} }`;
}

function deliveryText(
  { kind, name, notAfter, ...issued }: Issued,
  paths: Readonly<Record<string, string>>,
  config: Config,
): string {
  const until = `valid until ${iso(notAfter).slice(0, 10)}`;
  const rows = Object.entries(paths).map(([key, path]) => [`  ${LABELS[key] ?? key}`, path]);
  if (kind === "server") {
    const names = [...(issued.dns ?? []), ...(issued.addresses ?? [])].join(", ");
    return `The gateway's certificate, ${until}, for ${names}\n${table(rows)}${nextForServer(paths, config)}\n`;
  }
  const next =
    paths.keyFile === undefined
      ? "Bring the certificate and the authority to the device."
      : "Bring them to the device, and remove the key here once it is there: nothing here needs it.";
  return `Device ${name}, ${until}\n${table(rows)}${next}\nIts client id in MQTT must be ${name}, the certificate's name (mosquitto_pub -i ${name}).\n`;
}
