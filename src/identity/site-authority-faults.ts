/** What can be wrong with the site's authority, and what to do about it. */
import { GatewayError, messageOf } from "../kernel/errors.ts";
import type { Issued } from "./issued.ts";

export function exists(folder: string, there: string): GatewayError {
  return new GatewayError({
    code: "AUTHORITY_EXISTS",
    op: "certs.make",
    message: `${folder} holds an authority already (${there}), and every certificate it has issued depends on it`,
    hint: "To begin anew, move the whole folder away; every device then needs a new certificate. To use it, see what there is: summit-edge certs status",
  });
}

export function missing(folder: string): GatewayError {
  return new GatewayError({
    code: "AUTHORITY_MISSING",
    op: "certs.open",
    message: `there is no certificate authority in ${folder}`,
    hint: "If there is one elsewhere, name its folder in certs.folder; else make one: summit-edge certs init",
  });
}

export function unreadable(folder: string, cause: unknown): GatewayError {
  return new GatewayError({
    code: "AUTHORITY_UNREADABLE",
    op: "certs.open",
    message: `the certificate authority in ${folder} cannot be read: ${messageOf(cause)}`,
    hint: "Run the command as the user who made it (sudo); if files are missing, put the folder back from a backup.",
    cause,
  });
}

export function keyFault(file: string, cause: unknown): GatewayError {
  return new GatewayError({
    code: "AUTHORITY_KEY_UNUSABLE",
    op: "certs.unlock",
    message: `the authority's key, ${file}, cannot be used: ${messageOf(cause)}`,
    hint: "Run the command as the user who made the authority (sudo); if the key is kept elsewhere, put it there for as long as you need it.",
    cause,
  });
}

/** `tried`: with a passphrase. OpenSSL has no code of its own for a wrong one. */
export function locked(file: string, tried: boolean, cause: unknown): GatewayError {
  return new GatewayError({
    code: "AUTHORITY_LOCKED",
    op: "certs.unlock",
    message: tried ? `the passphrase is not that of ${file}` : `the authority's key, ${file}, is under a passphrase`,
    hint: "Name the file that holds its passphrase: --passphrase-file FILE, or certs.passphraseFile in the configuration.",
    cause,
  });
}

export function alreadyThere({ kind, name, serial, notAfter }: Issued): GatewayError {
  const whose = kind === "device" ? `device ${name}` : "this gateway";
  const target = kind === "device" ? `--device ${name}` : "--server";
  return new GatewayError({
    code: "CERTIFICATE_EXISTS",
    op: "certs.issue",
    message: `${whose} has a certificate already, valid until ${day(notAfter)} (serial ${serial})`,
    hint: `Where it is lost, revoke it first (summit-edge certs revoke ${target}); for a second one beside it say --force; else renew it: summit-edge certs renew ${target}`,
  });
}

/** `target`: as the command's option. */
export function unknownCertificate(name: string, target: string, reason: string, cause: unknown): GatewayError {
  return new GatewayError({
    code: "CERTIFICATE_UNKNOWN",
    op: "certs.issue",
    message: `the certificate of ${name} is not here: ${reason}`,
    hint: `Bring a signing request of it (certs renew --csr FILE), or issue another, with a new key: summit-edge certs issue ${target} --force`,
    cause,
  });
}

export function expired(end: number, now: number): GatewayError {
  return new GatewayError({
    code: "AUTHORITY_EXPIRED",
    op: "certs.issue",
    message: `the authority's own certificate ended on ${day(end)}, and it is ${day(now)} by the clock of this machine`,
    hint: "Look at the clock first (timedatectl). If it is right, renew the authority, and bring ca.crt to the devices: summit-edge certs renew --ca",
  });
}

const day = (time: number): string => new Date(time).toISOString().slice(0, 10);
