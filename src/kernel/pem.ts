/** Certificates and keys in PEM files, checked before they are used: OpenSSL passes over some of what it cannot read. */
import { createPrivateKey, X509Certificate } from "node:crypto";
import { GatewayError, messageOf } from "./errors.ts";
import type { FileContent } from "./reloading.ts";

/**
 * Checks that a certificate and a private key can be read, and belong together. `section` names them in the configuration.
 * @throws GatewayError `TLS_MATERIAL_INVALID`
 */
export function assertPair(section: string, certFile: FileContent, keyFile: FileContent): void {
  const noCertificate = `${certFile.path} is no PEM certificate`;
  const certificate = attempt(`${section}.certFile`, noCertificate, () => new X509Certificate(certFile.content));
  const noKey = `${keyFile.path} is no PEM private key, or has a passphrase`;
  const key = attempt(`${section}.keyFile`, noKey, () => createPrivateKey(keyFile.content));
  if (!certificate.checkPrivateKey(key))
    throw invalid(section, `${certFile.path} and ${keyFile.path} do not belong together`);
}

const BEGIN = "-----BEGIN CERTIFICATE-----";
const CERTIFICATES = /-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----/g;

/**
 * The certificates of a file of authorities, at least one of which is one.
 * @throws GatewayError `TLS_MATERIAL_INVALID`
 */
export function authoritiesIn(section: string, { path, content }: FileContent): X509Certificate[] {
  const key = `${section}.caFile`;
  const text = String(content);
  const blocks = text.match(CERTIFICATES) ?? [];
  if (blocks.length < text.split(BEGIN).length - 1)
    throw invalid(key, `${path} holds a PEM certificate that has no end`);
  const unreadable = `${path} holds something that is no certificate`;
  const found = attempt(key, unreadable, () => blocks.map((block) => new X509Certificate(block)));
  if (!found.some(({ ca }) => ca)) throw invalid(key, `${path} holds no authority's certificate`);
  return found;
}

/** Does `action`; where it throws, `what` begins the message of the error, and `key` says where to look. */
export function attempt<T>(key: string, what: string, action: () => T): T {
  try {
    return action();
  } catch (error) {
    throw invalid(key, `${what}: ${messageOf(error)}`, error);
  }
}

function invalid(key: string, message: string, cause?: unknown): GatewayError {
  const hint = `Check ${key}: PEM files that belong together (openssl x509 -in FILE -noout -text shows a certificate).`;
  return new GatewayError({ code: "TLS_MATERIAL_INVALID", op: "tls.load", message: `${key}: ${message}`, hint, cause });
}
