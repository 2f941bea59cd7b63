/** Another program writes over the outbox's file, the same file, while the daemon has it open: nothing is lost without being named. */
import assert from "node:assert/strict";
import {
  closeSync,
  copyFileSync,
  cpSync,
  existsSync,
  openSync,
  readFileSync,
  truncateSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import Database from "better-sqlite3";
import type { MqttClient } from "mqtt";
import { ExitStatus } from "#src/kernel/errors.js";
import type { WalFrames } from "#src/outbox/file-content.js";
import { Store } from "#src/outbox/store.js";
import { Collector } from "../support/collector.ts";
import { Daemon, type Ports } from "../support/daemon.ts";
import { device } from "../support/device.ts";
import { mutant } from "../support/mutant.ts";
import { PressingDevice } from "../support/pressing-device.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { until } from "../support/until.ts";

/** So small an outbox brings its log into the file after some commits. */
const OUTBOX = { maxBytes: "4MiB", reserveFreeDisk: "0B", commitDelay: { normal: "0ms" } };

interface World {
  readonly daemon: Daemon;
  readonly folder: string;
  readonly ports: Ports;
  readonly file: string;
  readonly pressing: PressingDevice;
}

/** A daemon under load, and no fusion: what it has acknowledged waits in its file, and the newest in its log. */
async function loaded(t: TestContext, dist?: string): Promise<World> {
  const folder = temporaryFolder(t);
  const ports = await Daemon.freePorts();
  const options = { folder, ports, changes: { outbox: OUTBOX }, ...(dist !== undefined && { dist }) };
  const daemon = await Daemon.start(options);
  t.after(() => daemon.stop("SIGKILL"));
  const pressing = await PressingDevice.start(t, ports.mqtt, { noise: 2000 });
  await until("much is acknowledged", () => pressing.acknowledged.size > 500);
  return { daemon, folder, ports, file: join(folder, "data", "outbox.db"), pressing };
}

/** Pages that the log holds and the file does not yet. */
function inLogAlone(file: string): number {
  const beside = new Database(file, { readonly: true });
  const { log, checkpointed } = beside.prepare("PRAGMA wal_checkpoint(NOOP)").get() as WalFrames;
  beside.close();
  return log - checkpointed;
}

/**
 * Ends the load, with readings in the log that the file does not have: the last commit may just have brought in all of it. Gives a client that
 * goes on, and how many readings are acknowledged.
 */
async function withoutLoad(
  t: TestContext,
  { ports, file, pressing }: Pick<World, "ports" | "file" | "pressing">,
): Promise<{ client: MqttClient; acknowledged: number }> {
  pressing.stop();
  await until("all is acknowledged", () => pressing.acknowledged.size === pressing.published);
  const client = await device(t, ports.mqtt);
  let acknowledged = pressing.acknowledged.size;
  for (; inLogAlone(file) === 0; acknowledged++) {
    await client.publishAsync("observations/smoke", `{"source":"presser","n":${acknowledged}}`, { qos: 1 });
  }
  return { client, acknowledged };
}

/** An outbox of somebody else's, with readings of theirs. */
async function anotherOutbox(t: TestContext): Promise<string> {
  const folder = temporaryFolder(t);
  const daemon = await Daemon.start({ folder, changes: { outbox: OUTBOX } });
  t.after(() => daemon.stop("SIGKILL"));
  const client = await device(t, daemon.ports.mqtt);
  for (let n = 0; n < 100; n++) await client.publishAsync("observations/smoke", `{"theirs":${n}}`, { qos: 1 });
  await client.endAsync();
  assert.equal(await daemon.stop(), 0);
  return join(folder, "data", "outbox.db");
}

const WAYS: Record<string, (file: string, other: string, t: TestContext) => void> = {
  "another outbox copied over it": (file, other) => copyFileSync(other, file),
  "nothing, as by a slip of a shell": (file) => truncateSync(file),
};

for (const [what, overwrite] of Object.entries(WAYS)) {
  test(`${what}: it is noticed at once, and what was acknowledged is delivered or counted as damaged`, async (t) => {
    const other = await anotherOutbox(t);
    const { daemon, folder, ports, file, pressing } = await loaded(t);
    // In the midst of a checkpoint it is not told from the daemon's own writing (decision 0029).
    const { client } = await withoutLoad(t, { ports, file, pressing });
    overwrite(file, other, t);
    const theirs = readFileSync(file);
    client.publish("observations/smoke", '{"source":"presser"}', { qos: 1 });
    assert.equal(await daemon.ended(), ExitStatus.ioError);
    const acknowledged = new Set(pressing.acknowledged);

    const fusion = await Collector.start();
    t.after(() => fusion.stop());
    const again = await Daemon.start({ folder, ports, changes: { outbox: OUTBOX }, uplinkUrl: fusion.url });
    t.after(() => again.stop("SIGKILL"));
    await until("what was not acknowledged is sent again", () => pressing.acknowledged.size === pressing.published);
    const { ledger, conditions } = await again.untilStatus(({ ledger }) => ledger.pending === 0);
    const { accepted = 0, delivered = 0, damaged = 0, evicted = 0 } = ledger;
    assert.equal(accepted, delivered + damaged + evicted);
    assert.ok(damaged > 0, "what only the file held is named");
    const received = new Set(fusion.received.map(({ attributes }) => attributes.n as number));
    const missing = [...acknowledged].filter((n) => !received.has(n)).length;
    assert.ok(missing <= damaged + evicted, `${missing} of those acknowledged are missing, ${damaged} are named`);
    assert.ok(
      fusion.received.every(({ source }) => source === "presser"),
      "nothing of the other outbox is sent",
    );
    assert.ok(received.size > 0 && conditions.some(({ code }) => code === "repaired"));
    assert.deepEqual(readFileSync(`${file}.damaged-1`), theirs, "the other content is kept, as it was");
  });
}

test("a daemon that is stopped after its file was overwritten leaves the other content as it is, and names what is lost", async (t) => {
  const { daemon, folder, ports, file, pressing } = await loaded(t);
  const { acknowledged } = await withoutLoad(t, { ports, file, pressing });
  daemon.child.kill("SIGSTOP");
  writeFileSync(file, "somebody's");
  daemon.child.kill("SIGTERM");
  daemon.child.kill("SIGCONT");
  assert.equal(await daemon.ended(), 0);
  assert.equal(readFileSync(file, "utf8"), "somebody's");
  const again = await Daemon.start({ folder, ports, changes: { outbox: OUTBOX } });
  t.after(() => again.stop("SIGKILL"));
  const { accepted = 0, pending = 0, damaged = 0 } = (await again.status()).ledger;
  assert.deepEqual([accepted, pending + damaged], [acknowledged, acknowledged]);
  assert.ok(pending > 0 && damaged > 0);
});

test("noise in its middle: it is found by a check beside, and what was acknowledged is there or counted as damaged", async (t) => {
  const { daemon, folder, ports, file, pressing } = await loaded(t);
  const fd = openSync(file, "r+");
  writeSync(fd, Buffer.alloc(512 * 1024, 0x5a), 0, 512 * 1024, 128 * 1024);
  closeSync(fd);
  assert.equal(await daemon.ended(), ExitStatus.ioError);
  pressing.stop();
  const acknowledged = pressing.acknowledged.size;
  const again = await Daemon.start({ folder, ports, changes: { outbox: OUTBOX } });
  t.after(() => again.stop("SIGKILL"));
  await until("what was not acknowledged is sent again", () => pressing.acknowledged.size === pressing.published);
  const { accepted = 0, pending = 0, damaged = 0, evicted = 0 } = (await again.status()).ledger;
  assert.equal(accepted, pending + damaged + evicted);
  assert.ok(accepted >= acknowledged && damaged > 0);
});

test("a file that is only touched is checked, and gone on with", async (t) => {
  const { daemon, file, pressing } = await loaded(t);
  utimesSync(file, 1, 1);
  const before = pressing.acknowledged.size;
  await until("acknowledgements go on", () => pressing.acknowledged.size > before + 100);
  assert.ok(!existsSync(`${file}.damaged-1`));
  pressing.stop();
  assert.equal(await daemon.stop(), 0);
});

test("control: a daemon that does not look at its file's content goes on acknowledging into another's", async (t) => {
  const dist = mutant(t, "outbox/file-content.js", "if (size === this.#size", "if (true || size === this.#size");
  const { daemon, folder, file, pressing } = await loaded(t, dist);
  const kept = join(folder, "kept.db");
  const fresh = new Store({ file: kept, maxBytes: 2 ** 22, bootId: "" });
  fresh.close();
  cpSync(kept, file, { force: true });
  const before = pressing.acknowledged.size;
  await until("more is acknowledged, or it has fallen over", () => {
    return pressing.acknowledged.size > before || daemon.child.exitCode !== null;
  });
  assert.ok(pressing.acknowledged.size > before);
});
