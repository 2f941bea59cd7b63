import assert from "node:assert/strict";
import { chownSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { Command } from "commander";
import { addKeysCommand } from "#src/cli/keys.js";
import type { Terminal } from "#src/cli/terminal.js";
import type { AuditEvent } from "#src/kernel/audit.js";
import { summitEdge } from "../support/command.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

/** A configuration, and the folder of its keys. */
function setUp(t: TestContext): { config: string; dataDir: string; folder: string } {
  const root = temporaryFolder(t);
  const dataDir = join(root, "data");
  const config = join(root, "gateway.yaml");
  writeFileSync(config, `gateway: { dataDir: ${dataDir} }\n`);
  return { config, dataDir, folder: join(dataDir, "api-keys") };
}

const KEY = /^se_([0-9a-f]{8})_[0-9a-f]{64}$/;

test("a key is shown once, and no file holds it; its file is the daemon's alone", async (t) => {
  const { config, folder } = setUp(t);
  const made = await summitEdge(["keys", "create", "ops", "--scope", "write", "--config", config]);
  assert.equal(made.status, 0, made.stderr);
  const [text = ""] = made.stdout.split("\n");
  const id = KEY.exec(text)?.[1] ?? "";
  assert.notEqual(id, "");
  assert.match(made.stdout, /shown this once/);
  assert.deepEqual(readdirSync(folder), [`${id}.json`]);
  const file = join(folder, `${id}.json`);
  assert.equal(statSync(file).mode & 0o777, 0o600);
  assert.equal(statSync(folder).mode & 0o777, 0o700);
  assert.doesNotMatch(readFileSync(file, "utf8"), new RegExp(text.slice(12)));
  const listed = await summitEdge(["keys", "list", "--config", config]);
  assert.match(listed.stdout, new RegExp(`ops +write +se_${id}_… +\\S+ +never`));
  assert.doesNotMatch(listed.stdout, new RegExp(text));
});

test("--json gives the key and what it is; without a scope it may only read", async (t) => {
  const { config } = setUp(t);
  const made = await summitEdge(["keys", "create", "r", "--expires", "90d", "--json", "--config", config]);
  const { key, createdAt, expiresAt, ...rest } = JSON.parse(made.stdout);
  assert.match(key, KEY);
  assert.deepEqual(rest, { id: KEY.exec(key)?.[1], name: "r", scope: "read" });
  assert.equal(Math.round((Date.parse(expiresAt) - Date.parse(createdAt)) / 86_400_000), 90);
  const listed = JSON.parse((await summitEdge(["keys", "list", "--json", "--config", config])).stdout);
  assert.deepEqual(listed, [{ ...rest, createdAt, expiresAt }]);
});

test("a key that is given no name is called by its id", async (t) => {
  const { config } = setUp(t);
  const made = await summitEdge(["keys", "create", "--scope", "admin", "--json", "--config", config]);
  assert.equal(made.status, 0, made.stderr);
  const { id, name, scope } = JSON.parse(made.stdout);
  assert.deepEqual([name, scope], [id, "admin"]);
});

test("a key is revoked by its name or its id; one that there is not is an error", async (t) => {
  const { config } = setUp(t);
  const run = (...args: string[]) => summitEdge(["keys", ...args, "--config", config]);
  await run("create", "one");
  const { id } = JSON.parse((await run("create", "two", "--json")).stdout);
  assert.equal((await run("revoke", "one")).status, 0);
  const revoked = await run("revoke", id, "--json");
  assert.equal(JSON.parse(revoked.stdout).name, "two");
  assert.equal((await run("list")).stdout, "There are no keys.\n");
  const unknown = await run("revoke", "one");
  assert.equal(unknown.status, 1);
  assert.match(unknown.stderr, /there is no key one\nhint: .*keys list/);
});

test("what cannot be meant is a usage error, and leaves no key", async (t) => {
  const { config } = setUp(t);
  const wrong = [
    ["a b"],
    ["../x"],
    ["ops", "--scope", "root"],
    ["ops", "--expires", "soon"],
    ["ops", "--expires", "2020-01-01T00:00:00Z"],
  ];
  for (const args of wrong) {
    const { status, stderr } = await summitEdge(["keys", "create", ...args, "--config", config]);
    assert.equal(status, 2, `${args}: ${stderr}`);
  }
  await summitEdge(["keys", "create", "ops", "--config", config]);
  const again = await summitEdge(["keys", "create", "ops", "--config", config]);
  assert.equal(again.status, 1);
  assert.match(again.stderr, /there is a key called ops already/);
  assert.equal(JSON.parse((await summitEdge(["keys", "list", "--json", "--config", config])).stdout).length, 1);
});

test("commands at the same time do not lose one another's keys", async (t) => {
  const { config } = setUp(t);
  const names = ["a", "b", "c", "d", "e", "f"];
  await Promise.all(names.map((name) => summitEdge(["keys", "create", name, "--config", config])));
  const listed: { name: string }[] = JSON.parse(
    (await summitEdge(["keys", "list", "--json", "--config", config])).stdout,
  );
  assert.deepEqual(listed.map(({ name }) => name).sort(), names);
});

const skip = process.getuid?.() === 0 ? false : "only root can make files for somebody else";
test("a key that root makes belongs to whom the data folder belongs: the daemon's user", { skip }, async (t) => {
  const { config, dataDir, folder } = setUp(t);
  mkdirSync(dataDir);
  chownSync(dataDir, 12345, 12346);
  await summitEdge(["keys", "create", "ops", "--config", config]);
  for (const path of [folder, join(folder, readdirSync(folder)[0] ?? "")]) {
    const { uid, gid } = statSync(path);
    assert.deepEqual([uid, gid], [12345, 12346]);
  }
});

test("a file that is no key is named, with what to do", async (t) => {
  const { config, folder } = setUp(t);
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, "00000000.json"), "{");
  const { status, stderr } = await summitEdge(["keys", "list", "--config", config]);
  assert.equal(status, 1);
  assert.match(stderr, /00000000\.json cannot be used: .*\nhint: .*can be removed, which revokes it/);
});

test("making and revoking a key is reported to the audit trail, without the key", async (t) => {
  const { config } = setUp(t);
  const events: AuditEvent[] = [];
  const written: string[] = [];
  const terminal: Terminal = {
    env: { SUDO_USER: "alice" },
    interactive: false,
    installedConfig: () => undefined,
    write: (text) => void written.push(text),
    pause: async () => false,
  };
  for (const args of [
    ["create", "ops", "--scope", "admin", "--json"],
    ["revoke", "ops"],
  ]) {
    const program = new Command("summit-edge").exitOverride();
    addKeysCommand(program, { tell: async (_config, ...told) => void events.push(...told), terminal });
    await program.parseAsync(["keys", ...args, "--config", config], { from: "user" });
  }
  const { id, key } = JSON.parse(written[0] ?? "");
  const about = { actor: "cli:alice", subject: "ops", detail: { id, scope: "admin" } };
  assert.deepEqual(events, [
    { action: "key.created", ...about },
    { action: "key.revoked", ...about },
  ]);
  assert.ok(!JSON.stringify(events).includes(key.slice(12)));
});
