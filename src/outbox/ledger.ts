/**
 * The books. Every accepted reading has exactly one fate, and `accepted` is always the sum of all the others but
 * `duplicates` (contract, section 1.2).
 */
export interface Ledger {
  readonly accepted: number;
  readonly pending: number;
  readonly delivered: number;
  readonly expired: number;
  readonly evicted: number;
  readonly thinned: number;
  readonly deadLettered: number;
  readonly damaged: number;
  /** Copies that were recognised and acknowledged; never accepted, so not part of the balance. */
  readonly duplicates: number;
}

/** Books in which nothing stands yet, and the change that changes nothing. */
export const EMPTY_LEDGER: Ledger = {
  accepted: 0,
  pending: 0,
  delivered: 0,
  expired: 0,
  evicted: 0,
  thinned: 0,
  deadLettered: 0,
  damaged: 0,
  duplicates: 0,
};

/** The fates, in the order in which the contract lists them. */
export const FATES = ["pending", "delivered", "expired", "evicted", "thinned", "deadLettered", "damaged"] as const;

/** `accepted` less the sum of all fates: 0, or the books do not balance. */
export function imbalance(ledger: Ledger): number {
  return FATES.reduce((rest, fate) => rest - ledger[fate], ledger.accepted);
}

/** The books of two lanes together. */
export function addLedgers(a: Ledger, b: Ledger): Ledger {
  return {
    accepted: a.accepted + b.accepted,
    pending: a.pending + b.pending,
    delivered: a.delivered + b.delivered,
    expired: a.expired + b.expired,
    evicted: a.evicted + b.evicted,
    thinned: a.thinned + b.thinned,
    deadLettered: a.deadLettered + b.deadLettered,
    damaged: a.damaged + b.damaged,
    duplicates: a.duplicates + b.duplicates,
  };
}
