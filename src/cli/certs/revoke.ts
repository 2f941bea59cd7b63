/** `certs revoke`: what is lost, stolen or taken out of service is let in no more. */
import { resolve } from "node:path";
import { type Command, Option } from "commander";
import type { Config } from "../../config/schema.ts";
import { REVOCATION_REASONS, type RevocationReason } from "../../identity/authority.ts";
import type { Issued } from "../../identity/issued.ts";
import type { SiteAuthority } from "../../identity/site-authority.ts";
import { unlistedRevocations } from "../../identity/unlisted-revocations.ts";
import { ExitStatus, GatewayError } from "../../kernel/errors.ts";
import { callerOf } from "../audit-trail.ts";
import { json, printable } from "../format.ts";
import { WHEN_IN_FORCE } from "../in-force.ts";
import { deviceId, iso } from "./issue.ts";
import {
  type CertsContext,
  passphraseOf,
  type SiteOptions,
  siteOf,
  withAuthority,
  withSigningOptions,
} from "./site.ts";

interface RevokeOptions extends SiteOptions {
  readonly device?: string;
  readonly server?: true;
  readonly serial?: string;
  readonly reason: RevocationReason;
}

export function addRevoke(group: Command, context: CertsContext): void {
  const command = withSigningOptions(
    group.command("revoke").description("revoke certificates, and write the list of revocations"),
  )
    .argument("[device]", "a device's id, as with --device")
    .addOption(new Option("--device <id>", "every certificate of that device").argParser(deviceId))
    .option("--server", "every certificate of this gateway")
    .option("--serial <hex>", "the one certificate of that serial number")
    .addOption(
      new Option("--reason <why>", "what the list says")
        .choices(Object.keys(REVOCATION_REASONS))
        .default("unspecified"),
    )
    .addHelpText("after", "\nExample:\n  summit-edge certs revoke --device mast-3 --reason keyCompromise");
  command.action(async (device: string | undefined, given: RevokeOptions) => {
    const options = device === undefined ? given : { ...given, device: deviceId(device) };
    const targets = [options.device, options.server, options.serial].filter((target) => target !== undefined);
    if (targets.length !== 1) {
      command.error("error: give one of --device ID, --server and --serial HEX", { exitCode: ExitStatus.usage });
    }
    const site = await siteOf(options, context);
    const { revoked, already, crlFile } = await withAuthority(site, async (folder) => {
      const chosen = chosenBy(options, folder);
      const fresh = chosen.filter(({ revoked }) => revoked === undefined);
      const authority = folder.unlock(await passphraseOf(options, site, context));
      const serials = fresh.map(({ serial }) => serial);
      // Also where all are revoked already: a command that was cut short may have left the list behind the index.
      await folder.revoke(authority, serials, options.reason, context.clock.now());
      return { revoked: fresh, already: chosen.length - fresh.length, crlFile: folder.crlFile };
    });
    const events = revoked.map(({ name, kind, serial }) => ({
      action: "certificate.revoked" as const,
      actor: callerOf(context.terminal),
      subject: name,
      detail: { kind, serial, reason: options.reason },
    }));
    await context.tell(site.config, ...events);
    const { terminal } = context;
    const unlisted = await unlistedRevocations(site.config);
    for (const { index, message } of unlisted) {
      context.warn(`mqtt.listeners[${index}].tls names no crlFile: ${message}`);
    }
    const inForce = isNamed(crlFile, site.config);
    if (!inForce && unlisted.length === 0) {
      context.warn(
        `no listener names ${crlFile} in tls.crlFile: this gateway goes on letting revoked devices in until one does`,
      );
    }
    if (options.json) terminal.write(json({ revoked: revoked.map(asJson), already, crlFile }, 2));
    else terminal.write(textOf(revoked, crlFile, inForce));
  });
}

/** Whether a listener of this gateway keeps out whom the list names. */
function isNamed(crlFile: string, { mqtt }: Config): boolean {
  return mqtt.listeners.some(({ tls }) => tls?.crlFile !== undefined && resolve(tls.crlFile) === resolve(crlFile));
}

const asJson = ({ kind, name, serial, notAfter }: Issued): object => ({ kind, name, serial, notAfter: iso(notAfter) });

/** `inForce`: whether a listener names the list. */
function textOf(revoked: readonly Issued[], crlFile: string, inForce: boolean): string {
  const lines = revoked.map(({ name, serial }) => `Revoked ${printable(name)}, serial ${serial}\n`).join("");
  const list = revoked.length === 0 ? `Revoked already; ${crlFile} is written afresh.` : `The list is in ${crlFile}.`;
  return `${lines}${list}\n${inForce ? `${WHEN_IN_FORCE}\n` : ""}`;
}

/** The certificates that are meant, revoked ones included. @throws GatewayError CERTIFICATE_UNKNOWN where there is none */
function chosenBy({ device, server, serial }: RevokeOptions, { records }: SiteAuthority): Issued[] {
  const asked = serial?.replaceAll(":", "").toLowerCase().replace(/^0+/, "");
  const found = records.filter((record) => {
    if (record.kind === "authority") return false;
    if (asked !== undefined) return record.serial.replace(/^0+/, "") === asked;
    return server ? record.kind === "server" : record.kind === "device" && record.name === device;
  });
  // What is left of a device that is to be forgotten: its live ones, or where there are none those that went before.
  const live = found.filter(({ revoked }) => revoked === undefined);
  if (found.length > 0) return live.length > 0 ? live : found;
  const whose = asked === undefined ? (server ? "this gateway" : `device ${device}`) : `serial number ${serial}`;
  throw new GatewayError({
    code: "CERTIFICATE_UNKNOWN",
    op: "certs.revoke",
    message: `no certificate of ${whose} was issued here`,
    hint: "See which there are: summit-edge certs list",
  });
}
