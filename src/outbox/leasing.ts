/**
 * Leases: which readings are on their way to fusion, and the requests that carry them. In memory only: after a crash
 * everything unsettled waits again, with the same ids. A lease reads the blocks that it takes, no more.
 */
import type { Batch, BatchLimits, IndexRange } from "./batch.ts";
import { idOf, rebuilt, runsOf, textsOf } from "./block.ts";
import type { DamagedBlocks } from "./damaged-blocks.ts";
import type { Lease } from "./lease.ts";
import { isHeldBack, type Queue, roomFor } from "./queue.ts";
import { NO_LEASE } from "./replaying.ts";
import { requestOf, type Sender } from "./request.ts";
import { type BlockHead, bandOf } from "./rows.ts";
import { SEPARATOR, type Segment, segmentOf } from "./segment.ts";
import { expand, slice } from "./sequence.ts";
import type { Store } from "./store.ts";

export class Leasing {
  readonly #store: Store;
  readonly #queue: Queue;
  readonly #damaged: DamagedBlocks;
  readonly #sender: Sender;
  readonly #now: () => number;
  readonly #leases = new Map<number, Lease>();
  #nextLease = NO_LEASE + 1;

  constructor(parts: { store: Store; queue: Queue; damaged: DamagedBlocks; sender: Sender; now: () => number }) {
    this.#store = parts.store;
    this.#queue = parts.queue;
    this.#damaged = parts.damaged;
    this.#sender = parts.sender;
    this.#now = parts.now;
  }

  /** The next readings to send, or `undefined`. */
  lease(limits: BatchLimits): Batch | undefined {
    for (;;) {
      const taken = this.#queue.next(limits);
      if (taken.length === 0) return undefined;
      const first = taken[0]?.head as BlockHead;
      if (taken.length === 1 && exceeds(first, limits) && first.count > 1) {
        this.#split(first, limits);
        continue;
      }
      const segments = this.#segments(taken.map(({ head }) => head.key));
      if (segments === undefined) continue;
      const lease: Lease = {
        blocks: taken.map(({ head, lane }) => ({ key: head.key, lane, count: head.count, runs: runsOf(head) })),
        count: taken.reduce((sum, { head }) => sum + head.count, 0),
        replayed: isHeldBack(first, limits),
        compression: limits.compression,
        sentAt: new Date(this.#now()).toISOString(),
      };
      return this.#register(lease, segments, limits);
    }
  }

  /** A part of a leased batch as a request of its own. */
  part(leaseId: number, range: IndexRange): Batch {
    const lease = this.of(leaseId);
    const texts = this.#texts(lease).slice(range.from, range.to);
    return this.#batch(leaseId, lease, range, [segmentOf(texts)]);
  }

  /** The ids of a lease's readings, in order. */
  ids(leaseId: number): string[] {
    return this.#texts(this.of(leaseId)).map(idOf);
  }

  /** Its readings have their fates, or wait again. */
  end(leaseId: number, lease: Lease): void {
    this.#leases.delete(leaseId);
    this.#queue.release(lease.blocks);
  }

  /** @throws where there is none. */
  of(id: number): Lease {
    const lease = this.#leases.get(id);
    if (lease === undefined) throw new Error(`there is no lease ${id}`);
    return lease;
  }

  #register(lease: Lease, segments: readonly Segment[], limits: BatchLimits): Batch {
    const id = this.#nextLease++;
    const batch = this.#batch(id, lease, { from: 0, to: lease.count }, segments, limits.compression);
    this.#leases.set(id, lease);
    this.#queue.take(lease.blocks);
    return batch;
  }

  #batch(
    leaseId: number,
    lease: Lease,
    range: IndexRange,
    segments: readonly Segment[],
    compression: BatchLimits["compression"] = lease.compression,
  ): Batch {
    const runs = slice(
      lease.blocks.flatMap((block) => block.runs),
      range.from,
      range.to,
    );
    const { replayed, sentAt } = lease;
    const lane = lease.blocks[0]?.lane ?? 0;
    return requestOf(this.#sender, { lease: leaseId, range, runs, segments, lane, replayed, sentAt }, compression);
  }

  /** Blocks' bodies; `undefined` where one was damaged and has been set aside. Nothing else of a block is believed before. */
  #segments(keys: readonly number[]): Segment[] | undefined {
    const segments: Segment[] = [];
    for (const key of keys) {
      const block = this.#store.block(key);
      if (block === undefined) throw new Error(`block ${key} vanished`);
      if (block === "damaged") {
        this.#damaged.setAside(key);
        return undefined;
      }
      segments.push(block);
    }
    return segments;
  }

  #texts(lease: Lease): string[] {
    return lease.blocks.flatMap(({ key }) => {
      const block = this.#store.block(key);
      if (block === undefined || block === "damaged") throw new Error(`block ${key} vanished from under its lease`);
      return textsOf(block);
    });
  }

  /** Cuts a block that today's limits no longer allow into blocks that they do. */
  #split(head: BlockHead, limits: BatchLimits): void {
    const block = this.#store.block(head.key);
    if (block === undefined) return;
    if (block === "damaged") {
      this.#damaged.setAside(head.key);
      return;
    }
    const texts = textsOf(block);
    const numbers = expand(runsOf(block));
    this.#store.transaction(() => {
      this.#store.deleteBlock(block.key);
      let from = 0;
      while (from < texts.length) {
        let to = from + 1;
        let bytes = Buffer.byteLength(texts[from] ?? "");
        while (to < texts.length && to - from < limits.maxReadings) {
          bytes += SEPARATOR.length + Buffer.byteLength(texts[to] ?? "");
          if (bytes > roomFor(limits)) break;
          to++;
        }
        this.#store.insertBlock(rebuilt(block, bandOf(block.key), texts.slice(from, to), numbers.slice(from, to)));
        from = to;
      }
    });
  }
}

function exceeds(head: BlockHead, limits: BatchLimits): boolean {
  return head.count > limits.maxReadings || head.rawBytes > roomFor(limits);
}
