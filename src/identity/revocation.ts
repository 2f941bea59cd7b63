/**
 * Which certificates have been revoked: the lists (CRLs) of a file, each signed by an authority that is trusted here.
 *
 * OpenSSL verifies chains; this answers the one question that is left, whether a verified certificate is on its issuer's list,
 * the same way for a handshake, a resumed session and one that is open already. docs/decisions/0016-revocation.md says why OpenSSL
 * is not given the lists themselves.
 */
import type { X509Certificate } from "node:crypto";
import { Worker } from "node:worker_threads";
import { GatewayError } from "../kernel/errors.ts";
import type { FileContent } from "../kernel/reloading.ts";

/** What the worker is asked. */
export interface RevocationQuestion {
  /** PEM. */
  readonly lists: string;
  readonly authorities: string;
}

/** What the worker says, once; `fault` completes a sentence that begins with the file's name. */
export type RevocationAnswer =
  | { readonly lists: readonly { readonly issuer: string; readonly serials: string[]; readonly nextUpdate?: number }[] }
  | { readonly fault: string };

export class RevocationList {
  /** Wall time, milliseconds: when the first of the lists should have been replaced; `undefined` where none says. */
  readonly nextUpdate: number | undefined;
  readonly #revoked: ReadonlySet<string>;

  constructor(lists: Extract<RevocationAnswer, { lists: unknown }>["lists"]) {
    this.#revoked = new Set(lists.flatMap(({ issuer, serials }) => serials.map((serial) => keyOf(issuer, serial))));
    const updates = lists.flatMap(({ nextUpdate }) => nextUpdate ?? []);
    this.nextUpdate = updates.length === 0 ? undefined : Math.min(...updates);
  }

  /** How many certificates are on the lists. */
  get size(): number {
    return this.#revoked.size;
  }

  /** Whether a newer list should be here at wall time `now`: a list's date is one of the calendar. */
  isOverdue(now: number): boolean {
    return this.nextUpdate !== undefined && now > this.nextUpdate;
  }

  has({ issuer, serialNumber }: Pick<X509Certificate, "issuer" | "serialNumber">): boolean {
    return this.#revoked.has(keyOf(issuer, serialNumber));
  }
}

/**
 * Reads the revocation lists of a PEM file and checks that authorities of `authorities` have signed them. In a thread of its own
 * that ends with it: the library weighs 18 MiB (decision 0004).
 * @throws GatewayError `CRL_INVALID`
 */
export async function readRevocationList(file: FileContent, authorities: FileContent): Promise<RevocationList> {
  const question = { lists: String(file.content), authorities: String(authorities.content) };
  const worker = new Worker(new URL("./revocation-worker.js", import.meta.url), { workerData: question });
  const answer = await new Promise<RevocationAnswer>((resolve, reject) => {
    worker.once("message", resolve);
    worker.once("error", reject);
  });
  await worker.terminate();
  if ("lists" in answer) return new RevocationList(answer.lists);
  throw new GatewayError({
    code: "CRL_INVALID",
    op: "tls.load",
    message: `${file.path} ${answer.fault}`,
    hint: `Put a PEM list there that an authority in ${authorities.path} has signed (openssl crl -in ${file.path} -noout -text).`,
  });
}

/** Serial numbers are written with or without leading zeros, in either case. */
function keyOf(issuer: string, serial: string): string {
  return `${serial.toLowerCase().replace(/^0+/, "")}\n${issuer}`;
}
