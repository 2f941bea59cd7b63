/** An engine on a real file, with clocks and a disk that a test sets. */
import type { TestContext } from "node:test";
import type { ClockQuality } from "#src/observation/observation.js";
import { PRIORITIES } from "#src/observation/observation.js";
import type { Committed, NewBlock } from "#src/outbox/commit.js";
import { Engine, type EngineOptions } from "#src/outbox/engine.js";
import { Gathering } from "#src/outbox/gathering.js";
import { addLedgers, type Ledger } from "#src/outbox/ledger.js";
import { ObservationWriter } from "#src/outbox/observation-text.js";
import type { RetentionSettings } from "#src/outbox/retention.js";
import { Store } from "#src/outbox/store.js";
import { observation } from "./observations.ts";

const DAY_MS = 86_400_000;

/** The program under test: its own modules, or a mutant's. */
export interface EngineModules {
  readonly Store: typeof Store;
  readonly Engine: typeof Engine;
}

export type EngineRigOptions = Partial<Pick<EngineOptions, "maxDeadLetters" | "keepDelivered" | "onNotice">>;

export const LEASE_ALL = {
  maxReadings: 500,
  maxBytes: 64 * 1024,
  compression: "gzip" as const,
  heldBackThrough: Number.POSITIVE_INFINITY,
};

export class EngineRig {
  readonly #file: string;
  readonly #settings: RetentionSettings;
  readonly #modules: EngineModules;
  readonly #options: EngineRigOptions;
  readonly #writer = new ObservationWriter("sierra");
  #seq = 1;
  store: Store;
  engine: Engine;
  /** Wall time. */
  wall = Date.UTC(2026, 6, 1);
  /** Milliseconds since this boot. */
  monotonic = 1000;
  boot = 1;
  quality: ClockQuality = "synchronised";
  freeDisk = Number.POSITIVE_INFINITY;

  constructor(
    t: Pick<TestContext, "after">,
    file: string,
    settings: Partial<RetentionSettings> = {},
    modules: EngineModules = { Store, Engine },
    options: EngineRigOptions = {},
  ) {
    this.#options = options;
    this.#file = file;
    this.#settings = { maxBytes: 2 ** 30, maxAge: 30 * DAY_MS, whenFull: "evict", reserveFreeDisk: 0, ...settings };
    this.#modules = modules;
    [this.store, this.engine] = this.#open();
    t.after(() => this.store.close());
  }

  /** Time passes while the machine is on. */
  pass(ms: number): void {
    this.wall += ms;
    this.monotonic += ms;
  }

  /** A power cut; the machine starts again after so long, with this clock. */
  powerCut(offMs: number, quality: ClockQuality = "synchronised"): void {
    this.store.close();
    this.wall += offMs;
    this.monotonic = 1000;
    this.boot++;
    this.quality = quality;
    [this.store, this.engine] = this.#open();
    this.engine.tend(quality);
  }

  /** One commit of so many readings of one lane, `bytes` of noise in each. */
  commit(lane: number, count: number, bytes = 0): Committed {
    return this.engine.commit({ blocks: this.blocks(lane, count, bytes), settlements: [], duplicates: 0 });
  }

  /** What such a commit stores. */
  blocks(lane: number, count: number, bytes = 0): NewBlock[] {
    const group = new Gathering({ maxReadings: 10_000, maxBytes: 2 ** 30 });
    for (let made = 0; made < count; made++) {
      const seq = this.#seq++;
      const attributes = { noise: noise(bytes) };
      const ts_iso = new Date(this.wall).toISOString();
      const reading = observation({ priority: PRIORITIES[lane] ?? "low", attributes, ts_iso });
      group.add(reading, this.#writer.write(reading, this.wall, this.quality, seq), seq, 0);
    }
    return group
      .seal({ acceptedAt: this.wall, acceptedMonotonic: this.monotonic, clock: this.quality })
      .map(({ block }) => block);
  }

  /** Sends at most so many batches, which fusion takes; returns how many readings went. */
  deliver(batches = 1): number {
    let delivered = 0;
    for (let sent = 0; sent < batches; sent++) {
      const batch = this.engine.lease(LEASE_ALL);
      if (batch === undefined) break;
      const settlement = { delivered: [{ from: 0, to: batch.count }], deadLettered: [] };
      this.engine.commit({ blocks: [], settlements: [{ lease: batch.lease, settlement }], duplicates: 0 });
      delivered += batch.count;
    }
    return delivered;
  }

  /** Does all that is due. */
  tend(): void {
    while (this.engine.tend(this.quality));
  }

  get ledger(): Ledger {
    return this.ledgers.reduce(addLedgers);
  }

  get ledgers(): readonly Ledger[] {
    return this.engine.books().ledgers;
  }

  #open(): [Store, Engine] {
    const { maxBytes } = this.#settings;
    const store = new this.#modules.Store({ file: this.#file, maxBytes, bootId: `boot ${this.boot}` });
    const engine = new this.#modules.Engine(store, {
      gatewayId: "sierra",
      monotonic: () => this.monotonic,
      now: () => this.wall,
      maxDeadLetters: 1000,
      retention: this.#settings,
      freeDisk: () => this.freeDisk,
      onNotice: () => {},
      ...this.#options,
    });
    return [store, engine];
  }
}

let state = 1;

/** Text that does not compress to less than three quarters; the same in every run. */
function noise(bytes: number): string {
  const made = Buffer.alloc(bytes);
  for (let index = 0; index < bytes; index++) {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
    made[index] = state >>> 24;
  }
  return made.toString("base64").slice(0, bytes);
}
