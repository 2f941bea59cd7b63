/** The ids that copies are recognised by after a restart, read from the newest blocks: at each start, so quickly and in little memory. */
import { Worker } from "node:worker_threads";
import { crc32 } from "node:zlib";
import { idOf } from "./block.ts";
import type { KeptBlock } from "./kept-table.ts";
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
  const nothingWaits = BANDS.every((band) => store.firstHead(bandStart(band), bandEnd(band)) === undefined);
  if (nothingWaits && store.kept.oldest() === undefined) return new Uint32Array(0);
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

/** One block of a road of blocks that leads from the newest to the oldest. */
interface Step {
  readonly lastSeq: number;
  older(): Step | undefined;
  /** `undefined` where it is damaged. */
  read(): { readonly count: number; readonly raw: Buffer } | undefined;
}

/** The ids of about the newest `limit` readings that wait or were delivered and are kept, those of older blocks first, four words each. */
export function newestIds(store: Store, limit: number): Uint32Array {
  const ids = new Uint32Array(limit * 4);
  let room = limit;
  const roads = [...BANDS.map((band) => ({ at: waiting(store, band) })), { at: kept(store) }];
  while (room > 0) {
    const road = roads.reduce((best, next) => ((next.at?.lastSeq ?? 0) > (best.at?.lastSeq ?? 0) ? next : best));
    if (road.at === undefined) break;
    const block = road.at.read();
    if (block !== undefined) room = readIds(block, ids, room);
    road.at = road.at.older();
  }
  store.releaseMemory();
  return ids.slice(room * 4);
}

function waiting(store: Store, band: number, before = bandEnd(band)): Step | undefined {
  const head = store.headBefore(before, bandStart(band));
  if (head === undefined) return undefined;
  const read = (): ReturnType<Step["read"]> => {
    const block = store.block(head.key);
    if (block === undefined || block === "damaged") return undefined;
    return { count: block.count, raw: inflateSegment(block.body, block.rawBytes) };
  };
  return { lastSeq: head.lastSeq, older: () => waiting(store, band, head.key), read };
}

/** In the order of delivery, which is nearly that of acceptance. */
function kept(store: Store, before = Number.MAX_SAFE_INTEGER): Step | undefined {
  const head = store.kept.headBefore(before);
  if (head === undefined) return undefined;
  const read = (): ReturnType<Step["read"]> => {
    const block = store.kept.block(head.id);
    const raw = block && wholeText(block);
    return raw && { count: head.count, raw };
  };
  return { lastSeq: head.lastSeq, older: () => kept(store, head.id), read };
}

function wholeText({ body, rawBytes, rawCrc }: KeptBlock): Buffer | undefined {
  try {
    const raw = inflateSegment(body, rawBytes);
    return crc32(raw) === rawCrc ? raw : undefined;
  } catch {
    return undefined;
  }
}

/** Puts a block's ids before position `room`, as far as there is room; returns where they begin. */
function readIds({ count, raw }: { count: number; raw: Buffer }, ids: Uint32Array, room: number): number {
  const begin = room - count;
  // A line feed stands between readings and nowhere else (`SEPARATOR`).
  for (let at = begin, from = 0; at < room; at++) {
    if (at >= 0) parseId(idOf(raw.toString("latin1", from, from + HEAD_BYTES)), ids.subarray(at * 4, at * 4 + 4));
    const end = raw.indexOf(LINE_FEED, from);
    if (end < 0) break;
    from = end + 1;
  }
  return Math.max(0, begin);
}
