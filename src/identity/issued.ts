/** What an authority has issued, as its index keeps it: a line of JSON per certificate, its revocation included. Pure. */
import { GatewayError } from "../kernel/errors.ts";
import { REVOCATION_REASONS, type Revocation, type RevocationReason } from "./authority.ts";

export type IssuedKind = "authority" | "server" | "device";

export interface Issued {
  /** Hexadecimal, lower case. */
  readonly serial: string;
  readonly kind: IssuedKind;
  /** The device's id, the server's common name, the authority's own name. */
  readonly name: string;
  /** All times: wall time, milliseconds. */
  readonly issuedAt: number;
  readonly notBefore: number;
  readonly notAfter: number;
  /** SHA-256 of the certificate, as OpenSSL writes it. */
  readonly fingerprint: string;
  /** Of a server: what it is called. */
  readonly dns?: readonly string[];
  readonly addresses?: readonly string[];
  readonly revoked?: { readonly at: number; readonly reason: RevocationReason };
}

/** The index as text, in the order of issue. */
export function indexText(records: readonly Issued[]): string {
  return records.map((record) => `${JSON.stringify(toJson(record))}\n`).join("");
}

/** @throws GatewayError CERTS_INDEX_DAMAGED, naming `file` and the line. */
export function parseIndex(text: string, file: string): Issued[] {
  return text.split("\n").flatMap((line, index) => {
    if (line === "") return [];
    const record = fromJson(line);
    if (record !== undefined) return [record];
    throw new GatewayError({
      code: "CERTS_INDEX_DAMAGED",
      op: "certs.readIndex",
      message: `line ${index + 1} of ${file} is not what was written there`,
      hint: "Put the file back from a backup; without it nothing is known of what was issued and revoked.",
    });
  });
}

/** Dates as people read them. */
function toJson({ revoked, ...record }: Issued): object {
  const times = { issuedAt: iso(record.issuedAt), notBefore: iso(record.notBefore), notAfter: iso(record.notAfter) };
  return { ...record, ...times, ...(revoked && { revoked: { ...revoked, at: iso(revoked.at) } }) };
}

function fromJson(line: string): Issued | undefined {
  let value: Record<string, unknown>;
  try {
    value = JSON.parse(line);
  } catch {
    return undefined;
  }
  if (typeof value !== "object" || value === null) return undefined;
  const [issuedAt, notBefore, notAfter] = [value.issuedAt, value.notBefore, value.notAfter].map(timeOf);
  const { serial, kind, name, fingerprint } = value;
  if (typeof serial !== "string" || !/^[0-9a-f]{2,40}$/.test(serial)) return undefined;
  if (kind !== "authority" && kind !== "server" && kind !== "device") return undefined;
  if (typeof name !== "string" || typeof fingerprint !== "string") return undefined;
  if (issuedAt === undefined || notBefore === undefined || notAfter === undefined) return undefined;
  const revoked = value.revoked === undefined ? undefined : revokedFrom(value.revoked);
  if (value.revoked !== undefined && revoked === undefined) return undefined;
  return {
    ...{ serial, kind, name, issuedAt, notBefore, notAfter, fingerprint },
    ...(isTexts(value.dns) && { dns: value.dns }),
    ...(isTexts(value.addresses) && { addresses: value.addresses }),
    ...(revoked && { revoked }),
  };
}

function revokedFrom(value: unknown): Issued["revoked"] {
  const { at, reason } = value as { at?: unknown; reason?: unknown };
  const time = timeOf(at);
  if (time === undefined || typeof reason !== "string" || !Object.hasOwn(REVOCATION_REASONS, reason)) return undefined;
  return { at: time, reason: reason as RevocationReason };
}

const iso = (time: number): string => new Date(time).toISOString();

function timeOf(value: unknown): number | undefined {
  const time = typeof value === "string" ? Date.parse(value) : Number.NaN;
  return Number.isNaN(time) ? undefined : time;
}

const isTexts = (value: unknown): value is string[] =>
  Array.isArray(value) && value.every((item) => typeof item === "string");

/** Those of one device, or of the server, that are not revoked; newest last. */
export function unrevoked(records: readonly Issued[], kind: IssuedKind, name?: string): Issued[] {
  return records.filter((each) => each.kind === kind && (name === undefined || each.name === name) && !each.revoked);
}

/** What there is of the authority, the server and each device: the newest that is not revoked, else the newest. */
export function currentOf(records: readonly Issued[]): Issued[] {
  const current = new Map<string, Issued>();
  for (const record of records) {
    // A gateway that was given another host name still has one certificate.
    const owner = record.kind === "device" ? record.name : `:${record.kind}`;
    const known = current.get(owner);
    if (known === undefined || known.revoked !== undefined || record.revoked === undefined) current.set(owner, record);
  }
  return [...current.values()];
}

/** What the list of revocations has to name: all of them, for ever. An expired one would come back with a clock set back. */
export function revocationsOf(records: readonly Issued[]): Revocation[] {
  return records.flatMap(({ serial, revoked }) => (revoked === undefined ? [] : [{ serial, ...revoked }]));
}
