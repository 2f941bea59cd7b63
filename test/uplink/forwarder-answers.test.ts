/** What the forwarder does with each answer of the contract's table (section 5). */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, it } from "node:test";
import { MAX_CODES } from "#src/uplink/uplink-metrics.js";
import { rig } from "./forwarder-rig.ts";
import { ACCEPTED, type Received, type Reply, until } from "./stand-in-fusion.ts";

const problem = (status: number, code: string): Reply => ({
  status,
  headers: { "content-type": "application/problem+json" },
  body: { type: `https://fusion.example/problems/${code}`, title: "Refused", status, detail: `because of ${code}` },
});

/** Refuses a request that holds any reading with one of these values. */
const refusing =
  (poison: readonly unknown[], status = 422) =>
  ({ observations }: Received): Reply =>
    observations.some(({ value }) => poison.includes(value)) ? problem(status, "poison") : ACCEPTED;

const seqs = (readings: readonly { readonly seq: number }[]): number[] => readings.map(({ seq }) => seq);
const upTo = (count: number): number[] => Array.from({ length: count }, (_, n) => n + 1);

describe("a batch that is accepted", () => {
  for (const reply of [ACCEPTED, { status: 202 }, { status: 204 }, { status: 207, body: { rejected: [] } }] as const) {
    it(`is settled whole: ${JSON.stringify(reply)}`, async (t) => {
      const { source, metric, forwarder } = await rig(t, { reply: () => reply, logLevel: "info" });
      source.add(1200);
      await until(() => source.pending === 0, "all delivered");
      assert.deepEqual(seqs(source.delivered), upTo(1200));
      assert.equal(source.detours, 0, "nothing is done per reading");
      assert.equal(await metric("summit_edge_readings_delivered_total", { uplink: "https" }), 1200);
      assert.equal(await metric("summit_edge_uplink_requests_total", { uplink: "https", outcome: "accepted" }), 3);
      assert.equal(await metric("summit_edge_uplink_breaker_open", { uplink: "https" }), 0);
      const { requests, readingsDelivered, breaker, lastFailure } = forwarder.status();
      assert.deepEqual([requests, readingsDelivered, breaker, lastFailure], [3, 1200, "closed", null]);
    });
  }

  it("can be followed through the log by its readings' ids, its key and its trace", async (t) => {
    const { source, fusion, lines } = await rig(t);
    source.add(3);
    await until(() => source.pending === 0, "all delivered");
    const line = lines.find(({ msg }) => msg === "request ended");
    const headers = fusion.received[0]?.headers;
    assert.equal(line?.batch, headers?.["idempotency-key"]);
    assert.match(String(headers?.traceparent), new RegExp(`^00-${line?.trace}-[0-9a-f]{16}-01$`));
    assert.deepEqual([line?.firstSeq, line?.lastSeq, line?.count, line?.outcome], [1, 3, 3, "accepted"]);
    const sent = fusion.received[0]?.observations.map(({ id }) => id);
    assert.deepEqual(line?.readings, sent);
  });

  it("can be followed where it was halved: each request names its own readings", async (t) => {
    const { source, fusion, lines } = await rig(t, { reply: refusing([3]) });
    source.add(5);
    await until(() => source.pending === 0, "all settled");
    const named = lines.filter(({ msg }) => msg === "request ended").map(({ batch, readings }) => [batch, readings]);
    const sent = fusion.received.map(({ headers, observations }) => [
      headers["idempotency-key"],
      observations.map(({ id }) => id),
    ]);
    assert.ok(sent.length > 1, "it was halved");
    assert.deepEqual(named, sent);
  });
});

describe("a batch of which readings are rejected by name", () => {
  for (const status of [200, 207]) {
    it(`is settled but for those; they are dead-lettered with their reasons: ${status}`, async (t) => {
      const { source, metric, wrong, lines } = await rig(t, {
        reply: ({ observations }) => ({
          status,
          body: {
            rejected: observations
              .filter(({ value }) => value === 3 || value === 4 || value === 9)
              .map(({ id, value }) => ({ id, code: `bad-${value}`, detail: `is ${value}`, retriable: false })),
          },
        }),
      });
      source.add(10);
      await until(() => source.pending === 0, "all settled");
      assert.deepEqual(seqs(source.delivered), [1, 2, 3, 6, 7, 8, 9]);
      assert.deepEqual(
        source.deadLettered.map(({ reading, reason }) => [reading.seq, reason.code, reason.detail]),
        [
          [4, "bad-3", "is 3"],
          [5, "bad-4", "is 4"],
          [10, "bad-9", "is 9"],
        ],
      );
      assert.equal(source.settlements.length, 1);
      const told = lines.filter(({ level }) => level === "warn");
      assert.deepEqual(
        told.map(({ readings, code, detail }) => [readings, code, detail]),
        [[3, "bad-9", "is 9"]],
      );
      assert.match(told[0]?.msg ?? "", /refused readings for good; see summit-edge dead-letters list/);
      assert.deepEqual(wrong(), []);
      assert.equal(await metric("summit_edge_readings_dead_lettered_total", { code: "bad-9" }), 1);
      assert.equal(await metric("summit_edge_uplink_requests_total", { outcome: "partial" }), 1);
    });
  }

  it("tries those again later that fusion wants again, behind the others if need be", async (t) => {
    let busy = true;
    const { source, fusion } = await rig(t, {
      config: { retry: { initial: 400, max: 400 } },
      reply: ({ observations }) => {
        const rejected = observations.filter(({ value }) => busy && value === 1);
        return { status: 207, body: { rejected: rejected.map(({ id }) => ({ id, code: "busy", retriable: true })) } };
      },
    });
    source.add(3);
    await until(() => source.forLater === 1, "one is to be tried later");
    assert.deepEqual(source.settlements[0]?.retryLater?.indexes, [1]);
    source.add(2, "normal", (n) => 10 + n);
    await until(() => source.delivered.length === 4, "the ones behind are delivered");
    assert.equal(source.forLater, 1, "and did not wait for it");
    busy = false;
    await until(() => source.pending === 0, "it is delivered in the end");
    assert.deepEqual(seqs(source.delivered), [1, 3, 4, 5, 2]);
    assert.equal(fusion.received.at(-1)?.observations.length, 1);
  });

  it("is kept whole where it names ids that were not sent", async (t) => {
    let stranger = true;
    const { source, wrong } = await rig(t, {
      reply: () =>
        stranger ? { status: 200, body: { rejected: [{ id: "who", code: "x", retriable: false }] } } : ACCEPTED,
    });
    source.add(5);
    await until(() => wrong().includes("uplink-unexpected-answer"), "the condition is raised");
    assert.equal(source.pending, 5);
    stranger = false;
    await until(() => source.pending === 0, "all delivered");
    assert.deepEqual(wrong(), []);
    assert.deepEqual(source.deadLettered, []);
  });
});

describe("an answer that fails keeps everything, says why, and is tried again", () => {
  const rows: [Reply, string, string][] = [
    ...[401, 403].map((status): [Reply, string, string] => [{ status }, "credentials", `http-${status}`]),
    ...[404, 405, 410, 415].map((status): [Reply, string, string] => [
      { status },
      "uplink-misconfigured",
      `http-${status}`,
    ]),
    ...[408, 425, 429, 500, 502, 503, 504].map((status): [Reply, string, string] => [
      { status },
      "uplink-failing",
      `http-${status}`,
    ]),
    ["reset", "uplink-failing", "ECONNRESET"],
    ["hang", "uplink-failing", "read-timeout"],
    ["cut", "uplink-failing", "ECONNRESET"],
    [{ status: 302, headers: { location: "/login" } }, "uplink-unexpected-answer", "http-302"],
    [{ status: 409 }, "uplink-unexpected-answer", "http-409"],
    [{ status: 200, body: "<html>" }, "uplink-unexpected-answer", "unintelligible-answer"],
  ];
  for (const [reply, condition, code] of rows) {
    it(`${JSON.stringify(reply)}: ${condition}`, async (t) => {
      let broken = true;
      const { source, fusion, wrong, forwarder, lines } = await rig(t, {
        config: { timeouts: { connect: 5000, write: 5000, read: 100 } },
        reply: () => (broken ? reply : ACCEPTED),
      });
      source.add(7);
      await until(() => fusion.received.length >= 3, "tried again and again");
      assert.deepEqual(wrong(), [condition]);
      assert.equal(forwarder.status().lastFailure?.code, code);
      assert.equal(source.pending, 7);
      broken = false;
      await until(() => source.pending === 0, "all delivered");
      assert.deepEqual(seqs(source.delivered), upTo(7));
      assert.deepEqual(wrong(), []);
      const warnings = lines.filter(({ level, code }) => level === "warn" && code === condition);
      assert.equal(warnings.length, 1, "one warning for the change of state");
      const keys = new Set(fusion.received.map(({ headers }) => headers["idempotency-key"]));
      const traces = new Set(fusion.received.map(({ headers }) => headers.traceparent));
      assert.deepEqual([keys.size, traces.size], [1, fusion.received.length]);
    });
  }

  it("opens the breaker, and closes it again", async (t) => {
    let broken = true;
    const { source, fusion, forwarder, metric, lines } = await rig(t, {
      config: {
        breaker: { consecutiveFailures: 3, failureRate: 1, minimumRequests: 99, window: 60_000, recovery: 300 },
      },
      reply: () => (broken ? { status: 503 } : ACCEPTED),
    });
    source.add(1);
    await until(() => forwarder.status().breaker === "open", "the breaker opens");
    assert.equal(fusion.received.length, 3);
    assert.equal(forwarder.status().state, "waiting");
    assert.ok((forwarder.status().nextTryInSeconds ?? 0) > 0);
    assert.equal(await metric("summit_edge_uplink_breaker_open"), 1);
    await until(() => fusion.received.length === 5, "one probe after each recovery");
    broken = false;
    await until(() => source.pending === 0, "all delivered");
    assert.equal(forwarder.status().breaker, "closed");
    const breakerLines = lines.filter(({ msg }) => /circuit breaker/.test(msg)).map(({ level }) => level);
    assert.deepEqual(breakerLines, ["warn", "info"]);
  });

  it("reads the token again before the next try where it was refused", async (t) => {
    const folder = mkdtempSync(join(tmpdir(), "uplink-"));
    t.after(() => rmSync(folder, { recursive: true }));
    const tokenFile = join(folder, "token");
    writeFileSync(tokenFile, "old");
    const { source, wrong } = await rig(t, {
      config: { tokenFile },
      reply: ({ headers }) => ({ status: headers.authorization === "Bearer new" ? 200 : 401 }),
    });
    source.add(2);
    await until(() => wrong().includes("credentials"), "the condition is raised");
    writeFileSync(tokenFile, "new");
    await until(() => source.pending === 0, "delivered with the new token");
    assert.deepEqual(wrong(), []);
  });

  it("raises the condition at start where the token cannot be read, with nothing to send", async (t) => {
    const { wrong } = await rig(t, { config: { tokenFile: "/nowhere/token" } });
    await until(() => wrong().includes("credentials"), "the condition is raised");
  });
});

describe("a batch that is refused", () => {
  for (const status of [400, 422]) {
    it(`is halved: two of 500 at fault are dead-lettered with the answer's reason, 498 delivered: ${status}`, async (t) => {
      const { source, fusion, wrong, forwarder, metric } = await rig(t, { reply: refusing([123, 400], status) });
      source.add(500);
      await until(() => source.pending === 0, "all settled");
      assert.deepEqual(
        seqs(source.delivered),
        upTo(500).filter((seq) => seq !== 124 && seq !== 401),
      );
      assert.deepEqual(
        source.deadLettered.map(({ reading, reason }) => [reading.seq, reason.code, reason.detail]),
        [
          [124, "poison", "because of poison"],
          [401, "poison", "because of poison"],
        ],
      );
      const details = source.deadLettered[0]?.reason.problem as { status: number } | undefined;
      assert.equal(details?.status, status);
      assert.equal(source.settlements.length, 1, "one settlement, at the end");
      assert.deepEqual([wrong(), forwarder.status().breaker], [[], "closed"]);
      assert.ok(fusion.received.length <= 40, `${fusion.received.length} requests`);
      const accepted = fusion.received.filter((request) => refusing([123, 400])(request) === ACCEPTED);
      const values = accepted.flatMap(({ observations }) => observations.map(({ value }) => Number(value)));
      assert.deepEqual(
        values,
        [...values].sort((a, b) => a - b),
        "the rest goes out in order",
      );
      assert.equal(await metric("summit_edge_readings_dead_lettered_total", { code: "poison" }), 2);
    });
  }

  it("never opens the breaker", async (t) => {
    const poison = Array.from({ length: 40 }, (_, n) => n * 2);
    const { source, forwarder, lines } = await rig(t, {
      config: {
        breaker: { consecutiveFailures: 2, failureRate: 0.1, minimumRequests: 1, window: 60_000, recovery: 9e6 },
      },
      reply: refusing(poison),
    });
    source.add(80);
    await until(() => source.pending === 0, "all settled");
    assert.equal(source.deadLettered.length, 40);
    assert.equal(forwarder.status().breaker, "closed");
    assert.deepEqual(
      lines.filter(({ level }) => level === "warn").map(({ msg }) => msg.slice(0, 27)),
      ["fusion refused readings for"],
    );
  });

  it("lets the next one through when it was the breaker's probe", async (t) => {
    let broken = true;
    const { source, forwarder } = await rig(t, {
      config: {
        batch: { maxReadings: 1, maxBytes: 1e6, linger: 0, compression: "none" },
        breaker: { consecutiveFailures: 1, failureRate: 1, minimumRequests: 1, window: 60_000, recovery: 20 },
      },
      reply: (request) => (broken ? { status: 503 } : refusing([0])(request)),
    });
    source.add(2);
    await until(() => forwarder.status().breaker !== "closed", "the breaker opens");
    broken = false;
    await until(() => source.pending === 0, "all settled");
    assert.deepEqual([source.delivered.length, source.deadLettered.length], [1, 1]);
    assert.equal(forwarder.status().breaker, "closed");
  });

  it("is settled as far as is known where the link fails in the middle; the rest is sent again", async (t) => {
    let requests = 0;
    const { source } = await rig(t, {
      reply: (request) => {
        requests++;
        // 8 refused, 0–3 refused, 0–1 accepted, 2–3 refused, 2 refused; then the link fails at 3.
        return requests === 6 ? { status: 503 } : refusing([2])(request);
      },
    });
    source.add(8);
    await until(() => source.pending === 0, "all settled");
    assert.deepEqual(source.settlements[0], {
      delivered: [{ from: 0, to: 2 }],
      deadLettered: [
        {
          index: 2,
          code: "poison",
          detail: "because of poison",
          problem: source.deadLettered[0]?.reason.problem,
        },
      ],
    });
    assert.deepEqual(seqs(source.delivered), [1, 2, 4, 5, 6, 7, 8]);
  });

  it("does not hold up the ones behind it, even on a link that fails at every third request", async (t) => {
    let requests = 0;
    const { source } = await rig(t, {
      reply: (request) => (++requests % 3 === 0 ? { status: 503 } : refusing([0])(request)),
    });
    source.add(200);
    await until(() => source.pending === 0, "all settled");
    assert.deepEqual([source.delivered.length, source.deadLettered[0]?.reading.seq], [199, 1]);
  });

  it("is counted under a bounded number of codes", async (t) => {
    const { source, metric } = await rig(t, {
      reply: ({ observations }) => ({
        status: 207,
        body: { rejected: observations.map(({ id, value }) => ({ id, code: `code-${value}`, retriable: false })) },
      }),
    });
    source.add(MAX_CODES + 10);
    await until(() => source.pending === 0, "all settled");
    assert.equal(await metric("summit_edge_readings_dead_lettered_total", { code: "other" }), 10);
  });
});

describe("a batch that is too large", () => {
  it("is halved, and the next ones are smaller from the start, until they feel their way up again", async (t) => {
    const { source, fusion, wrong } = await rig(t, {
      reply: ({ observations }) => (observations.length > 150 ? { status: 413 } : ACCEPTED),
    });
    source.add(5000);
    await until(() => source.pending === 0, "all delivered");
    assert.deepEqual(seqs(source.delivered), upTo(5000));
    const refused = fusion.received.filter(({ observations }) => observations.length > 150).length;
    assert.ok(refused <= 8, `${refused} refused of ${fusion.received.length}`);
    assert.ok(fusion.received.length < 70, `${fusion.received.length} requests`);
    assert.deepEqual(wrong(), []);
  });

  it("gives up on a single reading that is still too large, and on nothing else", async (t) => {
    const { source } = await rig(t, {
      reply: ({ observations }) => (observations.some(({ value }) => value === 7) ? { status: 413 } : ACCEPTED),
    });
    source.add(20);
    await until(() => source.pending === 0, "all settled");
    assert.deepEqual(
      seqs(source.delivered),
      upTo(20).filter((seq) => seq !== 8),
    );
    assert.deepEqual(source.deadLettered[0]?.reason, { code: "http-413", detail: "" });
  });
});

describe("when 20 readings in a row were refused and none accepted", () => {
  it("it is not the readings: all are kept, and delivered when fusion accepts again", async (t) => {
    let broken = true;
    const { source, fusion, wrong, forwarder } = await rig(t, { reply: () => (broken ? problem(422, "x") : ACCEPTED) });
    source.add(300);
    await until(() => wrong().includes("uplink-refuses-everything"), "the condition is raised");
    const tried = fusion.received.length;
    await until(() => fusion.received.length >= tried + 8, "it goes on trying");
    assert.deepEqual([source.deadLettered.length, source.pending], [0, 300]);
    const [state, breaker] = [forwarder.status().state, forwarder.status().breaker];
    assert.deepEqual([state, breaker], ["refusing", "closed"]);
    broken = false;
    await until(() => source.pending === 0, "all delivered");
    assert.deepEqual([source.delivered.length, source.deadLettered.length], [300, 0]);
    assert.deepEqual(wrong(), []);
    assert.equal(fusion.received.at(-1)?.replayed, true);
  });

  it("counts across batches; what was settled by then stays dead-lettered", async (t) => {
    const { source, wrong } = await rig(t, {
      config: { batch: { maxReadings: 1, maxBytes: 1e6, linger: 0, compression: "none" } },
      reply: () => problem(400, "x"),
    });
    source.add(50);
    await until(() => wrong().includes("uplink-refuses-everything"), "the condition is raised");
    assert.deepEqual([source.deadLettered.length, source.pending], [19, 31]);
  });

  it("one accepted reading among them ends the row", async (t) => {
    const { source, wrong } = await rig(t, {
      reply: refusing(Array.from({ length: 39 }, (_, n) => n).filter((n) => n !== 19)),
    });
    source.add(39);
    await until(() => source.pending === 0, "all settled");
    assert.deepEqual([source.delivered.length, source.deadLettered.length, wrong()], [1, 38, []]);
  });

  it("one acceptance among those not tried yet shows that it is the readings, however many they are", async (t) => {
    const poison = Array.from({ length: 45 }, (_, n) => n);
    const { source, wrong } = await rig(t, { reply: refusing(poison) });
    source.add(75);
    await until(() => source.pending === 0, "all settled");
    assert.deepEqual([source.delivered.length, source.deadLettered.length, wrong()], [30, 45, []]);
  });

  it("tries another single reading each time, so that readings really at fault cannot keep the state", async (t) => {
    let everything = true;
    const poison = Array.from({ length: 19 }, (_, n) => n);
    const { source, wrong } = await rig(t, {
      reply: (request) => (everything ? problem(422, "x") : refusing(poison)(request)),
    });
    source.add(100);
    await until(() => wrong().includes("uplink-refuses-everything"), "the condition is raised");
    everything = false;
    await until(() => source.pending === 0, "all settled");
    assert.deepEqual([source.delivered.length, source.deadLettered.length, wrong()], [81, 19, []]);
  });
});
