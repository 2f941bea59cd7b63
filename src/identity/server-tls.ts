/**
 * The TLS side of a listener: its material, read and tried before it is used, and whether what a client showed is accepted.
 * Chains are verified by OpenSSL, never by us.
 */
import { constants, X509Certificate } from "node:crypto";
import { createSecureContext, type TLSSocket, type TlsOptions } from "node:tls";
import type { HttpConfig, ListenerConfig } from "../config/schema.ts";
import { GatewayError } from "../kernel/errors.ts";
import { assertPair, attempt, authoritiesIn } from "../kernel/pem.ts";
import type { Contents, FileMaterial } from "../kernel/reloading.ts";
import { type RevocationList, readRevocationList } from "./revocation.ts";
import {
  AUTHORITY_REVOKED,
  certificateRefusal,
  NO_CERTIFICATE,
  NO_NAME,
  REVOKED,
  type TlsRefusal,
} from "./tls-refusals.ts";

const BEGIN_CERTIFICATE = "-----BEGIN CERTIFICATE-----";
/** Certificates that are looked for on the revocation lists, of one client: its own, its authorities', and what else it sends. */
const MAX_CHAIN = 16;

export type ListenerTls = NonNullable<ListenerConfig["tls"]>;

/** What a TLS server is made of, and renewed with. */
export interface ServerTls {
  /** TLS 1.2 or newer, no renegotiation. Does not turn clients away by itself: `judgeClient` does, and says why. */
  readonly options: TlsOptions;
  readonly clientCertificate: ListenerTls["clientCertificate"];
  /** Whose client certificates are accepted. */
  readonly authorities: readonly X509Certificate[];
  readonly revoked: RevocationList | undefined;
}

export interface ServerTlsFiles extends Readonly<Record<string, string | undefined>> {
  readonly certFile: string;
  readonly keyFile: string;
  readonly caFile: string | undefined;
  readonly crlFile: string | undefined;
}

/**
 * What a listener's TLS is made of. `key` names its `tls` in the configuration.
 * @throws GatewayError `CONFIG_INVALID` where a file is not configured.
 */
export function serverTlsMaterial(tls: ListenerTls, key: string): FileMaterial<ServerTls, ServerTlsFiles> {
  return { section: key, files: serverTlsFiles(tls, key), load: (files) => loadServerTls(tls, key, files) };
}

/** What the TLS of the HTTP API is made of. */
export const httpTlsMaterial = (tls: NonNullable<HttpConfig["tls"]>): FileMaterial<ServerTls, ServerTlsFiles> =>
  serverTlsMaterial({ ...tls, clientCertificate: "none", development: false }, "http.tls");

/**
 * The files that a listener's TLS needs. `key` names its `tls` in the configuration, for errors.
 * @throws GatewayError `CONFIG_INVALID` where one is not configured.
 */
export function serverTlsFiles(tls: ListenerTls, key: string): ServerTlsFiles {
  const { certFile, keyFile, crlFile } = tls;
  // Without an authority of its own, Node.js would accept clients of every public one.
  const caFile = tls.clientCertificate === "none" ? tls.caFile : needed(tls.caFile, `${key}.caFile`);
  return {
    certFile: needed(certFile, `${key}.certFile`),
    keyFile: needed(keyFile, `${key}.keyFile`),
    caFile,
    crlFile,
  };
}

function needed(path: string | undefined, key: string): string {
  if (path !== undefined) return path;
  throw new GatewayError({
    code: "CONFIG_INVALID",
    op: "tls.load",
    message: `${key} is missing`,
    hint: `Set ${key}, or, for a trial on this machine only, development: true beside it.`,
  });
}

/** @throws GatewayError where a file is not what it should be, or does not fit the others. */
export async function loadServerTls(
  { clientCertificate }: ListenerTls,
  key: string,
  { certFile, keyFile, caFile, crlFile }: Contents<ServerTlsFiles>,
): Promise<ServerTls> {
  assertPair(key, certFile, keyFile);
  const authorities = caFile === undefined ? [] : authoritiesIn(key, caFile);
  const options: TlsOptions = {
    cert: withIssuers(certFile.content, authorities),
    key: keyFile.content,
    ...(caFile === undefined ? undefined : { ca: caFile.content }),
    minVersion: "TLSv1.2",
    secureOptions: constants.SSL_OP_NO_RENEGOTIATION,
    requestCert: clientCertificate !== "none",
    rejectUnauthorized: false,
  };
  attempt(key, "its files cannot be used", () => createSecureContext(options));
  const revoked = crlFile === undefined || caFile === undefined ? undefined : await readRevocationList(crlFile, caFile);
  return { options, clientCertificate, authorities, revoked };
}

/**
 * A certificate that comes without its issuers, with those of them behind it that are among `authorities`. Clients are shown the same
 * either way: where it stands alone, OpenSSL looks for its issuers and checks their signatures, once more in every full handshake.
 */
function withIssuers(pem: string | Buffer, authorities: readonly X509Certificate[]): string | Buffer {
  const text = String(pem);
  if (text.split(BEGIN_CERTIFICATE).length !== 2) return pem;
  const chain = [new X509Certificate(pem)];
  for (let last = chain[0]; last !== undefined && !last.checkIssued(last); last = chain.at(-1)) {
    const issued = last;
    const issuer = authorities.find((one) => issued.checkIssued(one) && issued.verify(one.publicKey));
    if (issuer === undefined || chain.length > authorities.length) break;
    chain.push(issuer);
  }
  return [text, ...chain.slice(1).map(String)].join("\n");
}

/** A client whose certificate is accepted, or that showed none where none is needed. */
export interface AcceptedClient {
  readonly accepted: true;
  /** `undefined` for a client without one. */
  readonly certificate: X509Certificate | undefined;
  /** The subject's common name. */
  readonly name: string | undefined;
}

/** As the authority's index, `certs list` and the audit trail write it. */
export const serialOf = ({ serialNumber }: Pick<X509Certificate, "serialNumber">): string => serialNumber.toLowerCase();

export interface RefusedClient extends TlsRefusal {
  readonly accepted: false;
  /** What its certificate says of it, unverified. */
  readonly name: string | undefined;
  readonly serial: string | undefined;
}

/** Judges the client of a completed handshake, a resumed one too. `now`: wall time, milliseconds. */
export function judgeClient(socket: TLSSocket, tls: ServerTls, now: number): AcceptedClient | RefusedClient {
  const certificate = socket.getPeerX509Certificate();
  if (certificate === undefined) {
    if (tls.clientCertificate !== "required") return { accepted: true, certificate: undefined, name: undefined };
    return { accepted: false, ...NO_CERTIFICATE, name: undefined, serial: undefined };
  }
  const commonName: unknown = socket.getPeerCertificate().subject?.CN;
  const name = typeof commonName === "string" ? commonName : undefined;
  const refused = refusalOf(socket, certificate, tls, now) ?? (name === undefined ? NO_NAME : undefined);
  if (refused !== undefined) return { accepted: false, ...refused, name, serial: serialOf(certificate) };
  return { accepted: true, certificate, name };
}

function refusalOf(
  socket: TLSSocket,
  certificate: X509Certificate,
  tls: ServerTls,
  now: number,
): TlsRefusal | undefined {
  if (!socket.authorized) return certificateRefusal(String(socket.authorizationError), certificate, now);
  const revocation = revocationOf(certificate, tls);
  if (revocation !== undefined) return revocation;
  // A resumed session is not verified again: its certificate was good when the session began.
  if (socket.isSessionReused() && now > Date.parse(certificate.validTo))
    return certificateRefusal("CERT_HAS_EXPIRED", certificate, now);
  return undefined;
}

/** Why a client that was accepted under `before` is so no longer under `after`; `undefined` where it still is. */
export function refusalSince(
  certificate: X509Certificate,
  before: ServerTls,
  after: ServerTls,
): TlsRefusal | undefined {
  const revocation = revocationOf(certificate, after);
  if (revocation !== undefined) return revocation;
  // One that came through an intermediate authority of its own stays: OpenSSL decides when it comes again.
  if (!issuedBy(before, certificate) || issuedBy(after, certificate)) return undefined;
  const reason = "the authority of its certificate is no longer in the listener's caFile";
  return { kind: "certificate-of-removed-authority", reason };
}

/**
 * Whether the lists name the certificate, or an authority above it: one that came with it, wherever the client has put it, or one
 * of `authorities`. Whoever sends more than `MAX_CHAIN` hides something.
 */
function revocationOf(certificate: X509Certificate, { authorities, revoked }: ServerTls): TlsRefusal | undefined {
  if (revoked === undefined || revoked.size === 0) return undefined;
  if (revoked.has(certificate)) return REVOKED;
  const chain = [certificate];
  for (const link of chain) {
    if (revoked.has(link) || chain.length > MAX_CHAIN) return AUTHORITY_REVOKED;
    const sent = link.issuerCertificate;
    const above = sent === undefined ? issuersOf(link, authorities) : [sent, ...issuersOf(link, authorities)];
    chain.push(
      ...above.filter(({ fingerprint256 }) => chain.every((known) => known.fingerprint256 !== fingerprint256)),
    );
  }
  return undefined;
}

const issuersOf = (certificate: X509Certificate, authorities: readonly X509Certificate[]): X509Certificate[] =>
  authorities.filter((authority) => certificate.checkIssued(authority) && certificate.verify(authority.publicKey));

const issuedBy = ({ authorities }: ServerTls, certificate: X509Certificate): boolean =>
  issuersOf(certificate, authorities).length > 0;
