/**
 * The site's own certificate authority, as files in one folder:
 *
 *   ca.crt, ca.key    its certificate, and its key (mode 0600, optionally under a passphrase)
 *   ca.crl            what was revoked, signed again at each revocation
 *   index.jsonl       what was issued and revoked, a line per certificate
 *   server.crt, .key  the gateway's own certificate
 *   devices/ID.crt, .key, .p12, .p12-password
 *
 * Invariants: nothing is handed out, and nothing is in ca.crl, before it is in the index; every file is the old one or the new
 * one, whatever happens. A clock that is behind what the index knows does not date certificates: the index does. A certificate
 * never outlives the authority. What was issued stays valid until it ends or is revoked: renewing takes nothing from a device that
 * has not got the new one yet.
 *
 * Who changes the folder holds its lock; this file takes none. It deploys nothing and contacts nobody.
 */
import { createPrivateKey, createPublicKey, type KeyObject, X509Certificate } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";
import { sync, writeDurably, writeTogether } from "../kernel/durable-file.ts";
import { GatewayError } from "../kernel/errors.ts";
import {
  type Authority,
  certify,
  makeAuthority,
  newKey,
  type Purpose,
  type RevocationReason,
  revocationList,
} from "./authority.ts";
import { type Validity, validityFrom } from "./certificate-life.ts";
import { type Issued, indexText, parseIndex, revocationsOf, unrevoked } from "./issued.ts";
import * as fault from "./site-authority-faults.ts";

/** How long things are valid, in milliseconds: the `certs` section of the configuration. */
export interface Terms {
  readonly caLifetime: number;
  readonly serverLifetime: number;
  readonly deviceLifetime: number;
  readonly backdate: number;
}

export interface Order {
  readonly purpose: Purpose;
  /** A device's id, or the server's common name. */
  readonly name: string;
  /** What the server is called; a device is called by its id. */
  readonly names?: { readonly dns: readonly string[]; readonly addresses: readonly string[] };
  /** `new`: one is made and kept here; `same`: that of the certificate before; else the public key of a signing request. */
  readonly key: "new" | "same" | KeyObject;
  /** Whether there may be one already that is still valid. */
  readonly again: boolean;
}

export interface Delivery {
  readonly issued: Issued;
  /** PEM. */
  readonly certificate: string;
  /** The private key, where it was made now. */
  readonly key: KeyObject | undefined;
  readonly files: CertificateFiles;
}

export interface CertificateFiles {
  readonly certFile: string;
  readonly keyFile: string;
  readonly bundleFile: string;
  readonly bundlePasswordFile: string;
}

/** A device's id: no wildcard and no level of a topic, and a name that DNS syntax holds. */
export const DEVICE_ID = /^[A-Za-z0-9_-]{1,64}$/;

const PUBLIC = 0o644;
const SECRET = 0o600;

export class SiteAuthority {
  readonly folder: string;
  readonly caFile: string;
  readonly caKeyFile: string;
  readonly crlFile: string;
  readonly #indexFile: string;
  #certificate: X509Certificate;
  #records: readonly Issued[];

  private constructor(folder: string) {
    this.folder = folder;
    this.caFile = join(folder, "ca.crt");
    this.caKeyFile = join(folder, "ca.key");
    this.crlFile = join(folder, "ca.crl");
    this.#indexFile = join(folder, "index.jsonl");
    this.#certificate = new X509Certificate(readFileSync(this.caFile));
    this.#records = parseIndex(readFileSync(this.#indexFile, "utf8"), this.#indexFile);
  }

  /**
   * Makes an authority in a folder that holds none. `now`: wall time, milliseconds.
   * @throws GatewayError AUTHORITY_EXISTS
   */
  static async make(
    folder: string,
    { name, passphrase, terms, now }: { name: string; passphrase: string | undefined; terms: Terms; now: number },
  ): Promise<SiteAuthority> {
    const at = (file: string): string => join(folder, file);
    const there = ["ca.key", "ca.crt", "index.jsonl"].map(at).find(existsSync);
    if (there !== undefined) throw fault.exists(folder, there);
    mkdirSync(at("devices"), { recursive: true, mode: 0o700 });
    sync(dirname(folder));
    const authority = await makeAuthority(name, newKey(), validityFrom(now, terms.caLifetime, terms.backdate));
    const record = recordOf(authority.certificate, { kind: "authority", name, issuedAt: now });
    const encryption = passphrase === undefined ? {} : { cipher: "aes-256-cbc", passphrase };
    writeTogether([
      {
        path: at("ca.key"),
        content: authority.key.export({ type: "pkcs8", format: "pem", ...encryption }),
        mode: SECRET,
      },
      { path: at("ca.crl"), content: await revocationList(authority, 1, []), mode: PUBLIC },
      { path: at("index.jsonl"), content: indexText([record]), mode: PUBLIC },
      { path: at("ca.crt"), content: authority.certificate, mode: PUBLIC },
    ]);
    return new SiteAuthority(folder);
  }

  /** Whether a folder holds an authority. */
  static isIn(folder: string): boolean {
    return existsSync(join(folder, "ca.crt"));
  }

  /**
   * The authority in a folder, to read or, with its key, to issue.
   * @throws GatewayError AUTHORITY_MISSING, AUTHORITY_UNREADABLE, CERTS_INDEX_DAMAGED
   */
  static open(folder: string): SiteAuthority {
    try {
      return new SiteAuthority(folder);
    } catch (error) {
      if (error instanceof GatewayError) throw error;
      throw SiteAuthority.isIn(folder) ? fault.unreadable(folder, error) : fault.missing(folder);
    }
  }

  /** All that was ever issued, oldest first. */
  get records(): readonly Issued[] {
    return this.#records;
  }

  /** How far a clock that says `now` is behind what has been issued already, in milliseconds; 0 where it is not. */
  behind(now: number): number {
    return Math.max(0, ...this.#records.map(({ issuedAt }) => issuedAt - now));
  }

  /** Wall time `now`, or when the newest certificate was issued where the clock is behind that. */
  today(now: number): number {
    return now + this.behind(now);
  }

  filesOf(kind: Purpose, name: string): CertificateFiles {
    const base = kind === "server" ? join(this.folder, "server") : join(this.folder, "devices", name);
    return {
      certFile: `${base}.crt`,
      keyFile: `${base}.key`,
      bundleFile: `${base}.p12`,
      bundlePasswordFile: `${base}.p12-password`,
    };
  }

  /** Whether the key of a certificate is kept here, rather than on its device alone. */
  hasKeyOf(kind: Purpose, name: string): boolean {
    return existsSync(this.filesOf(kind, name).keyFile);
  }

  /**
   * Reads the authority's key.
   * @throws GatewayError AUTHORITY_LOCKED where the passphrase is missing or wrong, AUTHORITY_KEY_UNUSABLE
   */
  unlock(passphrase: string | undefined): Authority {
    let encrypted = false;
    let key: KeyObject;
    try {
      const pem = readFileSync(this.caKeyFile, "utf8");
      encrypted = pem.includes("-----BEGIN ENCRYPTED PRIVATE KEY-----");
      key = createPrivateKey(passphrase === undefined ? pem : { key: pem, passphrase });
    } catch (error) {
      throw encrypted
        ? fault.locked(this.caKeyFile, passphrase !== undefined, error)
        : fault.keyFault(this.caKeyFile, error);
    }
    if (!this.#certificate.checkPrivateKey(key)) {
      throw fault.keyFault(this.caKeyFile, new Error("it does not belong to ca.crt beside it"));
    }
    return { certificate: this.#certificate.toString(), key };
  }

  /**
   * Issues a certificate and writes it, with its key where that is made, to its place.
   * @throws GatewayError CERTIFICATE_EXISTS, CERTIFICATE_UNKNOWN, AUTHORITY_EXPIRED
   */
  async issue(authority: Authority, order: Order, terms: Terms, now: number): Promise<Delivery> {
    const { purpose, name, names } = order;
    const files = this.filesOf(purpose, name);
    const before = unrevoked(this.#records, purpose, purpose === "device" ? name : undefined).at(-1);
    const issuedAt = this.today(now);
    if (!order.again && before !== undefined && before.notAfter > issuedAt) throw fault.alreadyThere(before);
    const validity = this.#validity(
      purpose === "device" ? terms.deviceLifetime : terms.serverLifetime,
      terms,
      issuedAt,
    );
    const key = order.key === "new" ? newKey() : undefined;
    const certificate = await certify(authority, {
      purpose,
      commonName: name,
      names: names ?? { dns: [name], addresses: [] },
      publicKey: key !== undefined ? createPublicKey(key) : this.#publicKey(order, files),
      validity,
    });
    const issued = recordOf(certificate, { kind: purpose, name, issuedAt, ...names });
    this.#keep([...this.#records, issued]);
    const pair = [{ path: files.certFile, content: certificate, mode: PUBLIC }];
    if (key !== undefined) {
      pair.unshift({
        path: files.keyFile,
        content: key.export({ type: "pkcs8", format: "pem" }).toString(),
        mode: SECRET,
      });
    }
    writeTogether(pair);
    this.#removeStale(files, certificate);
    return { issued, certificate, key, files };
  }

  /** A new certificate for the authority's same key and name: what it has issued stays valid. The list of revocations follows. */
  async renew(authority: Authority, terms: Terms, now: number): Promise<Issued> {
    const issuedAt = this.today(now);
    const name = unrevoked(this.#records, "authority").at(-1)?.name ?? "";
    const validity = validityFrom(issuedAt, terms.caLifetime, terms.backdate);
    const renewed = await makeAuthority(name, authority.key, validity);
    const issued = recordOf(renewed.certificate, { kind: "authority", name, issuedAt });
    this.#keep([...this.#records, issued]);
    const crl = await this.#revocations(renewed);
    writeTogether([
      { path: this.caFile, content: renewed.certificate, mode: PUBLIC },
      { path: this.crlFile, content: crl, mode: PUBLIC },
    ]);
    this.#certificate = new X509Certificate(renewed.certificate);
    return issued;
  }

  /** Revokes certificates by their serial numbers; those that are revoked already stay as they are. Writes the list afresh. */
  async revoke(authority: Authority, serials: readonly string[], reason: RevocationReason, now: number): Promise<void> {
    const at = this.today(now);
    this.#keep(
      this.#records.map((record) =>
        serials.includes(record.serial) && record.revoked === undefined
          ? { ...record, revoked: { at, reason } }
          : record,
      ),
    );
    writeDurably(this.crlFile, await this.#revocations(authority), PUBLIC);
  }

  /** Grows with everything that is issued or revoked, and so from list to list. */
  async #revocations(authority: Authority): Promise<string> {
    const revocations = revocationsOf(this.#records);
    return await revocationList(authority, this.#records.length + revocations.length, revocations);
  }

  #keep(records: readonly Issued[]): void {
    writeDurably(this.#indexFile, indexText(records), PUBLIC);
    this.#records = records;
  }

  #validity(lifetime: number, { backdate }: Terms, issuedAt: number): Validity {
    const end = Date.parse(this.#certificate.validTo);
    if (end <= issuedAt) throw fault.expired(end, issuedAt);
    return validityFrom(issuedAt, lifetime, backdate, end);
  }

  #publicKey({ key, name, purpose }: Order, { certFile }: CertificateFiles): KeyObject {
    if (typeof key !== "string") return key;
    try {
      return new X509Certificate(readFileSync(certFile)).publicKey;
    } catch (error) {
      const target = purpose === "server" ? "--server" : `--device ${name}`;
      throw fault.unknownCertificate(name, target, `${certFile} cannot be read`, error);
    }
  }

  /** A key, and a bundle, that belong to the certificate before. */
  #removeStale({ keyFile, bundleFile, bundlePasswordFile }: CertificateFiles, certificate: string): void {
    const isOurs = existsSync(keyFile) && new X509Certificate(certificate).checkPrivateKey(keyIn(keyFile));
    for (const path of [...(isOurs ? [] : [keyFile]), bundleFile, bundlePasswordFile]) rmSync(path, { force: true });
  }
}

const keyIn = (file: string): KeyObject => createPrivateKey(readFileSync(file));

function recordOf(
  certificate: string,
  known: Pick<Issued, "kind" | "name" | "issuedAt"> & Partial<Pick<Issued, "dns" | "addresses">>,
): Issued {
  const { serialNumber, validFrom, validTo, fingerprint256 } = new X509Certificate(certificate);
  return {
    serial: serialNumber.toLowerCase(),
    ...known,
    notBefore: Date.parse(validFrom),
    notAfter: Date.parse(validTo),
    fingerprint: fingerprint256,
  };
}
