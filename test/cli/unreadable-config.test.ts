/** The installed configuration may be read by root and the daemon's user: what the commands of anybody else say. */
import assert from "node:assert/strict";
import { chmod } from "node:fs/promises";
import { type TestContext, test } from "node:test";
import { daemonAddress } from "#src/cli/daemon.js";
import { failureText } from "#src/cli/failure.js";
import { loadConfig } from "#src/config/load.js";
import { configFile } from "../config/fixture.ts";

const NOBODY = 65534;

/** What a command says that begins with `use`, called by somebody who may not read the file. */
async function saidToOthers(t: TestContext, use: (file: string) => Promise<unknown>): Promise<string> {
  const file = await configFile(t, "gateway: { id: here }");
  await chmod(file, 0o000);
  // Root may read everything.
  const isRoot = process.getuid?.() === 0;
  if (isRoot) process.seteuid?.(NOBODY);
  try {
    await use(file);
    return "";
  } catch (thrown) {
    return failureText(thrown, false, ["--config", file]).replaceAll(file, "FILE");
  } finally {
    if (isRoot) process.seteuid?.(0);
  }
}

test("a command that needs the configuration says to run it with sudo, and has nothing mended", async (t) => {
  assert.equal(
    await saidToOthers(t, (file) => loadConfig(file, {})),
    "error: FILE has 1 problem\n  cannot be read: permission denied\n" +
      "hint: It is for root and the daemon's user: run the command with sudo, or as that user.\n",
  );
});

test("a command that asks the running gateway is told the way without the configuration", async (t) => {
  const terminal = { env: {}, installedConfig: () => undefined };
  const said = await saidToOthers(t, (config) => daemonAddress({ config }, terminal));
  assert.match(said, /hint: It is for root .*sudo.* --url http:\/\/127\.0\.0\.1:8480/);
  const free = await daemonAddress({ url: "http://127.0.0.1:8480" }, { ...terminal, installedConfig: () => "/none" });
  assert.equal(free.url.port, "8480", "which asks for no file");
});

test("a file that is not there is none of that", async () => {
  await assert.rejects(loadConfig("/nonexistent.yaml", {}), { code: "CONFIG_INVALID", hint: /^Mend what is listed/ });
});
