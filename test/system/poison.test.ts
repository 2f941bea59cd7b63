/** What fusion refuses (contract, section 5): the reading at fault is dead-lettered with its reason, and holds up nothing. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { type Answer, Collector, type Received, type ReceivedBatch } from "../support/collector.ts";
import { summitEdge } from "../support/command.ts";
import { Daemon } from "../support/daemon.ts";
import { device } from "../support/device.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { until } from "../support/until.ts";

const PROBLEM = { type: "https://fusion.example/problems/out-of-range", title: "out of range", status: 422 };
const WELL: Answer = { status: 204 };

interface Rig {
  readonly folder: string;
  readonly fusion: Collector;
  readonly daemon: Daemon;
  readonly start: () => Promise<Daemon>;
  readonly publish: (readings: readonly object[]) => Promise<unknown>;
}

async function rig(t: TestContext, uplink: object = {}): Promise<Rig> {
  const folder = temporaryFolder(t);
  const ports = await Daemon.freePorts();
  const fusion = await Collector.start();
  t.after(() => fusion.stop());
  const settings = { url: fusion.url, retry: { initial: "50ms", max: "50ms" }, ...uplink };
  const start = async () => {
    const started = await Daemon.start({ folder, ports, changes: { uplink: settings } });
    t.after(() => started.stop("SIGKILL"));
    return started;
  };
  const daemon = await start();
  const client = await device(t, ports.mqtt);
  const publish = (readings: readonly object[]) =>
    client.publishAsync("observations/smoke", JSON.stringify(readings), { qos: 1 });
  return { folder, fusion, daemon, start, publish };
}

const readings = (from: number, to: number) => Array.from({ length: to - from }, (_, index) => ({ n: from + index }));
const numberOf = ({ attributes }: Received): number => Number(attributes.n);
const numbersOf = (received: readonly Received[]): number[] => received.map(numberOf);
const ascending = (numbers: readonly number[]): number[] => [...numbers].sort((a, b) => a - b);

/** 422 for every batch that holds one of these. */
const refusing =
  (...poisoned: number[]) =>
  ({ observations }: ReceivedBatch): Answer => {
    const found = observations.find((reading) => poisoned.includes(numberOf(reading)));
    if (found === undefined) return WELL;
    return { status: 422, body: { ...PROBLEM, detail: `reading ${numberOf(found)} is out of range` } };
  };

const conditionsOf = async (daemon: Daemon) =>
  (await daemon.status()).conditions.filter(({ component }) => component === "uplink").map(({ code }) => code);

interface Summary {
  readonly id: string;
  readonly code: string;
  readonly detail: string;
}

async function command<T>(...args: string[]): Promise<T> {
  const { status, stdout, stderr } = await summitEdge([...args, "--json"]);
  assert.equal(status, 0, stderr);
  return JSON.parse(stdout) as T;
}

const listed = async (...where: string[]) =>
  (await command<{ deadLetters: Summary[] }>("dead-letters", "list", ...where)).deadLetters;

test("two poisoned readings of 500 are dead-lettered with their reasons, and the others are delivered", async (t) => {
  const { fusion, daemon, publish } = await rig(t);
  fusion.answer = refusing(123, 377);
  await publish(readings(0, 500));
  await publish(readings(500, 510));
  await daemon.until(({ delivered, deadLettered }) => delivered === 508 && deadLettered === 2);
  const { ledger, uplink } = await daemon.status();
  assert.deepEqual({ pending: ledger.pending, accepted: ledger.accepted }, { pending: 0, accepted: 510 });
  assert.equal(uplink.breaker, "closed", "a refused reading is no fault of the link");
  assert.deepEqual(await conditionsOf(daemon), []);
  assert.equal(fusion.batches[0]?.observations.length, 500, "they were one batch");
  const expected = [...Array(510).keys()].filter((n) => n !== 123 && n !== 377);
  assert.deepEqual(numbersOf(fusion.received), expected, "each once, in order");
  assert.ok(fusion.requests < 50, `halving finds them in ${fusion.requests} requests`);
  assert.equal(new Set(fusion.keys).size, fusion.requests, "another set of readings has another key");

  const letters = await listed("--url", `http://127.0.0.1:${daemon.ports.http}`);
  assert.deepEqual(
    letters.map(({ code, detail }) => [code, detail]),
    [
      ["out-of-range", "reading 123 is out of range"],
      ["out-of-range", "reading 377 is out of range"],
    ],
  );
  const metrics = await (await daemon.get("/metrics")).text();
  assert.match(metrics, /^summit_edge_readings_dead_lettered_total\{code="out-of-range"\} 2$/m);
  assert.match(metrics, /^summit_edge_uplink_breaker_open\{uplink="https"\} 0$/m);
});

test("dead letters are shown, requeued and dropped, through the running daemon and on the file of a stopped one", async (t) => {
  const { folder, fusion, daemon, start, publish } = await rig(t);
  fusion.answer = refusing(0, 1, 2, 3);
  await publish(readings(0, 10));
  await daemon.until(({ delivered, deadLettered }) => delivered === 6 && deadLettered === 4);
  fusion.answer = () => WELL;

  const online = ["--url", `http://127.0.0.1:${daemon.ports.http}`];
  const ids = (await listed(...online)).map(({ id }) => id);
  const [first = "", second = "", third = "", fourth = ""] = ids;
  assert.equal(ids.length, 4);
  const shown = await command<{ id: string; problem: object; reading: Received }>(
    "dead-letters",
    "show",
    first,
    ...online,
  );
  assert.equal(shown.id, first);
  assert.deepEqual(shown.problem, { ...PROBLEM, detail: "reading 0 is out of range" });
  assert.equal(numberOf(shown.reading), 0);
  assert.deepEqual(await command("dead-letters", "requeue", first, ...online), { count: 1, unknown: [] });
  await daemon.until(({ delivered, deadLettered }) => delivered === 7 && deadLettered === 3);
  assert.deepEqual(numbersOf(fusion.received).at(-1), 0);
  assert.equal(fusion.received.at(-1)?.id, first, "with the id it had");
  assert.equal(fusion.batches.at(-1)?.replayed, true);
  assert.deepEqual(await command("dead-letters", "drop", second, ...online), { count: 1, unknown: [] });
  assert.equal((await daemon.status()).ledger.deadLettered, 3, "what is dropped stays counted");
  const unknown = await summitEdge(["dead-letters", "requeue", second, ...online]);
  assert.equal(unknown.status, 1);
  assert.match(unknown.stderr, new RegExp(second));
  const noPage = ["dead-letters", "list", "--after", "bogus"];
  assert.match((await summitEdge([...noPage, ...online])).stderr, /no page ended with bogus\nhint: \S/);

  assert.equal(await daemon.stop(), 0);
  const offline = ["--config", join(folder, "gateway.yaml")];
  assert.deepEqual(
    (await listed(...offline)).map(({ id }) => id),
    [third, fourth],
  );
  assert.match((await summitEdge([...noPage, ...offline])).stderr, /no page ended with bogus\nhint: \S/);
  assert.deepEqual(await command("dead-letters", "requeue", third, ...offline), { count: 1, unknown: [] });
  assert.deepEqual(await command("dead-letters", "drop", fourth, ...offline), { count: 1, unknown: [] });

  const again = await start();
  await again.until(({ delivered, pending, deadLettered }) => delivered === 8 && pending === 0 && deadLettered === 2);
  assert.equal(fusion.received.at(-1)?.id, third);
  assert.deepEqual(await (await again.get("/api/v1/dead-letters")).json(), { deadLetters: [], next: null });
});

const NO_VERDICT: readonly (readonly [string, Answer, string])[] = [
  ["404", { status: 404 }, "uplink-misconfigured"],
  ["405", { status: 405 }, "uplink-misconfigured"],
  ["410", { status: 410 }, "uplink-misconfigured"],
  ["415", { status: 415 }, "uplink-misconfigured"],
  ["401", { status: 401 }, "credentials"],
  ["403", { status: 403 }, "credentials"],
  ["a redirect", { status: 307, headers: { location: "http://127.0.0.1:1/" } }, "uplink-unexpected-answer"],
  [
    "200 with a page",
    { status: 200, headers: { "content-type": "text/html" }, body: "<html>log in</html>" },
    "uplink-unexpected-answer",
  ],
  ["200 with an array", { status: 200, body: [] }, "uplink-unexpected-answer"],
  [
    "a rejection of ids that were not sent",
    {
      status: 200,
      body: { rejected: [{ id: "018f0000-0000-7000-8000-000000000000", code: "x", detail: "", retriable: false }] },
    },
    "uplink-unexpected-answer",
  ],
  ["429", { status: 429 }, "uplink-failing"],
  ["408", { status: 408 }, "uplink-failing"],
  ["425", { status: 425 }, "uplink-failing"],
];

test("answers that say nothing about the readings keep everything, say so, and open the breaker", async (t) => {
  const { fusion, daemon, publish } = await rig(t, { breaker: { consecutiveFailures: 3, recovery: "50ms" } });
  let n = 0;
  for (const [name, answer, condition] of NO_VERDICT) {
    await t.test(name, async () => {
      fusion.answer = () => answer;
      const before = fusion.requests;
      await publish(readings(n, n + 10));
      // It counts as a failure: three of them open the breaker.
      await until("the breaker has been opened and tried again", () => fusion.requests >= before + 4);
      await daemon.untilStatus(({ conditions }) => conditions.some(({ code }) => code === condition));
      const { ledger, uplink } = await daemon.status();
      assert.deepEqual([ledger.pending, ledger.deadLettered, ledger.delivered], [10, 0, n]);
      assert.notEqual(uplink.breaker, "closed");
      assert.equal((await daemon.get("/healthz")).status, 200);
      fusion.answer = () => WELL;
      n += 10;
      await daemon.until(({ delivered, pending }) => delivered === n && pending === 0);
      assert.deepEqual(await conditionsOf(daemon), []);
      assert.equal(new Set(fusion.keys.slice(before)).size, 1, "the same set of readings has the same key");
    });
  }
});

test("a fusion that refuses everything dead-letters nothing, and gets everything once it is mended", async (t) => {
  const { fusion, daemon, publish } = await rig(t);
  fusion.answer = () => ({ status: 422, body: { ...PROBLEM, detail: "not today" } });
  await publish(readings(0, 60));
  await daemon.untilStatus(({ conditions }) => conditions.some(({ code }) => code === "uplink-refuses-everything"));
  await publish(readings(60, 100));
  const tried = fusion.requests;
  await until("it has been tried a few times more", () => fusion.requests > tried + 6);
  const { ledger, uplink } = await daemon.status();
  assert.deepEqual([ledger.pending, ledger.deadLettered, ledger.delivered], [100, 0, 0]);
  assert.equal(uplink.breaker, "closed", "none of this counts towards the breaker");
  fusion.answer = () => WELL;
  await daemon.until(({ delivered, pending }) => delivered === 100 && pending === 0);
  assert.deepEqual(ascending(numbersOf(fusion.received)), [...Array(100).keys()]);
  assert.deepEqual(await conditionsOf(daemon), []);
});

test("readings that fusion rejects by name are dead-lettered, or sent again later without holding up the others", async (t) => {
  const { fusion, daemon, publish } = await rig(t, { retry: { initial: "1s", max: "1s" } });
  const idOf = ({ observations }: ReceivedBatch, n: number) => observations.find((one) => numberOf(one) === n)?.id;
  let refused = 0;
  fusion.answer = (batch) => {
    const never = idOf(batch, 3);
    const later = refused < 3 ? idOf(batch, 7) : undefined;
    if (later !== undefined) refused++;
    const rejected = [
      ...(never === undefined ? [] : [{ id: never, code: "bad-smoke", detail: "no such smoke", retriable: false }]),
      ...(later === undefined ? [] : [{ id: later, code: "busy", detail: "later", retriable: true }]),
    ];
    return { status: fusion.requests % 2 === 0 ? 200 : 207, body: { rejected } };
  };
  await publish(readings(0, 10));
  await daemon.until(({ delivered, deadLettered }) => delivered === 8 && deadLettered === 1);
  await publish(readings(10, 20));
  await daemon.until(({ delivered }) => delivered === 19);
  const { ledger, uplink } = await daemon.status();
  assert.deepEqual([ledger.pending, ledger.deadLettered, uplink.breaker], [0, 1, "closed"]);
  const letters = await listed("--url", `http://127.0.0.1:${daemon.ports.http}`);
  assert.deepEqual(
    letters.map(({ code, detail }) => [code, detail]),
    [["bad-smoke", "no such smoke"]],
  );
  const times = (n: number) => fusion.batches.filter((batch) => idOf(batch, n) !== undefined).length;
  assert.deepEqual([times(3), times(7), times(0), times(15)], [1, 4, 1, 1], "only what was asked for is sent again");
});

test("a body that is too large is halved, and a single reading that is still too large is dead-lettered", async (t) => {
  const { fusion, daemon, publish } = await rig(t);
  const LIMIT = 4000;
  fusion.answer = ({ text }) =>
    text.length > LIMIT ? { status: 413, body: { title: "too large", status: 413, code: "too-large" } } : WELL;
  await publish([...readings(0, 50), { n: 50, text: "x".repeat(LIMIT) }, ...readings(51, 100)]);
  await daemon.until(({ delivered, deadLettered }) => delivered === 99 && deadLettered === 1);
  assert.deepEqual(
    ascending(numbersOf(fusion.received)),
    [...Array(100).keys()].filter((n) => n !== 50),
  );
  assert.equal((await daemon.status()).uplink.breaker, "closed");
});
