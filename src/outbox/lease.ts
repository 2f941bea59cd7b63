/** What the engine remembers of a lease, and what a settlement says of its readings. */
import type { BatchLimits, Settlement } from "./batch.ts";
import type { Run } from "./sequence.ts";

export interface LeasedBlock {
  readonly key: number;
  readonly lane: number;
  readonly count: number;
  readonly runs: readonly Run[];
}

export interface Lease {
  readonly blocks: readonly LeasedBlock[];
  readonly count: number;
  readonly replayed: boolean;
  readonly compression: BatchLimits["compression"];
  readonly sentAt: string;
}

export type Fate = "waiting" | "delivered" | "dead" | "later";

/** The fate of each reading of a lease by position; `undefined` where all were delivered. */
export function fatesOf(count: number, settlement: Settlement): Fate[] | undefined {
  const [only, ...more] = settlement.delivered;
  if (only !== undefined && more.length === 0 && only.from === 0 && only.to === count) return undefined;
  const fates = new Array<Fate>(count).fill("waiting");
  for (const { from, to } of settlement.delivered) fates.fill("delivered", from, to);
  for (const index of settlement.retryLater?.indexes ?? []) fates[index] = "later";
  for (const { index } of settlement.deadLettered) fates[index] = "dead";
  return fates;
}
