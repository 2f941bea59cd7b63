/** A serial line recorded from the daemon and from the port itself, and played again onto a pseudo-terminal. */
import assert from "node:assert/strict";
import { existsSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { stringify } from "yaml";
import { type Capture, headerLine, parseCapture, pieceLine } from "#src/codec/capture.js";
import { encodeCobs } from "#src/codec/stuffing.js";
import { summitEdge as finished } from "../support/command.ts";
import { missing } from "../support/commands.ts";
import { Daemon } from "../support/daemon.ts";
import { type Onlooker, summitEdge } from "../support/onlooker.ts";
import { PtyPair } from "../support/pty-pair.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { until } from "../support/until.ts";

const skip = missing("socat");

function captureIn(file: string): Capture {
  const capture = parseCapture(readFileSync(file, "utf8"));
  assert.ok(!("message" in capture), JSON.stringify(capture));
  return capture;
}

const bytesOf = ({ pieces }: Capture): Buffer => Buffer.concat(pieces.map(({ bytes }) => bytes));

async function plugged(t: TestContext) {
  const folder = temporaryFolder(t);
  const pair = await PtyPair.plugIn(folder, "mast");
  t.after(() => pair.unplug());
  return { folder, pair };
}

/** A configuration without a daemon, and its file. */
async function configured(folder: string, port: object): Promise<string> {
  const file = join(folder, "alone.yaml");
  const http = { port: (await Daemon.freePorts()).http };
  writeFileSync(file, stringify({ gateway: { id: "x", dataDir: join(folder, "alone") }, serial: [port], http }));
  return file;
}

/** Waits until the command has written its first line. */
const started = (command: Onlooker): Promise<void> => until("it has begun", () => command.text.includes("capturing"));

test("what is captured from the daemon's port gives the same frames when it is played", { skip }, async (t) => {
  const { folder, pair } = await plugged(t);
  const port = { name: "mast", path: pair.device, framing: "cobs", codec: "cbor", maxFrameBytes: "512B" };
  const daemon = await Daemon.start({ folder, changes: { serial: [port] } });
  t.after(() => daemon.stop("SIGKILL"));
  const config = join(folder, "gateway.yaml");
  const out = join(folder, "mast.capture");
  // Every byte there is, and two frames with a pause between them.
  const all = Buffer.from(Array.from({ length: 256 }, (_, byte) => byte));
  const framed = (cbor: string): Uint8Array => encodeCobs(Buffer.from(cbor, "hex"));
  const parts = [framed("a1616101"), all, framed("a1616102")];
  const size = parts.reduce((sum, part) => sum + part.length, 0);
  const command = summitEdge(t, "serial", "capture", "mast", "--out", out, "--bytes", `${size}B`, "--config", config);
  await started(command);
  await until("it looks on", () => existsSync(out) && statSync(out).size > 0);
  let said = 0;
  for (const part of parts) {
    await pair.say(part);
    said += part.length;
    await until("it is written down", () => bytesOf(captureIn(out)).length === said);
  }
  assert.equal(await command.ended, 0);
  assert.match(command.text, new RegExp(`\\n${size} bytes in \\d+ s: .*mast\\.capture\\n$`));
  const capture = captureIn(out);
  assert.deepEqual(bytesOf(capture), Buffer.concat(parts));
  assert.deepEqual([capture.header.name, capture.header.baudRate], ["mast", 9600]);
  await daemon.stop();

  const played = join(folder, "played");
  const replay = summitEdge(t, "simulate", "serial", "--replay", out, "--port", played, "--keep-open", "--json");
  await until("the port is there", () => replay.text !== "");
  const again = await configured(folder, { ...port, path: played });
  const tail = summitEdge(t, "serial", "tail", "mast", "--json", "--config", again);
  await until("both frames are there", () => tail.lines.filter(({ kind }) => kind === "reading").length === 2);
  const frames = tail.lines.filter(({ kind }) => !["port", "opened", "alive"].includes(kind));
  assert.deepEqual(
    frames.map(({ kind, reading }) => (kind === "reading" ? reading : kind)),
    [{ a: 1 }, "refused", { a: 2 }],
  );
  assert.equal(await tail.interrupt(), 0);
  assert.equal(await replay.interrupt(), 0);
  assert.deepEqual(replay.lines.at(-1), { bytes: size, dropped: 0 });
  assert.equal(existsSync(played), false, "the link goes with the port");
});

test("a path is captured by itself, with its lock, and a file that is there is left alone", { skip }, async (t) => {
  const { folder, pair } = await plugged(t);
  const out = join(folder, "x.capture");
  const args = [pair.device, "--out", out, "--baud-rate", "4800", "--parity", "even", "--data-bits", "7"];
  const command = summitEdge(t, "serial", "capture", ...args);
  await started(command);
  await until("it is open", () => existsSync(out) && statSync(out).size > 0);
  const second = await finished(["serial", "capture", pair.device, "--out", join(folder, "y.capture")]);
  assert.equal(second.status, 1);
  await pair.say("hello");
  await until("it is written down", () => bytesOf(captureIn(out)).length === 5);
  const third = await finished(["serial", "capture", pair.device, "--out", join(folder, "y.capture")]);
  assert.match(third.stderr, new RegExp(`in use by .*process ${command.child.pid}`));
  assert.equal(existsSync(join(folder, "y.capture")), false);
  assert.equal(await command.interrupt(), 0);
  const { header } = captureIn(out);
  assert.deepEqual(
    [header.path, header.baudRate, header.dataBits, header.parity, header.name],
    [pair.device, 4800, 7, "even", undefined],
  );
  const replay = summitEdge(t, "simulate", "serial", "--replay", out, "--port", join(folder, "played"));
  await until("it says what it plays", () => replay.text.includes("once it is open"));
  assert.match(replay.text, /captured at 4800 bit\/s 7E1\)/);
  assert.equal(await replay.interrupt(), 0);
  const over = await finished(["serial", "capture", pair.device, "--out", out]);
  assert.deepEqual([over.status, /is there already\nhint: .*--overwrite/.test(over.stderr)], [1, true]);
  const silent = await finished(["serial", "capture", pair.device, "--out", out, "--overwrite", "--seconds", "1"]);
  assert.deepEqual([silent.status, /nothing came over/.test(silent.stderr)], [1, true]);
});

test("the path of a configured port is captured as the configuration says", { skip }, async (t) => {
  const { folder, pair } = await plugged(t);
  const config = await configured(folder, { name: "gps", path: pair.device, baudRate: 38400, codec: "nmea0183" });
  const out = join(folder, "gps.capture");
  const command = summitEdge(t, "serial", "capture", pair.device, "--out", out, "--bytes", "2B", "--config", config);
  await started(command);
  await until("it is open", () => existsSync(out) && statSync(out).size > 0);
  await until(
    "it has its two bytes",
    () => command.child.exitCode !== null,
    () => pair.say("abc"),
  );
  const capture = captureIn(out);
  assert.deepEqual([capture.header.name, capture.header.baudRate, bytesOf(capture).length], ["gps", 38400, 2]);
});

test("a file that is no capture is refused with its line, before there is a port", { skip }, async (t) => {
  const folder = temporaryFolder(t);
  const file = join(folder, "bad.capture");
  writeFileSync(file, `${headerLine({})}${pieceLine(1, "41")}noise\n`);
  const { status, stderr } = await finished(["simulate", "serial", "--replay", file]);
  assert.equal(status, 1);
  assert.match(stderr, /bad\.capture is no capture: line 3 /);
  writeFileSync(file, `${headerLine({})}${pieceLine(1, "41")}`);
  const there = await finished(["simulate", "serial", "--replay", file, "--port", file]);
  assert.match(there.stderr, /is there already/);
});
