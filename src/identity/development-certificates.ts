/**
 * A certificate authority and a server certificate for one machine, made on first start so that TLS can be tried without
 * any preparation. Never for the field: nobody has looked at who asks for what. The authority's key is not kept, so nothing
 * else can ever be issued by it.
 */
import { createPrivateKey, type KeyObject, webcrypto, X509Certificate } from "node:crypto";
import { chmod, mkdir, open, readFile, rename } from "node:fs/promises";
import { hostname } from "node:os";
import { join } from "node:path";
import type { Clock } from "../kernel/clock.ts";

export interface DevelopmentCertificates {
  /** Under the names that a listener's configuration gives them. */
  readonly files: CertificateFiles;
  /** Whether they were made just now. */
  readonly made: boolean;
}

interface CertificateFiles {
  readonly caFile: string;
  readonly certFile: string;
  readonly keyFile: string;
}

const DAY_MS = 24 * 60 * 60 * 1000;
const LIFETIME_MS = 365 * DAY_MS;
/** Valid from a day before now: the clocks of two machines on a desk may differ. */
const BACKDATED_MS = DAY_MS;

/**
 * The development certificates under `dataDir`, made where there are none, or none that are still valid and whole. P-256;
 * for localhost, 127.0.0.1, ::1 and this machine's name.
 */
export async function developmentCertificates(
  dataDir: string,
  clock: Pick<Clock, "now">,
): Promise<DevelopmentCertificates> {
  const folder = join(dataDir, "certs-development");
  const files = {
    caFile: join(folder, "ca.pem"),
    certFile: join(folder, "server.pem"),
    keyFile: join(folder, "server-key.pem"),
  };
  if (await areUsable(files, clock.now())) return { files, made: false };
  const { ca, certificate, key } = await make(clock.now());
  await mkdir(folder, { recursive: true, mode: 0o755 });
  await replace(files.keyFile, key, 0o600);
  await replace(files.certFile, certificate, 0o644);
  await replace(files.caFile, ca, 0o644);
  return { files, made: true };
}

/** Whether the three files are there, belong together and are valid at `now`; a set torn by a crash does not. */
async function areUsable(files: CertificateFiles, now: number): Promise<boolean> {
  try {
    const ca = new X509Certificate(await readFile(files.caFile));
    const certificate = new X509Certificate(await readFile(files.certFile));
    const key: KeyObject = createPrivateKey(await readFile(files.keyFile));
    await chmod(files.keyFile, 0o600);
    const valid = [ca, certificate].every(
      ({ validFrom, validTo }) => Date.parse(validFrom) <= now && now < Date.parse(validTo),
    );
    return valid && certificate.verify(ca.publicKey) && certificate.checkPrivateKey(key);
  } catch {
    return false; // not there, or not readable as what it should be: either way they are made anew
  }
}

async function make(now: number): Promise<{ ca: string; certificate: string; key: string }> {
  // Loaded only here: a gateway in the field makes no development certificates.
  await import("reflect-metadata");
  const x509 = await import("@peculiar/x509");
  const algorithm = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };
  const caKeys = await webcrypto.subtle.generateKey(algorithm, false, ["sign", "verify"]);
  const serverKeys = await webcrypto.subtle.generateKey(algorithm, true, ["sign", "verify"]);
  const validity = { notBefore: new Date(now - BACKDATED_MS), notAfter: new Date(now + LIFETIME_MS) };
  const authority = `CN=Summit Edge development authority on ${hostname()}`;
  const ca = await x509.X509CertificateGenerator.createSelfSigned({
    ...validity,
    serialNumber: serialNumber(),
    name: authority,
    keys: caKeys,
    signingAlgorithm: algorithm,
    extensions: [
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
      await x509.SubjectKeyIdentifierExtension.create(caKeys.publicKey),
    ],
  });
  const certificate = await x509.X509CertificateGenerator.create({
    ...validity,
    serialNumber: serialNumber(),
    subject: "CN=localhost",
    issuer: authority,
    publicKey: serverKeys.publicKey,
    signingKey: caKeys.privateKey,
    signingAlgorithm: algorithm,
    extensions: [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
      new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.serverAuth]),
      new x509.SubjectAlternativeNameExtension([
        { type: "dns", value: "localhost" },
        { type: "dns", value: hostname() },
        { type: "ip", value: "127.0.0.1" },
        { type: "ip", value: "::1" },
      ]),
      await x509.AuthorityKeyIdentifierExtension.create(caKeys.publicKey),
      await x509.SubjectKeyIdentifierExtension.create(serverKeys.publicKey),
    ],
  });
  const pkcs8 = await webcrypto.subtle.exportKey("pkcs8", serverKeys.privateKey);
  return {
    ca: `${ca.toString("pem")}\n`,
    certificate: `${certificate.toString("pem")}\n`,
    key: `${x509.PemConverter.encode(pkcs8, "PRIVATE KEY")}\n`,
  };
}

/** RFC 5280, section 4.1.2.2: positive, at most 20 octets; 16 random ones with the sign bit clear and not all zero. */
function serialNumber(): string {
  const bytes = Buffer.from(webcrypto.getRandomValues(new Uint8Array(16)));
  bytes[0] = ((bytes[0] ?? 0) & 0x7f) | 0x40;
  return bytes.toString("hex");
}

/** Writes a file whole or not at all. */
async function replace(path: string, content: string, mode: number): Promise<void> {
  const temporary = `${path}.new`;
  const file = await open(temporary, "w", mode);
  try {
    await file.chmod(mode);
    await file.writeFile(content);
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(temporary, path);
}
