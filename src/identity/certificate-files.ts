/** The certificates that the configuration names: where they are, and how long they live. */
import { X509Certificate } from "node:crypto";
import { readFile } from "node:fs/promises";
import type { Config } from "../config/schema.ts";
import type { Validity } from "./certificate-life.ts";

export interface CertificateFile {
  /** The key in the configuration: `mqtt.listeners[1].tls.certFile`. */
  readonly key: string;
  readonly path: string;
  /** `own`: what the gateway shows, its own certificate first; `authorities`: any of them may be the one that is needed. */
  readonly kind: "own" | "authorities";
}

export interface NamedCertificate extends Validity {
  /** `CN=sierra-014`; several attributes are separated by commas. */
  readonly subject: string;
}

/** Development certificates are not among them: they are made afresh at a start that finds them too old. */
export function certificateFiles({ mqtt, uplink, http }: Pick<Config, "mqtt" | "uplink" | "http">): CertificateFile[] {
  const listeners = mqtt.listeners.flatMap(({ tls }, index) =>
    tls === undefined || tls.development ? [] : [{ tls, key: `mqtt.listeners[${index}].tls` }],
  );
  const api = http.tls === undefined ? [] : [{ tls: { ...http.tls, caFile: undefined }, key: "http.tls" }];
  return [...listeners, ...api, { tls: uplink.tls, key: "uplink.tls" }].flatMap(({ tls, key }) => [
    ...(tls.certFile === undefined ? [] : [{ key: `${key}.certFile`, path: tls.certFile, kind: "own" as const }]),
    ...(tls.caFile === undefined ? [] : [{ key: `${key}.caFile`, path: tls.caFile, kind: "authorities" as const }]),
  ]);
}

/** The certificates of a PEM text, in its order; none where it holds none, or one that cannot be read. */
export function certificatesIn(text: string): NamedCertificate[] {
  return x509In(text).map(({ subject, validFrom, validTo }) => ({
    subject: (subject ?? "").replaceAll("\n", ", ") || "a certificate without a name",
    notBefore: Date.parse(validFrom),
    notAfter: Date.parse(validTo),
  }));
}

/** The same as Node.js has them. */
export function x509In(text: string): X509Certificate[] {
  const blocks = text.match(/-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----/gs) ?? [];
  try {
    return blocks.map((pem) => new X509Certificate(pem));
  } catch {
    return [];
  }
}

/**
 * The certificate on which a file's use depends; `undefined` where the file cannot be read. Of several authorities that is the one
 * that lives longest: while they change, the old one stays in the file and may end.
 */
export async function decisiveCertificate({ path, kind }: CertificateFile): Promise<NamedCertificate | undefined> {
  const certificates = certificatesIn(await readFile(path, "latin1").catch(() => ""));
  if (kind === "own") return certificates[0];
  return certificates.reduce<NamedCertificate | undefined>(
    (longest, each) => (longest === undefined || each.notAfter > longest.notAfter ? each : longest),
    undefined,
  );
}
