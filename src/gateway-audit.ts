/** The daemon's audit trail: what its parts report to, and what health says where it cannot be written. */
import { open, rename } from "node:fs/promises";
import type { Config } from "./config/schema.ts";
import type { Clock } from "./kernel/clock.ts";
import type { Conditions } from "./kernel/conditions.ts";
import { messageOf } from "./kernel/errors.ts";
import type { Logger } from "./kernel/telemetry.ts";
import { recordOf } from "./operations/audit/config-record.ts";
import { trailFolder } from "./operations/audit/segments.ts";
import { AuditTrail, MAX_WAITING } from "./operations/audit/trail.ts";

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

/** What an auditor notes elsewhere: with it a trail that was made anew as a whole is found out. */
export function sayEnd(trail: AuditTrail, log: Logger): void {
  if (trail.end !== undefined) log.info({ component: COMPONENT, ...trail.end }, "the audit trail's end");
}
