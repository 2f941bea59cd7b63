import assert from "node:assert/strict";
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { connect } from "node:net";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { pino } from "pino";
import { SerialPort } from "serialport";
import { systemClock } from "#src/kernel/clock.js";
import { MAST_BAUD_RATE, MAST_COLUMNS, WeatherMast } from "#src/simulator/mast.js";
import { openPseudoTerminal } from "#src/simulator/pseudo-terminal.js";
import { openTcpPort, openVirtualPort } from "#src/simulator/virtual-port.js";
import { TestClock } from "../support/test-clock.ts";
import { until } from "../support/until.ts";
import { silent } from "./fusion-client.ts";

const utilLinux = String(spawnSync("script", ["--version"]).stdout ?? "").includes("util-linux");
const needsScript = { skip: utilLinux ? false : "the command script of util-linux is not installed" };

async function openSerial(path: string): Promise<{ port: SerialPort; received: () => Buffer }> {
  const port = new SerialPort({ path, baudRate: MAST_BAUD_RATE, autoOpen: false });
  const chunks: Buffer[] = [];
  port.on("data", (chunk: Buffer) => chunks.push(chunk));
  await new Promise<void>((resolve, reject) => port.open((error) => (error === null ? resolve() : reject(error))));
  return { port, received: () => Buffer.concat(chunks) };
}

async function closeSerial(port: SerialPort): Promise<void> {
  if (port.isOpen) await new Promise<void>((resolve) => port.close(() => resolve()));
}

test(
  "every byte that is written comes out at the serial port, at 4800 baud, and nothing is echoed",
  needsScript,
  async () => {
    const terminal = await openPseudoTerminal({ baudRate: 115_200, clock: systemClock });
    const { port, received } = await openSerial(terminal.path);
    const bytes = Buffer.from(Array.from({ length: 256 }, (_, value) => value));
    assert.ok(terminal.write(bytes));
    await until("all bytes have come", () => received().length >= bytes.length);
    assert.deepEqual(received(), bytes);
    port.write("to the device\n");
    assert.ok(terminal.write("end"));
    await until("the end has come", () => received().length >= bytes.length + 3);
    assert.equal(received().subarray(bytes.length).toString(), "end");
    await closeSerial(port);
    const again = await openSerial(terminal.path);
    assert.ok(terminal.write("again"));
    await until("a port that is opened again reads on", () => again.received().toString().endsWith("again"));
    await closeSerial(again.port);
    await terminal.close();
  },
);

test(
  "what nobody reads is dropped beyond ten seconds' worth, without waiting, and a reader gets the wire back",
  needsScript,
  async () => {
    const terminal = await openPseudoTerminal({ baudRate: MAST_BAUD_RATE, clock: systemClock });
    const line = `${"x".repeat(99)}\n`;
    const taken = Array.from({ length: 1000 }, () => terminal.write(line)).filter(Boolean).length;
    assert.equal(taken, MAST_BAUD_RATE / line.length);
    await until("what lay unread is thrown away", () => terminal.write("kept\n"));
    const { port, received } = await openSerial(terminal.path);
    const more = (): boolean => terminal.write("back\n") && received().toString().includes("back\n");
    await until("the wire takes bytes again, and they come out", more);
    assert.ok(received().length < 2 * line.length, `${received().length} bytes from before`);
    await closeSerial(port);
    await terminal.close();
  },
);

test("closing takes the device away, and a gateway that has it open sees it close", needsScript, async () => {
  const terminal = await openPseudoTerminal({ baudRate: MAST_BAUD_RATE, clock: systemClock });
  const { port } = await openSerial(terminal.path);
  const closed = once(port, "close");
  await terminal.close();
  await closed;
  await until("the device is gone", () => !existsSync(terminal.path));
  assert.equal(terminal.write("nobody"), false);
});

test("the terminal ends with the process that opened it, even if that is killed", needsScript, async () => {
  const holder = spawn(process.execPath, [fileURLToPath(new URL("./hold-terminal.js", import.meta.url))], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const path = await firstLine(holder);
  assert.ok(existsSync(path));
  holder.kill("SIGKILL");
  await until("the device is gone", () => !existsSync(path));
});

test("without the command script the line is a TCP socket on loopback, and the log says so", async () => {
  const lines: string[] = [];
  const log = pino({}, { write: (line) => void lines.push(line) });
  const path = process.env.PATH;
  process.env.PATH = "/nowhere";
  const port = await openVirtualPort({ baudRate: 4800, clock: systemClock, log }).finally(() => {
    process.env.PATH = path;
  });
  assert.equal(port.kind, "tcp");
  assert.match(port.path, /^tcp:\/\/127\.0\.0\.1:\d+$/);
  assert.match(lines.join(""), /no pseudo-terminal.*TCP socket/);
  await port.close();
});

test("a TCP line reaches whoever is connected, and drops what nobody is there to read", async () => {
  const line = await openTcpPort();
  assert.equal(line.write("nobody\n"), false);
  const socket = connect(Number(new URL(line.path.replace("tcp:", "http:")).port), "127.0.0.1");
  let received = "";
  socket.on("data", (chunk) => {
    received += String(chunk);
  });
  await until("the line is connected", () => line.write("hello\n"));
  await until("the bytes have come", () => received === "hello\n");
  const closed = once(socket, "close");
  await line.close();
  await closed;
});

test("a mast speaks NMEA 0183 with checksums that hold, and CSV in its declared columns", needsScript, async () => {
  const clock = new TestClock(Date.UTC(2026, 6, 1, 12, 34, 56, 780));
  const [nmea, csv] = await Promise.all([
    openVirtualPort({ baudRate: MAST_BAUD_RATE, clock: systemClock, log: silent }),
    openVirtualPort({ baudRate: MAST_BAUD_RATE, clock: systemClock, log: silent }),
  ]);
  const scenario = { kind: "day", seed: 1, lat: 38.94, lon: -120.05, startedAt: clock.now() } as const;
  const mast = new WeatherMast({ name: "mast", nmea, csv, scenario, clock, windSentence: true });
  const [positions, weather] = await Promise.all([openSerial(nmea.path), openSerial(csv.path)]);
  mast.start();
  await clock.advance(2000);
  const lines = (text: Buffer): string[] => text.toString().split("\r\n").slice(0, -1);
  await until("all lines have come", () => lines(positions.received()).length + lines(weather.received()).length >= 8);
  assert.deepEqual(mast.stop(), { nmeaLines: 6, csvLines: 2, dropped: 0 });

  const sentences = lines(positions.received());
  assert.deepEqual(sentences.slice(0, 2), [
    "$GPGGA,123457.78,3856.4000,N,12003.0000,W,1,09,0.9,1903.0,M,-24.0,M,,*6B",
    "$GPRMC,123457.78,A,3856.4000,N,12003.0000,W,0.0,0.0,010726,,,A*4B",
  ]);
  assert.match(sentences[2] ?? "", /^\$WIMWV,\d+\.\d,T,\d+\.\d,M,A\*[0-9A-F]{2}$/);
  for (const sentence of sentences) {
    const [body = "", checksum] = sentence.slice(1).split("*");
    const sum = Buffer.from(body).reduce((total, byte) => total ^ byte, 0);
    assert.equal(sum, Number.parseInt(checksum ?? "", 16));
  }
  const [time, ...values] = lines(weather.received())[0]?.split(",") ?? [];
  assert.equal(time, "2026-07-01T12:34:57.780Z");
  assert.equal(values.length, MAST_COLUMNS.length - 1);
  assert.ok(values.every((value) => value !== "" && Number.isFinite(Number(value))));

  await Promise.all([closeSerial(positions.port), closeSerial(weather.port)]);
  await Promise.all([nmea.close(), csv.close()]);
});

async function firstLine(child: ChildProcess): Promise<string> {
  assert.ok(child.stdout);
  const [chunk] = await once(child.stdout, "data");
  return String(chunk).trim();
}
