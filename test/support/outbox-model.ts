/**
 * An outbox as it ought to be. Beside a real one on a `Machine`, it does everything that the real one does, on a plain list of
 * readings, and has the two compared after each step (outbox-judge.ts). Each public method is something that can happen.
 */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { gunzipSync } from "node:zlib";
import { PRIORITIES } from "#src/observation/observation.js";
import type { Batch, Settlement } from "#src/outbox/batch.js";
import type { Commit, NewBlock } from "#src/outbox/commit.js";
import { Gathering } from "#src/outbox/gathering.js";
import { ObservationWriter } from "#src/outbox/observation-text.js";
import type { ReplayCursor } from "#src/outbox/replaying.js";
import { expand } from "#src/outbox/sequence.js";
import { largestShare } from "#src/outbox/sizes.js";
import { classify } from "#src/outbox/store-fault.js";
import { Crash, type CrashPoint, type Machine, type MachineSettings } from "./model-machine.ts";
import { type Reading, Readings } from "./modelled-readings.ts";
import { observation } from "./observations.ts";
import { Judge, type Licence } from "./outbox-judge.ts";

/** Fusion asks to be sent it again after so long. */
const LATER_MS = 50;
const DRAIN_ROUNDS = 2000;

/** What became of a step of the real one. */
interface Answer<T> {
  /** `full`: there was no space for it at all. */
  readonly came: "done" | "died" | "full";
  /** What it had to write is on the disk, whether it came to say so or not. */
  readonly wrote: boolean;
  readonly gives?: T;
}

export class OutboxModel {
  readonly machine: Machine;
  readonly #readings: Readings;
  readonly #judge: Judge;
  readonly #writer = new ObservationWriter("sierra");
  /** Which readings went out under which idempotency key, and the other way round. */
  readonly #keys = new Map<string, string>();
  readonly #received = new Set<string>();
  #gathered: Reading[] = [];
  #gathering: Gathering;
  /** A group that has found no room yet. */
  #held: readonly NewBlock[] = [];
  #leases: Batch[] = [];
  #nextSeq = 1;
  #made = 0;
  #duplicates = 0;
  /** How often what happened: a model in which nothing is ever evicted proves little. */
  readonly tally: Record<string, number> = {};

  constructor(machine: Machine) {
    this.machine = machine;
    this.#readings = new Readings(machine);
    this.#judge = new Judge(machine, this.#readings, (what, times) => this.#count(what, times));
    this.#gathering = this.#newGathering();
  }

  /** Readings come in, and wait for their commit. */
  append(lane: number, count: number, bytes: number, own: boolean): void {
    const { machine } = this;
    const known = machine.engine.books().clockKnown || machine.quality === "synchronised";
    for (let n = 0; n < count; n++) {
      const id = idOf(++this.#made);
      const seq = this.#nextSeq++;
      const stamp = known ? undefined : { boot: machine.bootId, uptime_ms: machine.monotonic };
      const observedAt = own ? machine.rightTime - 1000 : machine.wall;
      const reading = observation({
        id,
        priority: PRIORITIES[lane] ?? "low",
        source: "mast",
        ts_iso: new Date(observedAt).toISOString(),
        attributes: { noise: noise(seq, bytes) },
        ...(own ? {} : { timedByGateway: true }),
      });
      const text = this.#writer.write(reading, machine.wall, machine.quality, seq, stamp);
      this.#gathering.add(reading, text, seq, 0, stamp !== undefined && !own);
      const marked = stamp === undefined || own ? undefined : { boot: stamp.boot, uptime: stamp.uptime_ms };
      this.#gathered.push({ id, seq, lane, observedAt, stamp: marked });
    }
    this.#count("append", count);
  }

  /** What has gathered is committed, or what found no room before; some copies are recognised. */
  commit(duplicates: number): void {
    this.#commit([], duplicates, () => {});
  }

  lease(maxReadings: number, outage: boolean): void {
    const { engine, outbox, settings } = this.machine;
    const maxBytes = largestShare(settings.maxBytes);
    const heldBackThrough = outage ? Number.POSITIVE_INFINITY : 0;
    const available = engine.books().available.reduce((sum, count) => sum + count, 0);
    const limits = { maxReadings, maxBytes, compression: "gzip" as const, heldBackThrough };
    const answer = this.#transact(() => outbox.run(() => engine.lease(limits)));
    if (answer.came !== "done") {
      this.#finish(answer, {});
      return;
    }
    const batch = answer.gives;
    if (batch === undefined) {
      assert.deepEqual(this.#readings.sendable, [], "nothing was leased although readings wait");
      assert.equal(available, 0, "readings are said to be available that cannot be leased");
      this.#compare({});
      return;
    }
    assert.ok(available > 0, "what was leased was not said to be available");
    this.#sent(batch, outage ? "all" : "deferred-only");
    assert.ok(batch.count <= maxReadings);
    this.#judgeOrder(batch);
    const ids = idsOf(batch);
    assert.deepEqual(engine.ids(batch.lease), ids);
    for (const reading of ids.map((id) => this.#readings.known(id))) {
      assert.equal(reading.fate, "pending");
      assert.equal(reading.lease, undefined, "leased twice");
      reading.lease = batch.lease;
    }
    this.#leases.push(batch);
    this.#count("lease");
    this.#compare({});
  }

  /** Half of a batch is sent as a request of its own. */
  part(which: number): void {
    const batch = this.#pick(which);
    if (batch === undefined || batch.count < 2) return;
    const half = Math.floor(batch.count / 2);
    const part = this.machine.engine.part(batch.lease, { from: 0, to: half });
    assert.deepEqual(idsOf(part), idsOf(batch).slice(0, half));
    this.#sent(part, undefined);
    this.#count("part");
  }

  /** Fusion answers; `fates` by position: d delivered, x refused for good, l to be sent again later, w not spoken of. */
  settle(which: number, fates: string): void {
    const batch = this.#pick(which);
    if (batch === undefined) return;
    const ids = idsOf(batch);
    const having = (fate: string) => ids.flatMap((_, index) => (fates[index % fates.length] === fate ? [index] : []));
    const whole = fates === "d" ? [{ from: 0, to: batch.count }] : having("d").map((from) => ({ from, to: from + 1 }));
    const settlement: Settlement = {
      delivered: whole,
      deadLettered: having("x").map((index) => ({ index, code: "c", detail: "d" })),
      retryLater: { indexes: having("l"), delayMs: LATER_MS },
    };
    for (const index of [...having("d"), ...having("x")]) this.#received.add(ids[index] ?? "");
    this.#commit([{ lease: batch.lease, settlement }], 0, () => {
      this.#leases = this.#leases.filter((other) => other !== batch);
      ids.forEach((id, index) => {
        const reading = this.#readings.known(id);
        reading.lease = undefined;
        const fate = fates[index % fates.length];
        if (fate === "d") Object.assign(reading, { fate: "delivered", sentAs: this.#readings.timeOf(reading) });
        if (fate === "x") Object.assign(reading, { fate: "deadLettered", letter: true });
        if (fate === "l") reading.deferred = true;
      });
      for (const [what, fate] of [
        ["settle", "d"],
        ["reject", "x"],
        ["put off", "l"],
      ] as const)
        this.#count(what, having(fate).length);
    });
  }

  /** Fusion took the batch, and its answer is lost: all of it goes again. */
  loseReply(which: number): void {
    const batch = this.#pick(which);
    if (batch === undefined) return;
    for (const id of idsOf(batch)) this.#received.add(id);
    this.settle(which, "w");
    this.#count("lose the reply");
  }

  requeue(which: number): void {
    const letters = this.#readings.letters;
    const reading = letters[which % Math.max(1, letters.length)];
    if (reading === undefined) return;
    const { outbox, engine } = this.machine;
    const answer = this.#transact(() => outbox.run(() => engine.requeue([reading.id])));
    if (answer.came === "done") assert.deepEqual(answer.gives, { changed: 1, unknown: [] });
    if (answer.wrote) {
      Object.assign(reading, { fate: "pending", letter: false, deferred: true, since: this.#readings.now });
      this.#count("requeue");
    }
    this.#finish(answer, {});
  }

  drop(which: number): void {
    const letters = this.#readings.letters;
    const reading = letters[which % Math.max(1, letters.length)];
    if (reading === undefined) return;
    const { outbox, engine } = this.machine;
    const answer = this.#transact(() => outbox.run(() => engine.drop([reading.id])));
    if (answer.wrote) reading.letter = false;
    this.#finish(answer, {});
  }

  /** What is due now and then: expiry, a limit that was lowered. */
  tend(): void {
    const { outbox, quality } = this.machine;
    const answer = this.#transact(() => {
      while (outbox.tend(quality).more);
      // What an eviction has laid bare is due at once (Tending).
      while (outbox.tend(quality).more);
    });
    this.#finish(answer, { expires: true, shrinks: true });
    if (answer.came === "done") this.#judge.judgeNothingIsDue();
  }

  purge(): void {
    const { outbox, engine, quality } = this.machine;
    const answer = this.#transact(() => {
      while (outbox.run(() => engine.purgeKept(quality)));
    });
    this.#finish(answer, { purges: true });
    if (answer.came === "done") this.#judge.judgePurged();
  }

  /** What was delivered and kept is sent again: this range of it. */
  replay(from: number, to: number, maxReadings: number): void {
    const { engine, settings } = this.machine;
    const selection = { from, to, through: engine.kept().through };
    const limits = { maxReadings, maxBytes: largestShare(settings.maxBytes), compression: "gzip" as const };
    const found: string[] = [];
    let cursor: ReplayCursor = { block: 0, taken: 0 };
    for (let done = false; !done; ) {
      const taken = engine.replayTake(selection, cursor, limits);
      assert.equal(taken.damaged, 0);
      if (taken.batch !== undefined) {
        this.#sent(taken.batch, "all");
        found.push(...idsOf(taken.batch));
      }
      ({ next: cursor, done } = taken);
    }
    const wanted = this.#judge.kept.filter((reading) => {
      const at = this.#readings.timeOf(reading);
      return at >= from && at <= to;
    });
    assert.deepEqual(
      found,
      wanted.map(({ id }) => id),
      "a replay brings what was delivered and kept, all of it once",
    );
    this.#count("replay", found.length);
    this.#compare({});
  }

  /** The daemon dies now, or in one of its next transactions, whatever step that belongs to. */
  crash(point: CrashPoint | "now", transaction: number): void {
    if (point !== "now") {
      this.machine.crashIn(point, transaction);
      return;
    }
    this.machine.crash();
    this.#startedAgain({});
    this.#count("crash");
  }

  /** The daemon is stopped and started, perhaps with other settings. */
  reopen(changes: Partial<MachineSettings>): void {
    const { maxBytes } = this.machine.settings;
    this.machine.restart(changes);
    if (this.machine.settings.maxBytes < maxBytes) this.#judge.limitLowered();
    this.#startedAgain({});
    this.#count("reopen");
  }

  powerCut(offMs: number, synchronised: boolean): void {
    this.machine.powerCut(offMs, synchronised);
    if (synchronised) this.#readings.synchronised();
    this.#startedAgain({});
    this.#count("power cut");
  }

  pass(ms: number): void {
    this.machine.pass(ms);
  }

  step(ms: number): void {
    this.machine.step(ms);
    this.#count("step the clock");
  }

  synchronise(): void {
    const answer = this.#transact(() => this.machine.synchronise());
    if (answer.wrote) this.#readings.synchronised();
    this.#finish(answer, {});
  }

  fillDisk(pages: number): void {
    this.machine.disk.leave(pages);
    if (pages !== Number.POSITIVE_INFINITY) this.#count("fill the disk");
  }

  /** With a fusion that takes everything and a disk with space, everything that waits is delivered. */
  drain(): void {
    this.machine.spare();
    this.machine.disk.leave(Number.POSITIVE_INFINITY);
    while (this.#leases.length > 0) this.settle(0, "w");
    for (let round = 0; round < DRAIN_ROUNDS; round++) {
      this.machine.pass(1000);
      this.commit(0);
      this.lease(500, false);
      while (this.#leases.length > 0) this.settle(0, "d");
      if (this.#gathered.length === 0 && this.#readings.pending.length === 0) break;
    }
    assert.deepEqual(this.#readings.pending, [], "the backlog does not drain");
    assert.equal(this.#gathered.length, 0, "readings wait for room in an empty outbox");
    for (const { id, fate } of this.#readings.all) {
      if (fate === "delivered" || fate === "deadLettered") assert.ok(this.#received.has(id), `${id} never went out`);
    }
  }

  #commit(settlements: Commit["settlements"], duplicates: number, settled: () => void): void {
    if (this.#held.length === 0) {
      const { wall: acceptedAt, monotonic, quality: clock } = this.machine;
      const acceptance = { acceptedAt, acceptedMonotonic: Math.floor(monotonic), clock };
      this.#held = this.#gathering.seal(acceptance).map(({ block }) => block);
      this.#gathering = this.#newGathering();
    }
    const offered = this.#held;
    const leases = new Set(settlements.map(({ lease }) => lease));
    const released = new Set(
      this.#readings.all.flatMap(({ lease, seq }) => (lease !== undefined && leases.has(lease) ? [seq] : [])),
    );
    const waits = new Set(this.#readings.pending);
    const answer = this.#transact(() => this.machine.commit({ blocks: offered, settlements, duplicates }));
    // Where it died afterwards, nobody heard of it: the devices send again what was stored.
    const committed = answer.gives ?? this.machine.lastCommit;
    if (committed !== undefined) {
      const changes = settlements.length > 0 || duplicates > 0 || committed.stored > 0;
      assert.ok(answer.wrote || !changes, "what is not on the disk is said to be");
      settled();
      this.#duplicates += duplicates;
      for (const block of offered.slice(0, committed.stored)) this.#accept(block);
      this.#held = offered.slice(committed.stored);
    }
    const delivered = [...waits].filter(({ fate }) => fate === "delivered");
    this.#finish(answer, { offered, released, delivered });
    const hold = answer.gives?.hold;
    if (hold !== undefined) this.#count(hold);
    if (hold === "outbox-full") this.#judge.judgeFull(released);
    if (hold === "disk-full") assert.ok(!this.machine.disk.isLarge, "the disk has space");
  }

  #accept(block: NewBlock): void {
    const seqs = new Set(expand(block.runs));
    const mine = this.#gathered.filter(({ seq }) => seqs.has(seq));
    assert.equal(mine.length, block.count);
    this.#gathered = this.#gathered.filter(({ seq }) => !seqs.has(seq));
    const { elapsed, boot, monotonic } = this.#readings.now;
    for (const reading of mine) {
      this.#readings.add({
        ...reading,
        fate: "pending",
        lease: undefined,
        deferred: false,
        letter: false,
        provisional: block.clock === "provisional",
        acceptedBoot: boot,
        since: { elapsed: elapsed - (monotonic - block.acceptedMonotonic), boot, monotonic: block.acceptedMonotonic },
      });
    }
    this.#count("commit");
  }

  /** Runs a step of the real one. However full the disk is, there is space for it, unless somebody took what the reserve gave up. */
  #transact<T>(act: () => T): Answer<T> {
    this.machine.written = 0;
    this.machine.lastCommit = undefined;
    try {
      const gives = act();
      return { came: "done", wrote: this.machine.written > 0, gives };
    } catch (thrown) {
      if (thrown instanceof Crash) return { came: "died", wrote: this.machine.written > 0 };
      if (classify(thrown) !== "disk-full" || !this.machine.disk.robbed) throw thrown;
      this.#count("no space even for fates");
      return { came: "full", wrote: this.machine.written > 0 };
    }
  }

  /** After a step: compares, and where the daemon died in it, starts it again. */
  #finish({ came }: Answer<unknown>, licence: Licence): void {
    if (came !== "died") {
      this.#compare(licence);
      return;
    }
    this.machine.crash();
    this.#startedAgain({ ...licence, untold: true });
    this.#count("crash");
  }

  /** The daemon has started again: nothing is on lease, what was put off is due, and what was not acknowledged is gone. */
  #startedAgain(licence: Licence): void {
    // By the leases that stood when it ended.
    this.#compare(licence);
    this.#readings.started();
    this.#leases = [];
    this.#gathered = [];
    this.#held = [];
    this.#gathering = this.#newGathering();
    const { lastSeq, clockKnown } = this.machine.engine.books();
    for (const { seq } of this.#readings.all) assert.ok(seq <= lastSeq, "a sequence number would be given away twice");
    this.#nextSeq = lastSeq + 1;
    assert.equal(clockKnown, this.#readings.clockKnown);
  }

  #compare(licence: Licence): void {
    this.#judge.judge(licence, this.#duplicates);
  }

  /** Highest priority first, and within a priority in the order of acceptance; what was put off goes ahead of its lane. */
  #judgeOrder(batch: Batch): void {
    const taken = idsOf(batch).map((id) => this.#readings.known(id));
    const { sendable } = this.#readings;
    const live = taken.filter(({ deferred }) => !deferred).map(({ seq }) => seq);
    assert.deepEqual(live, sendable.slice(0, live.length), "highest priority first, and in the order of acceptance");
    const lanes = taken.map(({ lane }) => lane);
    assert.deepEqual(lanes, lanes.toSorted());
    const passedOver = sendable.filter((seq) => this.#readings.numbered(seq).lane < (lanes[0] ?? 0));
    assert.deepEqual(passedOver, [], "a higher priority was passed over");
  }

  /** Whatever goes out holds what was accepted, says whether it was held back, and has a key of its own. */
  #sent(batch: Batch, heldBack: "all" | "deferred-only" | undefined): void {
    const { replayed, observations } = bodyOf(batch);
    assert.equal(replayed, batch.replayed);
    assert.equal(batch.count, observations.length);
    for (const { id, ts_iso, gateway } of observations) {
      const reading = this.#readings.known(id);
      assert.equal(gateway.seq, reading.seq);
      assert.equal(Date.parse(ts_iso), this.#readings.timeOf(reading));
      if (heldBack === "all") assert.ok(replayed);
      else if (heldBack === "deferred-only") assert.equal(replayed, reading.deferred, "a batch holds one kind");
    }
    const set = observations
      .map(({ gateway }) => gateway.seq)
      .sort((a, b) => a - b)
      .join();
    for (const [one, other] of [
      [`key ${batch.idempotencyKey}`, set],
      [`set ${set}`, batch.idempotencyKey],
    ] as const) {
      assert.equal(this.#keys.get(one) ?? other, other, "one key for one set");
      this.#keys.set(one, other);
    }
  }

  #newGathering(): Gathering {
    return new Gathering({ maxReadings: 7, maxBytes: largestShare(this.machine.settings.maxBytes) });
  }

  #pick(which: number): Batch | undefined {
    return this.#leases[which % Math.max(1, this.#leases.length)];
  }

  #count(what: string, times = 1): void {
    this.tally[what] = (this.tally[what] ?? 0) + times;
  }
}

interface Body {
  readonly replayed: boolean;
  readonly observations: readonly {
    readonly id: string;
    readonly ts_iso: string;
    readonly gateway: { readonly seq: number };
  }[];
}

const bodyOf = (batch: Batch): Body => JSON.parse(gunzipSync(batch.body).toString()) as Body;
const idsOf = (batch: Batch): string[] => bodyOf(batch).observations.map(({ id }) => id);

/** Text that hardly compresses, the same in every run. */
function noise(seq: number, bytes: number): string {
  if (bytes === 0) return "";
  return createHash("shake256", { outputLength: bytes }).update(String(seq)).digest("base64").slice(0, bytes);
}

function idOf(made: number): string {
  const hex = createHash("sha256").update(String(made)).digest("hex");
  return [hex.slice(0, 8), hex.slice(8, 12), `4${hex.slice(13, 16)}`, `8${hex.slice(17, 20)}`, hex.slice(20, 32)].join(
    "-",
  );
}
