/**
 * Listeners that go on letting revoked devices in: they trust the site's own authority, which has revoked certificates, and name
 * no list of revocations (`crlFile`).
 */
import { readFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import type { Config } from "../config/schema.ts";
import { x509In } from "./certificate-files.ts";
import { type Issued, parseIndex } from "./issued.ts";

export interface UnlistedRevocations {
  /** The listener's place in the list. */
  readonly index: number;
  /** One sentence: whom it lets in, and how to mend it. */
  readonly message: string;
}

/** Names in one message. */
const NAMED = 5;

/** Looks at the authority's index and the listeners' files as they are now; what cannot be read tells of nothing here. */
export async function unlistedRevocations({
  gateway,
  certs,
  mqtt,
}: Pick<Config, "gateway" | "certs" | "mqtt">): Promise<UnlistedRevocations[]> {
  const bare = mqtt.listeners.flatMap(({ tls }, index) =>
    tls?.caFile === undefined || tls.clientCertificate === "none" || tls.crlFile !== undefined
      ? []
      : [{ index, caFile: tls.caFile }],
  );
  if (bare.length === 0) return [];
  const folder = resolve(gateway.dataDir, certs.folder);
  const records = await recordsIn(join(folder, "index.jsonl"));
  const revoked = new Set(records.flatMap(({ kind, name, revoked }) => (kind === "device" && revoked ? [name] : [])));
  if (revoked.size === 0) return [];
  const authorities = new Set(records.flatMap(({ kind, fingerprint }) => (kind === "authority" ? [fingerprint] : [])));
  const names =
    [...revoked].slice(0, NAMED).join(", ") + (revoked.size > NAMED ? `, and ${revoked.size - NAMED} more` : "");
  const found: UnlistedRevocations[] = [];
  for (const { index, caFile } of bare) {
    const trusted = x509In(await readFile(caFile, "latin1").catch(() => ""));
    if (!trusted.some(({ fingerprint256 }) => authorities.has(fingerprint256))) continue;
    const message = `revoked certificates (${names}) are still let in: set crlFile: ${join(folder, "ca.crl")} there, and restart the gateway`;
    found.push({ index, message });
  }
  return found;
}

async function recordsIn(file: string): Promise<readonly Issued[]> {
  try {
    return parseIndex(await readFile(file, "utf8"), file);
  } catch {
    return [];
  }
}
