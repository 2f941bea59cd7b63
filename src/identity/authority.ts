/**
 * What a certificate authority signs: its own certificate, certificates for devices and servers, revocation lists. All with
 * P-256 and SHA-256, in PEM.
 *
 * It keeps nothing and reads no clock: keys, names and dates are handed in. It verifies no chain either: that is OpenSSL's,
 * inside Node.js's TLS.
 */
import {
  createPublicKey,
  generateKeyPairSync,
  type KeyObject,
  randomBytes,
  webcrypto,
  X509Certificate,
} from "node:crypto";
import type * as X509 from "@peculiar/x509";
import { GatewayError, messageOf } from "../kernel/errors.ts";
import type { Validity } from "./certificate-life.ts";

/** A certificate authority that can sign. */
export interface Authority {
  /** PEM. */
  readonly certificate: string;
  /** Its private key, P-256. */
  readonly key: KeyObject;
}

/** What a certificate is good for: a device that shows it to a server, or a server. */
export type Purpose = "device" | "server";

/** What a certificate is to say. */
export interface Wanted {
  readonly purpose: Purpose;
  /** The subject's common name, at most 64 characters. */
  readonly commonName: string;
  /** The subject's alternative names: DNS names, and IP addresses. */
  readonly names: { readonly dns: readonly string[]; readonly addresses: readonly string[] };
  readonly publicKey: KeyObject;
  readonly validity: Validity;
}

/** Reasons for a revocation (RFC 5280, 5.3.1), and their codes. */
export const REVOCATION_REASONS = {
  unspecified: 0,
  keyCompromise: 1,
  superseded: 4,
  cessationOfOperation: 5,
  privilegeWithdrawn: 9,
} as const;
export type RevocationReason = keyof typeof REVOCATION_REASONS;

export interface Revocation {
  /** Hexadecimal. */
  readonly serial: string;
  /** Wall time, milliseconds. */
  readonly at: number;
  readonly reason: RevocationReason;
}

/** The longest common name that a certificate holds (RFC 5280's ub-common-name). */
export const MAX_COMMON_NAME = 64;
/** A request of a device is below 2 KiB, with an RSA key of 4096 bits included. */
const MAX_REQUEST_BYTES = 64 * 1024;
const MIN_RSA_BITS = 2048;

const ALGORITHM = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" } as const;
/** The cRLNumber extension (RFC 5280, 5.2.3). */
const CRL_NUMBER = "2.5.29.20";

/** Loaded only where certificates are made: the daemon in the field makes none. */
async function library(): Promise<typeof X509> {
  await import("reflect-metadata");
  return await import("@peculiar/x509");
}

/** A fresh private key, P-256. */
export function newKey(): KeyObject {
  return generateKeyPairSync("ec", { namedCurve: ALGORITHM.namedCurve }).privateKey;
}

/** A certificate of its own for `key`, by which it may sign others and revocation lists, and no authorities below it. */
export async function makeAuthority(name: string, key: KeyObject, validity: Validity): Promise<Authority> {
  const x509 = await library();
  const publicKey = spki(key);
  const subject = subjectOf(x509, name.slice(0, MAX_COMMON_NAME));
  const certificate = await x509.X509CertificateGenerator.create({
    ...datesOf(validity),
    serialNumber: newSerial(),
    subject,
    issuer: subject,
    publicKey,
    signingKey: await signingKey(key),
    signingAlgorithm: ALGORITHM,
    extensions: [
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
      await x509.SubjectKeyIdentifierExtension.create(publicKey),
    ],
  });
  return { certificate: pem(certificate.toString("pem")), key };
}

/** Signs a certificate; returns it in PEM. */
export async function certify(authority: Authority, wanted: Wanted): Promise<string> {
  const x509 = await library();
  const { purpose, names } = wanted;
  const publicKey = wanted.publicKey.export({ type: "spki", format: "der" });
  const usage = purpose === "device" ? "clientAuth" : "serverAuth";
  const certificate = await x509.X509CertificateGenerator.create({
    ...datesOf(wanted.validity),
    serialNumber: newSerial(),
    subject: subjectOf(x509, wanted.commonName),
    issuer: new x509.X509Certificate(authority.certificate).subjectName,
    publicKey,
    signingKey: await signingKey(authority.key),
    signingAlgorithm: ALGORITHM,
    extensions: [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
      new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage[usage]]),
      new x509.SubjectAlternativeNameExtension([
        ...names.dns.map((value) => ({ type: "dns" as const, value })),
        ...names.addresses.map((value) => ({ type: "ip" as const, value })),
      ]),
      await x509.SubjectKeyIdentifierExtension.create(publicKey),
      await x509.AuthorityKeyIdentifierExtension.create(spki(authority.key)),
    ],
  });
  return pem(certificate.toString("pem"));
}

/**
 * The list of what was revoked, in PEM. `number` grows from list to list.
 *
 * It is valid exactly as long as the authority: OpenSSL refuses every certificate while the list is not valid yet or no longer,
 * so that any shorter time would shut out all devices of a site that nobody tends, or whose clock was wrong for a day. Whether it
 * is fresh is a matter of the file, not of the clock.
 */
export async function revocationList(
  authority: Authority,
  number: number,
  revoked: readonly Revocation[],
): Promise<string> {
  const x509 = await library();
  const { validFrom, validTo } = new X509Certificate(authority.certificate);
  const list = await x509.X509CrlGenerator.create({
    issuer: new x509.X509Certificate(authority.certificate).subjectName,
    thisUpdate: new Date(validFrom),
    nextUpdate: new Date(validTo),
    signingKey: await signingKey(authority.key),
    signingAlgorithm: ALGORITHM,
    entries: revoked.map(({ serial, at, reason }) => {
      const revocationDate = wholeSeconds(at);
      // RFC 5280: a reason that says nothing is left out; but the library would then write an empty list of extensions.
      if (reason === "unspecified") return { serialNumber: serial, revocationDate, invalidity: revocationDate };
      return { serialNumber: serial, revocationDate, reason: REVOCATION_REASONS[reason] as X509.X509CrlReason };
    }),
    extensions: [
      await x509.AuthorityKeyIdentifierExtension.create(spki(authority.key)),
      new x509.Extension(CRL_NUMBER, false, derInteger(number)),
    ],
  });
  // The library's own label, "CRL", is one that OpenSSL does not know.
  return pem(x509.PemConverter.encode(list.rawData, "X509 CRL"));
}

/** What a certificate signing request asks for, once its signature has shown that it comes from the key's owner. */
export interface SigningRequest {
  /** Of the subject; `undefined` where it has not exactly one. */
  readonly commonName: string | undefined;
  readonly publicKey: KeyObject;
}

/**
 * Reads a certificate signing request (PKCS#10), PEM or DER. The names and extensions that it asks for are not looked at.
 * @throws GatewayError CSR_REFUSED
 */
export async function readRequest(content: Buffer): Promise<SigningRequest> {
  if (content.length > MAX_REQUEST_BYTES) throw refusedRequest(`it is longer than ${MAX_REQUEST_BYTES} bytes`);
  const x509 = await library();
  let request: X509.Pkcs10CertificateRequest;
  let publicKey: KeyObject;
  let genuine: boolean;
  try {
    const isPem = content.includes("-----BEGIN ");
    request = new x509.Pkcs10CertificateRequest(isPem ? content.toString("latin1") : new Uint8Array(content));
    publicKey = createPublicKey({ key: Buffer.from(request.publicKey.rawData), format: "der", type: "spki" });
    genuine = await request.verify();
  } catch (error) {
    throw refusedRequest(`it cannot be read: ${messageOf(error)}`);
  }
  if (!genuine) throw refusedRequest("its signature is not that of its key");
  const fault = keyFault(publicKey);
  if (fault !== undefined) throw refusedRequest(fault);
  const commonNames = request.subjectName.getField("CN");
  return { commonName: commonNames.length === 1 ? commonNames[0] : undefined, publicKey };
}

function keyFault({ asymmetricKeyType: type, asymmetricKeyDetails: details }: KeyObject): string | undefined {
  if (type === "ec")
    return ["prime256v1", "secp384r1", "secp521r1"].includes(details?.namedCurve ?? "")
      ? undefined
      : `its curve is ${details?.namedCurve}`;
  if (type === "rsa")
    return (details?.modulusLength ?? 0) >= MIN_RSA_BITS
      ? undefined
      : `its key has only ${details?.modulusLength} bits`;
  return type === "ed25519" ? undefined : `its key is of type ${type}`;
}

function refusedRequest(reason: string): GatewayError {
  return new GatewayError({
    code: "CSR_REFUSED",
    op: "certs.readRequest",
    message: `the certificate signing request is refused: ${reason}`,
    hint: "Make one with a key on P-256, P-384 or P-521, Ed25519, or RSA from 2048 bits on: openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=mast-3 -keyout mast-3.key -out mast-3.csr",
  });
}

/** RFC 5280, 4.1.2.2: positive, 20 octets at most; random, and never shorter. */
function newSerial(): string {
  const bytes = randomBytes(20);
  bytes.writeUInt8((bytes.readUInt8(0) & 0x7f) | 0x40, 0);
  return bytes.toString("hex");
}

const spki = (key: KeyObject): Buffer => createPublicKey(key).export({ type: "spki", format: "der" });

/** Letter by letter: in a plain string the library takes quotation marks, backslashes and a leading # for notation. */
function subjectOf({ Name }: typeof X509, commonName: string): X509.Name {
  const isPrintable = /^[A-Za-z0-9 '()+,./:=?-]*$/.test(commonName);
  return new Name([{ CN: [isPrintable ? { printableString: commonName } : { utf8String: commonName }] }]);
}

async function signingKey(key: KeyObject): Promise<webcrypto.CryptoKey> {
  return await webcrypto.subtle.importKey("pkcs8", key.export({ type: "pkcs8", format: "der" }), ALGORITHM, false, [
    "sign",
  ]);
}

const datesOf = ({ notBefore, notAfter }: Validity): { notBefore: Date; notAfter: Date } => ({
  notBefore: wholeSeconds(notBefore),
  notAfter: wholeSeconds(notAfter),
});

/** Certificates know nothing shorter. */
const wholeSeconds = (time: number): Date => new Date(Math.floor(time / 1000) * 1000);

function derInteger(value: number): Uint8Array {
  const hex = value.toString(16);
  const bytes = Buffer.from(hex.length % 2 === 0 ? hex : `0${hex}`, "hex");
  const positive = (bytes[0] ?? 0) < 0x80 ? bytes : Buffer.concat([Buffer.of(0), bytes]);
  return Buffer.concat([Buffer.of(0x02, positive.length), positive]);
}

const pem = (text: string): string => `${text.trimEnd()}\n`;
