/** A site's certificate authority as an operator may have it: made with openssl, its files in a folder. */
import { execFileSync } from "node:child_process";
import { mkdirSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";

export interface CertificateFiles {
  readonly certFile: string;
  readonly keyFile: string;
}

interface Issue {
  readonly usage?: "clientAuth" | "serverAuth";
  /** Days from now; negative ones have passed. */
  readonly days?: number;
  /** `shared`: the one of all that have no own, which is quicker to make. */
  readonly key?: "own" | "shared";
}

interface Crl {
  /** Wall time: when it should be replaced; in an hour by default. */
  readonly nextUpdate?: Date;
}

const CONFIG = `
[ca]
default_ca = site
[site]
database = index.txt
serial = serial
crlnumber = crlnumber
new_certs_dir = .
default_md = sha256
policy = anything
unique_subject = no
[anything]
commonName = supplied
[clientAuth]
extendedKeyUsage = clientAuth
subjectAltName = DNS:localhost,IP:127.0.0.1
[serverAuth]
extendedKeyUsage = serverAuth
subjectAltName = DNS:localhost,IP:127.0.0.1
`;
const P256 = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
const RSA = ["-newkey", "rsa:2048", "-nodes"];
const HOUR_MS = 3_600_000;

export class SiteAuthority {
  readonly name: string;
  readonly caFile: string;
  readonly #folder: string;
  #made = 0;

  /** A new one in a folder of its own under `folder`. */
  constructor(folder: string, name: string, kind: "P-256" | "RSA" = "P-256") {
    this.name = name;
    this.#folder = join(folder, name);
    mkdirSync(this.#folder);
    this.caFile = join(this.#folder, "ca.pem");
    for (const [file, text] of [
      ["openssl.cnf", CONFIG],
      ["index.txt", ""],
      ["serial", "1000"],
      ["crlnumber", "01"],
    ] as const)
      writeFileSync(join(this.#folder, file), text);
    const key = kind === "RSA" ? [...RSA, "-sha512"] : P256;
    this.#openssl("req", "-x509", ...key, "-keyout", "ca-key.pem", "-out", "ca.pem", "-subj", `/CN=${name}`);
    this.#openssl("req", ...P256, "-keyout", "shared-key.pem", "-out", "shared.csr", "-subj", "/CN=shared");
  }

  /** Issues a certificate for `commonName`; its files are new ones each time. */
  issue(commonName: string, { usage = "clientAuth", days = 1, key = "own" }: Issue = {}): CertificateFiles {
    const base = `${++this.#made}`;
    const subject = ["-subj", `/CN=${commonName}`];
    if (key === "own") this.#openssl("req", ...P256, "-keyout", `${base}-key.pem`, "-out", `${base}.csr`, ...subject);
    const request = key === "own" ? base : "shared";
    const validity = ["-startdate", opensslTime(-48 * HOUR_MS), "-enddate", opensslTime(days * 24 * HOUR_MS)];
    const out = ["-out", `${base}.pem`, "-notext", "-batch", "-extensions", usage];
    this.#ca("-in", `${request}.csr`, ...subject, ...out, ...validity);
    return { certFile: join(this.#folder, `${base}.pem`), keyFile: join(this.#folder, `${request}-key.pem`) };
  }

  revoke({ certFile }: CertificateFiles): void {
    this.#ca("-revoke", certFile);
  }

  /** Writes the revocation list to `file`, by renaming it into place. */
  writeCrl(file: string, { nextUpdate = new Date(Date.now() + HOUR_MS) }: Crl = {}): void {
    const dates = ["-crl_lastupdate", opensslTime(-48 * HOUR_MS), "-crl_nextupdate", opensslTime(nextUpdate)];
    this.#ca("-gencrl", "-out", "crl.pem", ...dates);
    renameSync(join(this.#folder, "crl.pem"), file);
  }

  #ca(...args: string[]): void {
    this.#openssl("ca", "-config", "openssl.cnf", "-keyfile", "ca-key.pem", "-cert", "ca.pem", ...args);
  }

  #openssl(...args: string[]): void {
    execFileSync("openssl", args, { cwd: this.#folder, stdio: "pipe" });
  }
}

/** So many milliseconds from now, or a date, as `openssl ca` writes it: YYYYMMDDHHMMSSZ. */
function opensslTime(when: number | Date): string {
  const date = typeof when === "number" ? new Date(Date.now() + when) : when;
  return `${date.toISOString().replace(/[-:T]|\.\d+Z$/g, "")}Z`;
}
