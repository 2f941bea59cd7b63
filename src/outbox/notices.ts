/** How the outbox's notices are told to the operator: a line in the log, and a condition where it lasts. */
import type { Conditions } from "../kernel/conditions.ts";
import type { Telemetry } from "../kernel/telemetry.ts";
import type { Notice } from "./books.ts";

/** Tells one notice after another. */
export function teller({
  telemetry,
  conditions,
}: {
  readonly telemetry: Telemetry;
  readonly conditions: Conditions;
}): (notice: Notice) => void {
  const { log } = telemetry;
  let unreadable = 0;
  return (notice) => {
    if (notice.kind === "damaged") {
      const { readings, detail } = notice;
      unreadable += readings;
      log.error({ readings }, `${detail}; it was set aside and its readings counted as damaged`);
      const total = `${unreadable} stored readings could not be read back since the start (last: ${detail}); check the card`;
      conditions.raise("outbox", "damaged", "degraded", total, true);
    } else if (notice.kind === "repaired") {
      const { salvaged, damaged, setAside, detail, now } = notice;
      if (now) log.error({ salvaged, damaged, setAside }, detail);
      conditions.raise("outbox", "repaired", "degraded", detail, now);
    } else {
      log.warn({ ids: notice.ids }, "dead letters beyond outbox.maxDeadLetters were dropped, oldest first");
    }
  };
}
