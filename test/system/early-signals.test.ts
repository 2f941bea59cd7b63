/** Signals that come while the daemon still reads its configuration (contract, section 2). */
import assert from "node:assert/strict";
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { renameSync } from "node:fs";
import { type FileHandle, open, readFile } from "node:fs/promises";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { Daemon, writeConfig } from "../support/daemon.ts";
import { mutant } from "../support/mutant.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { until } from "../support/until.ts";

const DIST = new URL("../../", import.meta.url).pathname;

interface Reading {
  readonly child: ChildProcess;
  readonly log: () => string;
  /** What the daemon is reading. */
  readonly pipe: FileHandle;
  /** Where it lies; an ordinary file of the same content lies beside it. */
  readonly file: string;
  readonly beside: string;
}

/** A daemon that has begun to read its configuration, and waits for what it says. */
async function reading(t: TestContext, dist = DIST): Promise<Reading> {
  const folder = temporaryFolder(t);
  const beside = join(folder, "beside.yaml");
  const file = writeConfig({ folder, ports: await Daemon.freePorts(), changes: { log: { level: "info" } } });
  renameSync(file, beside);
  execFileSync("mkfifo", [file]);
  const child = spawn(process.execPath, [join(dist, "main.js"), "run", "--config", file], {
    stdio: ["ignore", "pipe", "ignore"],
  });
  t.after(() => child.kill("SIGKILL"));
  let log = "";
  child.stdout?.setEncoding("utf8").on("data", (text: string) => {
    log += text;
  });
  // Waits for a reader.
  const pipe = await open(file, "w");
  return { child, log: () => log, pipe, file, beside };
}

/** How it ended. What it was reading goes on afterwards: a thread that waits for a file holds up the end of its process. */
async function endedBy(signal: NodeJS.Signals, { child, pipe, beside }: Reading): Promise<unknown[]> {
  const content = await readFile(beside);
  const ended = once(child, "exit");
  child.kill(signal);
  await pipe.write(content).catch(() => "nobody reads it any more");
  await pipe.close();
  return await ended;
}

for (const signal of ["SIGTERM", "SIGINT"] as const) {
  test(`${signal} ends it with status 0`, async (t) => {
    assert.deepEqual(await endedBy(signal, await reading(t)), [0, null]);
  });
}

test("a SIGHUP does not end it, and is seen to once it runs", async (t) => {
  const { child, log, pipe, file, beside } = await reading(t);
  child.kill("SIGHUP");
  const content = await readFile(beside);
  renameSync(beside, file);
  await pipe.write(content);
  await pipe.close();
  await until("the configuration is read again", () => /read again/.test(log()) || child.exitCode !== null);
  assert.ok(log().includes('"msg":"ready"'), log());
  const ended = once(child, "exit");
  child.kill("SIGTERM");
  assert.deepEqual(await ended, [0, null]);
});

test("control: with nobody standing by, the signal ends it as it ends any process", async (t) => {
  const dist = mutant(t, "cli/run.js", "standBy({ events: process, exit })", "() => { }");
  assert.deepEqual(await endedBy("SIGTERM", await reading(t, dist)), [null, "SIGTERM"]);
  assert.deepEqual(await endedBy("SIGHUP", await reading(t, dist)), [null, "SIGHUP"]);
});
