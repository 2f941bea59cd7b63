/** When the forwarder sends what, when it waits, and how it stops. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { MAX_SETTLING } from "#src/uplink/forwarder.js";
import { MAX_NEWER_IN_A_ROW } from "#src/uplink/turns.js";
import type { MemoryBatchSource } from "../support/memory-batch-source.ts";
import { TestClock } from "../support/test-clock.ts";
import { rig } from "./forwarder-rig.ts";
import { ACCEPTED, type Reply, until } from "./stand-in-fusion.ts";

const HOUR = 3_600_000;
const PATIENT = {
  retry: { initial: HOUR, max: HOUR },
  breaker: { consecutiveFailures: 1, failureRate: 1, minimumRequests: 1, window: 60_000, recovery: HOUR },
};
const NO_LINGER = { maxReadings: 500, maxBytes: 512 * 1024, linger: 0, compression: "none" } as const;

const seqs = (readings: readonly { readonly seq: number }[]): number[] => readings.map(({ seq }) => seq);
const upTo = (count: number): number[] => Array.from({ length: count }, (_, n) => n + 1);

/** An answer that the test gives when it wants to. */
function held(): { reply: () => Promise<Reply>; release: (reply?: Reply) => void; waiting: () => number } {
  const waiting: ((reply: Reply) => void)[] = [];
  return {
    reply: () => new Promise((resolve) => waiting.push(resolve)),
    release: (reply = ACCEPTED) => waiting.shift()?.(reply),
    waiting: () => waiting.length,
  };
}

/** Answers every request until nothing is left. */
async function drain(source: MemoryBatchSource, release: () => void): Promise<void> {
  const released = (): boolean => {
    release();
    return source.pending === 0;
  };
  await until(released, "all delivered");
}

/** Lets pass what would be done by now if it were to be done at all. */
async function quiet(clock: TestClock): Promise<void> {
  for (let turn = 0; turn < 20; turn++) {
    await clock.advance(0);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

describe("after an outage", () => {
  it("drains within two seconds of fusion's return, without new traffic, though back-off and breaker would wait an hour", async (t) => {
    const { source, fusion, forwarder, wrong } = await rig(t, {
      config: PATIENT,
      prepare: (_, fusion) => fusion.close(),
    });
    source.add(700);
    await until(() => forwarder.status().breaker === "open", "the breaker opens");
    assert.ok((forwarder.status().nextTryInSeconds ?? 0) > 3000);
    assert.equal(forwarder.status().looksEverySeconds, 1, "and that it need not be waited for is said");
    assert.deepEqual(wrong(), ["uplink-unreachable"]);
    await new Promise((resolve) => setTimeout(resolve, 2500));
    assert.equal(forwarder.status().requests, 1, "no requests while it is away");
    await fusion.open();
    await until(() => source.pending === 0, "all delivered", 2000);
    assert.deepEqual([wrong(), forwarder.status().breaker], [[], "closed"]);
    assert.equal(forwarder.status().looksEverySeconds, null);
  });

  it("tells the outbox when the link first came back, and does not move that moment", async (t) => {
    const { source, fusion, forwarder } = await rig(t, {
      config: { ...PATIENT, reachability: 50 },
      prepare: (_, fusion) => fusion.close(),
    });
    const moments = () => new Set(source.leased.map(({ limits }) => limits.linkBackAt));
    source.add(1);
    await until(() => forwarder.status().breaker === "open", "the breaker opens");
    assert.deepEqual([...moments()], [undefined]);
    for (const outage of [1, 2]) {
      await fusion.open();
      await until(() => source.pending === 0, "delivered");
      await fusion.close();
      source.add(1);
      await until(() => forwarder.status().breaker === "open", `outage ${outage} is over, another has begun`);
    }
    const known = [...moments()].filter((moment) => moment !== undefined);
    assert.equal(known.length, 1);
  });

  it("does not take a successful connect for an end of hangs and errors: the breaker's recovery decides", async (t) => {
    const clock = new TestClock();
    let broken = true;
    const { source, fusion, forwarder } = await rig(t, {
      clock,
      config: { ...PATIENT, reachability: 1000 },
      reply: () => (broken ? { status: 503 } : ACCEPTED),
    });
    source.add(1);
    await until(() => forwarder.status().breaker === "open", "the breaker opens");
    assert.equal(forwarder.status().looksEverySeconds, null, "nor does it say that it looks");
    broken = false;
    for (let second = 0; second < 60; second++) await clock.advance(1000);
    await quiet(clock);
    assert.deepEqual([fusion.received.length, fusion.connections], [1, 1], "nobody knocked");
    await clock.advance(HOUR - 60_000);
    await until(() => source.pending === 0, "delivered after recovery");
  });

  it("looks about once a second, by connecting and no more", async (t) => {
    const { source, fusion, forwarder } = await rig(t, {
      config: { ...PATIENT, reachability: 50 },
      prepare: (_, fusion) => fusion.close(),
    });
    source.add(1);
    await until(() => forwarder.status().breaker === "open", "the breaker opens");
    fusion.reply = () => ({ status: 503 });
    await fusion.open();
    await until(() => fusion.received.length === 1, "tried once");
    await until(() => forwarder.status().breaker === "open", "and failed otherwise");
    const { connections } = fusion;
    await new Promise((resolve) => setTimeout(resolve, 300));
    assert.equal(fusion.connections, connections, "it is reachable, so looking again would prove nothing");
  });

  it("stops looking once fusion fails in another way", async (t) => {
    const clock = new TestClock();
    const { source, fusion, forwarder } = await rig(t, {
      clock,
      config: {
        reachability: 10_000,
        retry: { initial: 1000, max: 1000 },
        breaker: { ...PATIENT.breaker, consecutiveFailures: 2, minimumRequests: 99 },
      },
      reply: () => ({ status: 503 }),
      prepare: (_, fusion) => fusion.close(),
    });
    source.add(1);
    await until(() => forwarder.status().state === "waiting", "it is unreachable");
    await fusion.open();
    await clock.advance(1000);
    await until(() => forwarder.status().breaker === "open", "it is back, and fails");
    for (let second = 0; second < 60; second++) await clock.advance(1000);
    await quiet(clock);
    assert.deepEqual([fusion.received.length, fusion.connections], [1, 1]);
  });

  it("does not linger over its first try", async (t) => {
    const clock = new TestClock();
    let broken = true;
    const { source, forwarder } = await rig(t, {
      clock,
      config: { batch: { ...NO_LINGER, linger: 60_000 }, retry: { initial: 1000, max: 1000 } },
      reply: () => (broken ? { status: 503 } : ACCEPTED),
    });
    source.add(1);
    await clock.advance(60_000);
    await until(() => forwarder.status().state === "waiting", "the outage begins");
    broken = false;
    await clock.advance(1000);
    await until(() => source.pending === 0, "delivered when the wait was over");
  });

  it("marks what was held back, and only that", async (t) => {
    const clock = new TestClock();
    let broken = false;
    const { source, fusion, forwarder } = await rig(t, {
      clock,
      config: { batch: { ...NO_LINGER, maxReadings: 2 }, retry: { initial: 1000, max: 1000 } },
      reply: () => (broken ? { status: 503 } : ACCEPTED),
      prepare: (source) => void source.add(2),
    });
    await until(() => source.delivered.length === 2, "what was there at the start");
    source.add(1);
    await until(() => source.delivered.length === 3, "live");
    broken = true;
    source.add(1);
    await until(() => forwarder.status().state === "waiting", "the outage begins");
    source.add(2);
    broken = false;
    await clock.advance(1000);
    await until(() => source.delivered.length === 6, "the outage is over");
    source.add(1);
    await until(() => source.delivered.length === 7, "live again");
    const marks = fusion.received.map(({ replayed, observations }) => [replayed, observations.length]);
    assert.deepEqual(marks, [
      [true, 2],
      [false, 1],
      [false, 1],
      [true, 2],
      [true, 1],
      [false, 1],
    ]);
  });

  it("drains the backlog though newer readings of a higher priority come with every request, and these still go first", async (t) => {
    let newer = 0;
    const { source, fusion } = await rig(t, {
      config: { batch: { ...NO_LINGER, maxReadings: 5 } },
      prepare: (source) => void source.add(15, "normal"),
      reply: () => {
        if (newer++ < 100) source.add(1, "high");
        return ACCEPTED;
      },
    });
    await until(() => source.pending === 0, "all delivered");
    const kinds = fusion.received.map(({ replayed }) => replayed);
    const drained = kinds.lastIndexOf(true);
    assert.ok(drained <= 3 * (MAX_NEWER_IN_A_ROW + 1), `the last of the backlog was request ${drained + 1}`);
    const longest = Math.max(
      ...kinds
        .slice(0, drained)
        .join()
        .split("true")
        .map((run) => run.split("false").length - 1),
    );
    assert.equal(longest, MAX_NEWER_IN_A_ROW);
  });

  it("does not care about the wall clock, were it set back by thirty days", async (t) => {
    const clock = new TestClock();
    let broken = true;
    const { source, forwarder } = await rig(t, {
      clock,
      config: { ...PATIENT, breaker: { ...PATIENT.breaker, recovery: 60_000 }, retry: { initial: 1000, max: 1000 } },
      reply: () => (broken ? { status: 500 } : ACCEPTED),
    });
    source.add(1);
    await until(() => forwarder.status().breaker === "open", "the breaker opens");
    clock.setWall(clock.now() - 30 * 24 * HOUR);
    broken = false;
    await clock.advance(59_000);
    await quiet(clock);
    assert.equal(source.pending, 1);
    await clock.advance(1000);
    await until(() => source.pending === 0, "delivered after recovery");
  });
});

describe("Retry-After", () => {
  const forms: [string, (clock: TestClock) => Record<string, string>][] = [
    ["seconds", () => ({ "retry-after": "600" })],
    ["a date", () => ({ "retry-after": "Thu, 01 Jan 2015 00:10:00 GMT", date: "Thu, 01 Jan 2015 00:00:00 GMT" })],
  ];
  for (const [form, headers] of forms) {
    it(`is honoured beyond retry.max: ${form}`, async (t) => {
      const clock = new TestClock();
      let broken = true;
      const { source, fusion, forwarder } = await rig(t, {
        clock,
        reply: () => (broken ? { status: 429, headers: headers(clock) } : ACCEPTED),
      });
      source.add(1);
      await until(() => forwarder.status().state === "waiting", "told to wait");
      assert.equal(forwarder.status().nextTryInSeconds, 600);
      broken = false;
      await clock.advance(599_000);
      await quiet(clock);
      assert.equal(fusion.received.length, 1);
      await clock.advance(1000);
      await until(() => source.pending === 0, "delivered when the time is over");
    });
  }
});

describe("order", () => {
  it("is kept within a priority, through failures and refusals", async (t) => {
    let requests = 0;
    const { source } = await rig(t, {
      config: { batch: { ...NO_LINGER, maxReadings: 10 } },
      reply: ({ observations }) => {
        requests++;
        const fate = (requests * 7) % 10;
        if (fate < 2) return fate === 0 ? "reset" : { status: 503 };
        return observations.some(({ value }) => value === 33) ? { status: 422 } : ACCEPTED;
      },
    });
    source.beforeSettle = () => new Promise((resolve) => setTimeout(resolve, 3));
    source.add(100);
    source.add(20, "high");
    await until(() => source.pending === 0, "all settled");
    const normal = source.delivered.filter(({ priority }) => priority === "normal");
    assert.deepEqual(
      seqs(normal),
      upTo(100).filter((seq) => seq !== 34),
    );
  });

  it("waits for readings that are on their way back, before later ones are sent", async (t) => {
    const clock = new TestClock();
    let broken = true;
    const { source, fusion } = await rig(t, {
      clock,
      reply: () => (broken ? { status: 503 } : ACCEPTED),
      config: { batch: NO_LINGER },
    });
    let giveBack = (): void => {};
    const returned = new Promise<void>((resolve) => {
      giveBack = resolve;
    });
    t.after(giveBack);
    let settling = false;
    source.beforeSettle = () => {
      settling = true;
      return returned;
    };
    source.add(2);
    await until(() => settling, "the first try has failed");
    broken = false;
    source.add(2);
    await clock.advance(60_000);
    await quiet(clock);
    const sent = fusion.received.length;
    giveBack();
    assert.equal(sent, 1);
    await clock.advance(60_000);
    await until(() => source.pending === 0, "all delivered");
    assert.deepEqual(seqs(source.delivered), upTo(4));
  });

  it("lets a critical reading overtake the batch that was fetched ahead", async (t) => {
    const { reply, release, waiting } = held();
    const { source } = await rig(t, { reply, config: { batch: { ...NO_LINGER, maxReadings: 5 } } });
    source.add(10);
    await until(() => waiting() === 1 && source.onLease === 10, "one in flight, one fetched ahead");
    source.add(1, "critical");
    await until(() => waiting() === 2, "it goes beside the one in flight");
    release();
    release();
    await until(() => source.delivered.length >= 6, "delivered");
    const critical = source.delivered.findIndex(({ priority }) => priority === "critical");
    assert.equal(critical, 5);
    release();
    await drain(source, release);
  });

  it("gives back the batch that was fetched ahead when the one before it fails", async (t) => {
    const clock = new TestClock();
    const { reply, release, waiting } = held();
    const { source, forwarder } = await rig(t, {
      clock,
      reply,
      config: { batch: { ...NO_LINGER, maxReadings: 5 }, retry: { initial: 1000, max: 1000 } },
    });
    source.add(10);
    await until(() => waiting() === 1 && source.onLease === 10, "one in flight, one fetched ahead");
    release({ status: 503 });
    await until(() => forwarder.status().state === "waiting" && source.onLease === 0, "nothing is on lease");
    await clock.advance(1000);
    await drain(source, release);
    assert.deepEqual(seqs(source.delivered), upTo(10));
  });
});

describe("the pace", () => {
  it("lets a batch that is not full wait for company, but not a critical reading, nor a full one", async (t) => {
    const clock = new TestClock();
    const { source, fusion } = await rig(t, {
      clock,
      config: { batch: { ...NO_LINGER, maxReadings: 10, linger: 250 } },
    });
    source.add(1, "critical");
    await until(() => source.delivered.length === 1, "the first of all goes at once");
    source.add(1, "critical");
    await until(() => source.delivered.length === 2, "critical goes at once");
    source.add(2);
    await clock.advance(200);
    source.add(3);
    await quiet(clock);
    assert.equal(fusion.received.length, 2);
    await clock.advance(50);
    await until(() => source.delivered.length === 7, "together after the linger of the first");
    assert.equal(fusion.received.length, 3);
    source.add(10);
    await until(() => source.delivered.length === 17, "a full batch goes at once");
  });

  it("does not linger over a backlog", async (t) => {
    const clock = new TestClock();
    const { source } = await rig(t, {
      clock,
      config: { batch: { ...NO_LINGER, linger: HOUR } },
      prepare: (source) => void source.add(3),
    });
    await until(() => source.pending === 0, "delivered at once");
  });

  it("fetches one batch ahead of the one in flight, and no more", async (t) => {
    const { reply, release, waiting } = held();
    const { source } = await rig(t, { reply, config: { batch: { ...NO_LINGER, maxReadings: 5 } } });
    source.add(50);
    await until(() => waiting() === 1 && source.onLease === 10, "one in flight, one fetched ahead");
    await new Promise((resolve) => setTimeout(resolve, 50));
    assert.deepEqual([waiting(), source.onLease], [1, 10]);
    await drain(source, release);
  });

  it("has as many requests under way as configured", async (t) => {
    const { reply, release, waiting } = held();
    const { source } = await rig(t, { reply, config: { concurrency: 3, batch: { ...NO_LINGER, maxReadings: 5 } } });
    source.add(50);
    await until(() => waiting() === 3, "three in flight");
    await until(() => source.onLease === 20, "and one fetched ahead");
    await drain(source, release);
    assert.equal(source.delivered.length, 50);
  });

  it("does not wait for commits, up to a bound", async (t) => {
    const { source, fusion } = await rig(t, { config: { batch: { ...NO_LINGER, maxReadings: 1 } } });
    let commit = (): void => {};
    const committed = new Promise<void>((resolve) => {
      commit = resolve;
    });
    source.beforeSettle = () => committed;
    source.add(30);
    await until(() => fusion.received.length >= MAX_SETTLING, "as many as may be outstanding");
    await new Promise((resolve) => setTimeout(resolve, 100));
    const sent = fusion.received.length;
    commit();
    assert.equal(sent, MAX_SETTLING);
    await until(() => source.pending === 0, "all delivered");
  });
});

describe("progress", () => {
  it("shows while it waits for readings, and while it waits for fusion", async (t) => {
    const clock = new TestClock();
    const { source, forwarder } = await rig(t, { clock, config: PATIENT, reply: () => ({ status: 503 }) });
    await quiet(clock);
    const idle = forwarder.tick;
    await clock.advance(60_000);
    assert.ok(forwarder.tick >= idle + 10);
    source.add(1);
    await until(() => forwarder.status().state === "waiting", "waiting");
    const waiting = forwarder.tick;
    await clock.advance(60_000);
    assert.ok(forwarder.tick >= waiting + 10);
  });

  it("ends when the outbox takes no settlement any more", async (t) => {
    const clock = new TestClock();
    const { source, forwarder } = await rig(t, { clock });
    let commit = (): void => {};
    source.beforeSettle = () =>
      new Promise((resolve) => {
        commit = resolve;
      });
    source.add(1);
    await until(() => forwarder.status().requests === 1, "sent");
    await clock.advance(2 * HOUR);
    const stuck = forwarder.tick;
    await clock.advance(HOUR);
    assert.equal(forwarder.tick, stuck);
    commit();
    await clock.advance(60_000);
    assert.ok(forwarder.tick > stuck);
  });

  it("goes on when the outbox failed to give a batch", async (t) => {
    const { source, wrong } = await rig(t, {
      prepare: (source) => {
        const lease = source.lease.bind(source);
        source.lease = async () => {
          source.lease = lease;
          throw new Error("worker gone");
        };
      },
    });
    source.add(1);
    await until(() => wrong().includes("outbox-unavailable"), "says so");
    await until(() => source.pending === 0, "delivered");
    assert.deepEqual(wrong(), []);
  });
});

describe("stopping", () => {
  it("lets the request in flight end, settles it, and gives the rest back", async (t) => {
    const { reply, release, waiting } = held();
    const { source, forwarder } = await rig(t, { reply, config: { batch: { ...NO_LINGER, maxReadings: 5 } } });
    source.add(20);
    await until(() => waiting() === 1 && source.onLease === 10, "one in flight, one fetched ahead");
    const stopped = forwarder.stop(60_000);
    assert.equal(forwarder.status().state, "stopped");
    await until(() => source.onLease === 5, "the one ahead is given back");
    release();
    await stopped;
    assert.deepEqual([source.delivered.length, source.onLease, source.pending], [5, 0, 15]);
  });

  it("aborts at the deadline, and loses nothing", async (t) => {
    const clock = new TestClock();
    const { source, fusion, forwarder, wrong } = await rig(t, { clock, reply: () => "hang" });
    source.add(3);
    await until(() => fusion.received.length === 1, "in flight");
    const stopped = forwarder.stop(10_000);
    await clock.advance(10_000);
    await stopped;
    assert.deepEqual([source.onLease, source.pending, source.delivered.length], [0, 3, 0]);
    assert.deepEqual(wrong(), [], "being stopped is not a failure");
  });

  it("ends a look for reachability", async (t) => {
    const clock = new TestClock();
    const { source, forwarder } = await rig(t, { clock, config: PATIENT, prepare: (_, fusion) => fusion.close() });
    source.add(1);
    await until(() => forwarder.status().breaker === "open", "the breaker opens");
    await forwarder.stop(1000);
    assert.equal(clock.waiting, 0, "no timer is left");
  });
});
