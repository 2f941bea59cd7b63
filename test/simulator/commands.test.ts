import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { createServer as createTlsServer } from "node:tls";
import { fileURLToPath } from "node:url";
import { Aedes } from "aedes";
import { until } from "../support/until.ts";
import { selfSigned } from "./certificate.ts";
import { envelope, get, type Json, observation, post } from "./fusion-client.ts";

const PROGRAM = fileURLToPath(new URL("./command.js", import.meta.url));

/** The command as a process of its own, and what it said so far. */
class Running {
  readonly child: ChildProcess;
  readonly exited: Promise<unknown>;
  stdout = "";
  stderr = "";

  constructor(...args: string[]) {
    this.child = spawn(process.execPath, [PROGRAM, ...args], { stdio: ["ignore", "pipe", "pipe"] });
    this.exited = once(this.child, "close");
    this.child.stdout?.on("data", (chunk) => {
      this.stdout += String(chunk);
    });
    this.child.stderr?.on("data", (chunk) => {
      this.stderr += String(chunk);
    });
  }

  /** Lines of JSON on standard output. */
  get results(): Json[] {
    return this.stdout
      .split("\n")
      .slice(0, -1)
      .map((line) => JSON.parse(line) as Json);
  }

  async status(): Promise<number | null> {
    await this.exited;
    return this.child.exitCode;
  }
}

test("fusion says where it listens, serves until SIGTERM, and ends with status 0 and its counts", async () => {
  const folder = mkdtempSync(join(tmpdir(), "fusion-command-"));
  try {
    const [tokenFile, db] = [join(folder, "token"), join(folder, "fusion.db")];
    writeFileSync(tokenFile, "secret\n");
    const fusion = new Running("fusion", "--port", "0", "--token-file", tokenFile, "--db", db, "--json");
    await until("fusion listens", () => fusion.results.length > 0);
    const url = String(fusion.results[0]?.url);
    assert.equal((await post(url, envelope([observation()]))).status, 401);
    const bearer = { authorization: "Bearer secret" };
    assert.equal((await post(url, envelope([observation()]), bearer)).status, 200);
    assert.equal((await get(`${url}/healthz`)).status, 200);
    fusion.child.kill("SIGTERM");
    assert.equal(await fusion.status(), 0);
    assert.deepEqual([fusion.results[1]?.unique, fusion.results[1]?.requests], [1, 2]);
    assert.ok(existsSync(db));
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test("fusion names a port that is taken and the option that changes it, and ends with status 1", async () => {
  const other = createServer().listen(0, "127.0.0.1");
  await once(other, "listening");
  const { port } = other.address() as { port: number };
  const fusion = new Running("fusion", "--port", String(port));
  assert.equal(await fusion.status(), 1);
  assert.match(fusion.stderr, new RegExp(`${port}.*taken.*--port`, "s"));
  other.close();
});

test("fusion without a certificate's key, or with a port that is none, is a wrong call", async () => {
  const halfTls = new Running("fusion", "--port", "0", "--tls-cert", "cert.pem");
  await halfTls.exited;
  assert.match(halfTls.stderr, /USAGE.*go together/);
  const noPort = new Running("fusion", "--port", "many");
  assert.equal(await noPort.status(), 2);
  assert.match(noPort.stderr, /0 to 65535/);
});

test("simulate says what it simulates, ends after its duration, and its counts are what the broker got", async () => {
  const broker = await Aedes.createBroker();
  let received = 0;
  broker.authorizePublish = (_client, _packet, callback) => {
    received++;
    callback(null);
  };
  const server = createServer(broker.handle).listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as { port: number };
  const url = `mqtt://127.0.0.1:${port}`;
  const args = ["--mqtt", url, "--serial", "--devices", "3", "--rate", "50", "--seed", "9", "--scenario", "ignition"];
  const start = "2026-08-20T20:00:00.000Z";
  const simulation = new Running("simulate", ...args, "--start", start, "--speed", "600", "--duration", "2s", "--json");
  assert.equal(await simulation.status(), 0, simulation.stderr);
  const [begin, end] = simulation.results;
  assert.deepEqual([begin?.scenario, begin?.seed, begin?.start, begin?.mqtt], ["ignition", 9, start, url]);
  const paths = Object.values(begin?.serial as Record<string, string>);
  assert.ok(paths.length === 2 && paths.every((path) => /^(\/dev\/|tcp:)/.test(path) && !existsSync(path)));
  const mqtt = end?.mqtt as { published: number; acknowledged: number };
  assert.ok(mqtt.acknowledged > 0);
  assert.deepEqual([mqtt.published, received], [mqtt.acknowledged, mqtt.acknowledged]);
  const serial = end?.serial as { csvLines: number; dropped: number };
  assert.ok(serial.csvLines + serial.dropped > 0);
  server.close();
  broker.close();
});

test("simulate ends at SIGINT although nobody is there to speak to, and says so", async () => {
  const simulation = new Running("simulate", "--mqtt", "mqtt://127.0.0.1:9", "--rate", "100");
  await until("the missing broker is said", () => simulation.stderr.includes("no connection"));
  assert.match(simulation.stdout, /simulating scenario day, seed 1/);
  simulation.child.kill("SIGINT");
  assert.equal(await simulation.status(), 0);
  assert.match(simulation.stdout, /mqtt: published=\d+ acknowledged=0 skipped=\d+/);
});

test("simulate ends with status 1 and a hint when nothing was acknowledged in all its duration", async () => {
  const silent = createServer((socket) => socket.resume()).listen(0, "127.0.0.1");
  await once(silent, "listening");
  const { port } = silent.address() as { port: number };
  const untrusted = createTlsServer(await selfSigned()).listen(0, "127.0.0.1");
  await once(untrusted, "listening");
  const { port: tlsPort } = untrusted.address() as { port: number };
  const shortly = ["--rate", "50", "--duration", "300ms"];
  const simulation = new Running("simulate", "--mqtt", `mqtt://127.0.0.1:${port}`, ...shortly);
  const strange = new Running("simulate", "--mqtt", `mqtts://127.0.0.1:${tlsPort}`, ...shortly);
  assert.equal(await simulation.status(), 1);
  assert.match(simulation.stdout, /mqtt: published=[1-9]\d* acknowledged=0/);
  assert.match(simulation.stderr, new RegExp(`127.0.0.1:${port} acknowledged nothing.*hint: .*--mqtt`, "s"));
  silent.close();
  assert.equal(await strange.status(), 1);
  assert.match(strange.stderr, /acknowledged nothing.*hint: Nobody known here has signed .* with --ca \(/s);
  untrusted.close();
});

test("a simulated device of a profile stands where --port says, and only one can", async () => {
  const folder = mkdtempSync(join(tmpdir(), "simulate-port-"));
  try {
    const port = join(folder, "dust");
    const device = new Running("simulate", "serial", "--profile", "nova-sds011", "--port", port, "--json");
    await until("the device is there", () => device.stdout.includes("\n"));
    assert.deepEqual(device.results[0], { serial: [{ profile: "nova-sds011", path: port }] });
    const one = new Running("simulate", "serial", "--profile", "victron-ve-direct", "--port", port);
    const two = new Running(
      "simulate",
      "serial",
      "--profile",
      "nova-sds011",
      "victron-ve-direct",
      "--port",
      `${port}s`,
    );
    assert.deepEqual([await one.status(), await two.status()], [1, 1]);
    assert.match(one.stderr, /is there already/);
    assert.match(two.stderr, /--port is one port, and there are 2 devices/);
    assert.ok(existsSync(port));
    device.child.kill("SIGTERM");
    assert.equal(await device.status(), 0);
    assert.equal(existsSync(port), false);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test("simulate on serial lines alone needs no broker", async () => {
  const simulation = new Running("simulate", "--serial", "--duration", "300ms");
  assert.equal(await simulation.status(), 0, simulation.stderr);
});

test("simulate refuses what it cannot understand with status 2, and a file that is not there with status 1", async () => {
  for (const args of [
    ["--duration", "soon"],
    ["--rate", "0"],
    ["--devices", "1.5"],
    ["--scenario", "flood"],
    ["--mqtt", "http://127.0.0.1"],
  ]) {
    const simulation = new Running("simulate", ...args);
    assert.equal(await simulation.status(), 2, args.join(" "));
  }
  const simulation = new Running("simulate", "--mqtt", "mqtts://127.0.0.1:8883", "--ca", "/nowhere/ca.pem");
  assert.equal(await simulation.status(), 1);
  assert.match(simulation.stderr, /\/nowhere\/ca\.pem.*--ca/s);
});
