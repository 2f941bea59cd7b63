/** `certs status` and `certs list`: what there is, and what ends when. */
import { readFileSync } from "node:fs";
import type { Command } from "commander";
import { certificateFiles, decisiveCertificate, x509In } from "../../identity/certificate-files.ts";
import { type LifeState, lifeState, renewalDueAt, type Validity } from "../../identity/certificate-life.ts";
import { currentOf, type Issued, unrevoked } from "../../identity/issued.ts";
import { SiteAuthority } from "../../identity/site-authority.ts";
import { ExitStatus } from "../../kernel/errors.ts";
import { pasteable } from "../failure.ts";
import { json, span, table } from "../format.ts";
import { iso, summary } from "./issue.ts";
import { type CertsContext, type Site, type SiteOptions, siteOf, withSiteOptions } from "./site.ts";

/** `replaced`: a newer one is there, and this one is still valid. */
type State = LifeState | "revoked" | "replaced" | "unreadable";

interface Row {
  readonly kind: string;
  readonly name: string;
  readonly state: State;
  readonly notAfter: number | undefined;
  readonly renewalDue: number | undefined;
  readonly serial: string;
  readonly note: string;
  readonly json: object;
}

export function addStatus(group: Command, context: CertsContext): void {
  withSiteOptions(
    group
      .command("status")
      .description("what expires when: the authority's certificates, and the files that the configuration names"),
  )
    .addHelpText(
      "after",
      "\nExit status 1 where something is to be renewed (two thirds of its lifetime are over) or has ended.\n\nExample:\n  summit-edge certs status",
    )
    .action(async (options: SiteOptions) => {
      const site = await siteOf(options, context);
      const authority = openOrNone(site);
      const now = nowBy(authority, context);
      const issued = authority === undefined ? [] : issuedRows(currentOf(authority.records), authority, now);
      const rows = [...issued, ...(await configuredRows(site, authority, now))];
      // With neither an authority nor a file that is named there is nothing to have a status.
      if (rows.length === 0) SiteAuthority.open(site.folder);
      const pressing = rows.filter(({ state }) => state === "renewal-due" || state === "expired");
      const result = { ok: pressing.length === 0, folder: site.folder, certificates: rows.map((row) => row.json) };
      const given = options.config === undefined ? [] : ["--config", options.config];
      const text = () => tableOf(rows) + pasteable(adviceText(rows, pressing, now), given);
      context.terminal.write(options.json ? json(result, 2) : text());
      if (pressing.length > 0) process.exitCode = ExitStatus.failed;
    });
}

export function addList(group: Command, context: CertsContext): void {
  withSiteOptions(
    group.command("list").description("every certificate that was issued, oldest first, with revocations"),
  )
    .addHelpText("after", "\nExample:\n  summit-edge certs list")
    .action(async (options: SiteOptions) => {
      const { folder } = await siteOf(options, context);
      const authority = SiteAuthority.open(folder);
      const rows = issuedRows(authority.records, authority, nowBy(authority, context));
      const result = { folder, certificates: rows.map((row) => row.json) };
      context.terminal.write(options.json ? json(result, 2) : tableOf(rows));
    });
}

/** The authority; none where the site has none of its own, which is nothing wrong. */
const openOrNone = ({ folder }: Site): SiteAuthority | undefined =>
  SiteAuthority.isIn(folder) ? SiteAuthority.open(folder) : undefined;

/** Wall time; where the clock is behind what was issued here, the time of that, with a warning. */
function nowBy(authority: SiteAuthority | undefined, { clock, warn }: CertsContext): number {
  const now = clock.now();
  const behind = authority?.behind(now) ?? 0;
  if (behind > 0) {
    warn(
      `the clock of this machine says ${iso(now)}, ${span(behind / 1000)} before the newest certificate was made: what follows is as of then. Set the clock right: timedatectl`,
    );
  }
  return now + behind;
}

function issuedRows(records: readonly Issued[], authority: SiteAuthority, now: number): Row[] {
  const current = new Set(currentOf(authority.records));
  return records.map((issued) => {
    const state = stateOf(issued, current.has(issued), now);
    const { kind, name, serial, notAfter, revoked } = issued;
    return {
      ...{ kind, name, state, notAfter, serial },
      renewalDue: revoked === undefined ? renewalDueAt(issued) : undefined,
      note: noteOf(issued, state, authority.records, now),
      json: {
        ...summary(issued),
        state,
        ...(revoked && { revoked: { at: iso(revoked.at), reason: revoked.reason } }),
      },
    };
  });
}

function stateOf(issued: Issued, isCurrent: boolean, now: number): State {
  if (issued.revoked !== undefined) return "revoked";
  const state = lifeState(issued, now);
  return isCurrent || state === "expired" ? state : "replaced";
}

function noteOf(
  { kind, name, revoked, serial }: Issued,
  state: State,
  records: readonly Issued[],
  now: number,
): string {
  if (revoked !== undefined) return `${iso(revoked.at).slice(0, 10)}, ${revoked.reason}`;
  if (kind !== "device" || state === "replaced") return "";
  const before = unrevoked(records, kind, name).filter((each) => each.serial !== serial && each.notAfter > now);
  const last = Math.max(...before.map(({ notAfter }) => notAfter));
  return before.length === 0 ? "" : `to be on the device before the one before ends, ${iso(last).slice(0, 10)}`;
}

/** The files that the configuration names, but those that are the authority's own: they are in the list already. */
async function configuredRows({ config }: Site, authority: SiteAuthority | undefined, now: number): Promise<Row[]> {
  const known = new Set(authority?.records.map(({ fingerprint }) => fingerprint));
  const rows = await Promise.all(
    certificateFiles(config).map(async (file) => {
      const certificate = await decisiveCertificate(file);
      if (certificate === undefined) return [rowOf(file.key, file.path, undefined, now)];
      const [first] = x509In(readFileSync(file.path, "latin1"));
      return first !== undefined && known.has(first.fingerprint256) && file.kind === "authorities"
        ? []
        : [rowOf(file.key, file.path, certificate, now)];
    }),
  );
  return rows.flat();
}

function rowOf(key: string, path: string, validity: Validity | undefined, now: number): Row {
  const state = validity === undefined ? "unreadable" : lifeState(validity, now);
  const dates = validity && {
    notBefore: iso(validity.notBefore),
    notAfter: iso(validity.notAfter),
    renewalDue: iso(renewalDueAt(validity)),
  };
  return {
    ...{ kind: "file", name: key, state, serial: "", note: path },
    notAfter: validity?.notAfter,
    renewalDue: validity && renewalDueAt(validity),
    json: { kind: "file", name: key, file: path, state, ...dates },
  };
}

/** What is to be done. */
function adviceText(rows: readonly Row[], pressing: readonly Row[], now: number): string {
  const advice = pressing.map(({ kind, name, state, notAfter = now }) => {
    const left =
      state === "expired" ? `ended ${span((now - notAfter) / 1000)} ago` : `ends in ${span((notAfter - now) / 1000)}`;
    const how = { authority: " --ca", server: " --server", device: ` --device ${name}` }[kind];
    const command = how === undefined ? "whoever issued it renews it" : `summit-edge certs renew${how}`;
    return `${kind === "file" ? name : `${kind} ${name}`} ${left}: ${command}\n`;
  });
  const unreadable = rows.filter(({ state }) => state === "unreadable");
  if (unreadable.length > 0)
    advice.push(`${unreadable.length} cannot be read: summit-edge config check says why, and what to do\n`);
  return advice.length === 0 ? "Nothing is to be renewed.\n" : `\n${advice.join("")}`;
}

function tableOf(rows: readonly Row[]): string {
  const day = (time: number | undefined): string => (time === undefined ? "-" : iso(time).slice(0, 10));
  const cells = rows.map(({ kind, name, state, notAfter, renewalDue, serial, note }) => [
    ...[kind, name, state, day(notAfter), day(renewalDue), serial, note],
  ]);
  return table(cells, ["kind", "name", "state", "valid until", "renew from", "serial", ""]);
}
