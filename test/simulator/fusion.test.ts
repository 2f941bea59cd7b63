import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { request } from "node:https";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { gzipSync } from "node:zlib";
import { systemClock } from "#src/kernel/clock.js";
import { GatewayError } from "#src/kernel/errors.js";
import { BATCH_PATH, FusionService } from "#src/simulator/fusion.js";
import { isDateTime } from "#src/simulator/fusion-envelope.js";
import { selfSigned } from "./certificate.ts";
import { envelope, get, type Json, observation, post, silent, withFusion } from "./fusion-client.ts";

const gateway = (seq: number, over: Json = {}): Json => ({
  gateway: { id: "sierra-014", seq, received_at: "2026-07-01T12:00:00.100Z", clock: "synchronised", ...over },
});

test("takes a batch, plain or gzip, and keeps its readings as they came", () =>
  withFusion({}, async (service, url) => {
    const [plain, zipped] = [observation(), observation({ lat: 38.94, lon: -120.05 })];
    const first = await post(url, envelope([plain]));
    assert.deepEqual([first.status, first.body], [200, { accepted: 1, duplicates: 0, rejected: [] }]);
    const second = await post(url, gzipSync(JSON.stringify(envelope([zipped]))), { "content-encoding": "gzip" });
    assert.deepEqual(second.body, { accepted: 1, duplicates: 0, rejected: [] });
    assert.ok(service.has(plain.id) && service.has(zipped.id.toUpperCase()));
    assert.deepEqual((await get(`${url}/observations`)).body, { observations: [zipped, plain] });
  }));

test("a reading that comes again is a duplicate, in the same batch or a later one, and is kept once", () =>
  withFusion({}, async (service, url) => {
    const reading = observation();
    assert.deepEqual((await post(url, envelope([reading, reading]))).body, {
      accepted: 1,
      duplicates: 1,
      rejected: [],
    });
    const key = { "idempotency-key": "one" };
    await post(url, envelope([reading, observation()]), key);
    const { unique, duplicates, requests } = service.stats();
    assert.deepEqual({ unique, duplicates, requests }, { unique: 2, duplicates: 2, requests: 2 });
  }));

test("names each reading that is not the contract's, and takes the others", () =>
  withFusion({}, async (service, url) => {
    const faults: [Json, string][] = [
      [{ id: "not-a-uuid" }, "invalid-id"],
      [{ class: "" }, "invalid-class"],
      [{ ts_iso: "yesterday" }, "invalid-ts_iso"],
      [{ ts_iso: "2026-02-30T12:00:00Z" }, "invalid-ts_iso"],
      [{ confidence: 1.01 }, "invalid-confidence"],
      [{ confidence: null }, "invalid-confidence"],
      [{ confidence: undefined }, "invalid-confidence"],
      [{ lat: -90.1 }, "invalid-lat"],
      [{ lon: 180.1 }, "invalid-lon"],
      [{ priority: "urgent" }, "invalid-priority"],
      [{ attributes: 7 }, "invalid-attributes"],
      [{ gateway: undefined }, "invalid-gateway"],
      [gateway(-1), "invalid-gateway"],
      [gateway(1, { clock: "fine" }), "invalid-gateway"],
      [{ pm2_5: 81 }, "invalid-pm2_5"],
    ];
    const bad = faults.map(([fault]) => observation(fault));
    const good = observation();
    const { status, body } = await post(url, envelope([...bad, good]));
    assert.deepEqual([status, body.accepted], [200, 1]);
    const rejected = body.rejected as Json[];
    assert.deepEqual(
      rejected.map(({ id, code, retriable }) => ({ id, code, retriable })),
      faults.map(([, code], index) => ({ id: bad[index]?.id, code, retriable: false })),
    );
    assert.ok(rejected.every(({ detail }) => typeof detail === "string" && detail.length > 0));
    assert.ok(service.has(good.id));
    assert.equal(service.stats().rejected, faults.length);
  }));

test("refuses an envelope that is not the contract's as a whole, with problem details", () =>
  withFusion({}, async (service, url) => {
    const good = observation();
    const cases: [unknown, Record<string, string>, number, string][] = [
      [new TextEncoder().encode("{"), {}, 400, "malformed-json"],
      [new Uint8Array([0x22, 0xff, 0x22]), {}, 400, "malformed-json"],
      [[good], {}, 422, "malformed-envelope"],
      [envelope([good], { schema: "summit.observations/2" }), {}, 422, "malformed-envelope"],
      [envelope([good], { gateway_id: "" }), {}, 422, "malformed-envelope"],
      [envelope([good], { sent_at: "now" }), {}, 422, "malformed-envelope"],
      [envelope([good], { replayed: "no" }), {}, 422, "malformed-envelope"],
      [envelope({ 0: good }), {}, 422, "malformed-envelope"],
      [envelope([good, { ...good, id: undefined }]), {}, 422, "malformed-envelope"],
      [envelope([good]), { "content-type": "text/plain" }, 415, "unsupported-content-type"],
      [envelope([good]), { "content-encoding": "br" }, 415, "unsupported-content-encoding"],
      [envelope([good]), { "content-encoding": "gzip" }, 400, "malformed-gzip"],
    ];
    for (const [body, headers, status, code] of cases) {
      const answer = await post(url, body, headers);
      assert.deepEqual([answer.status, answer.body.code, answer.body.status], [status, code, status]);
      assert.equal(answer.headers.get("content-type"), "application/problem+json");
    }
    assert.equal(service.stats().unique, 0);
    assert.equal(service.stats().requests, cases.length);
  }));

test("refuses a body of several gzip members, and one that inflates beyond all bounds", () =>
  withFusion({}, async (_service, url) => {
    const json = JSON.stringify(envelope([observation()]));
    const members = Buffer.concat([gzipSync(json.slice(0, 40)), gzipSync(json.slice(40))]);
    const gzip = { "content-encoding": "gzip" };
    assert.equal((await post(url, members, gzip)).body.code, "several-gzip-members");
    const bomb = gzipSync(Buffer.alloc(65 * 2 ** 20, " "));
    assert.deepEqual([(await post(url, bomb, gzip)).status], [413]);
  }));

test("asks for the bearer token where one is set, and takes a new one without a restart", () =>
  withFusion({ token: "first" }, async (service, url) => {
    const send = async (token?: string): Promise<number> =>
      (await post(url, envelope([observation()]), token === undefined ? {} : { authorization: `Bearer ${token}` }))
        .status;
    assert.deepEqual([await send(), await send("second"), await send("first")], [401, 401, 200]);
    service.setToken("second");
    assert.deepEqual([await send("first"), await send("second")], [401, 200]);
    assert.equal((await get(`${url}/stats`)).status, 200);
  }));

test("counts what arrived by class, priority and gateway, replayed readings, and those out of order in their lane", () =>
  withFusion({}, async (_service, url) => {
    const critical = { priority: "critical", class: "alert" };
    const first = observation(gateway(5));
    await post(url, envelope([first, observation({ ...critical, ...gateway(2) })]));
    await post(url, envelope([observation(gateway(4)), observation(gateway(6)), first], { replayed: true }));
    await post(url, envelope([observation(gateway(1, { id: "sierra-015" }))]));
    const { body } = await get(`${url}/stats`);
    assert.deepEqual(
      { ...body, lastReceivedAt: typeof body.lastReceivedAt },
      {
        service: "reference fusion",
        unique: 5,
        duplicates: 1,
        rejected: 0,
        requests: 3,
        replayed: 2,
        outOfOrder: 1,
        keyConflicts: 0,
        byClass: { smoke: 4, alert: 1 },
        byPriority: { critical: 1, normal: 4 },
        byGateway: { "sierra-014": 4, "sierra-015": 1 },
        lanes: [
          { gateway: "sierra-014", priority: "critical", readings: 1, highestSeq: 2, outOfOrder: 0 },
          { gateway: "sierra-014", priority: "normal", readings: 3, highestSeq: 6, outOfOrder: 1 },
          { gateway: "sierra-015", priority: "normal", readings: 1, highestSeq: 1, outOfOrder: 0 },
        ],
        lastReceivedAt: "string",
      },
    );
  }));

test("an idempotency key that comes with another set of readings is counted", () =>
  withFusion({}, async (service, url) => {
    const [a, b] = [observation(), observation()];
    const key = { "idempotency-key": "k1" };
    await post(url, envelope([a, b]), key);
    await post(url, envelope([b, a]), key);
    assert.equal(service.stats().keyConflicts, 0);
    await post(url, envelope([a]), key);
    assert.equal(service.stats().keyConflicts, 1);
  }));

test("lists by id, class, source and time, newest first, and refuses a question that makes no sense", () =>
  withFusion({}, async (_service, url) => {
    const readings = [observation(), observation({ class: "fire" }), observation({ class: "fire", source: "mast-4" })];
    await post(url, envelope(readings));
    const ids = async (query: string): Promise<unknown[]> => {
      const { observations } = (await get(`${url}/observations?${query}`)).body as { observations: Json[] };
      return observations.map(({ id }) => readings.findIndex((reading) => reading.id === id));
    };
    assert.deepEqual(await ids("class=fire"), [2, 1]);
    assert.deepEqual(await ids("class=fire&source=mast-3"), [1]);
    assert.deepEqual(await ids(`id=${readings[0]?.id}`), [0]);
    assert.deepEqual(await ids("limit=1"), [2]);
    assert.deepEqual(await ids("since=2026-01-01T00:00:00Z"), [2, 1, 0]);
    assert.deepEqual(await ids("since=2999-01-01T00:00:00Z"), []);
    for (const query of ["limit=0", "limit=x", "since=yesterday"]) {
      assert.equal((await get(`${url}/observations?${query}`)).status, 400);
    }
    assert.equal((await get(`${url}/nowhere`)).status, 404);
    assert.equal((await get(`${url}${BATCH_PATH}`)).status, 405);
    assert.equal((await get(`${url}/healthz`)).status, 200);
  }));

test("what is in a file survives a restart, counts and order included", async () => {
  const folder = mkdtempSync(join(tmpdir(), "fusion-"));
  try {
    const db = join(folder, "fusion.db");
    const reading = observation(gateway(9));
    await withFusion({ db }, async (_service, url) => {
      await post(url, envelope([reading, reading]));
    });
    await withFusion({ db }, async (service, url) => {
      const { body } = await post(url, envelope([reading, observation(gateway(8))]));
      assert.deepEqual(body, { accepted: 1, duplicates: 1, rejected: [] });
      const { unique, duplicates, outOfOrder, requests } = service.stats();
      assert.deepEqual(
        { unique, duplicates, outOfOrder, requests },
        { unique: 2, duplicates: 2, outOfOrder: 1, requests: 2 },
      );
    });
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test("close refuses connections, listen on the same port ends the outage, and nothing received is lost by it", () =>
  withFusion({}, async (service, url) => {
    const reading = observation();
    await post(url, envelope([reading]));
    await service.close();
    await assert.rejects(post(url, envelope([observation()])), (error: Error) => {
      assert.equal((error.cause as { code?: string }).code, "ECONNREFUSED");
      return true;
    });
    assert.ok(service.has(reading.id));
    assert.equal((await service.listen(Number(new URL(url).port))).url, url);
    assert.equal((await post(url, envelope([reading]))).body.duplicates, 1);
  }));

test("says which port is taken, and which option changes it", async () => {
  const other = createServer();
  await new Promise<void>((resolve) => other.listen(0, "127.0.0.1", resolve));
  const { port } = other.address() as { port: number };
  const service = new FusionService({ clock: systemClock, log: silent });
  await assert.rejects(service.listen(port), (error: unknown) => {
    assert.ok(error instanceof GatewayError);
    assert.equal(error.code, "FUSION_PORT_TAKEN");
    assert.match(error.message, new RegExp(`\\b${port}\\b`));
    assert.match(error.hint, /--port/);
    return true;
  });
  other.close();
  await service.dispose();
});

test("speaks TLS where it has a certificate", async () => {
  const tls = await selfSigned();
  await withFusion({ tls }, async (service, url) => {
    assert.match(url, /^https:/);
    const id = randomUUID();
    const status = await new Promise((resolve, reject) => {
      const headers = { "content-type": "application/json" };
      const how = { method: "POST", ca: tls.cert, headers, agent: false };
      const sent = request(`${url}${BATCH_PATH}`, how, (answer) => resolve(answer.resume().statusCode));
      sent.on("error", reject).end(JSON.stringify(envelope([observation({ id })])));
    });
    assert.equal(status, 200);
    assert.ok(service.has(id));
  });
});

test("a time is RFC 3339's, with a calendar day that exists", () => {
  const good = [
    "2026-07-01T12:00:00Z",
    "2026-07-01t12:00:00.123456+02:00",
    "2024-02-29T23:59:60Z",
    "0001-01-01T00:00:00Z",
  ];
  const bad = [
    "2026-07-01",
    "2026-07-01 12:00:00Z",
    "2026-13-01T00:00:00Z",
    "2025-02-29T00:00:00Z",
    "2026-07-01T24:00:00Z",
  ];
  assert.deepEqual([good.every(isDateTime), bad.some(isDateTime)], [true, false]);
});
