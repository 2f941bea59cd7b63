/**
 * Compares an outbox's file and books with the readings of a model, after each step.
 *
 * How much is evicted, and how much of what is kept for replay gives way, depends on pages, and is not predicted: there it looks
 * which blocks went, and judges whether the outbox was entitled to that: these, now, and in this order.
 */
import assert from "node:assert/strict";
import { runsOf } from "#src/outbox/block.js";
import type { NewBlock } from "#src/outbox/commit.js";
import { FATES, imbalance } from "#src/outbox/ledger.js";
import { pageLimit, pagesFor } from "#src/outbox/retention.js";
import { BANDS, Band, bandEnd, bandOf, bandStart, LANES } from "#src/outbox/rows.js";
import { encodeSegment } from "#src/outbox/segment.js";
import { expand, type Run } from "#src/outbox/sequence.js";
import { largestShare } from "#src/outbox/sizes.js";
import type { Machine } from "./model-machine.ts";
import type { Accepted, Moment, Readings } from "./modelled-readings.ts";

/** After a full disk, what is delivered is not kept for a while (`Kept`). */
const SPARE_AFTER_DISK_FULL_MS = 60_000;
/** What fates that are settled in a transaction may take: blocks that are cut up, dead letters, kept ones. */
const SETTLING_PAGES = 24;

interface Stored {
  readonly band: number;
  readonly seqs: readonly number[];
}

interface KeptBlock {
  readonly id: number;
  readonly seqs: readonly number[];
  readonly deliveredAt: Moment;
}

/** What the real outbox has, as its file says. */
interface Holdings {
  readonly blocks: ReadonlyMap<number, Stored>;
  readonly kept: readonly KeptBlock[];
  readonly used: number;
  /** Pages that the next commit may go by. */
  readonly limit: number;
}

/** What a step may do to what is stored. */
export interface Licence {
  /** Blocks for which room may be made. */
  readonly offered?: readonly NewBlock[];
  readonly expires?: true;
  readonly shrinks?: true;
  readonly purges?: true;
  /** The daemon died before it could say what it had done. */
  readonly untold?: true;
  /** Readings that were delivered in this step. */
  readonly delivered?: readonly Accepted[];
  /** Readings that came off a lease in this step. */
  readonly released?: ReadonlySet<number>;
}

export class Judge {
  readonly #machine: Machine;
  readonly #readings: Readings;
  readonly #count: (what: string, times?: number) => void;
  readonly #dropped = new Set<string>();
  #before: Holdings;
  #diskSmallAt = Number.NEGATIVE_INFINITY;
  #lowered = false;
  #letters = 0;

  /** `count` is told what happened, and how often. */
  constructor(machine: Machine, readings: Readings, count: (what: string, times?: number) => void) {
    this.#machine = machine;
    this.#readings = readings;
    this.#count = count;
    this.#before = this.#look();
  }

  /** What was stored under a higher limit may lie above this one. */
  limitLowered(): void {
    this.#lowered = true;
  }

  /** Readings that are kept for replay, in the order of their delivery. */
  get kept(): Accepted[] {
    return this.#before.kept.flatMap(({ seqs }) => seqs.map((seq) => this.#readings.numbered(seq)));
  }

  /** Compares with what the file says, and takes over what could not be predicted, where that is lawful. */
  judge(licence: Licence, duplicates: number): void {
    const now = this.#look();
    if (!this.#machine.disk.isLarge) this.#diskSmallAt = this.#machine.elapsed;
    this.#judgeWaiting(now, licence);
    this.#judgeKept(now, licence);
    this.#judgeLetters(licence);
    this.#judgeBooks(duplicates);
    this.#judgeSize();
    this.#before = now;
  }

  #judgeWaiting(now: Holdings, licence: Licence): void {
    const here = new Set<number>();
    for (const { band, seqs } of now.blocks.values()) {
      for (const seq of seqs) {
        const reading = this.#readings.numbered(seq);
        assert.ok(!here.has(seq), "stored twice");
        here.add(seq);
        assert.equal(reading.fate, "pending", `${seq} has its fate and waits`);
        assert.equal(band, reading.deferred ? Band.deferred(reading.lane) : Band.waiting(reading.lane), "its place");
      }
    }
    const gone = this.#readings.pending.filter(({ seq }) => !here.has(seq));
    for (const [lane, ledger] of this.#machine.store.ledgers().entries()) {
      const lost = (fate: "expired" | "evicted") =>
        ledger[fate] - this.#readings.inLane(lane).filter((reading) => reading.fate === fate).length;
      const expired = lost("expired");
      const own = gone.filter((reading) => reading.lane === lane);
      assert.equal(expired + lost("evicted"), own.length, `lane ${lane}: gone without a name`);
      // Those that waited longest are the ones that expired.
      own.sort((a, b) => a.since.elapsed - b.since.elapsed);
      for (const reading of own.slice(0, expired)) this.#judgeExpired(reading, licence);
      this.#judgeEvicted(own.slice(expired), here, licence);
    }
    for (const reading of gone) reading.deferred = false;
  }

  #judgeExpired(reading: Accepted, { expires }: Licence): void {
    assert.ok(expires, "nothing was to expire");
    assert.equal(reading.lease, undefined, "expired on lease");
    const waited = this.#machine.elapsed - reading.since.elapsed;
    assert.ok(waited >= this.#machine.settings.maxAge, `expired after ${waited} ms`);
    reading.fate = "expired";
    this.#count("expire");
  }

  #judgeEvicted(evicted: readonly Accepted[], here: ReadonlySet<number>, licence: Licence): void {
    const [first] = evicted;
    if (first === undefined) return;
    const { lane } = first;
    const { offered, shrinks } = licence;
    assert.equal(this.#machine.settings.whenFull, "evict");
    assert.ok(offered !== undefined || shrinks, "nothing was to be evicted");
    if (!shrinks)
      assert.ok(
        offered?.some((block) => block.lane <= lane),
        "evicted for what is less important",
      );
    this.#judgeNeed(licence);
    for (const reading of evicted) {
      assert.equal(reading.lease, undefined, "evicted on lease");
      reading.fate = "evicted";
    }
    this.#count("evict", evicted.length);
    this.#count(`evicted, lane ${lane}`, evicted.length);
    const free = this.#free(here, licence);
    const spared = free.filter((reading) => reading.lane > lane).map(({ seq, lane: lower }) => ({ seq, lower }));
    assert.deepEqual(spared, [], `lane ${lane} went before a lower one`);
    const oldestLeft = free.find((reading) => reading.lane === lane && !reading.deferred);
    for (const { seq, deferred } of evicted) {
      if (!deferred && oldestLeft !== undefined) assert.ok(seq < oldestLeft.seq, `${seq} is not the oldest`);
    }
  }

  /** Waiting before the step and after it, and on no lease. */
  #free(here: ReadonlySet<number>, { released, offered = [] }: Licence): Accepted[] {
    const isNew = ({ seq }: Accepted) =>
      offered.some(({ runs }) => runs.some(([from, to]) => seq >= from && seq <= to));
    return this.#readings.pending.filter(
      (reading) =>
        here.has(reading.seq) && reading.lease === undefined && released?.has(reading.seq) !== true && !isNew(reading),
    );
  }

  #judgeNeed({ offered, shrinks }: Licence): void {
    if (offered === undefined || shrinks) return;
    const need = offered.reduce((sum, { text, count }) => sum + pagesFor(encodeSegment(text, count).body.length), 0);
    const { used, limit } = this.#before;
    assert.ok(used + need + SETTLING_PAGES > limit, `made room, or kept nothing, with ${used} of ${limit} pages used`);
  }

  /** The outbox has said that it is full. */
  judgeFull(released: ReadonlySet<number>): void {
    assert.deepEqual(this.#before.kept, [], "what is only kept for replay stands in the way");
    if (this.#machine.settings.whenFull === "refuse") return;
    const free = this.#readings.pending.filter(({ lease, seq }) => lease === undefined && !released.has(seq));
    assert.deepEqual(
      free.map(({ seq }) => seq),
      [],
      "said to be full although there is something to evict",
    );
  }

  #judgeKept(now: Holdings, licence: Licence): void {
    const seen = new Set<number>();
    for (const { seqs } of now.kept) {
      for (const seq of seqs) {
        assert.equal(this.#readings.numbered(seq).fate, "delivered", "kept though not delivered");
        assert.ok(!seen.has(seq), "kept twice");
        seen.add(seq);
      }
    }
    this.#judgeKeeping(seen, licence);
    const left = new Set(now.kept.map(({ id }) => id));
    const lost = this.#before.kept.filter(({ id }) => !left.has(id));
    if (lost.length === 0) return;
    const spared = this.#before.kept.find(({ id }) => left.has(id));
    for (const { id } of lost) assert.ok(spared === undefined || id < spared.id, "the oldest kept block goes first");
    if (licence.purges) {
      for (const { deliveredAt } of lost) {
        assert.ok(this.#machine.elapsed - deliveredAt.elapsed >= this.#machine.settings.keepDelivered, "purged early");
      }
    } else if (!this.#diskWasFull) {
      assert.ok(licence.offered !== undefined || licence.shrinks, "what was kept is gone");
      this.#judgeNeed(licence);
    }
    this.#count(licence.purges ? "purge" : "kept blocks gave way", lost.length);
  }

  /** What is delivered is kept from then on, where that is wished for and there is room. */
  #judgeKeeping(kept: ReadonlySet<number>, licence: Licence): void {
    const { delivered = [] } = licence;
    const { keepDelivered } = this.#machine.settings;
    const those = delivered.filter(({ seq }) => kept.has(seq));
    if (keepDelivered === 0) assert.deepEqual(those, [], "kept, and nobody wished for it");
    else if (those.length < delivered.length && !this.#diskWasFull) this.#judgeNeed(licence);
  }

  #judgeLetters(licence: Licence): void {
    const { engine, notices, settings } = this.#machine;
    for (const notice of notices.splice(0)) {
      assert.equal(notice.kind, "dead-letters-dropped", JSON.stringify(notice));
      if (notice.kind === "dead-letters-dropped") for (const id of notice.ids) this.#dropped.add(id);
    }
    const letters = engine.deadLetters(0, 10_000);
    const there = new Set(letters.map(({ seq }) => seq));
    for (const { seq, id, lane, code, reading } of letters) {
      const known = this.#readings.numbered(seq);
      assert.ok(known.letter, `${seq} is no dead letter`);
      assert.deepEqual([id, lane, code, JSON.parse(reading).id], [known.id, known.lane, "c", known.id]);
    }
    const missing = this.#readings.letters.filter(({ seq }) => !there.has(seq));
    for (const reading of missing) {
      assert.ok(
        licence.untold || this.#dropped.has(reading.id),
        `dead letter ${reading.seq} is gone and nobody was told`,
      );
      assert.ok(
        letters.every(({ seq }) => seq > reading.seq),
        "the oldest dead letter goes first",
      );
      reading.letter = false;
    }
    if (missing.length > 0) {
      assert.ok(licence.offered !== undefined || licence.shrinks, "a dead letter was dropped without need");
      this.#count("dead letters dropped", missing.length);
    }
    // Where the limit was lowered, the rest of the way is the next burial's.
    assert.ok(letters.length <= Math.max(settings.maxDeadLetters, this.#letters));
    this.#letters = letters.length;
    assert.equal(engine.books().deadLetters, letters.length);
  }

  #judgeBooks(duplicates: number): void {
    const { ledgers } = this.#machine.engine.books();
    for (let lane = 0; lane < LANES; lane++) {
      const ledger = ledgers[lane];
      assert.ok(ledger);
      assert.equal(imbalance(ledger), 0, `lane ${lane} does not balance`);
      const own = this.#readings.inLane(lane);
      assert.equal(ledger.accepted, own.length, `accepted, lane ${lane}`);
      for (const fate of FATES) {
        assert.equal(ledger[fate], own.filter((reading) => reading.fate === fate).length, `${fate}, lane ${lane}`);
      }
    }
    assert.equal(ledgers[0]?.duplicates, duplicates);
  }

  /**
   * The files keep to `maxBytes`, once what was stored under a higher limit has gone. Fates are written however full it is: what
   * one lease becomes that is settled in parts, put off, buried and kept, comes on top until the next checkpoint.
   */
  #judgeSize(): void {
    const { store, settings } = this.#machine;
    const { file, wal } = store.fileBytes();
    const over = file + wal - settings.maxBytes;
    if (over <= 0 || this.#lowered) return;
    this.#count("over maxBytes for a moment");
    assert.ok(over <= 3 * largestShare(settings.maxBytes), `the files exceed maxBytes by ${over} bytes`);
  }

  /** After all that was due has been done. */
  judgeNothingIsDue(): void {
    const { boot, monotonic, settings } = this.#machine;
    const seen = new Set<number>();
    for (const { band, seqs } of this.#before.blocks.values()) {
      const reading = this.#readings.numbered(seqs[0] ?? 0);
      if (reading.lease !== undefined || seen.has(band)) continue;
      seen.add(band);
      if (reading.since.boot !== boot) continue;
      assert.ok(monotonic - reading.since.monotonic < settings.maxAge, `${reading.seq} ought to have expired`);
    }
  }

  /** After all that was kept for long enough has gone. */
  judgePurged(): void {
    const { boot, monotonic, settings } = this.#machine;
    const [oldest] = this.#before.kept;
    if (oldest === undefined || oldest.deliveredAt.boot !== boot) return;
    assert.ok(monotonic - oldest.deliveredAt.monotonic < settings.keepDelivered, "kept on");
  }

  #look(): Holdings {
    const { store, settings } = this.#machine;
    const blocks = new Map<number, Stored>();
    for (const band of BANDS) {
      let head = store.firstHead(bandStart(band), bandEnd(band));
      for (; head !== undefined; head = store.firstHead(head.key + 1, bandEnd(band))) {
        blocks.set(head.key, { band: bandOf(head.key), seqs: expand(runsOf(head)) });
      }
    }
    const { count: pages, used } = store.pages();
    const { file: fileBytes, wal: walBytes } = store.fileBytes();
    const limit = pageLimit(settings, store.sizes, { pages, fileBytes, walBytes, freeDisk: Number.POSITIVE_INFINITY });
    return { blocks, kept: this.#lookAtKept(), used, limit: limit.pages };
  }

  #lookAtKept(): KeptBlock[] {
    const { kept } = this.#machine.store;
    const known = new Map(this.#before?.kept.map((block) => [block.id, block]));
    return kept.heads(0, Number.MAX_SAFE_INTEGER, 10_000).map(({ id }) => {
      const before = known.get(id);
      if (before !== undefined) return before;
      const { firstSeq, lastSeq, sequence } = kept.block(id) ?? assert.fail();
      const runs = sequence === null ? [[firstSeq, lastSeq] as const] : (JSON.parse(sequence) as Run[]);
      return { id, seqs: expand(runs), deliveredAt: this.#readings.now };
    });
  }

  get #diskWasFull(): boolean {
    return this.#machine.elapsed - this.#diskSmallAt <= SPARE_AFTER_DISK_FULL_MS;
  }
}
