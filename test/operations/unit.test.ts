import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, test } from "node:test";
import { projectRoot, run, skipWithout } from "../support/programs.ts";

const skip = skipWithout("systemd-analyze");
const unit = readFileSync(join(projectRoot, "systemd", "summit-edge.service"), "utf8");
let folder: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "summit-edge-unit-"));
});
afterEach(() => rmSync(folder, { recursive: true }));

/** The unit in a folder of its own, with a Node.js that this machine has: the rest is as it is shipped. */
function shipped(text = unit): string {
  const path = join(folder, "summit-edge.service");
  writeFileSync(path, text.replace("/usr/bin/node", process.execPath));
  return path;
}
// systemd-analyze ends with 0 even where it ignores a line that it does not understand: only silence is a pass.
const verify = (path: string) => run("systemd-analyze", ["verify", "--man=no", path]);

test("systemd understands every line of the unit", { skip }, () => {
  assert.deepEqual(verify(shipped()), { status: 0, output: "" });
});

test("the credentials that the unit shows as examples are understood as well", { skip }, () => {
  assert.deepEqual(verify(shipped(unit.replaceAll("#LoadCredential", "LoadCredential"))), { status: 0, output: "" });
});

test("a unit with a mistake does not pass this test", { skip }, () => {
  assert.match(verify(shipped(unit.replace("WatchdogSec", "WatchDogSec"))).output, /WatchDogSec/);
});

test("systemd rates the unit's exposure OK, at 2.5 or better", { skip }, () => {
  const args = ["security", "--offline=true", "--no-pager", "--threshold=25", shipped()];
  const { status, output } = run("systemd-analyze", args);
  assert.equal(status, 0, output);
});

test("the daemon is started again whatever ended it, without a limit, with 5 s between", () => {
  for (const line of ["Restart=always", "RestartSec=5s", "StartLimitIntervalSec=0", "Type=notify", "NotifyAccess=all"])
    assert.ok(unit.split("\n").includes(line), line);
  assert.doesNotMatch(unit, /^RestartPreventExitStatus|^SuccessExitStatus/m);
});
