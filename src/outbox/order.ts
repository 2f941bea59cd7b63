/** In what order the queue looks for the readings of one lease: by kind (held back, or newer) and by lane. Pure. */
import { PRIORITIES } from "../observation/observation.ts";
import type { BatchLimits } from "./batch.ts";

export type Kind = "newer" | "held-back";

/** One look through some lanes, for one kind, or for whichever kind is met first. */
export interface Look {
  readonly kind: Kind | undefined;
  readonly lanes: readonly number[];
}

export const CRITICAL_LANE = PRIORITIES.indexOf("critical");
const ALL_LANES = PRIORITIES.map((_, lane) => lane);
const CRITICAL = [CRITICAL_LANE];

/** Whether critical readings wait, by kind. */
export interface CriticalWaits {
  readonly newer: boolean;
  readonly heldBack: boolean;
}

/**
 * The looks to try one after another until one finds something. A batch holds one kind only, so a look that could pass over
 * critical readings of the other kind is confined to the critical lane, or not taken.
 */
export function looksOf(limits: BatchLimits, critical: CriticalWaits): readonly Look[] {
  const lanes = lanesOf(limits);
  const inOrder: Look = { kind: undefined, lanes };
  const ofKind = (kind: Kind): Look => ({ kind, lanes });
  if (limits.newerFirst === true) {
    if (critical.heldBack) {
      const kinds: Kind[] = limits.heldBackTurn === true ? ["held-back", "newer"] : ["newer", "held-back"];
      return kinds.map((kind) => ({ kind, lanes: CRITICAL }));
    }
    if (limits.newerOnly === true) return [ofKind("newer")];
    if (limits.heldBackTurn === true && !critical.newer) return [ofKind("held-back"), ofKind("newer"), inOrder];
    return [ofKind("newer"), ofKind("held-back"), inOrder];
  }
  if (limits.newerOnly === true) return [critical.heldBack ? { kind: undefined, lanes: CRITICAL } : ofKind("newer")];
  const looks = limits.heldBackTurn === true && !critical.heldBack && !critical.newer ? [ofKind("held-back")] : [];
  // Behind a backlog that waits for the clock, newer readings need not.
  return [...looks, inOrder, ...(limits.liveFirst === true ? [ofKind("newer")] : [])];
}

/** Highest first, but for a lane whose turn it is: nothing but the critical lane goes before it. */
function lanesOf({ lanes, laneTurn }: BatchLimits): readonly number[] {
  if (lanes === "critical") return CRITICAL;
  const turn = laneTurn === undefined ? [] : [PRIORITIES.indexOf(laneTurn)];
  const ordered = [...new Set([CRITICAL_LANE, ...turn, ...ALL_LANES])];
  return lanes === "others" ? ordered.filter((lane) => lane !== CRITICAL_LANE) : ordered;
}
