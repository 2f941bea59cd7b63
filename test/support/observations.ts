import { randomUUID } from "node:crypto";
import type { Observation } from "#src/observation/observation.js";

let made = 0;

/** A plausible observation; `changes` override. */
export function observation(changes: Partial<Observation> = {}): Observation {
  made++;
  return {
    id: randomUUID(),
    class: "smoke",
    ts_iso: new Date(Date.UTC(2026, 4, 1) + made * 1000).toISOString(),
    confidence: 0.9,
    source: `mast-${made % 7}`,
    priority: "normal",
    attributes: { pm2_5_ug_m3: made % 400, temperature_c: 20 + (made % 90) / 10 },
    ...changes,
  };
}
