/** `summit-edge certs`: the site's own certificate authority (certs/README.md tells a certificate's whole life). */

import { type Command, InvalidArgumentError } from "commander";
import { MAX_COMMON_NAME } from "../identity/authority.ts";
import { renewalDueAt } from "../identity/certificate-life.ts";
import { SiteAuthority } from "../identity/site-authority.ts";
import { documentAt } from "../kernel/documentation.ts";
import { callerOf, tellTrail } from "./audit-trail.ts";
import { addIssue, iso, summary } from "./certs/issue.ts";
import { addRenew } from "./certs/renew.ts";
import { addRevoke } from "./certs/revoke.ts";
import {
  alone,
  type CertsContext,
  certsContext,
  passphraseOf,
  type Site,
  type SiteOptions,
  siteOf,
  warnOfClock,
  withSigningOptions,
} from "./certs/site.ts";
import { addList, addStatus } from "./certs/status.ts";
import { pasteable } from "./failure.ts";
import { json, table } from "./format.ts";
import { processTerminal, type Terminal } from "./terminal.ts";

interface InitOptions extends SiteOptions {
  readonly name?: string;
}

/** Adds `summit-edge certs` with `init`, `issue`, `renew`, `revoke`, `status` and `list`. */
export function addCertsCommand(
  program: Command,
  terminal: Terminal = processTerminal,
  tell = tellTrail(terminal),
): void {
  const group = program
    .command("certs")
    .description("the site's own certificate authority, and the certificates of its devices and of this gateway")
    .addHelpText(
      "after",
      "\nExample:\n  summit-edge certs init\n  summit-edge certs issue --server\n  summit-edge certs issue --device mast-3" +
        `\n\nA certificate's whole life, on a page: ${documentAt("certs/README.md")}`,
    );
  const context = certsContext(terminal, tell);
  addInit(group, context);
  addIssue(group, context);
  addRenew(group, context);
  addRevoke(group, context);
  addStatus(group, context);
  addList(group, context);
}

function addInit(group: Command, context: CertsContext): void {
  withSigningOptions(
    group
      .command("init")
      .description("make the authority: a key on P-256, its certificate, and an empty list of revocations"),
  )
    .option("--name <name>", "what its certificate calls it (default: after gateway.id)", authorityName)
    .addHelpText(
      "after",
      "\nExample:\n  summit-edge certs init --passphrase-file /etc/summit-edge/secrets/ca-passphrase",
    )
    .action(async (options: InitOptions) => {
      const site = await siteOf(options, context);
      const { gateway, certs } = site.config;
      const name = (options.name ?? `Summit Edge authority of ${gateway.id}`).slice(0, MAX_COMMON_NAME);
      const passphrase = await passphraseOf(options, site, context);
      await warnOfClock(undefined, context);
      const now = context.clock.now();
      const authority = await alone(site.folder, () =>
        SiteAuthority.make(site.folder, { name, passphrase, terms: certs, now }),
      );
      await report(site, authority, options, context);
    });
}

function authorityName(text: string): string {
  if (/^[^\p{Cc}]*[^\s\p{Cc}][^\p{Cc}]*$/u.test(text)) return text;
  throw new InvalidArgumentError("It must not be empty, nor hold control characters.");
}

async function report(
  site: Site,
  { records, folder, caFile, caKeyFile, crlFile }: SiteAuthority,
  { json: asJson, config: given }: InitOptions,
  context: CertsContext,
): Promise<void> {
  const [issued] = records;
  if (issued === undefined) return;
  const { serial, notAfter } = issued;
  await context.tell(site.config, {
    action: "certificate.issued",
    actor: callerOf(context.terminal),
    subject: issued.name,
    detail: { kind: issued.kind, serial },
  });
  if (asJson) {
    context.terminal.write(json({ ...summary(issued), folder, caFile, keyFile: caKeyFile, crlFile }, 2));
    return;
  }
  const rows = [
    ["  certificate", caFile],
    ["  key", `${caKeyFile}  (whoever has it lets in whom he likes: keep a copy of the folder in a safe place)`],
    ["  revocations", crlFile],
  ];
  const next = pasteable("summit-edge certs issue --server", given === undefined ? [] : ["--config", given]);
  const dates = `valid until ${iso(notAfter).slice(0, 10)}, to be renewed from ${iso(renewalDueAt(issued)).slice(0, 10)} on`;
  context.terminal.write(`${issued.name}, ${dates}\n${table(rows)}Next: ${next}\n`);
}
