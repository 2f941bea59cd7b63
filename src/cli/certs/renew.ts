/** `certs renew`: in time, and without taking away what works. */

import { existsSync } from "node:fs";
import type { Command } from "commander";
import type { Authority } from "../../identity/authority.ts";
import { lifeState } from "../../identity/certificate-life.ts";
import { currentOf, type Issued, unrevoked } from "../../identity/issued.ts";
import type { Order, SiteAuthority } from "../../identity/site-authority.ts";
import { ExitStatus, GatewayError } from "../../kernel/errors.ts";
import { callerOf } from "../audit-trail.ts";
import { json, table } from "../format.ts";
import {
  type Bench,
  deliver,
  deviceId,
  iso,
  orderOf,
  type Result,
  requestOf,
  summary,
  type TargetOptions,
  wantsBundle,
  withTargetOptions,
} from "./issue.ts";
import { type CertsContext, passphraseOf, siteOf, warnOfClock, withAuthority } from "./site.ts";

interface RenewOptions extends TargetOptions {
  readonly ca?: true;
  readonly keepKey?: true;
}

export function addRenew(group: Command, context: CertsContext): void {
  const description = "renew what is due, or one certificate; the one before stays valid until it ends";
  const command = withTargetOptions(group.command("renew").description(description))
    .argument("[device]", "a device's id, as with --device")
    .option("--ca", "the authority's own certificate: same key, same name")
    .option("--keep-key", "for the key of the certificate before, so that no secret has to be carried to the device")
    .addHelpText(
      "after",
      "\nExamples:\n  summit-edge certs renew                  (everything that is due)\n  summit-edge certs renew --device mast-3\n  summit-edge certs renew --server",
    );
  command.action(async (device: string | undefined, given: RenewOptions) => {
    const options = device === undefined ? given : { ...given, device: deviceId(device) };
    const site = await siteOf(options, context);
    const results = await withAuthority(site, async (folder) => {
      await warnOfClock(folder, context);
      return await renew(options, { site, folder, context }, command);
    });
    const text = results.map((result) => result.text).join("\n");
    const nothing = "Nothing is due for renewal.\n";
    context.terminal.write(options.json ? json({ renewed: results.map((each) => each.json) }, 2) : text || nothing);
  });
}

async function renew(options: RenewOptions, bench: Bench, command: Command): Promise<Result[]> {
  const { site, folder, context } = bench;
  if (options.keepKey && wantsBundle(options)) {
    command.error("error: a bundle holds a key that is made for it: leave out --keep-key", {
      exitCode: ExitStatus.usage,
    });
  }
  const now = folder.today(context.clock.now());
  const request = await requestOf(options);
  const isOne = options.device !== undefined || options.server === true || request !== undefined;
  const orders = isOne
    ? [renewalOf(options, orderOf(options, request, site, command), folder)]
    : options.ca
      ? []
      : due(folder, now).map((issued) => renewalOf(options, fromRecord(issued), folder));
  const renewsAuthority = options.ca === true || (!isOne && authorityIsDue(folder, now));
  if (orders.length === 0 && !renewsAuthority) return [];
  const authority = folder.unlock(await passphraseOf(options, site, context));
  const results = renewsAuthority ? [await renewAuthority(authority, bench)] : [];
  // After the authority itself, beyond whose end nothing is issued.
  const renewed = folder.unlock(await passphraseOf(options, site, context));
  for (const order of orders) {
    results.push(await deliver(order, withBundle(options, order, folder), { ...bench, authority: renewed }));
  }
  return results;
}

/** A device that has a bundle gets one again: the one before is of no use beside another key. */
function withBundle(options: RenewOptions, { purpose, name, key }: Order, folder: SiteAuthority): RenewOptions {
  const has = purpose === "device" && key === "new" && existsSync(folder.filesOf(purpose, name).bundleFile);
  return has ? { ...options, pkcs12: true } : options;
}

const current = (folder: SiteAuthority): Issued[] => currentOf(folder.records).filter(({ revoked }) => !revoked);
const isDue = (issued: Issued, now: number): boolean => ["renewal-due", "expired"].includes(lifeState(issued, now));

const due = (folder: SiteAuthority, now: number): Issued[] =>
  current(folder).filter((issued) => issued.kind !== "authority" && isDue(issued, now));
const authorityIsDue = (folder: SiteAuthority, now: number): boolean =>
  current(folder).some((issued) => issued.kind === "authority" && isDue(issued, now));

function fromRecord({ kind, name, dns = [], addresses = [] }: Issued): Omit<Order, "again"> {
  return kind === "server"
    ? { purpose: "server", name, names: { dns, addresses }, key: "new" }
    : { purpose: "device", name, key: "new" };
}

/** The order as a renewal: under the same names, and for the same key where no new one can be made here or none is wanted. */
function renewalOf(options: RenewOptions, order: Omit<Order, "again">, folder: SiteAuthority): Order {
  const before = unrevoked(folder.records, order.purpose, order.purpose === "device" ? order.name : undefined).at(-1);
  if (before === undefined) throw nothingToRenew(order);
  const isNamedAnew = options.name !== undefined || options.address !== undefined;
  const { name, names } = order.purpose === "server" && !isNamedAnew ? fromRecord(before) : order;
  const same = options.keepKey === true || !(wantsBundle(options) || folder.hasKeyOf(order.purpose, order.name));
  const key = order.key === "new" && same ? "same" : order.key;
  return { purpose: order.purpose, name, ...(names && { names }), key, again: true };
}

function nothingToRenew({ purpose, name }: Omit<Order, "again">): GatewayError {
  const target = purpose === "device" ? `--device ${name}` : "--server";
  return new GatewayError({
    code: "CERTIFICATE_UNKNOWN",
    op: "certs.renew",
    message: `${purpose === "device" ? `device ${name}` : "this gateway"} has no certificate that could be renewed`,
    hint: `Issue one: summit-edge certs issue ${target}`,
  });
}

async function renewAuthority(authority: Authority, { site, folder, context }: Bench): Promise<Result> {
  const issued = await folder.renew(authority, site.config.certs, context.clock.now());
  const detail = { kind: issued.kind, serial: issued.serial, until: iso(issued.notAfter) };
  const actor = callerOf(context.terminal);
  await context.tell(site.config, { action: "certificate.issued", actor, subject: issued.name, detail });
  const next = "What it has issued stays valid. Bring it to the devices before the old one ends.";
  return {
    json: { ...summary(issued), caFile: folder.caFile },
    text: `The authority, valid until ${iso(issued.notAfter).slice(0, 10)}\n${table([["  certificate", folder.caFile]])}${next}\n`,
  };
}
