/** The daemon and its outbox: what it says of itself while it runs, and what its files tell while it does not. Pure. */
import type { Status } from "../../operations/status.ts";
import type { FileState } from "../../outbox/file-state.ts";
import { imbalance } from "../../outbox/ledger.ts";
import { count, size, span } from "../format.ts";
import { wearText, writesText } from "../wear.ts";
import { type Finding, fail, ok, warn } from "./finding.ts";

export type DaemonFact =
  | { readonly kind: "answers"; readonly status: Status }
  /** Process `pid` holds the data folder, and the daemon cannot be asked. */
  | { readonly kind: "silent"; readonly pid: number; readonly why: string }
  | { readonly kind: "stopped" };

export function checkDaemon(daemon: DaemonFact, gatewayId: string): Finding {
  const journal = "journalctl -u summit-edge -n 50";
  switch (daemon.kind) {
    case "stopped":
      return warn("daemon", "it does not run", `Start it: systemctl start summit-edge; its log: ${journal}`);
    case "silent":
      return fail(
        "daemon",
        `process ${daemon.pid} has the outbox open, but ${daemon.why}`,
        `Look at its log: ${journal}`,
      );
    case "answers": {
      const { gateway, version, uptimeSeconds } = daemon.status;
      if (gateway === gatewayId)
        return ok("daemon", `${gateway}, version ${version}, running for ${span(uptimeSeconds)}`);
      const hint = "Restart it if gateway.id was changed; else give this one an http.port of its own.";
      return fail("daemon", `it is ${gateway} that answers, not ${gatewayId}`, hint);
    }
  }
}

/** Conditions that a check of doctor's own tells more of. */
const TOLD_ELSEWHERE = new Set(["unsynchronised", "stepped", "unbalanced", "filling"]);

/** What else the daemon itself has noticed. */
export function checkConditions({ conditions }: Pick<Status, "conditions">): Finding[] {
  const others = conditions.filter(({ code }) => !TOLD_ELSEWHERE.has(code));
  return others.map(({ component, severity, detail, code }) =>
    (severity === "failing" ? fail : warn)(component, detail, `${code}: see summit-edge status, and the log.`),
  );
}

export interface OutboxFileFact {
  readonly path: string;
  readonly exists: boolean;
  /** With its write-ahead log. */
  readonly bytes: number;
  /** Above 0 where whoever wrote it last did not close the file. */
  readonly walBytes: number;
  /** What the file beside it says; `undefined` where there is none that can be read. */
  readonly state: FileState | undefined;
  /** Nothing has touched it since it was closed properly. */
  readonly untouched: boolean;
  readonly maxBytes: number;
}

const NEARLY_FULL = 0.9;

/** While no daemon has it open: from the files alone, for opening them would take the daemon's place. */
export function checkOutboxFile(file: OutboxFileFact): Finding {
  const { path, exists, bytes, maxBytes } = file;
  if (!exists) return missing(file);
  const used = `${path}: ${size(bytes)} of ${size(maxBytes)}`;
  const unclean = howItWasLeft(file, used);
  if (unclean !== undefined) return unclean;
  return bytes >= NEARLY_FULL * maxBytes ? nearlyFull(used) : ok("outbox", `${used}; closed cleanly`);
}

function missing({ path, state }: OutboxFileFact): Finding {
  const waiting = state?.known?.ledgers.reduce((sum, { pending }) => sum + pending, 0) ?? 0;
  if (state === undefined || (state.state === "closed" && waiting === 0))
    return ok("outbox", `${path} is not there yet; the daemon makes it`);
  const hint = "Put it back before the daemon starts: else it begins anew, and counts what waited as damaged.";
  const when = state.state === "closed" ? "closed" : "opened";
  return fail("outbox", `${path} is gone; ${count(waiting)} readings waited in it when it was last ${when}`, hint);
}

const NOTHING_LOST = "Nothing that was acknowledged is lost by that: the next start";

/** What there is to say of the last stop; nothing where it was a clean one. */
function howItWasLeft({ state, walBytes, untouched }: OutboxFileFact, used: string): Finding | undefined {
  if (untouched) return undefined;
  switch (state?.state) {
    case "suspect":
    case "damaged":
      return fail(
        "outbox",
        `${used}; damaged: ${state.reason}`,
        "The daemon's next start repairs what can be: start it.",
      );
    case "repaired-in-vain": {
      const hint = "Replace the card. To begin with an empty outbox on this one, move the file and its .state away.";
      return fail("outbox", `${used}; it was repaired, and still cannot be opened: ${state.reason}`, hint);
    }
    case "replacing":
      return warn("outbox", `${used}; a repair or a restore was interrupted`, "The next start brings it to its end.");
    case "closed":
      if (walBytes === 0)
        return warn("outbox", `${used}; closed cleanly, and changed since`, "The next start checks the whole file.");
      break;
    case undefined:
      if (walBytes === 0)
        return warn("outbox", `${used}; it is not known whether it was closed`, `${NOTHING_LOST} checks the file.`);
  }
  return warn("outbox", `${used}; the last stop was not a clean one`, `${NOTHING_LOST} checks the file.`);
}

/** While the daemon runs: from its own numbers. */
export function checkOutbox({ outbox, ledger }: Pick<Status, "outbox" | "ledger">): Finding[] {
  const { pending, bytes, maxBytes, oldestAgeSeconds, deadLetters, room } = outbox;
  const oldest = pending === 0 ? "" : `, the oldest for ${span(oldestAgeSeconds)}`;
  const used = `${count(pending)} waiting${oldest}; ${size(bytes)} of ${size(maxBytes)}`;
  const findings = [room.fill >= room.highWater ? nearlyFull(used, room.limitedBy, pending) : ok("outbox", used)];
  const missing = imbalance(ledger);
  if (missing !== 0)
    findings.push(fail("ledger", `the books do not balance: ${count(missing)} without a fate`, "Please report it."));
  if (deadLetters > 0) {
    const hint = "See why (summit-edge dead-letters list), then requeue or drop them.";
    findings.push(warn("dead letters", `${count(deadLetters)} refused by fusion for good`, hint));
  }
  return findings;
}

function nearlyFull(used: string, limitedBy = "maxBytes", pending = 1): Finding {
  const room = limitedBy === "maxBytes" ? "raise outbox.maxBytes" : "free space on its disk (outbox.reserveFreeDisk)";
  // What takes the room where nothing waits is dead letters, or what is kept for replay.
  const first = pending > 0 ? "Mend the uplink" : "Requeue or drop dead letters, shorten outbox.keepDelivered";
  const hint = `${first}, or ${room}: a full outbox does what outbox.whenFull says.`;
  return warn("outbox", `${used}: nearly full`, hint);
}

/** A year's share of the card's rated life that is worth a look: with a usual amplification it is all of it in few years. */
const HARD_ON_THE_CARD = 0.1;

export function checkWear(daemon: DaemonFact): Finding {
  if (daemon.kind !== "answers") return ok("card wear", "not known while the daemon does not answer");
  const { wear } = daemon.status;
  if (wear === null) return ok("card wear", "not known: this kernel does not account for what is written");
  const detail = `${writesText(wear)}; ${wearText(wear)}`;
  if ((wear.enduranceSharePerYear ?? 0) < HARD_ON_THE_CARD) return ok("card wear", detail);
  const hint = "Lengthen outbox.commitDelay, send more readings in one message, or use a card that endures more.";
  return warn("card wear", detail, hint);
}
