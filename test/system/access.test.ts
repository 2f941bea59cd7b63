/** Who may do what, with the real daemon, its files, and mosquitto's clients (issue 4, item 3). */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { summitEdge } from "../support/command.ts";
import { missing, Running, run } from "../support/commands.ts";
import { Daemon } from "../support/daemon.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

const skip = missing("mosquitto_pub");

interface Rig {
  readonly daemon: Daemon;
  /** Publishes a reading with a user's password, and returns mosquitto_pub's exit status. */
  publish(user: string | undefined, topic: string, payload?: string): Promise<number | null>;
  devices(...args: string[]): Promise<{ status: number | null; stdout: string }>;
  add(name: string, ...more: string[]): Promise<void>;
  writeRules(...lines: string[]): void;
  readonly passwords: Map<string, string>;
}

async function start(t: TestContext, rules: readonly string[] | undefined, mqtt: object = {}): Promise<Rig> {
  const folder = temporaryFolder(t);
  const ports = await Daemon.freePorts();
  const acl = join(folder, "acl");
  const config = join(folder, "gateway.yaml");
  const passwords = new Map<string, string>();
  const writeRules = (...lines: string[]): void => writeFileSync(acl, `${lines.join("\n")}\n`);
  if (rules !== undefined) writeRules(...rules);
  const changes = {
    mqtt: {
      listeners: [{ bind: "127.0.0.1", port: ports.mqtt }],
      passwordFile: join(folder, "passwords"),
      ...(rules === undefined ? {} : { aclFile: acl }),
      ...mqtt,
    },
  };
  // The first device is added before the daemon has ever run.
  writeFileSync(config, JSON.stringify({ mqtt: changes.mqtt, gateway: { dataDir: join(folder, "data") } }));
  const devices = (...args: string[]) => summitEdge(["devices", ...args, "--config", config]);
  const add = async (name: string, ...more: string[]): Promise<void> => {
    const { status, stdout } = await devices("add", name, "--generate", "--json", ...more);
    assert.equal(status, 0);
    passwords.set(name, JSON.parse(stdout).password);
  };
  await add("mast-3");
  const daemon = await Daemon.start({ folder, ports, changes });
  t.after(() => daemon.stop("SIGKILL"));
  return {
    daemon,
    devices,
    add,
    writeRules,
    passwords,
    publish: async (user, topic, payload = "{}") => {
      const login = user === undefined ? [] : ["-u", user, "-P", passwords.get(user) ?? "wrong"];
      const message = ["-q", "1", "-t", topic, "-m", payload];
      return (await run("mosquitto_pub", ["-p", String(daemon.ports.mqtt), ...login, ...message])).status;
    },
  };
}

/** Readings accepted and refused as unauthorised, once the commits are counted. */
async function counts({ daemon }: Rig): Promise<[number | undefined, number | undefined]> {
  const { ledger, refused } = await daemon.status();
  return [ledger.accepted, refused.unauthorised];
}

test("a device with a password speaks for itself, on its own topics, and for nobody else", { skip }, async (t) => {
  const rig = await start(t, undefined, { sources: [{ user: "conc", names: ["tank-*"] }] });
  await rig.add("conc");
  rig.daemon.child.kill("SIGHUP");
  assert.equal(await rig.publish("mast-3", "telemetry/mast-3"), 0);
  assert.equal(await rig.publish("mast-3", "observations/smoke", '{"pm2_5":1}'), 0);
  assert.deepEqual(await counts(rig), [2, 0]);
  assert.equal(await rig.publish("mast-3", "telemetry/mast-9"), 0);
  assert.equal(await rig.publish("mast-3", "observations/smoke", '{"source":"mast-9"}'), 0);
  assert.deepEqual(await counts(rig), [2, 2]);
  assert.equal(await rig.publish("nobody", "telemetry/nobody"), 4);
  while ((await rig.publish("conc", "telemetry/tank-7")) !== 0);
  assert.deepEqual(await counts(rig), [3, 2]);
});

test("devices that come and go are known to the running daemon", { skip }, async (t) => {
  const rig = await start(t, undefined);
  assert.equal(await rig.publish("mast-4", "telemetry/mast-4"), 4);
  await rig.add("mast-4");
  while ((await rig.publish("mast-4", "telemetry/mast-4")) !== 0);
  const login = ["-u", "mast-4", "-P", rig.passwords.get("mast-4") ?? ""];
  const subscriber = new Running("mosquitto_sub", ["-p", String(rig.daemon.ports.mqtt), ...login, "-t", "#"]);
  t.after(() => subscriber.stop());
  while (!subscriber.lines.includes("{}")) assert.equal(await rig.publish("mast-3", "telemetry/mast-3"), 0);
  assert.equal((await rig.devices("remove", "mast-4")).status, 0);
  // Its connection is closed, and it tries again in vain.
  await subscriber.line("bad user name or password");
  assert.equal(await rig.publish("mast-4", "telemetry/mast-4"), 4);
  assert.equal(await rig.publish("mast-3", "telemetry/mast-3"), 0);
});

test("rules are followed, and a file that cannot be understood leaves the ones before in force", {
  skip,
}, async (t) => {
  const rig = await start(t, ["user mast-3", "topic write telemetry/#"]);
  const { daemon, publish, writeRules } = rig;
  assert.equal(await publish("mast-3", "telemetry/mast-3"), 0);
  assert.equal(await publish("mast-3", "observations/smoke"), 0);
  assert.equal(await publish(undefined, "telemetry/mast-3"), 0);
  assert.deepEqual(await counts(rig), [1, 2]);

  writeRules("user mast-3", "topik write observations/#");
  daemon.child.kill("SIGHUP");
  const health = async () => JSON.stringify(await (await daemon.get("/health")).json());
  while (!(await health()).includes("acl-file"));
  assert.match(await health(), /line 2: `topik` is none of user, topic, pattern.*What was in force before stays/);
  await publish("mast-3", "telemetry/mast-3");
  assert.deepEqual(await counts(rig), [2, 2]);

  writeRules("user mast-3", "topic write observations/#");
  daemon.child.kill("SIGHUP");
  while ((await health()).includes("acl-file"));
  await publish("mast-3", "observations/smoke");
  await publish("mast-3", "telemetry/mast-3");
  assert.deepEqual(await counts(rig), [3, 3]);
});

test("a daemon whose files are missing or wrong does not start, and says what to do", async (t) => {
  const folder = temporaryFolder(t);
  const config = join(folder, "gateway.yaml");
  const file = join(folder, "it");
  const start = async (key: string) => {
    const mqtt = { listeners: [], [key]: file };
    writeFileSync(config, JSON.stringify({ gateway: { dataDir: join(folder, "data") }, http: { port: 0 }, mqtt }));
    return summitEdge(["run", "--config", config]);
  };
  const missingFile = await start("passwordFile");
  assert.equal(missingFile.status, 1);
  assert.match(missingFile.stderr, /it cannot be read: ENOENT\nhint: .*summit-edge devices add/);
  writeFileSync(file, "user a\nallow all\nmast-3:s3cret\n");
  const rules = await start("aclFile");
  assert.equal(rules.status, 2);
  assert.match(rules.stderr, /line 2: `allow` is none of user, topic, pattern[\s\S]*line 3[\s\S]*\nhint: /);
  const passwords = await start("passwordFile");
  assert.equal(passwords.status, 2);
  assert.match(passwords.stderr, /line 3: what is behind mast-3: is no password/);
  assert.doesNotMatch(passwords.stderr, /s3cret/);
});
