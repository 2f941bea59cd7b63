import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { load, problemsOf } from "./fixture.ts";

describe("overrides from the environment", () => {
  test("win over the file, and are read as their key's type", async (t) => {
    const { config } = await load(t, "uplink: { url: https://a.example/, concurrency: 2 }\nhttp: { port: 1 }", {
      SUMMIT_EDGE__UPLINK__URL: "https://b.example/",
      SUMMIT_EDGE__UPLINK__BREAKER__FAILURERATE: "0.25",
      SUMMIT_EDGE__HTTP__PORT: "8481",
      SUMMIT_EDGE__OUTBOX__MAXAGE: "3s",
      SUMMIT_EDGE__GATEWAY__ID: "014",
      SUMMIT_EDGE__GATEWAY__LOCATION: '{"lat": 1, "lon": 2}',
      SUMMIT_EDGE_DEBUG: "1",
      UNRELATED: "x",
    });
    assert.equal(config.uplink.url, "https://b.example/");
    assert.equal(config.uplink.concurrency, 2);
    assert.equal(config.uplink.breaker.failureRate, 0.25);
    assert.equal(config.http.port, 8481);
    assert.equal(config.outbox.maxAge, 3000);
    assert.equal(config.gateway.id, "014");
    assert.deepEqual(config.gateway.location, { lat: 1, lon: 2 });
  });

  test("name keys in upper, lower or mixed case, with or without single underscores", async (t) => {
    for (const name of ["DATADIR", "dataDir", "data_dir", "DATA_DIR"]) {
      const { config } = await load(t, "", { [`SUMMIT_EDGE__GATEWAY__${name}`]: "/data" });
      assert.equal(config.gateway.dataDir, "/data");
    }
  });

  test("reach into lists by position, the defaults' items included", async (t) => {
    const { config } = await load(t, "", {
      SUMMIT_EDGE__MQTT__LISTENERS__0__PORT: "1884",
      SUMMIT_EDGE__MQTT__LISTENERS__1__BIND: "127.0.0.1",
      SUMMIT_EDGE__MQTT__LISTENERS__1__PORT: "8884",
      SUMMIT_EDGE__MQTT__LISTENERS__1__TLS__DEVELOPMENT: "true",
    });
    assert.deepEqual(config.mqtt.listeners, [
      { bind: "127.0.0.1", port: 1884 },
      { bind: "127.0.0.1", port: 8884, tls: { development: true, clientCertificate: "none" } },
    ]);
  });

  test("give whole lists and mappings, of which others then change a part", async (t) => {
    const { config } = await load(t, "serial: [{ name: x, path: /x, codec: json }]", {
      SUMMIT_EDGE__SERIAL__0__PATH: "/dev/pts/7",
      SUMMIT_EDGE__SERIAL: "- { name: mast, path: /y, codec: nmea0183 }",
      SUMMIT_EDGE__MQTT__LISTENERS: "[]",
      SUMMIT_EDGE__UPLINK__RETRY: '{"initial": "2s"}',
      SUMMIT_EDGE__UPLINK__RETRY__MAX: "3s",
    });
    assert.deepEqual(
      config.serial.map(({ name, path }) => [name, path]),
      [["mast", "/dev/pts/7"]],
    );
    assert.deepEqual(config.mqtt.listeners, []);
    assert.deepEqual(config.uplink.retry, { initial: 2000, max: 3000 });
  });

  test("keep the order of positions beyond ten", async (t) => {
    const env = Object.fromEntries(
      Array.from({ length: 12 }, (_, n) => [`SUMMIT_EDGE__MQTT__RETAINED__${n}`, `topic/${n}`]),
    );
    const { config } = await load(t, "", env);
    assert.deepEqual(config.mqtt.retained, Object.values(env));
  });

  test("that name no key are refused with the nearest that does", async (t) => {
    const refused = async (name: string): Promise<string> => (await problemsOf(t, "", { [name]: "1" })).join("\n");
    assert.equal(
      await refused("SUMMIT_EDGE__UPLINK__BACH__LINGER"),
      "SUMMIT_EDGE__UPLINK__BACH__LINGER: no such key; did you mean `SUMMIT_EDGE__UPLINK__BATCH__LINGER`?",
    );
    assert.match(await refused("SUMMIT_EDGE__COLOUR"), /known here: SUMMIT_EDGE__GATEWAY, /);
    assert.match(await refused("SUMMIT_EDGE__HTTP__PORT__X"), /SUMMIT_EDGE__HTTP__PORT is a single value/);
    assert.match(await refused("SUMMIT_EDGE__SERIAL__FIRST"), /a position in the list/);
    assert.match(await refused("SUMMIT_EDGE__SERIAL__1__NAME"), /the list has 0 items so far; the next one is 0/);
    assert.match(await refused("SUMMIT_EDGE__HTTP____PROTO__"), /no such key/);
  });

  test("that do not fit are reported by the variable's name", async (t) => {
    const problems = await problemsOf(t, "http:\n  port: 1\n", {
      SUMMIT_EDGE__HTTP__PORT: "http",
      SUMMIT_EDGE__SERIAL: "[",
      SUMMIT_EDGE__UPLINK__URL: "",
      SUMMIT_EDGE__OUTBOX__MAXAGE: "5",
    });
    assert.equal(problems.length, 4);
    assert.match(
      problems.find((line) => line.includes("PORT")) ?? "",
      /^SUMMIT_EDGE__HTTP__PORT: http.port: must be a whole number, not "http"$/,
    );
    assert.match(problems.find((line) => line.includes("SERIAL")) ?? "", /^SUMMIT_EDGE__SERIAL: is not YAML or JSON: /);
    assert.match(problems.find((line) => line.includes("URL")) ?? "", /^SUMMIT_EDGE__UPLINK__URL: uplink.url: /);
    assert.match(problems.find((line) => line.includes("MAXAGE")) ?? "", /its unit is missing/);
  });
});
