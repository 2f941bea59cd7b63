/** The TLS side of a listener: its material, read and tried before it is used, and what its clients showed. */
import { constants } from "node:crypto";
import { readFile } from "node:fs/promises";
import { createSecureContext, type TLSSocket, type TlsOptions } from "node:tls";
import type { ListenerConfig } from "../config/schema.ts";
import { codeOf, GatewayError, messageOf } from "../kernel/errors.ts";

export type ListenerTls = NonNullable<ListenerConfig["tls"]>;

/**
 * The options of a TLS server: TLS 1.2 or newer, no renegotiation. `key` names the listener's `tls` in the configuration,
 * for errors.
 * @throws GatewayError where a file is missing, cannot be read, or does not fit the others.
 */
export async function serverTlsOptions(tls: ListenerTls, key: string): Promise<TlsOptions> {
  const wantsCertificate = tls.clientCertificate !== "none";
  const cert = await material(tls.certFile, `${key}.certFile`);
  const privateKey = await material(tls.keyFile, `${key}.keyFile`);
  // Without an authority of its own, Node.js would accept clients of every public one.
  const ca = wantsCertificate || tls.caFile !== undefined ? await material(tls.caFile, `${key}.caFile`) : undefined;
  const options: TlsOptions = {
    cert,
    key: privateKey,
    ...(ca === undefined ? undefined : { ca }),
    minVersion: "TLSv1.2",
    secureOptions: constants.SSL_OP_NO_RENEGOTIATION,
    requestCert: wantsCertificate,
    rejectUnauthorized: tls.clientCertificate === "required",
  };
  try {
    createSecureContext(options);
  } catch (error) {
    throw new GatewayError({
      code: "TLS_MATERIAL_INVALID",
      op: "tls.load",
      message: `${key}: ${messageOf(error)}`,
      hint: `Check that ${key}.certFile and ${key}.keyFile are PEM files and belong together.`,
      cause: error,
    });
  }
  return options;
}

async function material(path: string | undefined, key: string): Promise<Buffer> {
  if (path === undefined) {
    throw new GatewayError({
      code: "CONFIG_INVALID",
      op: "tls.load",
      message: `${key} is missing`,
      hint: `Set ${key}, or, for a trial on this machine only, development: true beside it.`,
    });
  }
  try {
    return await readFile(path);
  } catch (error) {
    throw new GatewayError({
      code: "TLS_FILE_UNREADABLE",
      op: "tls.load",
      message: `${path} cannot be read: ${codeOf(error) ?? messageOf(error)}`,
      hint: `Check ${key}, and that the gateway's user may read the file.`,
      cause: error,
    });
  }
}

/** What a client's certificate says of it. */
export type ClientCertificate =
  | { readonly kind: "none" }
  | { readonly kind: "verified"; readonly name: string }
  /** One was shown that this listener does not accept. */
  | { readonly kind: "unacceptable"; readonly reason: string };

/** The certificate that the client of a completed handshake showed, verified by OpenSSL, never by us. */
export function clientCertificateOf(socket: TLSSocket): ClientCertificate {
  const certificate = socket.getPeerCertificate();
  if (certificate === null || Object.keys(certificate).length === 0) return { kind: "none" };
  if (!socket.authorized) {
    return { kind: "unacceptable", reason: `its certificate is not accepted: ${String(socket.authorizationError)}` };
  }
  const name: unknown = certificate.subject?.CN;
  return typeof name === "string"
    ? { kind: "verified", name }
    : { kind: "unacceptable", reason: "its certificate has not exactly one common name" };
}
