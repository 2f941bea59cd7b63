/**
 * The engine against a model that keeps every reading in a plain list: whatever is committed, leased, settled, refused, put off,
 * requeued or crashed, both agree on every reading's fate, the books balance, and nothing is sent out of order.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { gunzipSync } from "node:zlib";
import fc from "fast-check";
import { PRIORITIES } from "#src/observation/observation.js";
import type { Batch } from "#src/outbox/batch.js";
import { Engine } from "#src/outbox/engine.js";
import { Gathering } from "#src/outbox/gathering.js";
import { imbalance, type Ledger } from "#src/outbox/ledger.js";
import { ObservationWriter } from "#src/outbox/observation-text.js";
import { Store } from "#src/outbox/store.js";
import { observation } from "../support/observations.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

type Fate = "pending" | "delivered" | "deadLettered";
interface Modelled {
  readonly id: string;
  readonly lane: number;
  readonly seq: number;
  fate: Fate;
  leased: boolean;
  /** Put off, or asked for again: sent ahead of its lane once due. */
  deferred: boolean;
  dueAt: number;
}

const LIMITS = { maxReadings: 7, maxBytes: 64 * 1024, compression: "gzip" as const, heldBackThrough: 0 };

class World {
  readonly readings: Modelled[] = [];
  readonly #file: string;
  readonly #writer = new ObservationWriter("sierra");
  #store: Store;
  engine: Engine;
  now = 0;
  leases: Batch[] = [];

  constructor(file: string) {
    this.#file = file;
    [this.#store, this.engine] = this.#open();
  }

  #open(): [Store, Engine] {
    const store = new Store({ file: this.#file, maxBytes: 2 ** 30, bootId: "boot" });
    const engine = new Engine(store, {
      gatewayId: "sierra",
      monotonic: () => this.now,
      now: () => 1_780_000_000_000 + this.now,
      maxDeadLetters: 1000,
      retention: { maxBytes: 2 ** 30, maxAge: Number.POSITIVE_INFINITY, whenFull: "refuse", reserveFreeDisk: 0 },
      freeDisk: () => Number.POSITIVE_INFINITY,
      onNotice: () => assert.fail("no notice is expected"),
    });
    return [store, engine];
  }

  close(): void {
    this.#store.close();
  }

  /** What a crash leaves: the file as committed, every lease and every put-off forgotten. */
  crash(): void {
    this.#store.close();
    [this.#store, this.engine] = this.#open();
    this.leases = [];
    for (const reading of this.readings) {
      reading.leased = false;
      reading.dueAt = 0;
    }
  }

  commit(lanes: readonly number[]): void {
    const gathering = new Gathering({ maxReadings: LIMITS.maxReadings, maxBytes: LIMITS.maxBytes });
    for (const lane of lanes) {
      const seq = this.readings.length + 1;
      const made = observation({ priority: PRIORITIES[lane] ?? "low" });
      gathering.add(made, this.#writer.write(made, 1_780_000_000_000, "synchronised", seq), seq, 0);
      this.readings.push({ id: made.id, lane, seq, fate: "pending", leased: false, deferred: false, dueAt: 0 });
    }
    const blocks = gathering.seal({ acceptedAt: 3, acceptedMonotonic: 4, clock: "synchronised" });
    this.engine.commit({ blocks, settlements: [], duplicates: 0 });
  }

  lease(): void {
    const batch = this.engine.lease(LIMITS);
    const candidates = this.readings.filter((reading) => reading.fate === "pending" && !reading.leased);
    const sure = candidates.filter((reading) => !reading.deferred);
    if (batch === undefined) {
      assert.equal(sure.length, 0, "nothing was leased although readings wait");
      return;
    }
    const ids = idsOf(batch);
    assert.deepEqual(this.engine.ids(batch.lease), ids);
    assert.equal(batch.count, ids.length);
    const taken = ids.map((id) => this.#known(id));
    for (const reading of taken) {
      assert.equal(reading.fate, "pending");
      assert.equal(reading.leased, false, "leased twice");
      reading.leased = true;
    }
    const live = taken.filter((reading) => !reading.deferred);
    assert.deepEqual(
      live.map((reading) => reading.id),
      sure
        .sort((a, b) => a.lane - b.lane || a.seq - b.seq)
        .slice(0, live.length)
        .map((reading) => reading.id),
      "highest priority first, and in the order of acceptance",
    );
    this.leases.push(batch);
  }

  /** `fates` by position: d delivered, x dead, l later, anything else back to waiting. */
  settle(which: number, fates: string): void {
    const batch = this.leases[which % Math.max(1, this.leases.length)];
    if (batch === undefined) return;
    this.leases = this.leases.filter((other) => other !== batch);
    const ids = idsOf(batch);
    const fateOf = (index: number) => fates[index % fates.length];
    const indexes = ids.map((_, index) => index);
    const delayMs = 50;
    this.engine.commit({
      blocks: [],
      duplicates: 0,
      settlements: [
        {
          lease: batch.lease,
          settlement: {
            delivered: indexes.filter((i) => fateOf(i) === "d").map((i) => ({ from: i, to: i + 1 })),
            deadLettered: indexes.filter((i) => fateOf(i) === "x").map((index) => ({ index, code: "c", detail: "d" })),
            retryLater: { indexes: indexes.filter((i) => fateOf(i) === "l"), delayMs },
          },
        },
      ],
    });
    ids.forEach((id, index) => {
      const reading = this.#known(id);
      reading.leased = false;
      const fate = fateOf(index);
      if (fate === "d") reading.fate = "delivered";
      if (fate === "x") reading.fate = "deadLettered";
      if (fate === "l") Object.assign(reading, { deferred: true, dueAt: this.now + delayMs });
    });
  }

  requeue(which: number): void {
    const dead = this.readings.filter((reading) => reading.fate === "deadLettered");
    const reading = dead[which % Math.max(1, dead.length)];
    if (reading === undefined) return;
    assert.deepEqual(this.engine.requeue([reading.id]), { changed: 1, unknown: [] });
    Object.assign(reading, { fate: "pending", deferred: true, dueAt: this.now });
  }

  check(): void {
    const ledger = sumOf(this.engine.books().ledgers);
    assert.equal(imbalance(ledger), 0);
    assert.equal(ledger.accepted, this.readings.length);
    for (const fate of ["pending", "delivered", "deadLettered"] as const) {
      assert.equal(ledger[fate], this.readings.filter((reading) => reading.fate === fate).length, fate);
    }
    assert.equal(this.engine.books().lastSeq, this.readings.length);
  }

  /** With a fusion that takes everything, everything that waits is delivered, each reading once. */
  drain(): void {
    while (this.leases.length > 0) this.settle(0, "w");
    for (let round = 0; round < 1000; round++) {
      this.now += 1000;
      this.lease();
      if (this.leases.length === 0 && sumOf(this.engine.books().ledgers).pending === 0) return;
      while (this.leases.length > 0) this.settle(0, "d");
    }
    assert.fail("the backlog does not drain");
  }

  #known(id: string): Modelled {
    const reading = this.readings.find((candidate) => candidate.id === id);
    assert.ok(reading, `${id} was never accepted`);
    return reading;
  }
}

function idsOf(batch: Batch): string[] {
  const body = JSON.parse(gunzipSync(batch.body).toString()) as { observations: { id: string }[] };
  return body.observations.map((sent) => sent.id);
}

function sumOf(ledgers: readonly Ledger[]): Ledger {
  return ledgers.reduce(
    (a, b) => Object.fromEntries(Object.entries(a).map(([k, v]) => [k, v + b[k as keyof Ledger]])) as unknown as Ledger,
  );
}

const step = fc.oneof(
  fc.record({
    do: fc.constant("commit" as const),
    lanes: fc.array(fc.integer({ min: 0, max: 3 }), { minLength: 1, maxLength: 12 }),
  }),
  fc.record({ do: fc.constant("lease" as const) }),
  fc.record({
    do: fc.constant("settle" as const),
    which: fc.nat(5),
    fates: fc.oneof(
      fc.constantFrom("d", "w", "l"),
      fc.string({ unit: fc.constantFrom("d", "x", "l", "w"), minLength: 1, maxLength: 9 }),
    ),
  }),
  fc.record({ do: fc.constant("requeue" as const), which: fc.nat(5) }),
  fc.record({ do: fc.constant("wait" as const), ms: fc.integer({ min: 1, max: 100 }) }),
  fc.record({ do: fc.constant("crash" as const) }),
);

test("the engine and the model agree on every fate, whatever happens", (t) => {
  const folder = temporaryFolder(t);
  let run = 0;
  const runs = Number(process.env.MODEL_RUNS ?? 60);
  const seed = process.env.MODEL_SEED;
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const world = new World(join(folder, `${run++}.db`));
      try {
        for (const next of steps) {
          if (next.do === "commit") world.commit(next.lanes);
          else if (next.do === "lease") world.lease();
          else if (next.do === "settle") world.settle(next.which, next.fates);
          else if (next.do === "requeue") world.requeue(next.which);
          else if (next.do === "wait") world.now += next.ms;
          else world.crash();
          world.check();
        }
        world.drain();
        world.check();
      } finally {
        world.close();
      }
    }),
    { numRuns: runs, ...(seed === undefined ? {} : { seed: Number(seed) }) },
  );
});
