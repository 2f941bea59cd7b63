/** What the daemon and commands without it report to the audit trail, and what an auditor reads there. */
import assert from "node:assert/strict";
import { chmodSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { userInfo } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { type TestContext, test } from "node:test";
import { connectAsync } from "mqtt";
import { Collector } from "../support/collector.ts";
import { summitEdge } from "../support/command.ts";
import { Daemon } from "../support/daemon.ts";
import { device } from "../support/device.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { until } from "../support/until.ts";

interface Entry {
  readonly seq: number;
  readonly actor: string;
  readonly action: string;
  readonly subject?: string;
  readonly detail?: Record<string, unknown>;
}

const user = userInfo().username;
const command = (folder: string, ...args: string[]) => summitEdge([...args, "--config", join(folder, "gateway.yaml")]);

async function entries(folder: string, ...options: string[]): Promise<Entry[]> {
  const { stdout, stderr, status } = await command(folder, "audit", "list", "--json", ...options);
  assert.equal(status, 0, stderr);
  return (JSON.parse(stdout) as { entries: Entry[] }).entries;
}

async function started(t: TestContext, folder: string, changes: object = {}, uplinkUrl?: string): Promise<Daemon> {
  const daemon = await Daemon.start({ folder, changes, ...(uplinkUrl !== undefined && { uplinkUrl }) });
  t.after(() => daemon.stop("SIGKILL"));
  return daemon;
}

/** Dead letters, by their ids. */
async function poisoned(t: TestContext, folder: string, count: number): Promise<{ daemon: Daemon; ids: string[] }> {
  const fusion = await Collector.start();
  fusion.answer = () => ({ status: 422, body: { title: "no", status: 422 } });
  t.after(() => fusion.stop());
  const daemon = await started(t, folder, {}, fusion.url);
  const client = await device(t, daemon.ports.mqtt);
  for (let n = 0; n < count; n++) await client.publishAsync("observations/smoke", JSON.stringify({ n }), { qos: 1 });
  await daemon.until(({ deadLettered }) => deadLettered === count);
  const page = (await (await daemon.get("/api/v1/dead-letters")).json()) as { deadLetters: { id: string }[] };
  return { daemon, ids: page.deadLetters.map(({ id }) => id) };
}

test("dead letters dropped and requeued stand in the trail by id, with who did it, with the daemon running and without", async (t) => {
  const folder = temporaryFolder(t);
  const { daemon, ids } = await poisoned(t, folder, 3);
  const [first = "", second = "", third = ""] = ids;
  assert.equal((await command(folder, "dead-letters", "drop", first)).status, 0);
  const answer = await fetch(`http://127.0.0.1:${daemon.ports.http}/api/v1/dead-letters/drop`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ ids: [second] }),
  });
  assert.equal(answer.status, 200);
  // Not after a while: an answer means that the entry is durable.
  assert.equal((await entries(folder, "--action", "dead-letter")).length, 2);
  await daemon.stop();
  assert.equal((await command(folder, "dead-letters", "requeue", third)).status, 0);
  assert.deepEqual(
    (await entries(folder, "--action", "dead-letter")).map(({ action, actor, subject }) => [action, actor, subject]),
    [
      ["dead-letter.dropped", `cli:${user}`, first],
      ["dead-letter.dropped", "api:127.0.0.1", second],
      ["dead-letter.requeued", `cli:${user}`, third],
    ],
  );
  const unknown = await command(folder, "audit", "list", "--action", "dead-letters");
  assert.equal(unknown.status, 2);
  assert.match(
    unknown.stderr,
    /no action is called dead-letters\nhint: Did you mean dead-letter\?.*audit list .*--help/,
  );
  const far = await command(folder, "audit", "list", "--action", "bogus");
  assert.match(far.stderr, /no action is called bogus\nhint: summit-edge audit list .*--help has all of them/);
  const when = await command(folder, "audit", "list", "--since", "yesterday");
  assert.match(when.stderr, /2026-07-01T12:00:00Z, or a duration, as 24h/);
  assert.deepEqual(await entries(folder, "--action", "key.revoked"), [], "a known one, of which there is none");
});

test("a refused login stands in the trail under its address, with the client id that it claims and the reason", async (t) => {
  const folder = temporaryFolder(t);
  const ports = await Daemon.freePorts();
  await started(t, folder, { mqtt: { anonymous: "never", listeners: [{ bind: "127.0.0.1", port: ports.mqtt }] } });
  await assert.rejects(
    connectAsync(`mqtt://127.0.0.1:${ports.mqtt}`, { clientId: "intruder", reconnectPeriod: 0, protocolVersion: 4 }),
  );
  let found: Entry[] = [];
  const look = async (): Promise<void> => {
    found = await entries(folder, "--action", "login.refused");
  };
  await until("the entry is written", () => found.length === 1, look);
  const [entry] = found;
  assert.equal(entry?.actor, "address:127.0.0.1");
  assert.equal(entry?.detail?.client, "intruder");
  assert.match(String(entry?.detail?.reason), /no credentials/);
});

test("another configuration at the next start stands in the trail with the keys that changed; the same one does not", async (t) => {
  const folder = temporaryFolder(t);
  const first = await started(t, folder);
  await first.stop();
  const ports = first.ports;
  await (await Daemon.start({ folder, ports })).stop();
  assert.deepEqual(
    (await entries(folder, "--action", "config")).map(({ action }) => action),
    ["config.first-seen"],
  );
  await (await Daemon.start({ folder, ports, changes: { outbox: { maxAge: "5d" } } })).stop();
  const [, changed] = await entries(folder, "--action", "config");
  assert.equal(changed?.action, "config.changed");
  assert.match(String(changed?.detail?.keys), /(^| )outbox\.maxAge( |$)/);
  assert.doesNotMatch(String(changed?.detail?.keys), /uplink/);
  assert.equal(changed?.detail?.owner, user);
});

test("a replay stands in the trail with its range, who began it, and how it ended", async (t) => {
  const folder = temporaryFolder(t);
  const fusion = await Collector.start();
  t.after(() => fusion.stop());
  const daemon = await started(t, folder, { outbox: { keepDelivered: "1h" } }, fusion.url);
  const client = await device(t, daemon.ports.mqtt);
  const ts = "2026-07-01T12:00:00Z";
  await client.publishAsync("observations/smoke", JSON.stringify({ ts }), { qos: 1 });
  await daemon.until(({ delivered }) => delivered === 1);
  assert.equal((await command(folder, "outbox", "replay", "--from", ts, "--to", ts)).status, 0);
  await daemon.stop();
  const [began, ended] = await entries(folder, "--action", "replay");
  assert.deepEqual([began?.action, began?.actor], ["replay.started", `cli:${user}`]);
  assert.equal(began?.detail?.from, "2026-07-01T12:00:00.000Z");
  assert.deepEqual([ended?.action, ended?.detail?.state, ended?.detail?.sent], ["replay.ended", "done", 1]);
});

test("a backup and a restore stand in the trail", async (t) => {
  const folder = temporaryFolder(t);
  const daemon = await started(t, folder);
  const copy = join(folder, "copy.db");
  assert.equal((await command(folder, "outbox", "backup", copy)).status, 0);
  await daemon.stop();
  assert.equal((await command(folder, "outbox", "restore", copy)).status, 0);
  assert.deepEqual(
    (await entries(folder, "--action", "outbox")).map(({ action, actor, subject }) => [action, actor, subject]),
    [
      ["outbox.backed-up", `cli:${user}`, copy],
      ["outbox.restored", `cli:${user}`, copy],
    ],
  );
});

test("verify ends with 0 for a whole trail and with 1 for one with a changed line, and export can be verified elsewhere", async (t) => {
  const folder = temporaryFolder(t);
  const daemon = await started(t, folder);
  for (const name of ["a", "b"]) await command(folder, "outbox", "backup", join(folder, name));
  const running = await command(folder, "audit", "verify");
  assert.equal(running.status, 0, running.stdout + running.stderr);
  await daemon.stop();
  const exported = join(folder, "trail.jsonl");
  assert.equal((await command(folder, "audit", "export", exported)).status, 0);
  const printed = await command(folder, "audit", "export");
  assert.deepEqual([printed.status, printed.stdout], [0, readFileSync(exported, "utf8")]);
  const elsewhere = await summitEdge(["audit", "verify", exported, "--json"]);
  assert.equal(elsewhere.status, 0, elsewhere.stderr);
  const { end } = JSON.parse(elsewhere.stdout) as { end: { seq: number; hash: string } };
  const noted = await command(folder, "audit", "verify", "--noted", `${end.seq}:${end.hash}`);
  assert.equal(noted.status, 0, noted.stdout);
  const segment = join(folder, "data", "audit", "audit-0000000001.jsonl");
  writeFileSync(segment, readFileSync(segment, "utf8").replace("outbox.backed-up", "outbox.looked-at"));
  const changed = await command(folder, "audit", "verify");
  assert.equal(changed.status, 1);
  assert.match(changed.stdout, /changed: entry 2 was changed .*line 2/);
  assert.match(changed.stderr, /hint: /);
  const printedChanged = await command(folder, "audit", "export");
  assert.deepEqual([printedChanged.status, printedChanged.stdout], [1, readFileSync(segment, "utf8")]);
});

test("a trail that cannot be written degrades the gateway, which goes on, and is made good later", async (t) => {
  const folder = temporaryFolder(t);
  const { daemon, ids } = await poisoned(t, folder, 1);
  const trail = join(folder, "data", "audit");
  renameSync(trail, `${trail}-away`);
  writeFileSync(trail, "");
  chmodSync(trail, 0o400);
  assert.equal((await command(folder, "dead-letters", "drop", ids[0] ?? "")).status, 0);
  const { conditions } = await daemon.untilStatus(({ conditions }) =>
    conditions.some(({ component }) => component === "audit"),
  );
  assert.equal(conditions.find(({ component }) => component === "audit")?.code, "unwritable");
  assert.equal((await daemon.get("/healthz")).status, 200);
  rmSync(trail);
  renameSync(`${trail}-away`, trail);
  await daemon.stop();
  assert.equal((await entries(folder, "--action", "dead-letter.dropped")).length, 1);
  assert.equal((await command(folder, "audit", "verify")).status, 0);
});

test("the log says where the trail ends at each start and stop, also where nothing was written to it", async (t) => {
  const folder = temporaryFolder(t);
  const logged = async (): Promise<{ seq: number; hash: string; whole?: boolean }[]> => {
    const daemon = await Daemon.launch({ folder, changes: { log: { level: "info" } }, log: "pipe", ports });
    t.after(() => daemon.stop("SIGKILL"));
    const lines: string[] = [];
    const { stdout } = daemon.child;
    assert.ok(stdout !== null);
    createInterface({ input: stdout }).on("line", (line) => void lines.push(line));
    const ends = () => lines.filter((line) => line.includes("the audit trail's end")).map((line) => JSON.parse(line));
    await until("it says where the trail ends", () => ends().length > 0);
    await daemon.stop();
    await until("it says so once more", () => ends().length > 1);
    return ends();
  };
  const ports = await Daemon.freePorts();
  await logged();
  const [start, stop] = await logged();
  assert.deepEqual([start?.seq, start?.whole], [1, true]);
  assert.deepEqual([stop?.seq, stop?.hash], [start?.seq, start?.hash]);
});

test("health and doctor say that the trail is not whole, until it is moved away", async (t) => {
  const folder = temporaryFolder(t);
  const first = await started(t, folder);
  await command(folder, "outbox", "backup", join(folder, "a"));
  await first.stop();
  const trail = join(folder, "data", "audit");
  const segment = join(trail, "audit-0000000001.jsonl");
  writeFileSync(segment, readFileSync(segment, "utf8").replace("config.first-seen", "config.looked-at"));
  const findings = async (): Promise<{ check: string; level: string; detail: string }[]> =>
    JSON.parse((await command(folder, "doctor", "--json")).stdout).findings;
  const stopped = (await findings()).find(({ check }) => check === "audit trail");
  assert.equal(stopped?.level, "warn");
  assert.match(String(stopped?.detail), /is not whole: .*entry 1 was changed \(audit-0000000001.jsonl, line 1\)/);

  const daemon = await Daemon.start({ folder, ports: first.ports });
  t.after(() => daemon.stop("SIGKILL"));
  const isDamaged = ({ component, code }: { component: string; code: string }) =>
    component === "audit" && code === "damaged";
  await daemon.untilStatus(({ conditions }) => conditions.some(isDamaged));
  assert.equal((await daemon.get("/healthz")).status, 200);
  assert.match(
    (await findings()).map(({ check, level, detail }) => `${level} ${check} ${detail}`).join("\n"),
    /^warn audit the audit trail in .* is not whole/m,
  );
  renameSync(trail, `${trail}.damaged`);
  daemon.child.kill("SIGHUP");
  await daemon.untilStatus(({ conditions }) => !conditions.some(isDamaged));
});
