/**
 * Says in health when a certificate that the gateway uses has to be renewed, has ended, or is not valid yet, and when a listener
 * lets revoked devices in because it names no list of them. It says so and does nothing else: what works goes on working, because a clock may be wrong where nobody has a better one.
 *
 * Files are read anew at each look, so that a renewed certificate is noticed wherever it comes from. One that cannot be read is
 * no matter of this watch.
 */
import type { Config } from "../config/schema.ts";
import type { Clock } from "../kernel/clock.ts";
import type { Conditions } from "../kernel/conditions.ts";
import {
  type CertificateFile,
  certificateFiles,
  decisiveCertificate,
  type NamedCertificate,
} from "./certificate-files.ts";
import { type LifeState, lifeState, renewalDueAt } from "./certificate-life.ts";
import { type UnlistedRevocations, unlistedRevocations } from "./unlisted-revocations.ts";

const LOOK_EVERY_MS = 60_000;
const COMPONENT = "certificates";

type Trouble = Exclude<LifeState, "valid">;
const UNLISTED = "revocations-unlisted";
const TROUBLES = ["renewal-due", "expired", "not-yet-valid"] as const satisfies readonly Trouble[];

export interface CertificateWatchOptions {
  readonly config: Pick<Config, "gateway" | "certs" | "mqtt" | "uplink" | "http">;
  readonly clock: Clock;
  readonly conditions: Conditions;
  /** Whether the wall clock is known to be right. */
  readonly clockIsTrusted: () => boolean;
}

export class CertificateWatch {
  readonly #options: CertificateWatchOptions;
  readonly #files: readonly CertificateFile[];
  #cancel: () => void = () => {};
  #stopped = false;

  /** Inert until `start`. */
  constructor(options: CertificateWatchOptions) {
    this.#options = options;
    this.#files = certificateFiles(options.config);
  }

  /** Looks now, and every minute until `stop`; resolves after the first look. */
  async start(): Promise<void> {
    await this.#look();
    if (this.#stopped || this.#files.length === 0) return;
    this.#cancel = this.#options.clock.after(LOOK_EVERY_MS, () => void this.start());
  }

  stop(): void {
    this.#stopped = true;
    this.#cancel();
  }

  async #look(): Promise<void> {
    const found = await Promise.all(
      this.#files.map(async (file) => ({ file, certificate: await decisiveCertificate(file) })),
    );
    const { clock, conditions, config } = this.#options;
    const unlisted = await unlistedRevocations(config);
    if (this.#stopped) return;
    if (unlisted.length === 0) conditions.clear(COMPONENT, UNLISTED);
    else conditions.raise(COMPONENT, UNLISTED, "degraded", `${unlisted.map(unlistedText).join("; ")}.`);
    const now = clock.now();
    for (const trouble of TROUBLES) {
      const code = `certificate-${trouble}`;
      const details = found.flatMap(({ file, certificate }) =>
        certificate !== undefined && lifeState(certificate, now) === trouble
          ? [`${file.key} (${certificate.subject}) ${what(trouble, certificate)}`]
          : [],
      );
      if (details.length === 0) conditions.clear(COMPONENT, code);
      else conditions.raise(COMPONENT, code, "degraded", `${details.join("; ")}. ${this.#advice(trouble)}`);
    }
  }

  #advice(trouble: Trouble): string {
    const renew =
      "Renew it: summit-edge certs renew, where it comes from this site's own authority, else with whoever issued it.";
    if (this.#options.clockIsTrusted())
      return trouble === "not-yet-valid" ? `Wait until it is, or ${lower(renew)}` : renew;
    const first = "The clock of this machine is not known to be right, so look at it first (timedatectl)";
    return trouble === "not-yet-valid" ? `${first}.` : `${first}. ${renew}`;
  }
}

const unlistedText = ({ index, message }: UnlistedRevocations): string =>
  `mqtt.listeners[${index}].tls names no crlFile: ${message}`;

function what(trouble: Trouble, certificate: NamedCertificate): string {
  const { notBefore, notAfter } = certificate;
  switch (trouble) {
    case "renewal-due":
      return `is to be renewed since ${day(renewalDueAt(certificate))}, it ends on ${day(notAfter)}`;
    case "expired":
      return `ended on ${day(notAfter)}; it is used all the same, and others may refuse it`;
    case "not-yet-valid":
      return `is valid only from ${day(notBefore)} on; it is used all the same, and others may refuse it`;
  }
}

const day = (time: number): string => new Date(time).toISOString().slice(0, 10);
const lower = (text: string): string => text.charAt(0).toLowerCase() + text.slice(1);
