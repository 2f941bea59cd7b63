/** The daemon's audit trail: what its parts report to, and what health says where it cannot be written. */
import { open, rename } from "node:fs/promises";
import type { Config } from "./config/schema.ts";
import type { Clock } from "./kernel/clock.ts";
import type { Conditions } from "./kernel/conditions.ts";
import { messageOf } from "./kernel/errors.ts";
import type { Logger } from "./kernel/telemetry.ts";
import { recordOf } from "./operations/audit/config-record.ts";
import { readHead } from "./operations/audit/head.ts";
import { trailFolder } from "./operations/audit/segments.ts";
import { AuditTrail, MAX_WAITING } from "./operations/audit/trail.ts";
import { BROKEN_ADVICE, brokenText, type TrailReport } from "./operations/audit/verify.ts";
import { verifyTrailApart } from "./operations/audit/verify-apart.ts";

const COMPONENT = "audit";

export interface TrailContext {
  readonly config: Pick<Config, "gateway" | "audit">;
  readonly clock: Clock;
  readonly conditions: Conditions;
  readonly bootId: string;
  readonly clockQuality: () => string;
}

/** The trail; inert until its `start`. */
export function trailOf({ config, clock, conditions, bootId, clockQuality }: TrailContext): AuditTrail {
  const folder = trailFolder(config.gateway.dataDir);
  return new AuditTrail({
    folder,
    maxBytes: config.audit.maxBytes,
    clock,
    bootId,
    clockQuality,
    onFault: (why) => {
      if (why === undefined) return conditions.clear(COMPONENT, "unwritable");
      const detail = `the audit trail in ${folder} cannot be written (${why}): as many as ${MAX_WAITING} events wait for it; see its rights, and that the disk is not full`;
      conditions.raise(COMPONENT, "unwritable", "degraded", detail);
    },
    onDamage: () => {
      const detail = `entries of the audit trail in ${folder} are gone that had been written: see which with summit-edge audit verify, check the card, and ask who was on this machine`;
      conditions.raise(COMPONENT, "damaged", "degraded", detail);
    },
  });
}

/** Tells the trail whether the configuration is another than at the last start; its record follows once the entry is durable. */
export async function auditConfig(trail: AuditTrail, file: string, config: Config, log: Logger): Promise<void> {
  try {
    const { event, path, text } = await recordOf(trailFolder(config.gateway.dataDir), file, config);
    if (event === undefined) return;
    trail.record(event);
    await trail.flush();
    const record = await open(`${path}.partial`, "w", 0o600);
    await record.writeFile(text).finally(() => record.close());
    await rename(`${path}.partial`, path);
  } catch (fault) {
    log.warn({ error: messageOf(fault) }, "what the configuration is cannot be noted beside the audit trail");
  }
}

type TrailCheckParts = Pick<TrailContext, "clock" | "conditions"> & { readonly log: Logger };

/**
 * Looks through the trail in a thread, at start, on SIGHUP and once a day: the log says where it ends, and health where it
 * is not whole.
 */
export class TrailCheck {
  readonly #folder: string;
  readonly #parts: TrailCheckParts;
  readonly #stopped = new AbortController();
  #looking: Promise<void> | undefined;
  #cancel = (): void => {};

  /** Inert until `look`. */
  constructor(config: TrailContext["config"], parts: TrailCheckParts) {
    this.#folder = trailFolder(config.gateway.dataDir);
    this.#parts = parts;
  }

  /** Looks now, and a day later again. Never throws. */
  look(): Promise<void> {
    if (this.#stopped.signal.aborted) return Promise.resolve();
    this.#cancel();
    this.#looking ??= this.#look().finally(() => {
      this.#looking = undefined;
      if (!this.#stopped.signal.aborted) this.#cancel = this.#parts.clock.after(DAY_MS, () => void this.look());
    });
    return this.#looking;
  }

  async stop(): Promise<void> {
    this.#stopped.abort();
    this.#cancel();
    await this.#looking;
  }

  async #look(): Promise<void> {
    const { conditions } = this.#parts;
    const { signal } = this.#stopped;
    try {
      const report = await verifyTrailApart(this.#folder, signal);
      if (signal.aborted) return;
      conditions.clear(COMPONENT, "unreadable");
      this.#tell(report);
    } catch (fault) {
      if (signal.aborted) return;
      const detail = `the audit trail in ${this.#folder} cannot be looked through (${messageOf(fault)}): see its rights, and that it is a folder`;
      conditions.raise(COMPONENT, "unreadable", "degraded", detail);
    }
  }

  #tell(report: TrailReport): void {
    const { conditions, log } = this.#parts;
    const { ok, entries, end } = report;
    if (ok) conditions.clear(COMPONENT, "damaged");
    else conditions.raise(COMPONENT, "damaged", "degraded", `${brokenText(this.#folder, report)}. ${BROKEN_ADVICE}`);
    if (end !== undefined) log.info({ component: COMPONENT, ...end, entries, whole: ok }, END);
  }
}

const DAY_MS = 86_400_000;
const END = "the audit trail's end";

/** What an auditor notes elsewhere: with it a trail that was made anew as a whole is found out. Commands write the trail too. */
export async function sayEnd(trail: AuditTrail, config: TrailContext["config"], log: Logger): Promise<void> {
  const [anchor] = await readHead(trailFolder(config.gateway.dataDir)).catch(() => []);
  const written = trail.end;
  const end = anchor === undefined || (written !== undefined && written.seq > anchor.seq) ? written : anchor;
  if (end !== undefined) log.info({ component: COMPONENT, seq: end.seq, hash: end.hash }, END);
}
