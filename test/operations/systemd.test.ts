import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { test } from "node:test";
import { pino } from "pino";
import { statusLine } from "#src/operations/status.js";
import { type Notification, type Probe, systemdNotify, Watchdog, watchdogTimeout } from "#src/operations/systemd.js";
import { MemoryGatewayView } from "../support/memory-view.ts";
import { skipWithout } from "../support/programs.ts";
import { TestClock } from "../support/test-clock.ts";

const TIMEOUT_MS = 60_000;
const QUARTER_MS = TIMEOUT_MS / 4;

/** A log whose warnings can be read. */
function warnings() {
  const lines: Record<string, unknown>[] = [];
  const log = pino({ level: "warn" }, { write: (line: string) => void lines.push(JSON.parse(line)) });
  return { lines, log };
}

function watch(probes: readonly Probe[], timeoutMs: number | undefined = TIMEOUT_MS) {
  const clock = new TestClock();
  const { lines, log } = warnings();
  const told: Notification[] = [];
  const systemd = { listens: true };
  const notify = async (...notifications: Notification[]) => {
    told.push(...notifications);
    return systemd.listens;
  };
  const watchdog = new Watchdog({ notify, timeoutMs, probes, clock, log });
  watchdog.start();
  return { clock, watchdog, systemd, lines, pets: () => told.length };
}

test("the watchdog is petted while every part gets on", async () => {
  let turns = 0;
  const { clock, pets } = watch([
    { name: "forwarder", progress: () => turns++ },
    { name: "worker", roundTrip: async () => {} },
  ]);
  for (let quarter = 1; quarter <= 8; quarter++) {
    await clock.advance(QUARTER_MS);
    assert.equal(pets(), quarter);
  }
});

test("each pet brings the line that systemctl shows", async () => {
  const clock = new TestClock();
  const { log } = warnings();
  const told: Notification[][] = [];
  const notify = async (...notifications: Notification[]) => told.push(notifications) > 0;
  const line = () => statusLine(new MemoryGatewayView());
  new Watchdog({ notify, timeoutMs: TIMEOUT_MS, probes: [], statusLine: line, clock, log }).start();
  await clock.advance(QUARTER_MS);
  assert.deepEqual(told, [["WATCHDOG=1", "STATUS=15 readings wait; uplink: idle"]]);
});

test("one part that stands still starves the watchdog, and is named once", async () => {
  let turns = 0;
  const { clock, pets, lines } = watch([
    { name: "forwarder", progress: () => 7 },
    { name: "intake", progress: () => turns++ },
  ]);
  await clock.advance(2 * TIMEOUT_MS);
  assert.equal(pets(), 0);
  assert.deepEqual(
    lines.map(({ stuck }) => stuck),
    [["forwarder"]],
  );
});

test("a part that gets on again before the timeout saves the daemon", async () => {
  let turns = 0;
  const { clock, pets } = watch([{ name: "forwarder", progress: () => turns }]);
  await clock.advance(3 * QUARTER_MS - 1);
  turns = 1;
  await clock.advance(1);
  assert.equal(pets(), 1);
  await clock.advance(TIMEOUT_MS);
  assert.equal(pets(), 1, "what it did before the last pet does not count again");
});

test("a worker that does not answer starves the watchdog and is not asked again and again", async () => {
  let asked = 0;
  let answer = (): void => {};
  const roundTrip = () => {
    asked++;
    return new Promise<void>((resolve) => {
      answer = resolve;
    });
  };
  const { clock, pets } = watch([{ name: "worker", roundTrip }]);
  await clock.advance(TIMEOUT_MS);
  assert.deepEqual([pets(), asked], [0, 1]);
  answer();
  await clock.advance(QUARTER_MS);
  assert.deepEqual([pets(), asked], [1, 2]);
});

test("a worker that answers with an error gives no sign of life", async () => {
  const { clock, pets } = watch([{ name: "worker", roundTrip: () => Promise.reject(new Error("gone")) }]);
  await clock.advance(TIMEOUT_MS);
  assert.equal(pets(), 0);
});

test("progress that systemd was not told of is told again at the next look", async () => {
  let turns = 0;
  const { clock, pets, systemd } = watch([{ name: "forwarder", progress: () => turns }]);
  systemd.listens = false;
  turns = 1;
  await clock.advance(QUARTER_MS);
  await clock.advance(QUARTER_MS);
  assert.equal(pets(), 2);
});

test("the watchdog sleeps where systemd does not watch, and once it is stopped", async () => {
  const asleep = watch([]);
  asleep.watchdog.stop();
  assert.equal(asleep.clock.waiting, 0);
  const clock = new TestClock();
  const { log } = warnings();
  new Watchdog({ notify: async () => true, timeoutMs: undefined, probes: [], clock, log }).start();
  assert.equal(clock.waiting, 0);
});

test("the timeout is systemd's, and only where it watches this process", () => {
  assert.equal(watchdogTimeout({ WATCHDOG_USEC: "60000000" }, 7), 60_000);
  assert.equal(watchdogTimeout({ WATCHDOG_USEC: "60000000", WATCHDOG_PID: "7" }, 7), 60_000);
  assert.equal(watchdogTimeout({ WATCHDOG_USEC: "60000000", WATCHDOG_PID: "8" }, 7), undefined);
  for (const WATCHDOG_USEC of [undefined, "", "0", "-1", "soon"])
    assert.equal(watchdogTimeout({ ...(WATCHDOG_USEC !== undefined && { WATCHDOG_USEC }) }, 7), undefined);
});

test("without a notification socket nothing is done, successfully", async () => {
  const { lines, log } = warnings();
  assert.equal(await systemdNotify({ PATH: "/nowhere" }, log)("READY=1"), true);
  assert.deepEqual(lines, []);
});

test("a systemd that cannot be told is a warning, not an error", async () => {
  const { lines, log } = warnings();
  assert.equal(await systemdNotify({ NOTIFY_SOCKET: "/nowhere/notify", PATH: "/nowhere" }, log)("READY=1"), false);
  assert.equal(lines.length, 1);
});

/** Binds a Unix datagram socket, which Node.js cannot, and prints each message on a line. */
const RECEIVER = `
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1])
print("bound", flush=True)
while True:
    print(repr(s.recv(4096).decode()), flush=True)
`;

const skip = skipWithout("systemd-notify") || skipWithout("python3");
test("a real notification socket receives READY and a status of one line", { skip, timeout: 60_000 }, async () => {
  const folder = await mkdtemp(join(tmpdir(), "summit-edge-notify-"));
  const socket = join(folder, "notify");
  const receiver = spawn("python3", ["-c", RECEIVER, socket], { stdio: ["ignore", "pipe", "inherit"] });
  try {
    const lines = createInterface({ input: receiver.stdout })[Symbol.asyncIterator]();
    assert.equal((await lines.next()).value, "bound");
    const { log } = warnings();
    const notify = systemdNotify({ NOTIFY_SOCKET: socket, PATH: process.env.PATH }, log);
    assert.equal(await notify("READY=1", "STATUS=15 readings wait\nWATCHDOG=1"), true);
    assert.equal((await lines.next()).value, String.raw`'READY=1\nSTATUS=15 readings wait WATCHDOG=1'`);
    assert.equal((await lines.next()).value, "'BARRIER=1'", "the sender waits until the message has been taken");
  } finally {
    receiver.kill();
    await once(receiver, "exit");
    await rm(folder, { recursive: true });
  }
});
