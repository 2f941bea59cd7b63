/** The arithmetic of putting times right, for any reading, any wrong clock and any moment. */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { test } from "node:test";
import fc from "fast-check";
import { TimeOrderedIds } from "#src/observation/identity.js";
import { normalise } from "#src/observation/normalise.js";
import type { Observation } from "#src/observation/observation.js";
import { ObservationWriter } from "#src/outbox/observation-text.js";
import { restampedText } from "#src/outbox/restamp.js";

const writer = new ObservationWriter("sierra-014");
const ids = new TimeOrderedIds();

/** What a gateway's clock may say before it is set: from the epoch to the far future. */
const anyWall = fc.integer({ min: 0, max: Date.UTC(2200, 0) });
const realWall = fc.integer({ min: Date.UTC(2020, 0), max: Date.UTC(2100, 0) });
const uptime = fc.integer({ min: 0, max: 10 * 365 * 86_400_000 });
/** Names and texts that look like the ones that are looked for. */
const treacherous = fc.oneof(
  fc.string(),
  fc.constantFrom('","ts_iso":"1999', ',"gateway":{"boot":"x"}', '\\","ts_iso":"', "gateway", "ts_iso", "__proto__"),
);
const payload = fc.dictionary(
  treacherous.filter((key) => !["ts_iso", "ts", "time", "timestamp", "class", "source", "id"].includes(key)),
  fc.oneof(
    treacherous,
    fc.double({ noNaN: true, noDefaultInfinity: true }),
    fc.dictionary(treacherous, fc.jsonValue()),
  ),
  { maxKeys: 4 },
);

function observed(fields: object, name: string, receivedAt: number): Observation | undefined {
  const result = normalise({ ...fields }, { source: "mast", class: name || "x", receivedAt }, ids);
  return result.kind === "observation" ? result.observation : undefined;
}

test("a provisional reading gets the time at which it really came in; everything else stays as it is", () => {
  fc.assert(
    fc.property(payload, treacherous, anyWall, realWall, uptime, fc.nat(1e9), (fields, name, wrong, right, up, seq) => {
      const observation = observed(fields, name, wrong);
      if (observation === undefined) return;
      const boot = randomUUID();
      const text = writer.write(observation, wrong, "unsynchronised", seq, { boot, uptime_ms: up });
      const before = JSON.parse(text);
      // The boot's offset, as it is known at any later moment: wall time less monotonic time.
      const restamped = restampedText(text, new Map([[boot, right - up]]));
      const after = JSON.parse(restamped);
      const iso = new Date(right).toISOString();
      assert.deepEqual(after, {
        ...before,
        ts_iso: iso,
        gateway: {
          id: "sierra-014",
          received_at: iso,
          clock: "synchronised",
          restamped_from: new Date(wrong).toISOString(),
          seq,
        },
      });
      assert.deepEqual(Object.keys(after), Object.keys(before), "the order of the members is kept");
      assert.ok(Buffer.byteLength(restamped) <= Buffer.byteLength(text), "no limit is exceeded that was kept");
      assert.equal(restampedText(restamped, new Map([[boot, 0]])), restamped, "once only");
    }),
    { numRuns: 500 },
  );
});

test("two readings stay as far apart as they really were, whatever the clock did between them", () => {
  fc.assert(
    fc.property(anyWall, anyWall, realWall, uptime, fc.nat(1e9), (wrongA, wrongB, right, up, apart) => {
      const boot = randomUUID();
      const times = [
        { wrong: wrongA, at: up },
        { wrong: wrongB, at: up + apart },
      ].map(({ wrong, at }) => {
        const observation = observed({ n: 1 }, "smoke", wrong);
        assert.ok(observation);
        const text = writer.write(observation, wrong, "stepped", 1, { boot, uptime_ms: at });
        return Date.parse(JSON.parse(restampedText(text, new Map([[boot, right - up]]))).ts_iso);
      });
      assert.equal((times[1] ?? 0) - (times[0] ?? 0), apart);
    }),
  );
});

test("what a device stamped itself, or a boot whose clock never came to be known, stays as it is to the byte", () => {
  fc.assert(
    fc.property(payload, treacherous, anyWall, uptime, fc.boolean(), (fields, name, wrong, up, own) => {
      const observation = observed(own ? { ...fields, ts: 1_780_000_000 } : fields, name, wrong);
      if (observation === undefined) return;
      const boot = randomUUID();
      const text = writer.write(observation, wrong, "unsynchronised", 7, { boot, uptime_ms: up });
      const known = own ? boot : randomUUID();
      assert.equal(restampedText(text, new Map([[known, 1_780_000_000_000]])), text);
    }),
  );
});

test("a time beyond all calendars is not made", () => {
  const observation = observed({ n: 1 }, "smoke", 0);
  assert.ok(observation);
  const text = writer.write(observation, 0, "unsynchronised", 1, { boot: "b", uptime_ms: 0 });
  assert.equal(restampedText(text, new Map([["b", 1e18]])), text);
});
