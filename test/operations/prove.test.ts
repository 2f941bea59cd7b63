/** `npm run prove` names every loop: a test whose number of rounds can be set has its long form there. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

const TESTS = new URL("../", import.meta.url).pathname;
const SCRIPT = new URL("../../../scripts/prove.mjs", import.meta.url).pathname;

/** Each variable that sets a number of rounds, and the tests that take it. */
function loops(): Map<string, string[]> {
  const found = new Map<string, string[]>();
  for (const folder of ["outbox", "system", "uplink", "sources"]) {
    for (const name of readdirSync(join(TESTS, folder), { encoding: "utf8", recursive: true })) {
      if (!name.endsWith(".test.js")) continue;
      const text = readFileSync(join(TESTS, folder, name), "utf8");
      for (const [, variable = ""] of text.matchAll(/Number\(process\.env\.([A-Z_]+)/g)) {
        if (variable.endsWith("_SEED")) continue;
        found.set(variable, [...(found.get(variable) ?? []), `${folder}/${name.replace(".test.js", "")}`]);
      }
    }
  }
  return found;
}

test("every test whose number of rounds can be set is a proof, and every proof is there", () => {
  const script = readFileSync(SCRIPT, "utf8");
  const proofs = [...script.matchAll(/tests: \[([^\]]*)\],\s*variable: "([A-Z_]+)"/g)].map(
    ([, tests = "", variable]) => ({
      variable,
      tests: [...tests.matchAll(/"([^"]+)"/g)].map(([, name]) => name ?? ""),
    }),
  );
  assert.ok(proofs.length >= 9);
  for (const [variable, tests] of loops()) {
    const named = proofs.filter((proof) => proof.variable === variable).flatMap((proof) => proof.tests);
    assert.deepEqual(named.sort(), [...new Set(tests)].sort(), `what takes ${variable}`);
  }
  for (const name of proofs.flatMap(({ tests }) => tests)) assert.ok(existsSync(join(TESTS, `${name}.test.js`)), name);
});

test("without a proof, or with one that is not there, the script lists them", () => {
  const help = spawnSync(process.execPath, [SCRIPT, "--help"], { encoding: "utf8" });
  assert.equal(help.status, 0);
  for (const name of ["model", "kill", "power-cuts", "faults", "flips", "clock", "traffic"])
    assert.match(help.stdout, new RegExp(`^  ${name} +ROUNDS: `, "m"));
  assert.equal(spawnSync(process.execPath, [SCRIPT, "nothing", "3"]).status, 2);
});
