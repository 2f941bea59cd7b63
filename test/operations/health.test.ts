import assert from "node:assert/strict";
import { test } from "node:test";
import type { Condition } from "#src/kernel/conditions.js";
import { assessHealth, type Health } from "#src/operations/health.js";
import type { ClockView } from "#src/operations/view.js";
import { MemoryGatewayView } from "../support/memory-view.ts";

const component = (health: Health, name: string) => health.components.find((each) => each.component === name);
const condition = (changes: Partial<Condition>): Condition => ({
  component: "uplink",
  code: "unreachable",
  severity: "degraded",
  detail: "fusion does not answer",
  since: 1,
  ...changes,
});

test("a gateway that lacks nothing is ok, every component at 100", () => {
  const health = assessHealth(new MemoryGatewayView(), 5);
  assert.equal(health.state, "ok");
  assert.equal(health.score, 100);
  const names = health.components.map((each) => each.component);
  assert.deepEqual(names, ["gateway", "outbox", "ledger", "uplink", "clock", "mqtt", "serial:mast"]);
});

test("an uplink that is away degrades the gateway and never makes it fail", () => {
  const view = new MemoryGatewayView();
  view.facts.conditions = [condition({ severity: "failing" })];
  const health = assessHealth(view, 5);
  assert.equal(component(health, "uplink")?.state, "failing");
  assert.equal(health.state, "degraded");
  assert.ok(health.score > 50 && health.score < 100, `score ${health.score}`);
});

test("an open breaker is reported once: by the uplink's own condition where there is one", () => {
  const view = new MemoryGatewayView();
  view.facts.uplink = { ...view.facts.uplink, breaker: "open" };
  assert.deepEqual(
    component(assessHealth(view, 5), "uplink")?.conditions.map(({ code }) => code),
    ["breaker-open"],
  );
  view.facts.conditions = [condition({})];
  assert.deepEqual(
    component(assessHealth(view, 5), "uplink")?.conditions.map(({ code }) => code),
    ["unreachable"],
  );
});

test("a daemon that cannot do its work fails, whatever else is well", () => {
  const view = new MemoryGatewayView();
  view.facts.alive = { ok: false, reason: "the outbox worker has ended" };
  const health = assessHealth(view, 5);
  assert.deepEqual([health.state, health.score], ["failing", 0]);
});

test("books that do not balance fail by as many readings as are missing", () => {
  const view = new MemoryGatewayView();
  view.facts.ledger = { ...view.facts.ledger, delivered: view.facts.ledger.delivered - 3 };
  const health = assessHealth(view, 5);
  assert.equal(health.state, "failing");
  assert.match(component(health, "ledger")?.conditions[0]?.detail ?? "", /\b3 readings/);
});

test("duplicates take no part in the balance", () => {
  const view = new MemoryGatewayView();
  view.facts.ledger = { ...view.facts.ledger, duplicates: 9999 };
  assert.equal(assessHealth(view, 5).state, "ok");
});

test("the outbox's score falls as it fills", () => {
  const view = new MemoryGatewayView();
  const at = (fill: number) => {
    view.facts.outbox = { ...view.facts.outbox, room: { ...view.facts.outbox.room, fill } };
    return component(assessHealth(view, 5), "outbox")?.score;
  };
  assert.equal(at(0.5), 100);
  assert.equal(at(0.75), 70);
  assert.equal(at(0.9), 52);
  assert.equal(at(1.5), 40);
});

test("what is noticed keeps the time at which it was noticed first, until it is well again", () => {
  const view = new MemoryGatewayView();
  view.facts.clock = { quality: "unsynchronised", forSeconds: 3600, steps: 0 };
  const first = assessHealth(view, 10);
  const second = assessHealth(view, 20, first);
  assert.equal(component(second, "clock")?.conditions[0]?.since, 10);
  view.facts.clock = { quality: "synchronised", forSeconds: 1, steps: 0 };
  const well = assessHealth(view, 30, second);
  view.facts.clock = { quality: "unsynchronised", forSeconds: 3600, steps: 0 };
  assert.equal(component(assessHealth(view, 40, well), "clock")?.conditions[0]?.since, 40);
});

test("a clock that is not synchronised is to be looked at after ten minutes, one that was stepped at once", () => {
  const view = new MemoryGatewayView();
  const codes = (clock: ClockView) => {
    view.facts.clock = clock;
    return component(assessHealth(view, 5), "clock")?.conditions.map(({ code }) => code);
  };
  assert.deepEqual(codes({ quality: "unsynchronised", forSeconds: 599, steps: 0 }), []);
  assert.deepEqual(codes({ quality: "unsynchronised", forSeconds: 600, steps: 0 }), ["unsynchronised"]);
  assert.deepEqual(codes({ quality: "stepped", forSeconds: 0, steps: 1 }), ["stepped"]);
  assert.deepEqual(codes({ quality: "synchronised", forSeconds: 1e6, steps: 1 }), []);
});

test("a clock that is not synchronised says what to do: more where somebody can tell", () => {
  const view = new MemoryGatewayView();
  const why = (clock: ClockView) => {
    view.facts.clock = clock;
    return component(assessHealth(view, 5), "clock")?.conditions[0]?.detail ?? "";
  };
  const clock = { quality: "unsynchronised", forSeconds: 3600, steps: 0 } as const;
  assert.match(why(clock), /enable chrony or systemd-timesyncd/);
  assert.match(why({ ...clock, source: "chronyc" }), /what chronyc says/);
});

test("a component that only a condition names is listed", () => {
  const view = new MemoryGatewayView();
  view.facts.conditions = [condition({ component: "certificates", code: "expiring" })];
  assert.equal(component(assessHealth(view, 5), "certificates")?.state, "degraded");
});
