/** Sum over all fates of a ledger as the status gives it: equal to `accepted` where the books balance. */
export function sumOfFates(ledger: Record<string, number>): number {
  const { accepted: _accepted, duplicates: _duplicates, ...fates } = ledger;
  return Object.values(fates).reduce((sum, count) => sum + count, 0);
}
