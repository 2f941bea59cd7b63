/** How the outbox's notices are told to the operator: a line in the log, and a condition where it lasts. */
import type { Conditions } from "../kernel/conditions.ts";
import type { Telemetry } from "../kernel/telemetry.ts";
import type { Notice } from "./books.ts";

export function tell(
  notice: Notice,
  { telemetry, conditions }: { telemetry: Telemetry; conditions: Conditions },
): void {
  const { log } = telemetry;
  if (notice.kind === "damaged") {
    log.error({ readings: notice.readings }, `${notice.detail}; it was set aside and its readings counted as damaged`);
    conditions.raise(
      "outbox",
      "damaged",
      "degraded",
      `${notice.readings} stored readings could not be read back (${notice.detail}); check the card`,
    );
  } else if (notice.kind === "repaired") {
    const { salvaged, damaged, setAside, detail } = notice;
    if (notice.now) log.error({ salvaged, damaged, setAside }, detail);
    conditions.raise("outbox", "repaired", "degraded", detail);
  } else {
    log.warn({ ids: notice.ids }, "dead letters beyond outbox.maxDeadLetters were dropped, oldest first");
  }
}
