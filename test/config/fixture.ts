import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { type LoadedConfig, type LoadOptions, readConfig } from "#src/config/load.js";
import { ConfigError, problemText } from "#src/config/problem.js";

/** Writes a configuration file into a folder of its own, which goes when the test ends. */
export async function configFile(t: TestContext, yaml: string | Uint8Array): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "summit-config-"));
  t.after(() => rm(folder, { recursive: true }));
  const file = join(folder, "gateway.yaml");
  await writeFile(file, yaml);
  return file;
}

export async function load(
  t: TestContext,
  yaml: string,
  env: Record<string, string> = {},
  options?: LoadOptions,
): Promise<LoadedConfig> {
  return readConfig(await configFile(t, yaml), env, options);
}

/** The problems of a configuration that must be refused, a line of text each. */
export async function problemsOf(
  t: TestContext,
  yaml: string | Uint8Array,
  env: Record<string, string> = {},
  options?: LoadOptions,
): Promise<string[]> {
  const file = await configFile(t, yaml);
  try {
    await readConfig(file, env, options);
  } catch (error) {
    assert.ok(error instanceof ConfigError, String(error));
    assert.equal(error.code, "CONFIG_INVALID");
    assert.match(error.hint, /config check --config/);
    return error.problems.map(problemText);
  }
  assert.fail("the configuration was not refused");
}
