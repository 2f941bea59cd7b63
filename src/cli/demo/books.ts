/** Both sides of the demo's books: what the gateway says it did, and what fusion and the devices say of it. Pure. */
import { FATES, imbalance, type Ledger } from "../../outbox/ledger.ts";
import type { FusionStats } from "../../simulator/fusion-store.ts";

export interface Books {
  readonly gateway: Ledger;
  readonly fusion: Pick<FusionStats, "unique" | "duplicates" | "keyConflicts">;
  /** Ids of readings that a device has an acknowledgement for, and fusion does not have. */
  readonly missing: readonly string[];
}

/** Ids that are named, where many are missing. */
const NAMED = 3;

/** Every comparison that fails, as a sentence; none where both sides agree. */
export function disagreements({ gateway, fusion, missing }: Books): string[] {
  const { pending, delivered } = gateway;
  const left = imbalance(gateway);
  const failed: string[] = [];
  if (pending !== 0) failed.push(`${pending} readings still wait at the gateway.`);
  if (left !== 0) failed.push(`The gateway's ledger is out by ${left}: accepted is not the sum of the fates.`);
  if (delivered !== fusion.unique)
    failed.push(`The gateway says that it delivered ${delivered} readings; fusion has ${fusion.unique}.`);
  if (missing.length > 0) {
    const named = `${missing.slice(0, NAMED).join(", ")}${missing.length > NAMED ? ", …" : ""}`;
    failed.push(`${missing.length} readings were acknowledged to their device and are not at fusion: ${named}.`);
  }
  if (fusion.keyConflicts !== 0)
    failed.push(`${fusion.keyConflicts} requests used an idempotency key of another set of readings.`);
  return failed;
}

/** The two lines with which the demo ends (contract, section 2). */
export function booksText(books: Books): string {
  const { gateway, fusion } = booksJson(books);
  const line = (side: object): string =>
    Object.entries(side)
      .map(([name, n]) => `${name}=${n}`)
      .join(" ");
  return `gateway: ${line(gateway)}\nfusion: ${line(fusion)}\n`;
}

/** The same as an object. */
export function booksJson({ gateway, fusion }: Books): { gateway: object; fusion: object } {
  const { unique, duplicates } = fusion;
  const fates = FATES.map((fate) => [fate, gateway[fate]]);
  return { gateway: { accepted: gateway.accepted, ...Object.fromEntries(fates) }, fusion: { unique, duplicates } };
}
