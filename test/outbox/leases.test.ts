/**
 * Several leases at once (`uplink.concurrency`): whatever is leased, split, settled, put off or given back, and in whatever order,
 * no reading is on two leases, each gets its fate once, and a lease holds one kind of readings only.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { gunzipSync } from "node:zlib";
import fc from "fast-check";
import { PRIORITIES } from "#src/observation/observation.js";
import type { Batch, BatchLimits, Settlement } from "#src/outbox/batch.js";
import { Engine } from "#src/outbox/engine.js";
import { Gathering } from "#src/outbox/gathering.js";
import { ObservationWriter } from "#src/outbox/observation-text.js";
import { Store } from "#src/outbox/store.js";
import { seedFrom } from "../support/chance.ts";
import { observation } from "../support/observations.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

const MOST_LEASES = 16;

interface Leased {
  readonly batch: Batch;
  readonly ids: readonly string[];
}

class World {
  readonly #engine: Engine;
  readonly #store: Store;
  readonly #writer = new ObservationWriter("sierra");
  readonly #onLease = new Set<string>();
  readonly #settled = new Set<string>();
  readonly #seqOf = new Map<string, number>();
  readonly #laneOf = new Map<string, number>();
  /** Readings that have been put off: they count as held back, and are due whenever they are looked for. */
  readonly #putOff = new Set<string>();
  readonly #commitEnds: number[] = [];
  leases: Leased[] = [];
  now = 0;

  constructor(file: string) {
    this.#store = new Store({ file, maxBytes: 2 ** 30, bootId: "boot" });
    this.#engine = new Engine(this.#store, {
      gatewayId: "sierra",
      monotonic: () => this.now,
      now: () => this.now,
      maxDeadLetters: 1000,
      retention: { maxBytes: 2 ** 30, maxAge: Number.POSITIVE_INFINITY, whenFull: "refuse", reserveFreeDisk: 0 },
      freeDisk: () => Number.POSITIVE_INFINITY,
      onNotice: () => assert.fail("no notice is expected"),
    });
  }

  close(): void {
    this.#store.close();
  }

  commit(lane: number, count: number): void {
    const firstSeq = this.#engine.books().lastSeq + 1;
    const group = new Gathering({ maxReadings: 10_000, maxBytes: 2 ** 30 });
    for (let n = 0; n < count; n++) {
      const made = observation({ priority: PRIORITIES[lane] ?? "low" });
      this.#seqOf.set(made.id, firstSeq + n);
      this.#laneOf.set(made.id, lane);
      group.add(made, this.#writer.write(made, 0, "synchronised", firstSeq + n), firstSeq + n, 0);
    }
    const blocks = group.seal({ acceptedAt: 3, acceptedMonotonic: 4, clock: "synchronised" }).map(({ block }) => block);
    this.#engine.commit({ blocks, settlements: [], duplicates: 0 });
    this.#commitEnds.push(firstSeq + count - 1);
  }

  /** `heldBackThrough` is taken for the end of the last commit before it: the forwarder knows no others. */
  lease(wanted: BatchLimits): Batch | undefined {
    if (this.leases.length === MOST_LEASES) return undefined;
    const ends = this.#commitEnds.filter((end) => end <= wanted.heldBackThrough);
    const outage = wanted.heldBackThrough === Number.POSITIVE_INFINITY;
    const limits = outage ? wanted : { ...wanted, heldBackThrough: ends.at(-1) ?? 0 };
    const batch = this.#engine.lease(limits);
    if (batch === undefined) return undefined;
    const { observations } = JSON.parse(gunzipSync(batch.body).toString()) as { observations: { id: string }[] };
    const ids = observations.map(({ id }) => id);
    assert.ok(ids.length > 0 && ids.length <= limits.maxReadings, "within the limits, and never empty");
    for (const id of ids) {
      assert.ok(!this.#onLease.has(id), "on two leases at once");
      assert.ok(!this.#settled.has(id), "leased after it had its fate");
      this.#onLease.add(id);
      const heldBack = (this.#seqOf.get(id) ?? 0) <= limits.heldBackThrough || this.#putOff.has(id);
      assert.equal(batch.replayed, heldBack, "of one kind");
      const critical = this.#laneOf.get(id) === 0;
      if (limits.lanes !== undefined) assert.equal(critical, limits.lanes === "critical", "of the lanes asked for");
      if (limits.newerOnly && !limits.newerFirst && heldBack) assert.ok(critical, "the backlog stays");
    }
    this.leases.push({ batch, ids });
    return batch;
  }

  /** `fates` by position: d delivered, x dead, l later, anything else back to waiting. */
  settle(which: number, fates: string): void {
    const leased = this.leases[which % Math.max(1, this.leases.length)];
    if (leased === undefined) return;
    this.leases = this.leases.filter((other) => other !== leased);
    const indexes = leased.ids.map((_, index) => index);
    const having = (fate: string): number[] => indexes.filter((index) => fates[index % fates.length] === fate);
    const settlement: Settlement = {
      delivered: having("d").map((from) => ({ from, to: from + 1 })),
      deadLettered: having("x").map((index) => ({ index, code: "c", detail: "d" })),
      retryLater: { indexes: having("l"), delayMs: 10 },
    };
    this.#engine.commit({ blocks: [], settlements: [{ lease: leased.batch.lease, settlement }], duplicates: 0 });
    for (const id of leased.ids) this.#onLease.delete(id);
    for (const index of having("l")) this.#putOff.add(leased.ids[index] ?? "");
    for (const index of [...having("d"), ...having("x")]) this.#settled.add(leased.ids[index] ?? "");
    const { delivered, deadLettered } = this.#engine.books().ledgers.reduce(
      (sum, each) => ({
        delivered: sum.delivered + each.delivered,
        deadLettered: sum.deadLettered + each.deadLettered,
      }),
      { delivered: 0, deadLettered: 0 },
    );
    assert.equal(delivered + deadLettered, this.#settled.size, "each settled once");
  }

  /** Several requests at once, until nothing is left. */
  drain(heldBackThrough: number): void {
    const limits = { maxReadings: 20, maxBytes: 64 * 1024, compression: "gzip" as const, heldBackThrough };
    for (let round = 0; round < 2000 && this.#settled.size < this.#seqOf.size; round++) {
      this.now += 5;
      while (this.lease(limits) !== undefined);
      this.settle(round, "d");
    }
    assert.equal(this.#settled.size, this.#seqOf.size, "everything has its fate");
  }
}

const limits: fc.Arbitrary<BatchLimits> = fc.record(
  {
    maxReadings: fc.integer({ min: 1, max: 40 }),
    maxBytes: fc.constantFrom(1024, 4096, 64 * 1024),
    compression: fc.constant("gzip" as const),
    heldBackThrough: fc.oneof(fc.nat(300), fc.constant(Number.POSITIVE_INFINITY)),
    heldBackTurn: fc.boolean(),
    newerFirst: fc.boolean(),
    liveFirst: fc.boolean(),
    newerOnly: fc.boolean(),
    laneTurn: fc.constantFrom("high" as const, "normal" as const, "low" as const),
    lanes: fc.constantFrom("critical" as const, "others" as const),
  },
  { requiredKeys: ["maxReadings", "maxBytes", "compression", "heldBackThrough"] },
);
const step = fc.oneof(
  { weight: 3, arbitrary: fc.tuple(fc.constant("commit"), fc.nat(3), fc.integer({ min: 1, max: 30 })) },
  { weight: 5, arbitrary: fc.tuple(fc.constant("lease"), limits) },
  {
    weight: 4,
    arbitrary: fc.tuple(
      fc.constant("settle"),
      fc.nat(MOST_LEASES),
      fc.oneof(
        fc.constantFrom("d", "w", "l"),
        fc.string({ unit: fc.constantFrom("d", "x", "l", "w"), minLength: 1, maxLength: 9 }),
      ),
    ),
  },
  { weight: 1, arbitrary: fc.tuple(fc.constant("wait"), fc.integer({ min: 1, max: 20 })) },
);

test("leases never overlap, and every reading is settled once", (t) => {
  const folder = temporaryFolder(t);
  const seed = seedFrom("MODEL_SEED");
  t.diagnostic(`MODEL_SEED=${seed}`);
  let run = 0;
  fc.assert(
    fc.property(fc.array(step, { maxLength: 80 }), fc.nat(300), (steps, heldBackThrough) => {
      const world = new World(join(folder, `${run++}.db`));
      try {
        for (const next of steps) {
          if (next[0] === "commit") world.commit(next[1] as number, next[2] as number);
          else if (next[0] === "lease") world.lease(next[1] as BatchLimits);
          else if (next[0] === "settle") world.settle(next[1] as number, next[2] as string);
          else world.now += next[1] as number;
        }
        world.drain(heldBackThrough);
      } finally {
        world.close();
      }
    }),
    { numRuns: Number(process.env.MODEL_RUNS ?? 60), seed },
  );
});
