/** Looking into the outbox without changing it, a block at a time. */
import { PRIORITIES, type Priority } from "../observation/observation.ts";
import { runsOf, textsOf } from "./block.ts";
import { Band, type BlockHead, bandEnd, bandStart, LANES } from "./rows.ts";
import { expand } from "./sequence.ts";
import type { Store } from "./store.ts";

/** A waiting reading, for a person to look at. */
export interface PeekedReading {
  readonly seq: number;
  readonly priority: Priority;
  readonly deferred: boolean;
  readonly observation: unknown;
}

/** Waiting readings in the order in which they would be sent, leased ones included. */
export function peek(store: Store, limit: number, priority: Priority | undefined): PeekedReading[] {
  const readings: PeekedReading[] = [];
  for (let lane = 0; lane < LANES; lane++) {
    if (priority !== undefined && PRIORITIES[lane] !== priority) continue;
    for (const band of [Band.deferred(lane), Band.waiting(lane)]) peekBand(store, band, lane, limit, readings);
  }
  return readings;
}

function peekBand(store: Store, band: number, lane: number, limit: number, into: PeekedReading[]): void {
  const priority = PRIORITIES[lane] ?? "critical";
  const deferred = band === Band.deferred(lane);
  let head = store.firstHead(bandStart(band), bandEnd(band));
  while (head !== undefined && into.length < limit) {
    for (const { seq, text } of readingsOf(store, head)) {
      if (into.length === limit) return;
      into.push({ seq, priority, deferred, observation: JSON.parse(text) });
    }
    head = store.firstHead(head.key + 1, bandEnd(band));
  }
}

/** A block's readings; none where it is damaged. */
function readingsOf(store: Store, head: BlockHead): { seq: number; text: string }[] {
  const block = store.block(head.key);
  if (block === undefined || block === "damaged") return [];
  const numbers = expand(runsOf(block));
  return textsOf(block).map((text, index) => ({ seq: numbers[index] ?? 0, text }));
}
