import assert from "node:assert/strict";
import { hostname } from "node:os";
import { describe, test } from "node:test";
import { parse } from "yaml";
import { presentable } from "#src/config/redact.js";
import { parseDuration, parseSize } from "#src/config/units.js";
import { load } from "./fixture.ts";

/** The contract's section 3, the keys that have a default, to the letter. */
const CONTRACT = `
gateway:
  dataDir: /var/lib/summit-edge
log: { level: info, format: json }
mqtt:
  listeners:
    - { bind: 127.0.0.1, port: 1883 }
  anonymous: loopback
  retained: []
  offlineQueue: 0
  limits: { maxConnections: 256, maxPacketBytes: 64KiB, connectTimeout: 10s, publishRate: 500 }
serial: []
outbox:
  file: outbox.db
  maxBytes: 2GiB
  maxAge: 30d
  whenFull: evict
  keepDelivered: 0s
  commitDelay: { critical: 0ms, high: 0ms, normal: 250ms, low: 1s }
  reserveFreeDisk: 256MiB
  maxDeadLetters: 10000
uplink:
  type: https
  tls: {}
  batch: { maxReadings: 500, maxBytes: 512KiB, linger: 250ms, compression: gzip }
  concurrency: 1
  reachability: 1s
  timeouts: { connect: 5s, read: 30s, write: 10s }
  retry: { initial: 1s, max: 60s }
  breaker: { consecutiveFailures: 5, failureRate: 0.5, minimumRequests: 10, window: 60s, recovery: 60s }
http: { bind: 127.0.0.1, port: 8480 }
`;

/** The contract's whole example. */
const EXAMPLE = `
gateway:
  id: sierra-014
  location: { lat: 38.94, lon: -120.05 }
  dataDir: /var/lib/summit-edge
log: { level: info, format: json }
mqtt:
  listeners:
    - { bind: 127.0.0.1, port: 1883 }
    - bind: 0.0.0.0
      port: 8883
      tls: { certFile: /a, keyFile: /b, caFile: /c, clientCertificate: required }
  anonymous: loopback
  passwordFile: /passwords
  aclFile: /acl
serial:
  - { name: mast, path: /dev/serial/by-id/x, baudRate: 4800, framing: lines, codec: nmea0183, class: position }
uplink:
  url: https://fusion.example/api/v1/observations/batch
  tls: { caFile: /ca, certFile: /cert, keyFile: /key }
  tokenFile: /token
`;

/** Each scalar of a nested value by its path. */
function scalars(value: unknown, path = ""): [string, unknown][] {
  if (typeof value !== "object" || value === null) return [[path, value]];
  const entries = Object.entries(value);
  return entries.length === 0 ? [[path, value]] : entries.flatMap(([key, item]) => scalars(item, `${path}/${key}`));
}

function asNumber(written: unknown): unknown {
  if (typeof written !== "string") return written;
  if (/^[0-9]+(ms|s|m|h|d)$/.test(written)) return parseDuration(written);
  return /^[0-9]+(B|[KMG]iB)$/.test(written) ? parseSize(written) : written;
}

describe("defaults", () => {
  test("an empty file gives every default of the contract", async (t) => {
    const { config } = await load(t, "");
    const actual = new Map(scalars(config));
    const expected = scalars(parse(CONTRACT));
    assert.equal(expected.length, 44);
    for (const [path, value] of expected) assert.deepEqual(actual.get(path), asNumber(value), path);
    assert.equal(config.uplink.url, undefined);
    assert.equal(config.gateway.id, hostname());
  });

  test("nothing has a default that the contract does not give, but for a few that docs/decisions gives reasons for", async (t) => {
    const { config } = await load(t, "");
    const known = new Set(scalars(parse(CONTRACT)).map(([path]) => path));
    const others = scalars(config)
      .map(([path]) => path)
      // 0017-limits-of-the-broker.md gives reasons for the limits.
      .filter((path) => !known.has(path) && !/^\/mqtt\/(routes|limits)\//.test(path));
    assert.deepEqual(others.sort(), [
      "/audit/maxBytes",
      "/certs/backdate",
      "/certs/caLifetime",
      "/certs/deviceLifetime",
      "/certs/folder",
      "/certs/serverLifetime",
      "/gateway/id",
      "/http/auth",
      "/http/cors",
      "/http/hosts",
      "/http/limits/maxBodyBytes",
      "/http/limits/maxConnections",
      "/http/limits/requestRate",
      "/mqtt/sources",
      "/outbox/cardEndurance",
      "/outbox/waitForClock",
      "/uplink/backlog",
      "/uplink/catchUpRate",
    ]);
    assert.deepEqual(
      config.mqtt.routes.map(({ topic, class: name, priority }) => [topic, name, priority]),
      [
        ["observations/{class}", undefined, undefined],
        ["telemetry/{device}", "telemetry", undefined],
        ["alerts/{id}", "alert", "critical"],
        ["health/{node}/heartbeat", "heartbeat", "low"],
      ],
    );
  });

  test("the contract's example is valid, and raises no warning", async (t) => {
    const { config, warnings } = await load(t, EXAMPLE);
    assert.deepEqual(warnings, []);
    assert.equal(config.mqtt.listeners[1]?.tls?.clientCertificate, "required");
    assert.equal(config.serial[0]?.baudRate, 4800);
  });

  test("what is shown, read again, is the same configuration", async (t) => {
    const { config } = await load(t, EXAMPLE);
    const again = await load(t, JSON.stringify(presentable(config)));
    assert.deepEqual(again.config, config);
  });

  test("small values are legal", async (t) => {
    const { config } = await load(
      t,
      "outbox: { maxAge: 3s }\nuplink: { breaker: { recovery: 1s }, reachability: 10ms }",
    );
    assert.deepEqual(
      [config.outbox.maxAge, config.uplink.breaker.recovery, config.uplink.reachability],
      [3000, 1000, 10],
    );
  });

  test("a section whose keys are all commented out holds its defaults", async (t) => {
    const { config } = await load(t, "uplink:\n  #url: x\nserial:\nmqtt:\n  limits:\n");
    assert.deepEqual([config.uplink.concurrency, config.serial, config.mqtt.limits.maxConnections], [1, [], 256]);
  });
});
