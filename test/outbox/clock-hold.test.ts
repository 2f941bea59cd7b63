/** Readings that wait for the clock: which, for how long, and with what they go out. On a real file, with time in the test's hands. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { gunzipSync } from "node:zlib";
import Database from "better-sqlite3";
import fc from "fast-check";
import type { Priority } from "#src/observation/observation.js";
import type { Batch, BatchLimits, Settlement } from "#src/outbox/batch.js";
import type { Commit } from "#src/outbox/commit.js";
import { Engine } from "#src/outbox/engine.js";
import { Gathering } from "#src/outbox/gathering.js";
import { peek } from "#src/outbox/inspection.js";
import { MIGRATIONS } from "#src/outbox/migrations.js";
import { ObservationWriter } from "#src/outbox/observation-text.js";
import { Store } from "#src/outbox/store.js";
import type { Received } from "../support/collector.ts";
import { observation } from "../support/observations.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

const WAIT_MS = 120_000;
const WRONG = Date.UTC(1980, 0, 6);
const RIGHT = Date.UTC(2026, 6, 1);
const NO_FATES = { settlements: [], duplicates: 0 };
const BOOTS = ["11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"] as const;

/** A gateway's outbox, boot after boot on one file. Monotonic time begins at 0 with each boot. */
class Gateway {
  readonly #file: string;
  #boot = 0;
  #store: Store;
  engine: Engine;
  now = 0;
  #seq = 1;
  readonly #maxAge: number;
  readonly #notices: string[] = [];

  constructor(t: TestContext, maxAge = Number.POSITIVE_INFINITY) {
    this.#file = join(temporaryFolder(t), "outbox.db");
    this.#maxAge = maxAge;
    [this.#store, this.engine] = this.#open();
    t.after(() => {
      this.close();
      assert.deepEqual(this.#notices, []);
    });
  }

  close(): void {
    this.#store.close();
  }

  /** The oldest waiting block is damaged on the card; it is set aside when it is met. */
  damageOldest(): void {
    const card = new Database(this.#file);
    card.exec("UPDATE block SET body = zeroblob(length(body)) WHERE key = (SELECT MIN(key) FROM block)");
    card.close();
  }

  /** The kinds of what the operator was told, once. */
  takeNotices(): string[] {
    return this.#notices.splice(0);
  }

  get #bootId(): string {
    return BOOTS[this.#boot] ?? "";
  }

  #open(): [Store, Engine] {
    const store = new Store({ file: this.#file, maxBytes: 2 ** 30, bootId: this.#bootId });
    const engine = new Engine(store, {
      gatewayId: "sierra-014",
      monotonic: () => this.now,
      now: () => WRONG + this.now,
      maxDeadLetters: 10,
      waitForClock: WAIT_MS,
      retention: { maxBytes: 2 ** 30, maxAge: this.#maxAge, whenFull: "refuse", reserveFreeDisk: 0 },
      freeDisk: () => Number.POSITIVE_INFINITY,
      onNotice: ({ kind }) => this.#notices.push(kind),
    });
    return [store, engine];
  }

  /** The daemon ends and starts again. */
  restart(): void {
    this.#store.close();
    [this.#store, this.engine] = this.#open();
  }

  reboot(): void {
    this.#boot++;
    this.now = 0;
    this.restart();
  }

  /** Accepts one reading now, in a commit of its own; `own`: with a time of its own. Returns its id. */
  accept({ own = false, priority = "normal" as Priority, synchronised = false } = {}): string {
    const quality = synchronised ? "synchronised" : "unsynchronised";
    const at = synchronised ? RIGHT + this.now : WRONG + this.now;
    const made = observation({
      priority,
      ...(own ? {} : { ts_iso: new Date(at).toISOString(), timedByGateway: true }),
    });
    const stamp = synchronised ? undefined : { boot: this.#bootId, uptime_ms: this.now };
    const seq = this.#seq++;
    const text = new ObservationWriter("sierra-014").write(made, at, quality, seq, stamp);
    const group = new Gathering({ maxReadings: 500, maxBytes: 512 * 1024 });
    group.add(made, text, seq, 0, stamp !== undefined && !own);
    this.commit({ ...NO_FATES, blocks: group.seal(this.#acceptance(at, quality)).map(({ block }) => block) });
    return made.id;
  }

  #acceptance(acceptedAt: number, clock: "synchronised" | "unsynchronised") {
    return { acceptedAt, acceptedMonotonic: this.now, clock };
  }

  commit(commit: Commit): void {
    this.engine.commit(commit);
  }

  lease(changes: Partial<BatchLimits> = {}): Batch | undefined {
    const limits = { maxReadings: 500, maxBytes: 512 * 1024, compression: "gzip" as const, heldBackThrough: 0 };
    return this.engine.lease({ ...limits, ...changes });
  }

  peeked(): Received[] {
    return peek(this.#store, 100, undefined).map((reading) => reading.observation as Received);
  }

  get available(): number {
    return this.engine.books().available.reduce((sum, count) => sum + count, 0);
  }
}

function sent(batch: Batch | undefined): Received[] {
  if (batch === undefined) return [];
  return (JSON.parse(gunzipSync(batch.body).toString()) as { observations: Received[] }).observations;
}

const idsOf = (batch: Batch | undefined) => sent(batch).map(({ id }) => id);

test("a reading stamped by a clock that is not synchronised waits for it, and goes out with the right time", (t) => {
  const gateway = new Gateway(t);
  gateway.now = 5000;
  const id = gateway.accept();
  assert.equal(gateway.lease(), undefined);
  assert.equal(gateway.available, 0);
  gateway.now = 30_000;
  gateway.engine.fixClock(RIGHT);
  assert.equal(gateway.available, 1);
  const batch = gateway.lease();
  const time = new Date(RIGHT + 5000).toISOString();
  const [reading] = sent(batch);
  assert.equal(reading?.id, id);
  assert.equal(reading?.ts_iso, time);
  assert.deepEqual(reading?.gateway, {
    id: "sierra-014",
    received_at: time,
    clock: "synchronised",
    restamped_from: new Date(WRONG + 5000).toISOString(),
    seq: 1,
  });
});

test("it waits until the bound, to the millisecond, and then goes out as it is and says so", (t) => {
  const gateway = new Gateway(t);
  gateway.now = 1000;
  const id = gateway.accept();
  assert.equal(gateway.engine.books().deferredDueIn, WAIT_MS - 1000, "whoever waits knows for how long");
  gateway.now = WAIT_MS - 1;
  assert.equal(gateway.lease(), undefined);
  gateway.now = WAIT_MS;
  assert.equal(gateway.available, 1);
  assert.equal(gateway.engine.books().deferredDueIn, undefined);
  const [reading] = sent(gateway.lease());
  assert.equal(reading?.id, id);
  assert.equal(reading?.ts_iso, new Date(WRONG + 1000).toISOString());
  assert.equal(reading?.gateway.clock, "unsynchronised");
  gateway.now += 1;
  gateway.accept();
  assert.equal(gateway.available, 1, "later ones do not wait at all");
});

test("the wait is given once more when the link first returns, and not again", (t) => {
  const gateway = new Gateway(t);
  gateway.accept();
  gateway.now = 10 * WAIT_MS;
  const linkBackAt = gateway.now;
  assert.equal(gateway.lease({ linkBackAt }), undefined, "a time server is in reach again, too");
  gateway.now += WAIT_MS;
  assert.equal(sent(gateway.lease({ linkBackAt })).length, 1);
  gateway.accept();
  assert.equal(sent(gateway.lease({ linkBackAt: gateway.now })).length, 1);
});

test("critical readings, readings with their own time and those of a synchronised clock do not wait", (t) => {
  const gateway = new Gateway(t);
  const alarm = gateway.accept({ priority: "critical" });
  const own = gateway.accept({ own: true, priority: "high" });
  const good = gateway.accept({ synchronised: true });
  gateway.accept({ priority: "low" });
  assert.equal(gateway.available, 3);
  assert.deepEqual(idsOf(gateway.lease()), [alarm, own, good]);
  assert.equal(gateway.lease(), undefined);
});

test("what lies behind in the same lane waits with it: a lane keeps its order", (t) => {
  const gateway = new Gateway(t);
  const first = gateway.accept({ own: true });
  const second = gateway.accept();
  const third = gateway.accept({ own: true });
  assert.deepEqual(idsOf(gateway.lease()), [first]);
  assert.equal(gateway.lease(), undefined);
  assert.equal(gateway.available, 0);
  gateway.engine.fixClock(RIGHT);
  assert.equal(gateway.available, 2);
  assert.deepEqual(idsOf(gateway.lease()), [second, third]);
});

test("with live-first, readings that came after a backlog go past it while that waits for the clock, in order among themselves", (t) => {
  const gateway = new Gateway(t);
  const held = gateway.accept();
  const behind = gateway.accept({ own: true });
  const fresh = gateway.accept({ own: true });
  const limits = { heldBackThrough: 2, liveFirst: true };
  assert.equal(gateway.lease({ ...limits, heldBackThrough: Number.POSITIVE_INFINITY }), undefined);
  assert.equal(gateway.available, 0, "during an outage all is held back");
  assert.equal(gateway.lease({ ...limits, liveFirst: false }), undefined);
  assert.equal(gateway.available, 0, "and without live-first a lane keeps its order");
  const batch = gateway.lease(limits);
  assert.deepEqual([idsOf(batch), batch?.replayed], [[fresh], false]);
  const own = gateway.accept({ own: true });
  assert.equal(gateway.available, 1, "whoever waits for readings hears of it");
  const freshHeld = gateway.accept();
  gateway.accept({ own: true });
  assert.equal(gateway.available, 1);
  assert.deepEqual(idsOf(gateway.lease(limits)), [own]);
  assert.equal(gateway.lease({ ...limits, newerFirst: true }), undefined);
  gateway.engine.fixClock(RIGHT);
  assert.equal(gateway.available, 4);
  assert.deepEqual(idsOf(gateway.lease({ ...limits, newerFirst: true }))[0], freshHeld);
  assert.deepEqual(idsOf(gateway.lease(limits)), [held, behind]);
});

/** What may happen to an outbox while the clock is awaited. */
const EVENTS = fc.oneof(
  fc.record({ kind: fc.constant("accept" as const), own: fc.boolean(), lane: fc.constantFrom("high", "normal") }),
  fc.record({ kind: fc.constant("lease" as const), maxReadings: fc.integer({ min: 1, max: 3 }) }),
  fc.record({
    kind: fc.constant("settle" as const),
    which: fc.nat(3),
    fate: fc.constantFrom("waits", "delivered", "later", "refused", "some"),
  }),
  fc.record({ kind: fc.constant("wait" as const), ms: fc.constantFrom(1, 50, WAIT_MS / 3) }),
  fc.record({ kind: fc.constant("tend" as const) }),
);

const GIVEN_BACK = [
  { kind: "accept" as const, own: true, lane: "normal" as const },
  { kind: "accept" as const, own: false, lane: "normal" as const },
  { kind: "lease" as const, maxReadings: 3 },
  { kind: "settle" as const, which: 0, fate: "waits" as const },
];

/** The fates of a lease of `count` readings. */
function fates(fate: string, count: number): Settlement {
  const none = { delivered: [], deadLettered: [] };
  if (fate === "delivered") return { ...none, delivered: [{ from: 0, to: count }] };
  if (fate === "some") return { ...none, delivered: [{ from: count - 1, to: count }] };
  if (fate === "refused") return { ...none, deadLettered: [{ index: 0, code: "c", detail: "d" }] };
  return fate === "later" ? { ...none, retryLater: { indexes: [0], delayMs: 60 } } : none;
}

test("whoever sends is told of readings exactly where some can be leased, whatever has gone before", (t) => {
  fc.assert(
    fc.property(fc.array(EVENTS, { minLength: 4, maxLength: 12 }), (events) => {
      const gateway = new Gateway(t, WAIT_MS / 4);
      const leases: Batch[] = [];
      for (const event of events) {
        if (event.kind === "accept") gateway.accept({ own: event.own, priority: event.lane as Priority });
        else if (event.kind === "wait") gateway.now += event.ms;
        else if (event.kind === "tend") gateway.engine.tend("unsynchronised");
        else if (event.kind === "lease") {
          const batch = gateway.lease({ maxReadings: event.maxReadings });
          if (batch !== undefined) leases.push(batch);
        } else {
          const [batch] = leases.splice(event.which % Math.max(1, leases.length), 1);
          if (batch === undefined) continue;
          const settlements = [{ lease: batch.lease, settlement: fates(event.fate, batch.count) }];
          gateway.commit({ blocks: [], duplicates: 0, settlements });
        }
        // Every answer of the worker brings this.
        gateway.engine.books();
      }
      const told = gateway.available > 0;
      const given = gateway.lease() !== undefined;
      gateway.close();
      assert.equal(given, told);
    }),
    { numRuns: 200, examples: [[GIVEN_BACK]] },
  );
});

test("once a damaged block is set aside, what was behind it decides whether a lane waits for the clock", (t) => {
  const gateway = new Gateway(t);
  gateway.accept({ own: true });
  gateway.accept();
  assert.equal(gateway.available, 2);
  gateway.damageOldest();
  assert.equal(gateway.lease(), undefined);
  assert.equal(gateway.available, 0);
  assert.deepEqual(gateway.takeNotices(), ["damaged"]);
});

test("each try sends the same, under the same key, also after a crash of the daemon and another look at the clock", (t) => {
  const gateway = new Gateway(t);
  gateway.accept();
  gateway.accept({ own: true });
  gateway.engine.fixClock(RIGHT);
  const first = gateway.lease();
  gateway.restart();
  gateway.now += 1000;
  gateway.engine.fixClock(RIGHT + 777);
  const again = gateway.lease();
  assert.deepEqual(sent(again), sent(first));
  assert.equal(again?.idempotencyKey, first?.idempotencyKey);
  assert.ok(again);
  const part = gateway.engine.part(again.lease, { from: 0, to: 1 });
  assert.deepEqual(sent(part), sent(first).slice(0, 1));
  assert.deepEqual(gateway.peeked(), sent(first), "and a look into the outbox shows it");
});

test("a reading of an earlier boot that was never synchronised goes out as it is, without waiting", (t) => {
  const gateway = new Gateway(t);
  gateway.accept();
  gateway.reboot();
  gateway.engine.fixClock(RIGHT);
  const [reading] = sent(gateway.lease());
  assert.equal(reading?.ts_iso, new Date(WRONG).toISOString());
  assert.equal(reading?.gateway.clock, "unsynchronised");
});

test("a reading of an earlier boot that was synchronised later is put right by that boot's clock", (t) => {
  const gateway = new Gateway(t);
  gateway.now = 1000;
  gateway.accept();
  gateway.engine.fixClock(RIGHT);
  gateway.reboot();
  const [reading] = sent(gateway.lease());
  assert.equal(reading?.ts_iso, new Date(RIGHT + 1000).toISOString());
});

test("a dead letter and what fusion wants again later hold the time that was sent", (t) => {
  const gateway = new Gateway(t);
  gateway.accept();
  const later = gateway.accept();
  gateway.engine.fixClock(RIGHT);
  const batch = gateway.lease();
  assert.ok(batch);
  const before = sent(batch);
  const settlement = {
    delivered: [],
    deadLettered: [{ index: 0, code: "c", detail: "d" }],
    retryLater: { indexes: [1], delayMs: 10 },
  };
  gateway.commit({ blocks: [], duplicates: 0, settlements: [{ lease: batch.lease, settlement }] });
  const [letter] = gateway.engine.deadLetters(0, 10);
  assert.deepEqual(JSON.parse(letter?.reading ?? "{}"), before[0]);
  gateway.now += 10;
  const again = gateway.lease();
  assert.deepEqual(idsOf(again), [later]);
  assert.deepEqual(sent(again), before.slice(1));
});

test("a dead letter that was sent with a wrong time is put right where it is requeued after the clock is known", (t) => {
  const gateway = new Gateway(t);
  const id = gateway.accept({ priority: "critical" });
  const batch = gateway.lease();
  assert.ok(batch);
  const settlement = { delivered: [], deadLettered: [{ index: 0, code: "c", detail: "d" }] };
  gateway.commit({ blocks: [], duplicates: 0, settlements: [{ lease: batch.lease, settlement }] });
  gateway.engine.fixClock(RIGHT);
  gateway.engine.requeue([id]);
  const [reading] = sent(gateway.lease());
  assert.deepEqual([reading?.id, reading?.ts_iso], [id, new Date(RIGHT).toISOString()]);
});

test("an outbox of the version before holds what it held, and learns the clock", (t) => {
  const file = join(temporaryFolder(t), "outbox.db");
  const old = new Database(file);
  old.exec(MIGRATIONS[0] ?? "");
  old.pragma("user_version = 1");
  old.exec(`INSERT INTO boot (boot_id) VALUES ('${BOOTS[0]}')`);
  old.close();
  const store = new Store({ file, maxBytes: 2 ** 30, bootId: BOOTS[0] });
  t.after(() => store.close());
  assert.equal(store.boot, 1);
  assert.equal(store.clockKnown, false);
  store.setClockOffset(RIGHT);
  assert.equal(store.clockKnown, true);
});
