/** What the line says of its wait. */
import assert from "node:assert/strict";
import { it, type TestContext } from "node:test";
import { Conditions } from "#src/kernel/conditions.js";
import { createLog } from "#src/kernel/telemetry.js";
import { Line } from "#src/uplink/line.js";
import { TestClock } from "../support/test-clock.ts";
import { uplinkConfig } from "./uplink-config.ts";

const UNREACHABLE = {
  kind: "failed",
  fault: "unreachable",
  code: "ECONNREFUSED",
  detail: "refused",
  retryAfterMs: 0,
} as const;
const BUSY = {
  kind: "failed",
  fault: "failing",
  code: "http-503",
  detail: "answered 503",
  retryAfterMs: 600_000,
} as const;

async function lineOf(t: TestContext): Promise<Line> {
  const clock = new TestClock();
  const log = await createLog({ level: "fatal", format: "json" }, {}, { write: () => true });
  const line = new Line({
    config: uplinkConfig("http://127.0.0.1:1/"),
    endpoint: { host: "127.0.0.1", port: 1 },
    clock,
    random: () => 0.999,
    conditions: new Conditions(clock, log),
    log,
    lastSeq: () => 0,
    onChange: () => {},
  });
  t.after(() => line.close());
  return line;
}

it("a wait that fusion's return ends is told from one that fusion has asked for", async (t) => {
  for (const [first, then, looks] of [
    [UNREACHABLE, UNREACHABLE, 1000],
    [BUSY, UNREACHABLE, undefined],
    [UNREACHABLE, BUSY, undefined],
  ] as const) {
    const line = await lineOf(t);
    const permits = [line.admit(), line.admit()];
    for (const [index, failure] of [first, then].entries()) {
      const permit = permits[index];
      assert.ok(permit);
      line.failed(permit, failure);
    }
    assert.equal(line.lookInterval, looks, `${first.code}, then ${then.code}`);
  }
});
