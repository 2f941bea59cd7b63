import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, test } from "node:test";
import { Collector } from "../support/collector.ts";
import { Daemon } from "../support/daemon.ts";
import { device } from "../support/device.ts";
import { projectRoot, run, skipWithout } from "../support/programs.ts";
import { PtyPair } from "../support/pty-pair.ts";

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

const rated = (text: string) =>
  run("systemd-analyze", ["security", "--offline=true", "--no-pager", "--threshold=15", shipped(text)]);

test("systemd rates the unit's exposure at 1.5 or better", { skip }, () => {
  const { status, output } = rated(unit);
  assert.equal(status, 0, output);
  assert.notEqual(rated(unit.replace("PrivateUsers=yes", "")).status, 0);
});

test("serial ports stay usable: their group, their kinds of device, and no empty /dev", () => {
  for (const kind of ["ttyS", "ttyAMA", "ttyUSB", "ttyACM"])
    assert.match(unit, new RegExp(`^DeviceAllow=char-${kind} rw$`, "m"));
  assert.match(unit, /^SupplementaryGroups=dialout$/m);
  assert.doesNotMatch(unit, /^PrivateDevices=yes/m);
});

/** The system calls in sets of systemd's, those that sets in them hold included. */
function systemCalls(...sets: string[]): string[] {
  const lines = sets.flatMap((set) => run("systemd-analyze", ["syscall-filter", "--no-pager", set]).output.split("\n"));
  const names = lines.map((line) => line.trim()).filter((line) => /^@?[a-z_0-9-]+$/.test(line) && !sets.includes(line));
  return [...new Set(names.flatMap((name) => (name.startsWith("@") ? systemCalls(name) : [name])))];
}

test("the daemon does all its work with the system calls that the unit leaves it", {
  skip: skip || skipWithout("strace") || skipWithout("socat"),
}, async (t) => {
  const fusion = await Collector.start();
  t.after(() => fusion.stop());
  const port = await PtyPair.plugIn(folder);
  t.after(() => port.unplug());
  const denied = systemCalls("@privileged", "@resources");
  const allowed = new Set([...systemCalls("@system-service", "@pkey"), ...denied]);
  assert.ok(denied.length > 50 && allowed.size > 200);
  const trace = join(folder, "trace");
  const daemon = await Daemon.start({
    folder,
    changes: {
      uplink: { url: fusion.url },
      serial: [{ name: "mast", path: port.device, baudRate: 4800, codec: "nmea0183" }],
    },
    under: [
      "strace",
      "-f",
      "-qq",
      "-o",
      trace,
      "-e",
      `inject=${denied.map((name) => `?${name}`).join(",")}:error=EPERM`,
    ],
  });
  t.after(() => daemon.stop("SIGKILL"));
  const client = await device(t, daemon.ports.mqtts, { protocol: "mqtts", ca: daemon.ca });
  await client.publishAsync("observations/smoke", '{"n": 1}', { qos: 1 });
  await port.say("$GPRMC,123519,A,4807.038,N,01131.000,E,022.4,084.4,230394,003.1,W*6A\r\n");
  await daemon.until(({ delivered }) => delivered === 2);
  await client.endAsync();
  // The signal is for the daemon: strace, which started it, passes none on.
  process.kill(Number(/^(\d+) +execve\(/.exec(readFileSync(trace, "utf8"))?.[1]), "SIGTERM");
  assert.equal(await daemon.ended(), 0);
  const used = new Set(
    [...readFileSync(trace, "utf8").matchAll(/^\d+ +([a-z_0-9]+)\(/gm)].map(([, name]) => name ?? ""),
  );
  assert.ok(used.has("fsync") || used.has("fdatasync"));
  assert.deepEqual(
    [...used].filter((name) => !allowed.has(name)),
    [],
  );
});

test("the daemon is started again whatever ended it, without a limit, with 5 s between", () => {
  for (const line of ["Restart=always", "RestartSec=5s", "StartLimitIntervalSec=0", "Type=notify", "NotifyAccess=all"])
    assert.ok(unit.split("\n").includes(line), line);
  assert.doesNotMatch(unit, /^RestartPreventExitStatus|^SuccessExitStatus/m);
});
