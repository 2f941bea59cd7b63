/** How a command reports to the audit trail what it has done by itself, without the daemon. */
import { mkdir } from "node:fs/promises";
import { userInfo } from "node:os";
import type { Config } from "../config/schema.ts";
import type { Audit, AuditEvent } from "../kernel/audit.ts";
import { bootId } from "../kernel/boot.ts";
import { systemClock } from "../kernel/clock.ts";
import { trailFolder } from "../operations/audit/segments.ts";
import { AuditTrail } from "../operations/audit/trail.ts";
import { probeClock } from "./doctor/probe-host.ts";
import { printable } from "./format.ts";
import type { Terminal } from "./terminal.ts";

export interface CommandTrail {
  readonly record: Audit;
  /** Who runs the command: `cli:alice`. */
  readonly actor: string;
  flush(): Promise<void>;
  /** Writes what waits. A trail that cannot be written is said on standard error: what was done is done. */
  close(): Promise<void>;
}

/** Who runs this command; through sudo, who called that. */
export function callerName(env: NodeJS.ProcessEnv): string {
  const name = env.SUDO_USER ?? ownName();
  return name.replaceAll(/[^\w.-]/g, "_").slice(0, 64);
}

function ownName(): string {
  try {
    return userInfo().username;
  } catch {
    return String(process.getuid?.() ?? "unknown"); // a user without a name, as in some containers
  }
}

/** Who runs this command, as the audit trail names them: `cli:alice`. */
export const callerOf = ({ env }: Pick<Terminal, "env">): string => `cli:${callerName(env)}`;

/** Keeps what a command has done in the trail of the gateway that the configuration describes; resolves once it is there. */
export type TellTrail = (config: Pick<Config, "gateway" | "audit">, ...events: readonly AuditEvent[]) => Promise<void>;

export function tellTrail(terminal: Terminal): TellTrail {
  return async (config, ...events) => {
    if (events.length === 0) return;
    await mkdir(config.gateway.dataDir, { recursive: true, mode: 0o750 }); // before the daemon's first start
    const trail = await openTrail(config, terminal);
    for (const event of events) trail.record(event);
    await trail.close();
  };
}

/** The trail of the gateway that the configuration describes; the daemon may run and write it too. */
export async function openTrail(config: Pick<Config, "gateway" | "audit">, terminal: Terminal): Promise<CommandTrail> {
  const quality = await probeClock();
  const folder = trailFolder(config.gateway.dataDir);
  const trail = new AuditTrail({
    folder,
    maxBytes: config.audit.maxBytes,
    // The clock's own wait would not keep the command alive.
    clock: { ...systemClock, sleep: async (delayMs) => void (await terminal.pause(delayMs)) },
    bootId: bootId(),
    clockQuality: () => quality,
    onFault: (why) => {
      if (why === undefined) return;
      process.stderr.write(`warning: the audit trail in ${folder} does not hold this: ${printable(why)}\n`);
    },
    onDamage: () =>
      process.stderr.write(
        "warning: entries of the audit trail are gone that had been written; see which with summit-edge audit verify\n",
      ),
  });
  trail.start();
  return { record: trail.record, actor: callerOf(terminal), flush: () => trail.flush(), close: () => trail.close() };
}
