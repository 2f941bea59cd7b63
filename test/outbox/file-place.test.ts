/** When it is noticed that the outbox's log is not the one that was opened any more. */
import assert from "node:assert/strict";
import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { FilePlace } from "#src/outbox/file-place.js";
import { mutant } from "../support/mutant.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

/** What looks at these times (ms) find, where the log was removed after the first one, and another put there if `another`. */
function places(t: TestContext, times: readonly number[], another: boolean, Kind = FilePlace): string[] {
  const file = join(temporaryFolder(t), "outbox.db");
  const log = `${file}-wal`;
  for (const part of [file, log]) writeFileSync(part, "");
  let now = 0;
  const store = { copyTo: async () => {}, bringLogIn: () => {}, content: undefined };
  const ignored = { onNotice: () => {}, onOverwritten: () => {}, onTouched: () => {}, onPutBack: () => {} };
  const place = new Kind({ file, store, monotonic: () => now, ...ignored });
  return times.map((time, index) => {
    now = time;
    const found = place.look();
    if (index === 0) {
      rmSync(log);
      // Takes the number of the file that was removed, or the next would have it.
      writeFileSync(`${log}-other`, "");
      if (another) writeFileSync(log, "");
    }
    return found;
  });
}

test("that the log was removed is seen at the next look", async (t) => {
  assert.deepEqual(places(t, [0, 1], false), ["in-place", "log-gone"]);
  const dist = mutant(t, "outbox/file-place.js", "LOG_SEEN_MS && existsSync(", "LOG_SEEN_MS && String(");
  const control = (await import(`${dist}/outbox/file-place.js`)) as { FilePlace: typeof FilePlace };
  assert.deepEqual(places(t, [0, 1], false, control.FilePlace), ["in-place", "in-place"]);
});

test("another log in its place is seen within 50 ms of the last look at which it was the right one", (t) => {
  assert.deepEqual(places(t, [0, 1, 49, 50, 51], true), ["in-place", "in-place", "in-place", "log-gone", "log-gone"]);
});
