/**
 * The certificates of the TLS listeners, which follow their files, and what health is told of them: files that cannot be
 * used, and revocation lists that should have been replaced by now. Such a list goes on being used: on a board with a wrong
 * clock it would otherwise lock out every device.
 */
import { type ListenerTls, type ServerTls, serverTlsMaterial } from "../../identity/server-tls.ts";
import type { Clock } from "../../kernel/clock.ts";
import type { Conditions } from "../../kernel/conditions.ts";
import type { Reloading, Reloads } from "../../kernel/reloading.ts";

export interface ListenerCertificatesParts {
  readonly reloads: Reloads;
  readonly conditions: Conditions;
  readonly clock: Pick<Clock, "now" | "after">;
}

/** How often it is looked whether a revocation list is overdue. */
const OVERDUE_CHECK_MS = 60_000;

interface Followed {
  readonly key: string;
  readonly code: string;
  readonly material: Reloading<ServerTls>;
}

export class ListenerCertificates {
  readonly #parts: ListenerCertificatesParts;
  readonly #followed: Followed[] = [];
  #cancel: (() => void) | undefined;

  constructor(parts: ListenerCertificatesParts) {
    this.#parts = parts;
  }

  /**
   * Loads the material of a listener and follows its files; `renewed` gets what is new. `key` names its `tls` in the
   * configuration, `index` is its place in the list.
   * @throws GatewayError where a file is missing, cannot be read, or does not fit the others.
   */
  async open(tls: ListenerTls, key: string, index: number, renewed: (tls: ServerTls) => void): Promise<ServerTls> {
    const code = `crl-overdue-${index}`;
    const material = await this.#parts.reloads.open({
      ...serverTlsMaterial(tls, key),
      condition: { component: "mqtt", code: `tls-files-${index}` },
      put: (value) => {
        renewed(value);
        this.#checkOverdue({ key, code }, value);
      },
    });
    this.#followed.push({ key, code, material });
    this.#checkOverdue({ key, code }, material.current);
    this.#cancel ??= this.#parts.clock.after(OVERDUE_CHECK_MS, () => this.#checkAll());
    return material.current;
  }

  /** Follows the files no more. */
  close(): void {
    this.#cancel?.();
    for (const { material } of this.#followed.splice(0)) material.close();
  }

  #checkAll(): void {
    for (const followed of this.#followed) this.#checkOverdue(followed, followed.material.current);
    this.#cancel = this.#parts.clock.after(OVERDUE_CHECK_MS, () => this.#checkAll());
  }

  #checkOverdue({ key, code }: Pick<Followed, "key" | "code">, { revoked }: ServerTls): void {
    const { conditions, clock } = this.#parts;
    if (revoked?.nextUpdate === undefined || !revoked.isOverdue(clock.now())) {
      conditions.clear("mqtt", code);
      return;
    }
    const detail =
      `The revocation list of ${key}.crlFile should have been replaced by ${new Date(revoked.nextUpdate).toISOString()}. It is ` +
      "used all the same, but what was revoked since is not on it: put a newer list there, or see whether this clock is right.";
    conditions.raise("mqtt", code, "degraded", detail);
  }
}
