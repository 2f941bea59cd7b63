/**
 * A certificate authority and a server certificate for one machine, made on first start so that TLS can be tried without
 * any preparation. Never for the field: nobody has looked at who asks for what. The authority's key is not kept, so nothing
 * else can ever be issued by it.
 */
import { createPrivateKey, createPublicKey, type KeyObject, X509Certificate } from "node:crypto";
import { chmod, mkdir, readFile } from "node:fs/promises";
import { hostname } from "node:os";
import { join } from "node:path";
import type { Clock } from "../kernel/clock.ts";
import { writeDurably } from "../kernel/durable-file.ts";
import { certify, makeAuthority, newKey } from "./authority.ts";
import { validityFrom } from "./certificate-life.ts";

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
  writeDurably(files.keyFile, key, 0o600);
  writeDurably(files.certFile, certificate, 0o644);
  writeDurably(files.caFile, ca, 0o644);
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
  const validity = validityFrom(now, LIFETIME_MS, BACKDATED_MS);
  const name = `Summit Edge development authority on ${hostname()}`;
  const authority = await makeAuthority(name, newKey(), validity);
  const key = newKey();
  const names = { dns: ["localhost", hostname()], addresses: ["127.0.0.1", "::1"] };
  const certificate = await certify(authority, {
    purpose: "server",
    commonName: "localhost",
    names,
    publicKey: createPublicKey(key),
    validity,
  });
  return { ca: authority.certificate, certificate, key: key.export({ type: "pkcs8", format: "pem" }).toString() };
}
