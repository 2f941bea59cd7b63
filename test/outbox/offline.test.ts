import assert from "node:assert/strict";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { loadConfig } from "#src/config/load.js";
import { openOffline } from "#src/outbox/offline.js";
import { temporaryFolder } from "../support/temporary-folder.ts";

async function configOf(t: TestContext, file: string) {
  const folder = temporaryFolder(t);
  const path = join(folder, "gateway.yaml");
  writeFileSync(path, `gateway: { dataDir: ${folder} }\noutbox: { file: ${file} }\n`);
  return { folder, config: await loadConfig(path, {}) };
}

test("an outbox that is not there is told from one that may not be looked at", async (t) => {
  const { folder, config } = await configOf(t, "within/outbox.db");
  await assert.rejects(openOffline(config), { code: "OUTBOX_MISSING", message: /there is no outbox at / });
  // Anything but ENOENT, as EACCES would be; root, which tests may be, is denied nothing.
  writeFileSync(join(folder, "within"), "");
  await assert.rejects(openOffline(config), { code: "OUTBOX_CANNOT_OPEN", hint: /as the daemon's user \(sudo -u/ });
});

test("a file that SQLite cannot open is no fault of the program, and leaves the folder free", async (t) => {
  const { folder, config } = await configOf(t, "outbox.db");
  mkdirSync(join(folder, "outbox.db"));
  for (const _ of [1, 2])
    await assert.rejects(openOffline(config), { code: "OUTBOX_CANNOT_OPEN", hint: /as the daemon's user/ });
});
