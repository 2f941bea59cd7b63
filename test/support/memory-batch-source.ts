/**
 * An outbox in memory, for tests of uplinks. Honest about leases: a reading is on one lease at a time, a lease is settled
 * once, and a settlement that names a reading twice, or one that is not in the lease, is a failure of the test.
 */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { gzipSync } from "node:zlib";
import type { Clock } from "#src/kernel/clock.js";
import { PRIORITIES, type Priority } from "#src/observation/observation.js";
import type { Batch, BatchLimits, BatchSource, DeadLetterReason, IndexRange, Settlement } from "#src/outbox/batch.js";

export interface MemoryReading {
  readonly id: string;
  readonly seq: number;
  readonly priority: Priority;
  readonly value: unknown;
}

type Waiting = MemoryReading & { readonly json: string };

const rank = (priority: Priority): number => PRIORITIES.indexOf(priority);
const inOrder = (a: MemoryReading, b: MemoryReading): number => rank(a.priority) - rank(b.priority) || a.seq - b.seq;

export class MemoryBatchSource implements BatchSource {
  /** In the order of settlement. */
  readonly delivered: MemoryReading[] = [];
  readonly deadLettered: { readonly reading: MemoryReading; readonly reason: DeadLetterReason }[] = [];
  readonly settlements: Settlement[] = [];
  readonly leased: { readonly limits: BatchLimits; readonly batch: Batch }[] = [];
  /** Calls of `ids` and `part`. */
  detours = 0;
  /** Awaited before each settlement takes effect. */
  beforeSettle: () => Promise<void> = async () => {};
  readonly #clock: Pick<Clock, "after">;
  readonly #leases = new Map<number, { readings: Waiting[]; replayed: boolean; limits: BatchLimits }>();
  readonly #listeners = new Set<() => void>();
  #waiting: Waiting[] = [];
  #later = 0;
  #seq = 0;
  #lease = 0;

  constructor(clock: Pick<Clock, "after">) {
    this.#clock = clock;
  }

  /** Accepts readings; returns their ids. */
  add(count: number, priority: Priority = "normal", value: (n: number) => unknown = (n) => n): string[] {
    const ids: string[] = [];
    for (let n = 0; n < count; n++) {
      const seq = ++this.#seq;
      const id = `00000000-0000-5000-8000-${seq.toString(16).padStart(12, "0")}`;
      const reading = { id, seq, priority, value: value(n) };
      this.#waiting.push({ ...reading, json: JSON.stringify({ id, priority, value: reading.value, seq }) });
      ids.push(id);
    }
    this.#changed();
    return ids;
  }

  /** Everything that has no fate yet: waiting, on lease, or to be tried later. */
  get pending(): number {
    return this.#seq - this.delivered.length - this.deadLettered.length;
  }

  get onLease(): number {
    return [...this.#leases.values()].reduce((sum, { readings }) => sum + readings.length, 0);
  }

  get forLater(): number {
    return this.#later;
  }

  async lease(limits: BatchLimits): Promise<Batch | undefined> {
    this.#waiting.sort(inOrder);
    const { lanes } = limits;
    const wanted = this.#waiting.filter(
      ({ priority }) => lanes === undefined || (lanes === "critical") === (priority === "critical"),
    );
    const heldBack = wanted.filter(({ seq }) => seq <= limits.heldBackThrough);
    const turn = limits.heldBackTurn && wanted[0]?.priority !== "critical" && heldBack.length > 0;
    const candidates = turn ? heldBack : wanted;
    const [first] = candidates;
    if (first === undefined) return undefined;
    const replayed = first.seq <= limits.heldBackThrough;
    const readings: Waiting[] = [];
    let bytes = 0;
    for (const reading of candidates) {
      bytes += reading.json.length;
      const full = readings.length >= limits.maxReadings || (readings.length > 0 && bytes > limits.maxBytes);
      if (full || reading.seq <= limits.heldBackThrough !== replayed) break;
      readings.push(reading);
    }
    this.#waiting = this.#waiting.filter((reading) => !readings.includes(reading));
    const lease = ++this.#lease;
    this.#leases.set(lease, { readings, replayed, limits });
    const batch = this.#batch(lease, { from: 0, to: readings.length });
    this.leased.push({ limits, batch });
    return batch;
  }

  async part(batch: Batch, range: IndexRange): Promise<Batch> {
    this.detours++;
    return this.#batch(batch.lease, range);
  }

  async ids(batch: Batch): Promise<string[]> {
    this.detours++;
    return this.#readings(batch.lease, batch.range).map(({ id }) => id);
  }

  async settle(batch: Batch, settlement: Settlement): Promise<void> {
    await this.beforeSettle();
    const readings = this.#readings(batch.lease);
    this.settlements.push(settlement);
    const rest = new Map(readings.entries());
    const take = (index: number): Waiting => {
      const reading = rest.get(index);
      assert.ok(reading, `position ${index} of lease ${batch.lease} is named twice, or not in it`);
      rest.delete(index);
      return reading;
    };
    for (const { from, to } of settlement.delivered) {
      for (let index = from; index < to; index++) this.delivered.push(take(index));
    }
    for (const { index, ...reason } of settlement.deadLettered)
      this.deadLettered.push({ reading: take(index), reason });
    const { indexes = [], delayMs = 0 } = settlement.retryLater ?? {};
    const later = indexes.map(take);
    this.#leases.delete(batch.lease);
    this.#waiting.push(...rest.values());
    this.#later += later.length;
    if (later.length > 0) {
      this.#clock.after(delayMs, () => {
        this.#later -= later.length;
        this.#waiting.push(...later);
        this.#changed();
      });
    }
    this.#changed();
  }

  waiting(): { readonly count: number; readonly highest: Priority | undefined } {
    const highest = PRIORITIES.find((priority) => this.#waiting.some((reading) => reading.priority === priority));
    return { count: this.#waiting.length, highest };
  }

  lastSeq(): number {
    return this.#seq;
  }

  onWaiting(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  #changed(): void {
    for (const listener of this.#listeners) listener();
  }

  #readings(lease: number, range?: IndexRange): Waiting[] {
    const held = this.#leases.get(lease);
    assert.ok(held, `lease ${lease} is not held`);
    if (range === undefined) return held.readings;
    assert.ok(
      range.from >= 0 && range.from < range.to && range.to <= held.readings.length,
      "a range outside the lease",
    );
    return held.readings.slice(range.from, range.to);
  }

  #batch(lease: number, range: IndexRange): Batch {
    const readings = this.#readings(lease, range);
    const { replayed = false, limits } = this.#leases.get(lease) ?? {};
    const observations = readings.map(({ json }) => json).join(",");
    const json = `{"schema":"summit.observations/1","replayed":${replayed},"observations":[${observations}]}`;
    const gzip = limits?.compression === "gzip";
    const seqs = readings.map(({ seq }) => seq);
    return {
      lease,
      range,
      count: readings.length,
      firstSeq: Math.min(...seqs),
      lastSeq: Math.max(...seqs),
      priority: PRIORITIES.find((priority) => readings.some((reading) => reading.priority === priority)) ?? "low",
      replayed,
      idempotencyKey: createHash("sha256").update(seqs.join()).digest("hex"),
      body: gzip ? gzipSync(json) : Buffer.from(json),
      contentEncoding: gzip ? "gzip" : undefined,
    };
  }
}
