import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { GatewayError } from "#src/kernel/errors.js";
import { Routes } from "#src/sources/mqtt/routes.js";
import { covers, isTopicName, parseTopicFilter } from "#src/sources/mqtt/topics.js";
import { mqttConfig } from "../../support/broker-under-test.ts";

describe("topic filters", () => {
  // MQTT 3.1.1, section 4.7: the examples of the standard.
  const cases: [string, string, boolean][] = [
    ["sport/tennis/player1/#", "sport/tennis/player1", true],
    ["sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true],
    ["sport/#", "sport", true],
    ["#", "a/b", true],
    ["sport/tennis/+", "sport/tennis/player1", true],
    ["sport/tennis/+", "sport/tennis/player1/ranking", false],
    ["sport/+", "sport", false],
    ["sport/+", "sport/", true],
    ["+/+", "/finance", true],
    ["/+", "/finance", true],
    ["+", "/finance", false],
    ["#", "$SYS/x", false],
    ["+/x", "$SYS/x", false],
    ["$SYS/#", "$SYS/x", true],
    ["a/b", "a/b", true],
    ["a/b", "a/B", false],
  ];
  for (const [filter, topic, expected] of cases) {
    it(`${filter} ${expected ? "covers" : "does not cover"} ${topic}`, () => {
      const parsed = parseTopicFilter(filter);
      assert.ok(parsed);
      assert.equal(covers(parsed, topic), expected);
    });
  }

  it("are told from what is none", () => {
    for (const text of ["", "a#", "a/#/b", "a+", "+a", "a/b+/c", "a\0"])
      assert.equal(parseTopicFilter(text), undefined);
    for (const text of ["", "a/+", "#", "a\0b"]) assert.equal(isTopicName(text), false);
  });
});

describe("the default routes", () => {
  const routes = new Routes(mqttConfig().routes);
  const cases: [string, ReturnType<Routes["match"]>][] = [
    ["observations/smoke", { class: "smoke", source: undefined, priority: undefined }],
    ["telemetry/mast-3", { class: "telemetry", source: "mast-3", priority: undefined }],
    ["alerts/mast-3", { class: "alert", source: "mast-3", priority: "critical" }],
    ["health/n1/heartbeat", { class: "heartbeat", source: "n1", priority: "low" }],
    ["health/n1", undefined],
    ["observations/", undefined],
    ["observations/a/b", undefined],
    ["other", undefined],
  ];
  for (const [topic, expected] of cases) {
    it(`${topic} ${expected === undefined ? "carries no readings" : `is of class ${expected.class}`}`, () => {
      assert.deepEqual(routes.match(topic), expected);
      assert.deepEqual(routes.match(topic), expected, "asked again");
    });
  }
});

describe("configured routes", () => {
  it("may have wildcards beside their places; the first that matches decides", () => {
    const routes = new Routes([
      { topic: "site/+/{source}/{class}" },
      { topic: "site/#", class: "other", priority: "low" },
    ]);
    assert.deepEqual(routes.match("site/x/mast/smoke"), { class: "smoke", source: "mast", priority: undefined });
    assert.deepEqual(routes.match("site/x"), { class: "other", source: undefined, priority: "low" });
  });

  it("that cannot be meant are named with their key", () => {
    for (const topic of ["a/{clas}", "a/x{class}", "{class}/{class}", "{source}/{device}", "a/#/b", "a+/b"]) {
      assert.throws(
        () => new Routes([{ topic: "ok" }, { topic }]),
        (error: unknown) => error instanceof GatewayError && error.message.startsWith("mqtt.routes[1]"),
        topic,
      );
    }
  });

  it("remember no more topics than they may, and nothing wrong", () => {
    const routes = new Routes([{ topic: "t/{device}" }]);
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 5000 }), (device) => {
        assert.equal(routes.match(`t/${device}`)?.source, String(device));
      }),
      { numRuns: 3000 },
    );
  });

  it("may call a level as the contract's table of topics does: {device}, {node} and {id} are all the source", () => {
    for (const level of ["{source}", "{device}", "{node}", "{id}"]) {
      const routes = new Routes([{ topic: `a/${level}/b`, class: "c" }]);
      assert.equal(routes.match("a/mast-3/b")?.source, "mast-3", level);
    }
  });
});
