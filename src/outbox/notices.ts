/** How the outbox's notices are told to the operator: a line in the log, and a condition where it lasts. */
import type { Audit } from "../kernel/audit.ts";
import type { Conditions } from "../kernel/conditions.ts";
import type { Telemetry } from "../kernel/telemetry.ts";
import type { FilePlaceNotice, Notice } from "./books.ts";

const FILE_GONE = "outbox-file-gone";
const TOUCHED =
  "another program has written to the outbox's file, or touched it, while the gateway uses it: the file was checked, and is whole";

function misplaced({ file, place, fault, keptAs }: FilePlaceNotice): string {
  const held = "nothing is acknowledged until that is mended, and deliveries go on";
  if (place === "overwritten") {
    return `another program has written over the outbox's file ${file} while the gateway uses it: the gateway ends, and sets the file aside at its next start. What the log still holds is salvaged, the rest counted as damaged. To put a backup back, use summit-edge outbox restore.`;
  }
  if (place !== "replaced") {
    const wrong = `the outbox's file ${place === "gone" ? file : `${file}-wal`} was removed while the gateway uses it: ${held}`;
    return fault === undefined
      ? `${wrong}. Its content is being put back; then the gateway ends, to be started afresh. Find out what removes files there.`
      : `${wrong}. Its content could not be put back (${fault}): mend that, and leave the gateway running, or it is lost.`;
  }
  const wrong = `another file is in the place of the outbox ${file} while the gateway uses the one that was there: ${held}`;
  const mend = "Move that file away, and the gateway puts its own back";
  return fault === undefined
    ? `${wrong}. ${mend}; or restart the gateway, to go on with the other file: what the gateway holds stays as ${keptAs}.`
    : `${wrong}. ${mend}. Do not stop it before: what it holds could not be copied (${fault}).`;
}

/** Ids of dead letters that one entry of the audit trail names. */
const IDS_NAMED = 50;

/** Tells one notice after another. */
export function teller({
  telemetry,
  conditions,
  audit = () => {},
}: {
  readonly telemetry: Telemetry;
  readonly conditions: Conditions;
  readonly audit?: Audit;
}): (notice: Notice) => void {
  const { log } = telemetry;
  let unreadable = 0;
  return (notice) => {
    auditNotice(notice, audit);
    if (notice.kind === "damaged") {
      const { readings, detail } = notice;
      unreadable += readings;
      log.error({ readings }, `${detail}; it was set aside and its readings counted as damaged`);
      const total = `${unreadable} stored readings could not be read back since the start (last: ${detail}); check the card`;
      conditions.raise("outbox", "damaged", "degraded", total, { told: true });
    } else if (notice.kind === "repaired") {
      const { salvaged, damaged, setAside, detail, now } = notice;
      if (now) log.error({ salvaged, damaged, setAside }, detail);
      conditions.raise("outbox", "repaired", "degraded", detail, now ? { told: true } : {});
    } else if (notice.kind === "file-place") {
      if (notice.place === "in-place") conditions.clear("outbox", FILE_GONE);
      else conditions.raise("outbox", FILE_GONE, "failing", misplaced(notice));
    } else if (notice.kind === "checked") {
      const seconds = Math.round(notice.seconds * 1000) / 1000;
      if (notice.why === "touched") log.warn({ seconds }, TOUCHED);
      else log.info({ seconds }, "the last stop was not a clean one: the outbox's file was checked, and is whole");
    } else {
      log.warn({ ids: notice.ids }, "dead letters beyond outbox.maxDeadLetters were dropped, oldest first");
    }
  };
}

function auditNotice(notice: Notice, audit: Audit): void {
  const actor = "gateway";
  switch (notice.kind) {
    case "damaged":
      audit({ action: "block.set-aside", actor, detail: { count: notice.readings, why: notice.detail } });
      return;
    case "repaired": {
      const { now, setAside, salvaged, damaged } = notice;
      if (!now) return;
      const subject = setAside ?? "the outbox's file";
      audit({ action: "file.set-aside", actor, subject, detail: { salvaged, damaged, why: notice.detail } });
      return;
    }
    case "dead-letters-dropped": {
      const { ids } = notice;
      const detail = { count: ids.length, ids: ids.slice(0, IDS_NAMED).join(" "), why: "outbox.maxDeadLetters" };
      audit({ action: "dead-letter.dropped", actor, detail });
    }
  }
}
