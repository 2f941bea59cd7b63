/** The ids that copies are recognised by after a restart, read from the newest blocks: at each start, so quickly and in little memory. */
import { Worker } from "node:worker_threads";
import { idOf } from "./block.ts";
import { parseId } from "./recent-ids.ts";
import { BANDS, bandEnd, bandStart } from "./rows.ts";
import { inflateSegment } from "./segment.ts";
import type { Store, StoreOptions } from "./store.ts";

const LINE_FEED = 0x0a;
/** What stands before and in the id of a reading: `{"id":"…`. */
const HEAD_BYTES = 64;

export type IdsThreadData = Omit<StoreOptions, "readOnly"> & { readonly limit: number };

/**
 * `newestIds` in a thread of its own: what inflating some hundred blocks takes is given back with it, and was 20 MiB for as long as the daemon
 * ran. What goes wrong there is met, and told, where the store itself reads.
 */
export async function newestIdsApart(store: Store, options: StoreOptions, limit: number): Promise<Uint32Array> {
  if (BANDS.every((band) => store.firstHead(bandStart(band), bandEnd(band)) === undefined)) return new Uint32Array(0);
  const read = await new Promise<Uint32Array | undefined>((resolve) => {
    const { file, maxBytes, bootId } = options;
    const thread = new Worker(new URL("./ids-thread.js", import.meta.url), {
      workerData: { file, maxBytes, bootId, limit } satisfies IdsThreadData,
      resourceLimits: { maxYoungGenerationSizeMb: 4, maxOldGenerationSizeMb: 64 },
    });
    thread.once("message", resolve);
    thread.once("error", () => resolve(undefined));
    thread.once("exit", () => resolve(undefined));
  });
  return read ?? newestIds(store, limit);
}

/** The ids of about the newest `limit` waiting readings, those of older blocks first, four words each. */
export function newestIds(store: Store, limit: number): Uint32Array {
  const ids = new Uint32Array(limit * 4);
  let room = limit;
  const newest = BANDS.map((band) => ({ band, head: store.headBefore(bandEnd(band), bandStart(band)) }));
  while (room > 0) {
    const lane = newest.reduce((best, next) => ((next.head?.lastSeq ?? 0) > (best.head?.lastSeq ?? 0) ? next : best));
    if (lane.head === undefined) break;
    room = readIds(store, lane.head.key, ids, room);
    lane.head = store.headBefore(lane.head.key, bandStart(lane.band));
  }
  store.releaseMemory();
  return ids.slice(room * 4);
}

/** Puts a block's ids before position `room`, as far as there is room; returns where they begin. Nothing of a damaged block. */
function readIds(store: Store, key: number, ids: Uint32Array, room: number): number {
  const block = store.block(key);
  if (block === undefined || block === "damaged") return room;
  const raw = inflateSegment(block.body, block.rawBytes);
  const begin = room - block.count;
  // A line feed stands between readings and nowhere else (`SEPARATOR`).
  for (let at = begin, from = 0; at < room; at++) {
    if (at >= 0) parseId(idOf(raw.toString("latin1", from, from + HEAD_BYTES)), ids.subarray(at * 4, at * 4 + 4));
    const end = raw.indexOf(LINE_FEED, from);
    if (end < 0) break;
    from = end + 1;
  }
  return Math.max(0, begin);
}
