/** `doctor serial`: what it says of ports, and what it makes of what it hears on one; what it prints is what the gateway takes. */
import assert from "node:assert/strict";
import { realpathSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { parse, stringify } from "yaml";
import { portsText } from "#src/cli/doctor/ports-text.js";
import { probeSerialPorts } from "#src/cli/doctor/probe-ports.js";
import { hasChecksum, withChecksum } from "#src/codec/checksum.js";
import { loadConfig } from "#src/config/load.js";
import { summitEdge as finished } from "../support/command.ts";
import { missing } from "../support/commands.ts";
import { Daemon } from "../support/daemon.ts";
import { FakeSysfs } from "../support/fake-sysfs.ts";
import { type Onlooker, summitEdge } from "../support/onlooker.ts";
import { PtyPair } from "../support/pty-pair.ts";
import { jsonPort } from "../support/serial-house.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { until } from "../support/until.ts";

const skip = missing("socat");
const FTDI = { vendorId: "0403", productId: "6001" };

async function plugged(t: TestContext) {
  const folder = temporaryFolder(t);
  const pair = await PtyPair.plugIn(folder, "tty");
  t.after(() => pair.unplug());
  return { folder, pair };
}

test("each port is told with the name to use, who uses it, and what configured ports are not there", async (t) => {
  const machine = new FakeSysfs(temporaryFolder(t));
  machine.plugIn({ tty: "ttyUSB0", socket: "1-1", ...FTDI, serialNumber: "A1" });
  machine.plugIn({ tty: "ttyUSB1", socket: "1-2", ...FTDI });
  machine.plugIn({ tty: "ttyUSB2", socket: "1-3", ...FTDI });
  const by = (socket: string): string =>
    join(machine.dev, "serial/by-path", `pci-0000:00:14.0-usb-0:${socket}:1.0-port0`);
  const ports = [
    jsonPort({ name: "mast", path: by("1") }),
    jsonPort({ name: "dust", match: { serialNumber: "Z9" } }),
    jsonPort({ name: "node", match: FTDI }),
    jsonPort({ name: "far", path: "tcp://10.0.0.9:4001" }),
    jsonPort({ name: "gone", path: join(machine.dev, "ttyUSB9") }),
    jsonPort({ name: "bare", path: "ttyUSB9" }),
  ];
  const report = await probeSerialPorts(ports, machine);
  assert.deepEqual(
    report.ports.map(({ path, name, configured, usb }) => [
      path.split("/").at(-1),
      name,
      configured,
      usb?.serialNumber,
    ]),
    [
      ["ttyUSB0", by("1"), ["mast"], "A1"],
      ["ttyUSB1", by("2"), [], null],
      ["ttyUSB2", by("3"), [], null],
    ],
  );
  const absent = new Map(report.absent.map(({ name, detail }) => [name, detail]));
  assert.match(absent.get("dust") ?? "", /serial number Z9 is not there/);
  assert.match(absent.get("node") ?? "", /^3 adapters are USB 0403:6001/);
  assert.match(absent.get("far") ?? "", /on the network/);
  assert.match(absent.get("gone") ?? "", /opened as soon as it is plugged in/);
  assert.match(absent.get("bare") ?? "", /named in full, \/dev\/ttyUSB9/);
  const text = portsText(report, { configured: ports, open: new Set(["mast"]) });
  assert.match(text, /USB adapter, USB 0403:6001, serial number A1, interface 0\n/);
  assert.match(text, /used by {2}mast \(4800 bit\/s 8N1, lines, json\), open in the daemon\n/);
  assert.match(text, /used by {2}no port of the configuration\n/);
});

test("a port that the daemon has open is listed with it, and not listened on", { skip }, async (t) => {
  const { folder, pair } = await plugged(t);
  const daemon = await Daemon.start({
    folder,
    changes: { serial: [{ name: "mast", path: pair.device, codec: "json" }] },
  });
  t.after(() => daemon.stop("SIGKILL"));
  const config = join(folder, "gateway.yaml");
  const { stdout, status } = await finished(["doctor", "serial", "--config", config, "--json"]);
  const report = JSON.parse(stdout);
  const device = realpathSync(pair.device);
  const port = report.ports.find((each: { path: string }) => each.path === device);
  assert.deepEqual([status, port.configured, report.open], [0, ["mast"], ["mast"]]);
  assert.ok(port.holders.some(({ pid }: { pid: number }) => pid === daemon.child.pid));
  const text = (await finished(["doctor", "serial", "--config", config])).stdout;
  assert.match(text, new RegExp(`held by .*process ${daemon.child.pid}.*: the gateway\\n`));
  const listening = await finished(["doctor", "serial", "--listen", pair.device, "--config", config]);
  assert.deepEqual([listening.status, /is in use by/.test(listening.stderr)], [1, true]);
});

/** What it says of a port on which that is said until it has understood; and the port as the gateway's configuration takes it. */
async function understood(t: TestContext, say: (pair: PtyPair, n: number) => Promise<void>, ...args: string[]) {
  const { folder, pair } = await plugged(t);
  const command: Onlooker = summitEdge(t, "doctor", "serial", "--listen", pair.device, "--json", ...args);
  let n = 0;
  await until(
    "it has understood",
    () => command.child.exitCode !== null,
    async () => {
      await say(pair, n++);
      await new Promise((resolve) => setTimeout(resolve, 30));
    },
  );
  assert.equal(await command.ended, 0, command.errors + command.text);
  const answer = JSON.parse(command.text);
  const file = join(folder, "pasted.yaml");
  writeFileSync(file, `${answer.config}${stringify({ gateway: { dataDir: folder } })}`);
  const { serial } = await loadConfig(file, {});
  return { answer, port: serial[0], pasted: parse(answer.config).serial[0], pair };
}

test("what is heard is recognised, and printed as a port that the gateway takes", { skip }, async (t) => {
  const { answer, port, pasted, pair } = await understood(t, (pair, n) => pair.say(`{"n":${n},"co2_ppm":417}\r\n`));
  assert.deepEqual(pasted, { name: "tty", path: pair.device, codec: "json" });
  assert.equal(port?.framing, "lines");
  assert.equal(answer.guesses[0].certainty, "sure");
  assert.equal(answer.guesses[0].samples[0].co2_ppm, 417);
});

test("a binary protocol is recognised by its checksum", { skip }, async (t) => {
  const checksum = { type: "sum16", from: 0, endian: "big", complement: "none", encoding: "bytes" } as const;
  const frame = (n: number): Uint8Array =>
    withChecksum(Uint8Array.of(0x42, 0x4d, 0, 6, n, 7 * n, 3, n ^ 0x55), checksum);
  const { port, pasted } = await understood(t, (pair, n) => pair.say(frame(n)));
  const { framing, header, length, codec } = pasted;
  assert.deepEqual(
    [framing, header, length, codec, pasted.checksum],
    ["fixed", "42 4d", 10, "binary", { type: "sum16" }],
  );
  assert.equal(port?.checksum?.endian, "big");
});

test("a device of which there is a profile is printed as that and nothing more", { skip }, async (t) => {
  const checksum = { type: "sum8", from: 2, at: 8, endian: "big", complement: "none", encoding: "bytes" } as const;
  const frame = (n: number): Uint8Array => {
    const bytes = Uint8Array.of(0xaa, 0xc0, n, 1, 3 * n, 2, 0xa1, 0x60, 0, 0xab);
    bytes[8] = bytes.subarray(2, 8).reduce((sum, each) => sum + each, 0);
    assert.ok(hasChecksum(bytes, checksum));
    return bytes;
  };
  const { port, pasted, pair } = await understood(t, (pair, n) => pair.say(frame(n)));
  assert.deepEqual(pasted, { name: "nova-sds011", path: pair.device, profile: "nova-sds011" });
  assert.equal(port?.codec, "binary");
});

test("silence, and what nobody understands, fail and say what to look at", { skip }, async (t) => {
  const { pair } = await plugged(t);
  const silent = await finished(["doctor", "serial", "--listen", pair.device, "--seconds", "1"]);
  assert.equal(silent.status, 1);
  assert.match(silent.stderr, /nothing came on .* in 1 s\nhint: Look at the device's power, and whether its TX/);
  const command = summitEdge(t, "doctor", "serial", "--listen", pair.device, "--seconds", "2");
  await until(
    "it has ended",
    () => command.child.exitCode !== null,
    () => pair.say(Uint8Array.of(0x80, 0xfe)),
  );
  assert.equal(await command.ended, 1);
  assert.match(
    command.text,
    /bytes at 9600 bit\/s 8N1: nothing known here makes sense of them\n {2}80 fe|otherwise|perhaps/,
  );
  const missing = await finished(["doctor", "serial", "--listen", "/dev/no-such-port"]);
  assert.match(missing.stderr, /\/dev\/no-such-port is not there/);
});
