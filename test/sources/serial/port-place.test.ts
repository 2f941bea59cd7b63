/** Which device a port is, and who has it: USB adapters by what they say, ports that somebody else reads. */
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, realpathSync, renameSync, symlinkSync } from "node:fs";
import { dirname, join } from "node:path";
import { type TestContext, test } from "node:test";
import type { SerialPortConfig } from "#src/config/schema.js";
import type { SerialSource } from "#src/sources/serial/serial-source.js";
import { missing } from "../../support/commands.ts";
import { FakeSysfs } from "../../support/fake-sysfs.ts";
import { PtyPair } from "../../support/pty-pair.ts";
import { jsonPort, serialHouse } from "../../support/serial-house.ts";
import { temporaryFolder } from "../../support/temporary-folder.ts";
import { TestClock } from "../../support/test-clock.ts";
import { until } from "../../support/until.ts";

async function plugIn(t: TestContext, folder: string, name: string): Promise<PtyPair> {
  const pair = await PtyPair.plugIn(folder, name);
  t.after(() => pair.unplug());
  return pair;
}

async function start(t: TestContext, house: { readonly sources: SerialSource[] }): Promise<SerialSource> {
  const [source] = house.sources;
  assert.ok(source);
  t.after(() => source.stop());
  await source.start();
  return source;
}

const isOpen = (source: SerialSource) => () => source.status().state === "open";
const FTDI = { vendorId: "0403", productId: "6001" } as const;

/** A program that holds the port's lock, as picocom and pyserial do; resolves once it has it. */
async function holdLock(t: TestContext, device: string): Promise<{ pid: number; end: () => Promise<void> }> {
  const child = spawn("flock", ["--no-fork", device, "sh", "-c", "echo held; exec sleep 600"], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const end = async () => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    child.kill("SIGKILL");
    await once(child, "exit");
  };
  t.after(end);
  await once(child.stdout, "data");
  assert.ok(child.pid !== undefined);
  return { pid: child.pid, end };
}

test("an adapter is found by what it says of itself, and found again under another number", async (t) => {
  const folder = temporaryFolder(t);
  const devices = new FakeSysfs(folder);
  const [first, other] = [await plugIn(t, folder, "first"), await plugIn(t, folder, "other")];
  const ours = { ...FTDI, tty: "ttyUSB0", socket: "1-1", serialNumber: "A1", device: first.device };
  devices.plugIn(ours);
  devices.plugIn({ ...FTDI, tty: "ttyUSB1", socket: "1-2", serialNumber: "B2", device: other.device });
  const house = serialHouse([jsonPort({ match: { ...FTDI, serialNumber: "A1" } })], { devices });
  const source = await start(t, house);
  await first.say('{"n":1}\n');
  await other.say('{"n":99}\n');
  await until("the reading", () => house.intake.readings.length === 1);
  assert.equal(house.intake.readings[0]?.origin.via, "USB 0403:6001, serial number A1");

  devices.unplug(ours);
  await first.unplug();
  await until("noticed", () => house.conditions.list()[0]?.code === "serial-port-missing");
  await until("looked for", () => /none of the 1 USB serial ports here fits/.test(source.status().detail ?? ""));
  assert.match(source.status().detail ?? "", /^USB 0403:6001, serial number A1 is not there/);
  const again = await plugIn(t, folder, "again");
  devices.plugIn({ ...ours, tty: "ttyUSB7", device: again.device });
  await until("open", isOpen(source));
  await again.say('{"n":2}\n');
  await until("the second reading", () => house.intake.readings.length === 2);
  assert.deepEqual(house.intake.payloads(), [{ n: 1 }, { n: 2 }]);
  const opened = house.lines.filter(({ msg }) => msg === "serial port open").map(({ device }) => device);
  assert.deepEqual(opened, [`${devices.dev}/ttyUSB0`, `${devices.dev}/ttyUSB7`]);
  assert.deepEqual(house.conditions.list(), []);
});

test("two adapters that both fit are not chosen from: both are named, with their sockets", async (t) => {
  const folder = temporaryFolder(t);
  const devices = new FakeSysfs(folder);
  const pair = await plugIn(t, folder, "tty");
  const twin = { ...FTDI, tty: "ttyUSB1", socket: "1-2" };
  devices.plugIn({ ...FTDI, tty: "ttyUSB0", socket: "1-1", device: pair.device });
  devices.plugIn(twin);
  const house = serialHouse([jsonPort({ match: FTDI })], { devices });
  const source = await start(t, house);
  const [condition] = house.conditions.list();
  assert.equal(condition?.code, "serial-port-ambiguous");
  assert.match(
    condition?.detail ?? "",
    /^2 adapters are USB 0403:6001: .*usb-0:1:1\.0-port0 \(.*ttyUSB0\), .*usb-0:2:1\.0-port0 \(.*ttyUSB1\); add serialNumber/,
  );
  devices.unplug(twin);
  await until("open once one is left", isOpen(source));
  assert.deepEqual(house.conditions.list(), []);
});

test("two adapters are told apart by interface, where one has several ports", async (t) => {
  const folder = temporaryFolder(t);
  const devices = new FakeSysfs(folder);
  const [pair, far] = [await plugIn(t, folder, "tty"), await plugIn(t, folder, "far")];
  devices.plugIn({ ...FTDI, tty: "ttyUSB0", socket: "1-1", interface: 0, device: far.device });
  devices.plugIn({ ...FTDI, tty: "ttyUSB1", socket: "1-1", interface: 1, device: pair.device });
  const house = serialHouse([jsonPort({ match: { ...FTDI, interface: 1 } })], { devices });
  await start(t, house);
  await pair.say('{"n":1}\n');
  await until("the reading", () => house.intake.readings.length === 1);
});

test("a port that another program has locked is left as it is set up, its holder is named, and it is opened afterwards", async (t) => {
  const pair = await plugIn(t, temporaryFolder(t), "tty");
  const stty = (...args: string[]) => execFileSync("stty", ["-F", pair.device, ...args], { encoding: "utf8" });
  stty("icrnl");
  const holder = await holdLock(t, pair.device);
  const house = serialHouse([jsonPort({ path: pair.device })]);
  const source = await start(t, house);
  const { detail = "" } = source.status();
  const who = `(?:sh|sleep) \\(process ${holder.pid}\\)`;
  assert.match(detail, new RegExp(`^${pair.device} is in use by ${who}: end it`));
  assert.match(stty("-a"), / icrnl /, "the holder's settings are untouched");
  await holder.end();
  await until("open", isOpen(source));
  assert.match(stty("-a"), / -icrnl /, "control: opening sets the line up");
});

test("a port that another program has taken for itself (TIOCEXCL) is reported as in use", {
  skip: missing("python3"),
}, async (t) => {
  const pair = await plugIn(t, temporaryFolder(t), "tty");
  const hold =
    "import fcntl, os, sys, termios; fcntl.ioctl(os.open(sys.argv[1], os.O_RDWR | os.O_NOCTTY), termios.TIOCEXCL); print('held', flush=True); sys.stdin.read()";
  const holder = spawn("python3", ["-c", hold, pair.device], { stdio: ["pipe", "pipe", "inherit"] });
  t.after(() => holder.kill());
  await once(holder.stdout, "data");
  chmodSync(dirname(pair.device), 0o755);
  chmodSync(realpathSync(pair.device), 0o666);
  await import("serialport");
  // Of root the kernel would let it pass.
  const asRoot = process.getuid?.() === 0;
  if (asRoot) process.seteuid?.(65534);
  try {
    const source = await start(
      t,
      serialHouse([jsonPort({ path: pair.device, reopen: { initial: 60_000, max: 60_000 } })]),
    );
    assert.match(
      source.status().detail ?? "",
      /tty is in use by (?:python3.* \(process \d+\)|somebody \(sudo fuser -v )/,
    );
  } finally {
    if (asRoot) process.seteuid?.(0);
  }
});

test("the lock keeps other programs off an open port", async (t) => {
  const pair = await plugIn(t, temporaryFolder(t), "tty");
  const attempt = () => execFileSync("flock", ["--nonblock", pair.device, "true"]);
  attempt();
  const source = await start(t, serialHouse([jsonPort({ path: pair.device })]));
  assert.throws(attempt);
  await source.stop();
  attempt();
});

for (const { flowControl, shown } of [
  { flowControl: "none", shown: ["-crtscts", "-ixon", "-ixoff"] },
  { flowControl: "rtscts", shown: ["crtscts", "-ixon", "-ixoff"] },
  { flowControl: "xonxoff", shown: ["-crtscts", "ixon", "ixoff"] },
] satisfies { flowControl: SerialPortConfig["flowControl"]; shown: string[] }[]) {
  test(`flow control ${flowControl} is set on the line`, async (t) => {
    const pair = await plugIn(t, temporaryFolder(t), "tty");
    await start(t, serialHouse([jsonPort({ path: pair.device, flowControl })]));
    const words = execFileSync("stty", ["-F", pair.device, "-a"], { encoding: "utf8" }).split(/[\s;]+/);
    for (const word of shown) assert.ok(words.includes(word), `${word} in ${words.join(" ")}`);
  });
}

test("a silent descriptor whose name has come to mean another device is given up for that one", async (t) => {
  const folder = temporaryFolder(t);
  const clock = new TestClock();
  const [before, behind] = [await plugIn(t, folder, "before"), await plugIn(t, folder, "behind")];
  const name = join(folder, "by-id");
  symlinkSync(realpathSync(before.device), name);
  const house = serialHouse([jsonPort({ path: name })], { clock });
  const source = await start(t, house);
  await clock.advance(10_000);
  assert.equal(source.status().state, "open", "control: the same device is kept");
  symlinkSync(realpathSync(behind.device), `${name}.new`);
  renameSync(`${name}.new`, name);
  const opened = () => house.lines.filter(({ msg }) => msg === "serial port open").length === 2;
  await until("opened anew", opened, () => clock.advance(100));
  await behind.say('{"n":1}\n');
  await until("the reading", () => house.intake.readings.length === 1);
});
