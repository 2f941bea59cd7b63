/** The static check that nothing in src times anything by a clock of its own: what it refuses, and what it lets pass. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { projectRoot, run } from "../support/programs.ts";

const script = join(projectRoot, "scripts", "check-time.mjs");

interface Finding {
  readonly line: number;
  readonly name: string;
}
const { findings } = (await import(script)) as { findings: (source: string) => Finding[] };

const REFUSED = [
  "const from = Date.now();",
  "const at = new Date();",
  "const at = new Date;",
  "const text = `at ${" + "new Date().toISOString()}`;",
  "const text = Date();",
  "const from = performance.now();",
  "const from = process.hrtime.bigint();",
  "const up = process.uptime();",
  'import { uptime } from "node:os";',
  "setTimeout(done, 10);",
  "const timer = globalThis.setInterval(look, 10);",
  'import { setTimeout as sleep } from "node:timers/promises";',
  "const signal = AbortSignal.timeout(100);",
  "const age = clock.now() - acceptedAt;",
  "const age = this.#clock.now() - this.#since;",
  "const dueAt = clock.now() + delayMs;",
  "if (clock.now() >= dueAt) send();",
  "if (dueAt <= this.#parts.clock.now()) send();",
];

for (const source of REFUSED) {
  test(`refuses ${source}`, () => {
    assert.equal(findings(`const before = 1;\n${source}`)[0]?.line, 2);
  });
}

const PASSED = [
  "const at = new Date(clock.now()).toISOString();",
  "const day = new Date(second * 1000);",
  "const day: Date = readDate(text);",
  "const age = clock.monotonic() - since;",
  "const cancel = clock.after(10, look);",
  "socket.setTimeout(1000);",
  "setImmediate(commit);",
  "// Date.now() would do here",
  "/* setTimeout(later) \n * new Date() */",
  "const record = { at: clock.now(), reason };",
  "const url = 'https://example/'; // setTimeout(x)",
];

for (const source of PASSED) {
  test(`lets ${JSON.stringify(source)} pass`, () => assert.deepEqual(findings(source), []));
}

test("the sources are in order, and no exception outlives its reason", () => {
  const { status, output } = run(process.execPath, [script]);
  assert.equal(status, 0, output);
});
