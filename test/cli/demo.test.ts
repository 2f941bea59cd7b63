/** The demo as its viewer starts it: the real command, with the real gateway as its child. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, readdirSync, readFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { describe, type TestContext, test } from "node:test";
import { loadConfig } from "#src/config/load.js";
import { MAST_BAUD_RATE, MAST_COLUMNS } from "#src/simulator/mast.js";
import { projectRoot } from "../support/command.ts";
import { freePort } from "../support/free-port.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { until } from "../support/until.ts";

const GATEWAY_LINE =
  /^gateway: accepted=(\d+) pending=(\d+) delivered=(\d+) expired=(\d+) evicted=(\d+) thinned=(\d+) deadLettered=(\d+) damaged=(\d+)$/;
const FUSION_LINE = /^fusion: unique=(\d+) duplicates=(\d+)$/;

/** `summit-edge demo …` with a folder for temporary files of its own. */
class Demo {
  readonly child: ChildProcess;
  readonly temporary: string;
  stdout = "";
  stderr = "";
  readonly #closed: Promise<unknown>;

  constructor(t: TestContext, args: readonly string[], env: Record<string, string> = {}) {
    this.temporary = join(temporaryFolder(t), "tmp");
    mkdirSync(this.temporary);
    this.child = spawn(process.execPath, [join(projectRoot, "dist/main.js"), "demo", ...args], {
      cwd: projectRoot,
      env: { PATH: process.env.PATH ?? "", TMPDIR: this.temporary, ...env },
      stdio: ["ignore", "pipe", "pipe"],
    });
    this.child.stdout?.setEncoding("utf8").on("data", (text: string) => {
      this.stdout += text;
    });
    this.child.stderr?.setEncoding("utf8").on("data", (text: string) => {
      this.stderr += text;
    });
    this.#closed = once(this.child, "close");
    t.after(() => this.child.kill("SIGKILL"));
  }

  /** Waits for its end; the exit status. */
  async status(): Promise<number | null> {
    await this.#closed;
    return this.child.exitCode;
  }

  /** Folders that it has left behind. */
  get left(): string[] {
    return readdirSync(this.temporary).filter((name) => name.startsWith("summit-edge-demo-"));
  }

  async saying(text: string): Promise<void> {
    const ended = () => this.child.exitCode !== null;
    await until(`it says "${text}"`, () => this.stdout.includes(text) || ended());
    assert.ok(this.stdout.includes(text), `it ended instead: ${this.stderr}`);
  }

  /** Processes below it at this moment. */
  descendants(): number[] {
    const parents = new Map<number, number>();
    for (const name of readdirSync("/proc").filter((entry) => /^\d+$/.test(entry))) {
      const [, parent] = /\) \S (\d+)/.exec(statOf(Number(name))) ?? [];
      if (parent !== undefined) parents.set(Number(name), Number(parent));
    }
    const isBelow = (pid: number | undefined): boolean => {
      const parent = pid === undefined ? undefined : parents.get(pid);
      return parent !== undefined && (parent === this.child.pid || isBelow(parent));
    };
    return [...parents.keys()].filter(isBelow);
  }
}

function statOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/stat`, "utf8");
  } catch {
    return "";
  }
}

/** Whether a process is there, and not merely waiting for its parent to take note of its end. */
const isAlive = (pid: number): boolean => /\) [^Z] /.test(statOf(pid));

const numbers = (line: string | undefined, pattern: RegExp): number[] => {
  const match = pattern.exec(line ?? "");
  assert.ok(match, `not as the contract has it: ${line}`);
  return match.slice(1).map(Number);
};

/** Ports that nobody uses, as the environment gives them to the gateway; and fusion's. */
async function otherPorts(t: TestContext) {
  const [http, mqtt, mqtts, fusion] = [await freePort(), await freePort(), await freePort(), await freePort()];
  const env = {
    SUMMIT_EDGE__GATEWAY__DATADIR: temporaryFolder(t),
    SUMMIT_EDGE__HTTP__PORT: String(http),
    SUMMIT_EDGE__MQTT__LISTENERS__0__PORT: String(mqtt),
    SUMMIT_EDGE__MQTT__LISTENERS__1__PORT: String(mqtts),
  };
  return { env, http, mqtt, mqtts, fusion };
}

// Mostly waiting, so several at a time.
describe("demo", { concurrency: 3 }, () => {
  test("the story ends with both sides in agreement, says so in its last two lines, and leaves nothing behind", async (t) => {
    const demo = new Demo(t, ["--pace", "0.1"], { SUMMIT_EDGE__HTTP__PORT: "1" });
    assert.equal(await demo.status(), 0, `${demo.stdout}${demo.stderr}`);
    const lines = demo.stdout.trimEnd().split("\n");
    const [accepted = 0, pending, delivered, ...others] = numbers(lines.at(-2), GATEWAY_LINE);
    const [unique] = numbers(lines.at(-1), FUSION_LINE);
    assert.ok(accepted > 100, `${accepted} readings are no load`);
    assert.deepEqual([pending, delivered, unique, others], [0, accepted, accepted, [0, 0, 0, 0, 0]]);
    assert.ok(!demo.stdout.includes("\u001b"), "no colours and no cursor movements where nobody looks on");
    assert.deepEqual([demo.left, demo.stderr], [[], ""]);
  });

  test("--json gives one object with the same names, and the story on standard error", async (t) => {
    const demo = new Demo(t, ["--pace", "0.1", "--json"]);
    assert.equal(await demo.status(), 0, demo.stderr);
    const { gateway, fusion, agrees, disagreements } = JSON.parse(demo.stdout);
    const names = ["accepted", "pending", "delivered", "expired", "evicted", "thinned", "deadLettered", "damaged"];
    assert.deepEqual([Object.keys(gateway), Object.keys(fusion)], [names, ["unique", "duplicates"]]);
    assert.deepEqual([gateway.delivered, agrees, disagreements], [fusion.unique, true, []]);
    assert.match(demo.stderr, /The gateway is killed/);
  });

  test("control: readings that fusion has lost are found, by number and by id, and end it with status 1 and the logs kept", async (t) => {
    const demo = new Demo(t, ["--pace", "0.1", "--fault", '{"mode":"forget","count":2}']);
    assert.equal(await demo.status(), 1, demo.stdout);
    assert.match(demo.stdout, /✗ The gateway says that it delivered \d+ readings; fusion has \d+\./);
    assert.match(demo.stdout, /✗ \d+ readings were acknowledged to their device and are not at fusion/);
    const [gateway, fusion] = demo.stdout.trimEnd().split("\n").slice(-2);
    assert.notEqual(numbers(gateway, GATEWAY_LINE)[2], numbers(fusion, FUSION_LINE)[0]);
    const [folder = ""] = demo.left;
    assert.ok(existsSync(join(demo.temporary, folder, "gateway.log")));
    assert.match(demo.stderr, new RegExp(`kept: .*${folder}`));
  });

  test("an interrupted story leaves neither a process nor a folder", async (t) => {
    const demo = new Demo(t, ["--pace", "10"]);
    await demo.saying("1  Normal traffic");
    const children = demo.descendants();
    assert.ok(children.length >= 3, "the gateway, and two serial lines");
    demo.child.kill("SIGINT");
    assert.equal(await demo.status(), 1);
    assert.match(demo.stdout, /Stopped before the end/);
    await until("all of them ended", () => !children.some(isAlive));
    assert.deepEqual(demo.left, []);
  });

  test("--stay brings the whole road up on other ports, and a Ctrl-C that comes twice ends it cleanly", async (t) => {
    const { env, http, fusion } = await otherPorts(t);
    const demo = new Demo(t, ["--stay", "--config", "config/demo.yaml", "--fusion-port", String(fusion)], env);
    await demo.saying("Ctrl-C stops it");
    const base = `http://127.0.0.1:${http}`;
    assert.ok(demo.stdout.includes(`node dist/main.js status --url ${base}\n`), demo.stdout);
    assert.ok(demo.stdout.includes(`http://127.0.0.1:${fusion}/observations\n`), demo.stdout);
    assert.match(await (await fetch(base)).text(), /<!doctype html>/i);
    const get = async (url: string) => (await fetch(url)).json();
    let classes: Record<string, number> = {};
    const ofAllDevices = ["smoke", "telemetry", "position", "weather"];
    const deadline = performance.now() + 30_000;
    while (!ofAllDevices.every((name) => (classes[name] ?? 0) > 0)) {
      assert.ok(performance.now() < deadline, `at fusion after 30 s: ${JSON.stringify(classes)}`);
      classes = ((await get(`http://127.0.0.1:${fusion}/stats`)) as { byClass: Record<string, number> }).byClass;
    }
    const { sources, refused } = (await get(`${base}/api/v1/status`)) as {
      sources: { name: string; state: string }[];
      refused: Record<string, number>;
    };
    assert.deepEqual(
      sources.map(({ name, state }) => [name, state]),
      [
        ["mqtt", "listening"],
        ["mast", "open"],
        ["weather", "open"],
      ],
    );
    assert.equal(refused.invalid, 0);
    const children = demo.descendants();
    demo.child.kill("SIGINT");
    demo.child.kill("SIGINT");
    assert.equal(await demo.status(), 0, demo.stderr);
    await until("all of them ended", () => !children.some(isAlive));
  });

  test("--stay starts a gateway again that was killed, and all of it ends when the demo itself is killed", async (t) => {
    const { env, fusion } = await otherPorts(t);
    const demo = new Demo(t, ["--stay", "--fusion-port", String(fusion)], env);
    await demo.saying("Ctrl-C stops it");
    const [, pid] = /kill -9 (\d+)/.exec(demo.stdout) ?? [];
    process.kill(Number(pid), "SIGKILL");
    await demo.saying("The gateway is back");
    const children = demo.descendants();
    assert.ok(children.length >= 3);
    demo.child.kill("SIGKILL");
    await until("nothing is left", () => !children.some(isAlive));
  });

  test("a port that is taken is named with what changes it, and nothing stays up", async (t) => {
    const ports = await otherPorts(t);
    const args = ["--stay", "--fusion-port", String(ports.fusion)];
    const changedBy = [
      [ports.http, /http\.port/],
      [ports.mqtt, /mqtt\.listeners\[0\]\.port/],
      [ports.mqtts, /mqtt\.listeners\[1\]\.port/],
      [ports.fusion, /--fusion-port/],
    ] as const;
    for (const [port, key] of changedBy) {
      const other = createServer((socket) => socket.destroy()).listen(port, "127.0.0.1");
      await once(other, "listening");
      const demo = new Demo(t, args, ports.env);
      assert.equal(await demo.status(), 1, demo.stdout);
      assert.match(demo.stderr, new RegExp(`error: .*${port}.*taken`));
      assert.match(demo.stderr, key);
      assert.ok(!demo.stdout.includes("Ctrl-C stops it"));
      other.close();
      await once(other, "close");
    }
  });

  test("an option that is none of the story's is a wrong call", async (t) => {
    for (const args of [
      ["--fusion-port", "1"],
      ["--config", "config/demo.yaml"],
      ["--stay", "--json"],
      ["--pace", "0"],
    ]) {
      const demo = new Demo(t, args);
      assert.equal(await demo.status(), 2, args.join(" "));
    }
  });

  test("config/demo.yaml reads the lines that the simulated mast writes", async () => {
    const { serial } = await loadConfig(join(projectRoot, "config/demo.yaml"), {});
    const [mast, weather] = serial;
    assert.deepEqual([mast?.codec, mast?.baudRate], ["nmea0183", MAST_BAUD_RATE]);
    assert.deepEqual([weather?.codec, weather?.baudRate, weather?.columns], ["csv", MAST_BAUD_RATE, MAST_COLUMNS]);
  });
});
