import assert from "node:assert/strict";
import { test } from "node:test";
import type { FusionService } from "#src/simulator/fusion.js";
import { FAULT_MODES } from "#src/simulator/fusion-fault-modes.js";
import { readFault } from "#src/simulator/fusion-faults.js";
import { TestClock } from "../support/test-clock.ts";
import { envelope, get, type Json, observation, post, withFusion } from "./fusion-client.ts";

async function putFault(url: string, fault: unknown): Promise<{ status: number; body: Json }> {
  const response = await fetch(`${url}/faults`, { method: "PUT", body: JSON.stringify(fault) });
  return { status: response.status, body: (await response.json()) as Json };
}

/** Waits until the service has seen so many batches. */
async function requests(service: FusionService, count: number): Promise<void> {
  while (service.stats().requests < count) await new Promise((resolve) => setImmediate(resolve));
}

const causeOf = (error: unknown): string => String((error as { cause?: { code?: string } }).cause?.code);

test("unavailable answers 503 with Retry-After, stores nothing, and ends when it is told to", () =>
  withFusion({}, async (service, url) => {
    const reading = observation();
    for (const retryAfter of [7, "Wed, 01 Jul 2026 12:00:00 GMT"]) {
      service.setFault({ mode: "unavailable", retryAfter });
      const { status, headers, body } = await post(url, envelope([reading]));
      assert.deepEqual([status, headers.get("retry-after"), body.code], [503, String(retryAfter), "fault-unavailable"]);
    }
    assert.equal(service.has(reading.id), false);
    service.setFault({ mode: "none" });
    assert.equal((await post(url, envelope([reading]))).status, 200);
  }));

test("latency holds the answer back by so much, and then it is as ever", async () => {
  const clock = new TestClock();
  await withFusion({ clock }, async (service, url) => {
    service.setFault({ mode: "latency", latencyMs: 5000 });
    const reading = observation();
    let answered = false;
    const answer = post(url, envelope([reading])).finally(() => {
      answered = true;
    });
    while (clock.waiting === 0) await new Promise((resolve) => setImmediate(resolve));
    await clock.advance(4999);
    assert.deepEqual([answered, service.has(reading.id)], [false, false]);
    await clock.advance(1);
    assert.equal((await answer).status, 200);
  });
});

test("hang takes the request and never answers; only the end of the connection ends it", () =>
  withFusion({}, async (service, url) => {
    service.setFault({ mode: "hang" });
    const reading = observation();
    const answer = post(url, envelope([reading])).then(
      () => "answered",
      () => "cut",
    );
    await requests(service, 1);
    assert.equal(
      await Promise.race([answer, get(`${url}/healthz`).then(() => "others are served")]),
      "others are served",
    );
    await service.close();
    assert.equal(await answer, "cut");
    assert.equal(service.has(reading.id), false);
  }));

test("reset cuts the connection and stores nothing", () =>
  withFusion({}, async (service, url) => {
    service.setFault({ mode: "reset" });
    const reading = observation();
    await assert.rejects(post(url, envelope([reading])), (error) => {
      assert.match(causeOf(error), /ECONNRESET|EPIPE|UND_ERR_SOCKET/);
      return true;
    });
    assert.equal(service.has(reading.id), false);
  }));

test("apply-then-drop-reply stores the readings without an answer, so that the next try brings copies", () =>
  withFusion({}, async (service, url) => {
    service.setFault({ mode: "apply-then-drop-reply", count: 1 });
    const reading = observation();
    await assert.rejects(post(url, envelope([reading])));
    assert.ok(service.has(reading.id));
    assert.deepEqual((await post(url, envelope([reading]))).body, { accepted: 0, duplicates: 1, rejected: [] });
  }));

test("reject names the readings it was told to, by id or class, and takes the others", () =>
  withFusion({}, async (service, url) => {
    const [a, b, c] = [observation(), observation({ class: "fire" }), observation()];
    service.setFault({ mode: "reject", rejectIds: [a.id], rejectClass: "fire", retriable: true });
    const { body } = await post(url, envelope([a, b, c]));
    assert.equal(body.accepted, 1);
    assert.deepEqual(
      (body.rejected as Json[]).map(({ id, code, retriable }) => [id, code, retriable]),
      [
        [a.id, "fault-reject", true],
        [b.id, "fault-reject", true],
      ],
    );
    assert.deepEqual([service.has(a.id), service.has(b.id), service.has(c.id)], [false, false, true]);
    service.setFault({ mode: "reject" });
    assert.equal(((await post(url, envelope([observation()]))).body.rejected as Json[]).length, 1);
  }));

test("reject with a share rejects the same readings whenever they come again", () =>
  withFusion({}, async (service, url) => {
    service.setFault({ mode: "reject", share: 0.3 });
    const readings = Array.from({ length: 200 }, () => observation());
    const rejectedIds = async (): Promise<unknown[]> =>
      ((await post(url, envelope(readings))).body.rejected as Json[]).map(({ id }) => id);
    const first = await rejectedIds();
    assert.ok(first.length > 20 && first.length < 110, `${first.length} of 200`);
    assert.deepEqual(await rejectedIds(), first);
  }));

test("reject with a status refuses the whole batch that holds such a reading, and only that", () =>
  withFusion({}, async (service, url) => {
    const [bad, good] = [observation(), observation()];
    service.setFault({ mode: "reject", rejectIds: [bad.id], status: 422 });
    assert.deepEqual([(await post(url, envelope([bad, good]))).status, service.has(good.id)], [422, false]);
    assert.deepEqual([(await post(url, envelope([good]))).status, service.has(good.id)], [200, true]);
  }));

test("refuse-all answers 422 whatever comes", () =>
  withFusion({}, async (service, url) => {
    service.setFault({ mode: "refuse-all" });
    assert.equal((await post(url, envelope([observation()]))).status, 422);
    assert.equal((await post(url, envelope([]))).status, 422);
  }));

test("status answers as it was told, for as many requests as it was told", () =>
  withFusion({}, async (service, url) => {
    service.setFault({ mode: "status", status: 413, count: 2 });
    assert.equal((await post(url, envelope([observation()]))).status, 413);
    assert.deepEqual(service.fault, { mode: "status", status: 413, count: 1 });
    assert.equal((await post(url, envelope([observation()]))).status, 413);
    assert.equal((await post(url, envelope([observation()]))).status, 200);
    assert.deepEqual(service.fault, { mode: "none" });
  }));

test("a share meets some of the requests, the same ones for the same seed", async () => {
  const run = async (seed: number): Promise<number[]> => {
    const statuses: number[] = [];
    await withFusion({ seed }, async (service, url) => {
      service.setFault({ mode: "unavailable", share: 0.5 });
      for (let i = 0; i < 40; i++) statuses.push((await post(url, envelope([]))).status);
    });
    return statuses;
  };
  const first = await run(3);
  assert.deepEqual(new Set(first), new Set([200, 503]));
  assert.deepEqual(await run(3), first);
  assert.notDeepEqual(await run(4), first);
});

test("faults can be set and read over HTTP, and one that cannot be understood changes nothing", () =>
  withFusion({}, async (service, url) => {
    const fault = { mode: "unavailable", retryAfter: 2, count: 5 };
    assert.deepEqual(await putFault(url, fault), { status: 200, body: fault });
    assert.deepEqual((await get(`${url}/faults`)).body, fault);
    for (const bad of [{}, { mode: "gone" }, { mode: "none", latency: 5 }, { mode: "status" }, [], "none"]) {
      const { status, body } = await putFault(url, bad);
      assert.deepEqual([status, body.code], [400, "invalid-fault"]);
    }
    const unknown = await putFault(url, { mode: "bogus" });
    assert.match(String(unknown.body.detail), /^fault\.mode must be one of none, latency, unavailable, .*, status$/);
    assert.match(String((await putFault(url, { mode: "none", latency: 5 })).body.detail), /no "latency"; .* latencyMs/);
    assert.deepEqual(service.fault, fault);
    assert.equal((await putFault(url, { mode: "none" })).status, 200);
    assert.equal((await post(url, envelope([observation()]))).status, 200);
  }));

test("the example of each mode is a fault of that mode", () => {
  for (const [mode, { example }] of Object.entries(FAULT_MODES)) {
    const read = readFault(JSON.parse(example));
    assert.equal("fault" in read && read.fault.mode, mode);
  }
});

test("a status that would settle the batch cannot be asked for", () => {
  assert.ok("problem" in readFault({ mode: "status", status: 204 }));
  assert.ok("fault" in readFault({ mode: "status", status: 302 }));
});
