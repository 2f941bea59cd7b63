/** Looking into the outbox without changing it, a block at a time. */
import { PRIORITIES, type Priority } from "../observation/observation.ts";
import { idOf, runsOf, textsOf } from "./block.ts";
import { parseId } from "./recent-ids.ts";
import { expand } from "./sequence.ts";
import { BANDS, Band, type BlockHead, bandEnd, bandStart, LANES, type Store } from "./store.ts";

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

/** The ids of the newest `limit` waiting readings, oldest first, four words each. */
export function newestIds(store: Store, limit: number): Uint32Array {
  const found: { seq: number; words: Uint32Array }[] = [];
  const heads = BANDS.map((band) => ({ band, head: store.headBefore(bandEnd(band), bandStart(band)) }));
  while (found.length < limit) {
    const newest = heads.reduce((best, next) => ((next.head?.lastSeq ?? 0) > (best.head?.lastSeq ?? 0) ? next : best));
    if (newest.head === undefined) break;
    for (const { seq, text } of readingsOf(store, newest.head)) found.push({ seq, words: parseId(idOf(text)) });
    newest.head = store.headBefore(newest.head.key, bandStart(newest.band));
  }
  found.sort((a, b) => a.seq - b.seq);
  const ids = found.slice(-limit);
  const words = new Uint32Array(ids.length * 4);
  ids.forEach((id, position) => {
    words.set(id.words, position * 4);
  });
  return words;
}

/** A block's readings; none where it is damaged. */
function readingsOf(store: Store, head: BlockHead): { seq: number; text: string }[] {
  const block = store.block(head.key);
  if (block === undefined || block === "damaged") return [];
  const numbers = expand(runsOf(block));
  return textsOf(block).map((text, index) => ({ seq: numbers[index] ?? 0, text }));
}
