/** The thread of `revocation.ts`. */
import "reflect-metadata";
import { X509Certificate } from "node:crypto";
import { parentPort, workerData } from "node:worker_threads";
import * as x509 from "@peculiar/x509";
import { messageOf } from "../kernel/errors.ts";
import type { RevocationAnswer, RevocationQuestion } from "./revocation.ts";

/** As RFC 7468 and OpenSSL write it; the library's own tag is another. */
const CRL_TAG = "X509 CRL";

type Lists = Extract<RevocationAnswer, { lists: unknown }>["lists"];

async function read({ lists, authorities }: RevocationQuestion): Promise<RevocationAnswer> {
  const signers = blocks(authorities, x509.PemConverter.CertificateTag).map((raw) => new x509.X509Certificate(raw));
  const found: Lists[number][] = [];
  for (const raw of blocks(lists, CRL_TAG)) {
    const list = new x509.X509Crl(raw);
    const signer = await signerOf(list, signers);
    if (signer === undefined) return { fault: `holds a list of ${list.issuer}, which no authority here has signed` };
    const critical = list.extensions.find((extension) => extension.critical);
    if (critical !== undefined)
      return { fault: `holds a list with the critical extension ${critical.type}, not known here` };
    found.push({
      // As Node.js writes the names of certificates.
      issuer: new X509Certificate(Buffer.from(signer.rawData)).subject,
      serials: list.entries.map(({ serialNumber }) => serialNumber),
      ...(list.nextUpdate === undefined ? undefined : { nextUpdate: list.nextUpdate.getTime() }),
    });
  }
  return found.length > 0 ? { lists: found } : { fault: "holds no certificate revocation list in PEM" };
}

async function signerOf(list: x509.X509Crl, signers: readonly x509.X509Certificate[]) {
  for (const signer of signers) {
    // The key, not the certificate: that one's own signature may be of another kind than the list's.
    const signed = signer.subject === list.issuer && (await list.verify({ publicKey: signer.publicKey }));
    if (signed) return signer;
  }
  return undefined;
}

function blocks(pem: string, tag: string): ArrayBuffer[] {
  const found = x509.PemConverter.decodeWithHeaders(pem).filter(({ type }) => type === tag);
  if (found.length !== pem.split(`-----BEGIN ${tag}-----`).length - 1) throw new Error(`a ${tag} in it has no end`);
  return found.map(({ rawData }) => rawData);
}

async function answer(): Promise<RevocationAnswer> {
  try {
    return await read(workerData as RevocationQuestion);
  } catch (error) {
    return { fault: `cannot be read as certificate revocation lists: ${messageOf(error)}` };
  }
}

parentPort?.postMessage(await answer());
