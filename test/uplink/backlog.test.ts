/** Live readings, the backlog and the lanes: whose turn it is, with a real outbox, and that nobody waits for ever. */
import assert from "node:assert/strict";
import { describe, it, type TestContext } from "node:test";
import { pino } from "pino";
import { Registry } from "prom-client";
import type { UplinkConfig } from "#src/config/schema.js";
import { type Clock, systemClock } from "#src/kernel/clock.js";
import { Conditions } from "#src/kernel/conditions.js";
import type { Priority } from "#src/observation/observation.js";
import type { Outbox, OutboxContext } from "#src/outbox/outbox.js";
import { Forwarder } from "#src/uplink/forwarder.js";
import { HttpsTransport } from "#src/uplink/https.js";
import { BATCHES_PER_LANE_TURN, LANE_TURNS_AFTER_MS, MAX_NEWER_IN_A_ROW, Turns } from "#src/uplink/turns.js";
import { observation } from "../support/observations.ts";
import { openOutbox } from "../support/outbox.ts";
import { silentReloads } from "../support/reloads.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { TestClock } from "../support/test-clock.ts";
import { ACCEPTED, type Received, type Reply, StandInFusion, until } from "./stand-in-fusion.ts";
import { uplinkConfig } from "./uplink-config.ts";

const BLOCK = 10;
const BATCH = { maxReadings: BLOCK, maxBytes: 512 * 1024, linger: 0, compression: "gzip" } as const;

interface Rig {
  readonly outbox: Outbox;
  readonly fusion: StandInFusion;
  readonly start: () => Forwarder;
  /** Commits blocks of ten readings, one after another; resolves with the ids. */
  readonly add: (blocks: number, priority?: Priority) => Promise<string[]>;
  readonly addOne: (priority: Priority) => Promise<string>;
  /** Position of the request that brought a reading, from 0; -1 while none did. */
  readonly requestOf: (id: string | undefined) => number;
}

async function rig(
  t: TestContext,
  config: Partial<UplinkConfig>,
  clock: Clock = systemClock,
  context: Partial<OutboxContext> = {},
): Promise<Rig> {
  let close = async (): Promise<void> => {};
  // Before the folder goes: an outbox whose file is removed puts it back.
  t.after(() => close());
  const outbox = await openOutbox(temporaryFolder(t), {}, systemClock, context);
  const fusion = await new StandInFusion().open();
  const settings = uplinkConfig(fusion.url, { batch: BATCH, ...config });
  const log = pino({ level: "silent" });
  let forwarder: Forwarder | undefined;
  close = async () => {
    await forwarder?.stop(0);
    await fusion.close();
    await outbox.close();
  };
  const commit = async (count: number, priority: Priority): Promise<string[]> => {
    const readings = Array.from({ length: count }, () => observation({ priority }));
    await new Promise<void>((resolve) => void outbox.append(readings, 0, resolve));
    return readings.map(({ id }) => id);
  };
  return {
    outbox,
    fusion,
    start: () => {
      // What is in the outbox by now was held back.
      forwarder = new Forwarder({
        source: outbox,
        transport: new HttpsTransport({ config: settings, clock, version: "0.0.0", reloads: silentReloads() }),
        config: settings,
        clock,
        random: () => 0.5,
        conditions: new Conditions(clock, log),
        log,
        metrics: new Registry(),
      });
      forwarder.start();
      return forwarder;
    },
    add: async (blocks, priority = "normal") => {
      const ids: string[] = [];
      for (let block = 0; block < blocks; block++) ids.push(...(await commit(BLOCK, priority)));
      return ids;
    },
    addOne: async (priority) => (await commit(1, priority))[0] ?? "",
    requestOf: (id) => fusion.received.findIndex(({ observations }) => observations.some((one) => one.id === id)),
  };
}

/** Answers that are given one by one. */
function held(): { reply: () => Promise<Reply>; release: () => void; open: () => void; waiting: () => number } {
  const waiting: ((reply: Reply) => void)[] = [];
  let opened = false;
  const release = (): void => waiting.shift()?.(ACCEPTED);
  return {
    reply: () => (opened ? Promise.resolve(ACCEPTED) : new Promise((resolve) => waiting.push(resolve))),
    release,
    open: () => {
      opened = true;
      while (waiting.length > 0) release();
    },
    waiting: () => waiting.length,
  };
}

const delivered = (outbox: Outbox): number => outbox.ledger().delivered;
const kindsOf = (received: readonly Received[]): string =>
  received.map(({ replayed }) => (replayed ? "b" : "l")).join("");

describe("live-first", () => {
  it("lets fresh readings go ahead of the backlog, each batch of one kind, and the backlog goes on between them", async (t) => {
    const { outbox, fusion, start, add, requestOf } = await rig(t, { backlog: "live-first" });
    const backlog = await add(30);
    const live: string[] = [];
    fusion.reply = async () => {
      if (live.length < 400) live.push(...(await add(1)));
      return ACCEPTED;
    };
    start();
    await until(() => delivered(outbox) === 700, "all delivered");
    const kinds = kindsOf(fusion.received);
    assert.ok(requestOf(live[0]) <= 2, "the first fresh ones did not wait for the backlog");
    assert.ok(requestOf(live.at(-1)) < requestOf(backlog.at(-1)) || kinds.endsWith("b"), "nor did the last");
    assert.doesNotMatch(kinds.slice(0, kinds.lastIndexOf("b")), new RegExp(`l{${MAX_NEWER_IN_A_ROW + 2}}`));
    const order = (ids: readonly string[]) => ids.map(requestOf);
    for (const ids of [backlog, live])
      assert.deepEqual(
        order(ids),
        order(ids).sort((a, b) => a - b),
        "in order",
      );
    for (const id of live) assert.equal(fusion.received[requestOf(id)]?.replayed, false);
    for (const id of backlog) assert.equal(fusion.received[requestOf(id)]?.replayed, true);
  });

  it("lets fresh readings go past a backlog that waits for the gateway's clock", async (t) => {
    const context: Partial<OutboxContext> = { clockQuality: () => "unsynchronised", clockAwaited: () => true };
    const { outbox, start, addOne, requestOf } = await rig(t, { backlog: "live-first" }, systemClock, context);
    const untimed = observation({ timedByGateway: true });
    await new Promise<void>((resolve) => void outbox.append([untimed], 0, resolve));
    start();
    const fresh = await addOne("normal");
    await until(() => requestOf(fresh) === 0, "the fresh one is sent");
    const next = await addOne("normal");
    await until(() => requestOf(next) === 1, "and the next one");
    assert.deepEqual([requestOf(untimed.id), outbox.waiting().count], [-1, 0]);
    await outbox.fixClock(0);
    await until(() => requestOf(untimed.id) === 2, "the backlog follows once the clock is known");
  });

  it("is not the default: there the backlog of a lane goes before what comes after it", async (t) => {
    const { outbox, fusion, start, add, requestOf } = await rig(t, {});
    const backlog = await add(10);
    let live: string[] = [];
    fusion.reply = async () => {
      if (live.length === 0) live = await add(1);
      return ACCEPTED;
    };
    start();
    await until(() => delivered(outbox) === 110, "all delivered");
    assert.ok(requestOf(live[0]) > requestOf(backlog.at(-1)));
  });

  it("sends critical readings of the backlog before fresh ones of other lanes, and fresh critical ones before all", async (t) => {
    const { reply, release, open, waiting } = held();
    const { outbox, fusion, start, add, requestOf } = await rig(t, { backlog: "live-first" });
    const old = await add(4, "critical");
    await add(4, "low");
    fusion.reply = reply;
    start();
    await until(() => waiting() === 1, "the first is under way");
    const fresh = await add(1, "high");
    const urgent = await add(1, "critical");
    release();
    await until(() => waiting() === 1, "the one that was fetched ahead");
    open();
    await until(() => delivered(outbox) === 100, "all delivered");
    assert.ok(requestOf(urgent[0]) <= 2);
    assert.ok(requestOf(old.at(-1)) < requestOf(fresh[0]));
  });
});

describe("uplink.catchUpRate", () => {
  it("bounds what the backlog takes, and neither fresh nor critical readings wait for it", async (t) => {
    const clock = new TestClock();
    const config = { backlog: "live-first", catchUpRate: 5 } as const;
    const { outbox, fusion, start, add, requestOf } = await rig(t, config, clock);
    await add(20);
    start();
    await until(() => delivered(outbox) === 10, "the first batch");
    for (let second = 2; second <= 20; second += 2) {
      const before = fusion.received.length;
      await clock.advance(1999);
      const [live] = await add(1);
      await until(() => requestOf(live) >= 0, "a fresh one goes at once");
      assert.equal(kindsOf(fusion.received.slice(before)), "l", "and none of the backlog before its time");
      await clock.advance(1);
      await until(() => kindsOf(fusion.received.slice(before)) === "lb", "ten readings in two seconds");
    }
  });

  it("does not bound critical readings of the backlog", async (t) => {
    const clock = new TestClock();
    const { outbox, start, add } = await rig(t, { catchUpRate: 1 }, clock);
    await add(10, "critical");
    await add(10, "low");
    start();
    await until(() => delivered(outbox) === 100, "all critical ones, though no time has passed");
    assert.equal(outbox.ledgerOf("critical").pending, 0);
  });

  it("does not keep an outage from being found to be over", async (t) => {
    const clock = new TestClock();
    const retry = { initial: 1000, max: 1000 };
    const { outbox, fusion, start, add } = await rig(t, { catchUpRate: 1, retry }, clock);
    await add(3);
    const forwarder = start();
    await until(() => delivered(outbox) === 10, "the first batch, which is paid for by ten seconds");
    fusion.reply = () => ({ status: 503 });
    await add(1, "critical");
    await until(() => forwarder.status().state === "waiting", "the outage begins");
    fusion.reply = () => ACCEPTED;
    await clock.advance(1000);
    await until(() => outbox.ledgerOf("critical").pending === 0, "and is over");
  });
});

describe("critical readings", () => {
  it("do not wait for a request that is under way, and keep their order", async (t) => {
    const { outbox, fusion, start, add, addOne, requestOf } = await rig(t, {});
    const normal = await add(3);
    const answers: ((reply: Reply) => void)[] = [];
    fusion.reply = () => new Promise((resolve) => answers.push(resolve));
    start();
    await until(() => answers.length === 1, "a request of normal ones hangs");
    const first = await addOne("critical");
    await until(() => answers.length === 2, "a critical one goes beside it");
    const second = await addOne("critical");
    await new Promise((resolve) => setTimeout(resolve, 100));
    assert.equal(answers.length, 2, "the next critical one waits for that, and the next normal ones for theirs");
    answers.pop()?.(ACCEPTED);
    await until(() => requestOf(second) >= 0, "then it goes");
    assert.deepEqual([requestOf(normal[0]), requestOf(first), requestOf(second)], [0, 1, 2]);
    fusion.reply = () => ACCEPTED;
    for (const answer of answers.splice(0)) answer(ACCEPTED);
    await until(() => delivered(outbox) === 32, "all delivered");
  });

  it("that never stop coming do not keep a backlog waiting for ever", async (t) => {
    const { outbox, fusion, start, add, addOne, requestOf } = await rig(t, {});
    const backlog = await add(5);
    let more = 300;
    fusion.reply = async () => {
      if (more-- > 0) await addOne("critical");
      return ACCEPTED;
    };
    await addOne("critical");
    await addOne("critical");
    start();
    await until(() => requestOf(backlog.at(-1)) >= 0, "the backlog is through");
    assert.ok(more > 0, "while critical ones still came");
    more = 0;
    await until(() => outbox.ledger().pending === 0, "all delivered");
  });
});

describe("turns", () => {
  const config = { backlog: "oldest-first", catchUpRate: 0, batch: BATCH } as const;

  it("go to every lower lane once readings have been waiting without a break, and to none before", () => {
    const turns = new Turns(config);
    const lanesAt = (now: number): (string | undefined)[] =>
      Array.from({ length: 4 * BATCHES_PER_LANE_TURN }, () => {
        const { laneTurn } = turns.next(now, false);
        turns.sent(now, { replayed: false, count: 1 });
        return laneTurn;
      });
    turns.waiting(0, true);
    assert.ok(lanesAt(LANE_TURNS_AFTER_MS - 1).every((lane) => lane === undefined));
    const given = lanesAt(LANE_TURNS_AFTER_MS).filter((lane) => lane !== undefined);
    assert.equal(given.length, 4);
    assert.deepEqual(new Set(given), new Set(["high", "normal", "low"]));
    turns.waiting(LANE_TURNS_AFTER_MS, false);
    assert.ok(lanesAt(LANE_TURNS_AFTER_MS).every((lane) => lane === undefined));
  });

  it("let a low reading through though higher ones never run dry", async (t) => {
    const clock = new TestClock();
    const { outbox, fusion, start, add, addOne, requestOf } = await rig(t, {}, clock);
    const { reply, open, waiting } = held();
    fusion.reply = reply;
    start();
    await add(1, "high");
    await until(() => waiting() === 1, "the first is under way");
    await add(3, "high");
    const low = await addOne("low");
    fusion.reply = async () => {
      if (requestOf(low) < 0) await add(1, "high");
      return ACCEPTED;
    };
    open();
    await until(() => fusion.received.length > 20, "higher ones go first");
    assert.equal(requestOf(low), -1);
    await clock.advance(LANE_TURNS_AFTER_MS);
    await until(() => requestOf(low) >= 0, "its turn has come");
    await until(() => outbox.ledger().pending === 0, "all delivered");
  });
});
