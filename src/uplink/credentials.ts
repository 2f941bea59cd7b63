/**
 * What the gateway shows to fusion, and whom it trusts: certificate, key, authorities and token, which follow their files.
 * Until they could be read for the first time, each request tries again.
 */
import { createSecureContext, type SecureContext } from "node:tls";
import type { UplinkConfig } from "../config/schema.ts";
import { GatewayError } from "../kernel/errors.ts";
import { assertPair, attempt, authoritiesIn } from "../kernel/pem.ts";
import type { Contents, FileContent, FileMaterial, Reloading, Reloads } from "../kernel/reloading.ts";

export interface CredentialsParts {
  readonly config: Pick<UplinkConfig, "tls" | "tokenFile">;
  readonly reloads: Reloads;
  /** There is another TLS context, or another token, than before. */
  readonly renewed: (what: "tls" | "token") => void;
}

export class Credentials {
  readonly #tls: OpenedOnce<SecureContext>;
  readonly #token: OpenedOnce<string | undefined>;
  #refused = false;

  constructor({ config, reloads, renewed }: CredentialsParts) {
    this.#tls = new OpenedOnce(() =>
      reloads.open({
        ...uplinkTlsMaterial(config),
        condition: { component: "uplink", code: "tls-files" },
        put: () => renewed("tls"),
      }),
    );
    this.#token = new OpenedOnce(() =>
      reloads.open({
        ...tokenMaterial(config),
        condition: { component: "uplink", code: "token-file" },
        put: () => renewed("token"),
      }),
    );
  }

  /** For TLS 1.2 or newer. @throws where its files cannot be used */
  async secureContext(): Promise<SecureContext> {
    return (await this.#tls.get()).current;
  }

  /** The token, where one is configured. @throws where its file cannot be used */
  async token(): Promise<string | undefined> {
    const token = await this.#token.get();
    if (this.#refused) await token.reload();
    this.#refused = false;
    return token.current;
  }

  /** Fusion refused the token: its file is read before it is used again. */
  refused(): void {
    this.#refused = true;
  }

  /** Follows the files no more. */
  close(): void {
    this.#tls.close();
    this.#token.close();
  }
}

type TlsFiles = Readonly<Record<"caFile" | "certFile" | "keyFile", string | undefined>>;
type TokenFiles = Readonly<Record<"tokenFile", string | undefined>>;

/** What the uplink's TLS is made of. */
export const uplinkTlsMaterial = ({ tls }: Pick<UplinkConfig, "tls">): FileMaterial<SecureContext, TlsFiles> => ({
  section: "uplink.tls",
  files: { caFile: tls.caFile, certFile: tls.certFile, keyFile: tls.keyFile },
  load: contextOf,
});

/** What the token is made of, where one is configured. */
export const tokenMaterial = ({
  tokenFile,
}: Pick<UplinkConfig, "tokenFile">): FileMaterial<string | undefined, TokenFiles> => ({
  section: "uplink",
  files: { tokenFile },
  load: (files) => files.tokenFile && tokenIn(files.tokenFile),
});

/** Files that OpenSSL cannot use show here, and not as an exception of the first request. */
function contextOf({ caFile, certFile, keyFile }: Contents<TlsFiles>): SecureContext {
  if (certFile !== undefined && keyFile !== undefined) assertPair("uplink.tls", certFile, keyFile);
  if (caFile !== undefined) authoritiesIn("uplink.tls", caFile);
  return attempt("uplink.tls", "its files cannot be used", () =>
    createSecureContext({
      minVersion: "TLSv1.2",
      ...(caFile && { ca: caFile.content }),
      ...(certFile && { cert: certFile.content }),
      ...(keyFile && { key: keyFile.content }),
    }),
  );
}

function tokenIn({ path, content }: FileContent): string {
  const token = String(content).trim();
  // Anything else could not stand in a header, and the error that says so would show the token.
  if (/^[\x21-\x7e]+$/.test(token)) return token;
  throw new GatewayError({
    code: "TOKEN_INVALID",
    op: "uplink.token",
    message: `${path} does not hold a token`,
    hint: "Put the token into the file of uplink.tokenFile, on one line, without spaces.",
  });
}

/** A value that is opened when it is first asked for, by one of those who ask at a time. */
class OpenedOnce<T> {
  readonly #open: () => Promise<Reloading<T>>;
  #opened: Promise<Reloading<T>> | undefined;
  #closed = false;

  constructor(open: () => Promise<Reloading<T>>) {
    this.#open = open;
  }

  get(): Promise<Reloading<T>> {
    this.#opened ??= this.#tryToOpen();
    return this.#opened;
  }

  close(): void {
    this.#closed = true;
    this.#opened?.then(
      (value) => value.close(),
      () => {},
    );
  }

  async #tryToOpen(): Promise<Reloading<T>> {
    try {
      const value = await this.#open();
      if (this.#closed) value.close();
      return value;
    } catch (fault) {
      this.#opened = undefined;
      throw fault;
    }
  }
}
