/** What a slow reader's queue shows is looked at often enough: it is as full as before whenever it has been filled again. */
import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { SlowReader, STUCK_MS } from "#src/sources/mqtt/slow-reader.js";
import { mutant } from "../../support/mutant.ts";
import { TestClock } from "../../support/test-clock.ts";

/** Whether a reader is cut off within three times `STUCK_MS`, whose queue goes through these lengths, each for so long. */
async function isCutOff(
  t: TestContext,
  lengths: readonly string[],
  eachMs: number,
  Reader = SlowReader,
): Promise<boolean> {
  const clock = new TestClock();
  let cutOff = false;
  const reader = new Reader({
    clock,
    full: () => true,
    low: () => false,
    queued: () => lengths[Math.floor(clock.monotonic() / eachMs) % lengths.length],
    release: () => {},
    stuck: () => {
      cutOff = true;
    },
  });
  t.after(() => reader.stop());
  reader.clogged();
  for (let ms = 0; ms < 3 * STUCK_MS && !cutOff; ms += 1000) await clock.advance(1000);
  return cutOff;
}

const FILLED_AGAIN = ["FFFF", "A000"];

test("a reader whose queue is filled up to the same length again and again takes something", async (t) => {
  assert.equal(await isCutOff(t, FILLED_AGAIN, STUCK_MS / 2), false);
});

test("one whose queue stays as it is takes nothing", async (t) => {
  assert.equal(await isCutOff(t, ["FFFF"], STUCK_MS), true);
});

test("control: a queue that is looked at once in all that time says nothing", async (t) => {
  const dist = mutant(t, "sources/mqtt/slow-reader.js", "SAMPLE_MS = 10_000", "SAMPLE_MS = 600_000");
  const { SlowReader: Seldom } = (await import(`${dist}/sources/mqtt/slow-reader.js`)) as {
    SlowReader: typeof SlowReader;
  };
  assert.equal(await isCutOff(t, FILLED_AGAIN, STUCK_MS / 2, Seldom), true);
});
