import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { summitEdge } from "../support/command.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

const verified = (...args: string[]) => summitEdge(["outbox", "verify", ...args]);

test("verify of a file of another kind says so, and what to name; a damaged, emptied or zeroed outbox is called damaged", async (t) => {
  const { status, stdout, stderr } = await verified("config/gateway.yaml");
  assert.deepEqual([status, stdout], [2, ""]);
  assert.match(stderr, /^error: .*gateway\.yaml is no outbox, .*\nhint: Name a copy .*outbox backup FILE/);
  const file = join(temporaryFolder(t), "outbox.db");
  for (const content of [Buffer.alloc(0), Buffer.alloc(8192), Buffer.from("SQLite format 3\0")]) {
    writeFileSync(file, content);
    const damaged = await verified(file);
    assert.equal(damaged.status, 1);
    assert.match(damaged.stderr, /outbox\.db is damaged/);
  }
});

test("what has been written over the outbox in its place is damage to it, by its name too", async (t) => {
  const folder = temporaryFolder(t);
  const config = join(folder, "gateway.yaml");
  writeFileSync(config, `gateway: { dataDir: ${folder} }\n`);
  writeFileSync(join(folder, "outbox.db"), "somebody's notes\n".repeat(1000));
  for (const named of [[], [join(folder, "outbox.db")]]) {
    const { status, stderr } = await verified(...named, "--config", config);
    assert.equal(status, 1);
    assert.match(stderr, /outbox\.db is damaged[\s\S]*restart the daemon/);
  }
});
