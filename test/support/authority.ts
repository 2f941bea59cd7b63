import "reflect-metadata";
import { webcrypto } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import * as x509 from "@peculiar/x509";

const algorithm = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };
const DAY_MS = 86_400_000;

interface IssueOptions {
  readonly usage?: "clientAuth" | "serverAuth";
  readonly notAfter?: Date;
}

/** A certificate authority for client certificates, its files in `folder`. */
export class Authority {
  readonly caFile: string;
  readonly #folder: string;
  readonly #keys: webcrypto.CryptoKeyPair;
  readonly #name: string;

  private constructor(folder: string, name: string, keys: webcrypto.CryptoKeyPair) {
    this.#folder = folder;
    this.#name = name;
    this.#keys = keys;
    this.caFile = join(folder, `${name}.pem`);
  }

  static async make(folder: string, name: string): Promise<Authority> {
    const keys = await webcrypto.subtle.generateKey(algorithm, true, ["sign", "verify"]);
    const certificate = await x509.X509CertificateGenerator.createSelfSigned({
      serialNumber: "01",
      name: `CN=${name}`,
      notBefore: new Date(Date.now() - DAY_MS),
      notAfter: new Date(Date.now() + DAY_MS),
      keys,
      signingAlgorithm: algorithm,
      extensions: [new x509.BasicConstraintsExtension(true, 0, true)],
    });
    const authority = new Authority(folder, name, keys);
    writeFileSync(authority.caFile, certificate.toString("pem"));
    return authority;
  }

  /** Issues a client's certificate, or a server's on loopback, and returns the paths of its files. */
  async issue(
    commonName: string,
    { usage = "clientAuth", notAfter = new Date(Date.now() + DAY_MS) }: IssueOptions = {},
  ): Promise<{ certFile: string; keyFile: string }> {
    const keys = await webcrypto.subtle.generateKey(algorithm, true, ["sign", "verify"]);
    const certificate = await x509.X509CertificateGenerator.create({
      serialNumber: Buffer.from(webcrypto.getRandomValues(new Uint8Array(8))).toString("hex"),
      subject: `CN=${commonName}`,
      issuer: `CN=${this.#name}`,
      notBefore: new Date(Date.now() - 2 * DAY_MS),
      notAfter,
      publicKey: keys.publicKey,
      signingKey: this.#keys.privateKey,
      signingAlgorithm: algorithm,
      extensions: [
        new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage[usage]]),
        new x509.SubjectAlternativeNameExtension([
          { type: "dns", value: "localhost" },
          { type: "ip", value: "127.0.0.1" },
        ]),
      ],
    });
    const base = join(this.#folder, `${this.#name}-${Buffer.from(commonName).toString("hex")}`);
    writeFileSync(`${base}.pem`, certificate.toString("pem"));
    const key = await webcrypto.subtle.exportKey("pkcs8", keys.privateKey);
    writeFileSync(`${base}-key.pem`, x509.PemConverter.encode(key, "PRIVATE KEY"));
    return { certFile: `${base}.pem`, keyFile: `${base}-key.pem` };
  }
}
