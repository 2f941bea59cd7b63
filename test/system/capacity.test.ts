/**
 * The limits of the outbox, on the real daemon: a full outbox sheds by its stated policy or acknowledges nothing, the books
 * balance, the files keep to their limit, and each change of state is one line in the log.
 */
import assert from "node:assert/strict";
import { statSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { Collector } from "../support/collector.ts";
import { Daemon, type DaemonOptions, type Status } from "../support/daemon.ts";
import { device } from "../support/device.ts";
import { mutant } from "../support/mutant.ts";
import { PressingDevice } from "../support/pressing-device.ts";
import { noSmallDisk, SmallDisk } from "../support/small-disk.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { until } from "../support/until.ts";

const MAX_BYTES = 1024 * 1024;
const WATCHES_MS = 2000;
const LANES = ["low", "normal", "high", "critical"] as const;

interface World {
  readonly fusion: Collector;
  readonly daemon: Daemon;
  readonly dataDir: string;
  /** Lines of the log that concern the outbox, as `code: message`. */
  readonly log: string[];
}

/** A gateway whose outbox is as the test wants it, and a fusion that is away. */
async function gateway(
  t: TestContext,
  outbox: object,
  options: Partial<DaemonOptions> & { readonly dataDir?: string } = {},
): Promise<World> {
  const fusion = await Collector.start();
  t.after(() => fusion.stop());
  await fusion.stop();
  const folder = temporaryFolder(t);
  const { dataDir = join(folder, "data"), ...daemonOptions } = options;
  const changes = {
    gateway: { id: "sierra-014", dataDir },
    log: { level: "info" },
    outbox: { commitDelay: { normal: "0ms", low: "0ms" }, reserveFreeDisk: "0B", ...outbox },
    uplink: {
      url: fusion.url,
      reachability: "100ms",
      batch: { linger: "10ms" },
      retry: { initial: "50ms", max: "200ms" },
      breaker: { recovery: "500ms" },
    },
  };
  const daemon = await Daemon.start({ folder, changes, log: "pipe", ...daemonOptions });
  t.after(() => daemon.stop("SIGKILL"));
  const log: string[] = [];
  let rest = "";
  daemon.child.stdout?.on("data", (chunk) => {
    rest += String(chunk);
    const lines = rest.split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) {
      const { component, code, msg } = JSON.parse(line) as { component?: string; code?: string; msg: string };
      if (component === "outbox") log.push(`${code}: ${msg}`);
    }
  });
  daemon.child.stderr?.resume();
  return { fusion, daemon, dataDir, log };
}

const has = ({ conditions }: Status, wanted: string): boolean =>
  conditions.some(({ component, code }) => component === "outbox" && code === wanted);

const evictedOf = ({ outbox }: Status) => outbox.evictedByPriority as unknown as Record<string, number>;
const pendingOf = ({ outbox }: Status) => outbox.pendingByPriority as unknown as Record<string, number>;

function assertBalanced({ ledger }: Status): void {
  const { accepted, duplicates: _duplicates, ...fates } = ledger;
  assert.equal(
    Object.values(fates).reduce((sum, count) => sum + count, 0),
    accepted,
  );
}

/** The outbox keeps to its limit, as it says itself and as its files say. */
async function assertWithinLimit({ daemon, dataDir }: World): Promise<Status> {
  const status = await daemon.status();
  const sizeOf = (name: string): number => statSync(join(dataDir, name), { throwIfNoEntry: false })?.size ?? 0;
  const files = sizeOf("outbox.db") + sizeOf("outbox.db-wal");
  assert.ok(files <= MAX_BYTES, `the files came to ${files} bytes`);
  assert.ok((status.outbox.bytes ?? 0) <= MAX_BYTES, `in use were ${status.outbox.bytes} bytes`);
  assertBalanced(status);
  return status;
}

const turnsOf = (log: readonly string[], code: string): string[] => log.filter((line) => line.startsWith(`${code}: `));

/** From well to `worst` and back: one line for each change of state. */
function assertChanges(log: readonly string[], worst: string): void {
  const states = log.filter((line) => /^(filling|full|evicting): /.test(line));
  const codes = states.map((line) => line.replace(/: .*/s, ""));
  assert.deepEqual(codes, ["filling", worst, ...codes.slice(2)]);
  assert.ok(codes.length <= 4, `one line for each change: ${states.join("\n")}`);
  assert.equal(states.at(-1), `${codes.at(-1)}: well again`);
}

test("under evict a full outbox goes on accepting: low goes before normal, normal before high, critical last", async (t) => {
  const world = await gateway(t, { maxBytes: "1MiB" });
  const { daemon, fusion, log } = world;
  let acknowledged = 0;
  for (const [index, lane] of LANES.entries()) {
    const device = await PressingDevice.start(t, daemon.ports.mqtt, { name: lane, priority: lane, noise: 2000 });
    for (;;) {
      const status = await assertWithinLimit(world);
      const evicted = evictedOf(status);
      for (const [above, higher] of LANES.entries()) {
        if (above === 0 || (evicted[higher] ?? 0) === 0) continue;
        for (const lower of LANES.slice(0, Math.min(above, index)))
          assert.equal(pendingOf(status)[lower], 0, `${higher} was evicted although ${lower} waited`);
      }
      if ((evicted[lane] ?? 0) > 0) break;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    device.stop();
    await until("all is acknowledged", () => device.acknowledged.size === device.published);
    acknowledged += device.acknowledged.size;
  }
  const full = await assertWithinLimit(world);
  assert.equal(full.ledger.accepted, acknowledged);
  assert.ok(has(full, "evicting") && !has(full, "filling"), "it says so, and no more than that");
  assert.equal((await daemon.get("/healthz")).status, 200);
  const metrics = await (await daemon.get("/metrics")).text();
  for (const lane of LANES)
    assert.match(metrics, new RegExp(`readings_evicted_total\\{priority="${lane}"\\} ${evictedOf(full)[lane]}\n`));
  assert.match(metrics, /outbox_high_water_ratio 0.8\n/);

  await fusion.listen();
  const drained = await daemon.untilStatus(({ ledger, conditions }) => {
    return ledger.pending === 0 && !conditions.some(({ component }) => component === "outbox");
  });
  assertBalanced(drained);
  assert.equal(fusion.received.length, drained.ledger.delivered);
  assert.equal(drained.ledger.evicted, full.ledger.evicted, "nothing more goes while it drains");
  assertChanges(log, "evicting");
});

/** Publishes until nothing is acknowledged any more. */
async function refusing(
  t: TestContext,
  options: Partial<DaemonOptions> = {},
): Promise<World & { device: PressingDevice }> {
  const world = await gateway(t, { maxBytes: "1MiB", whenFull: "refuse" }, options);
  const device = await PressingDevice.start(t, world.daemon.ports.mqtt, { noise: 2000 });
  await world.daemon.untilStatus((status) => has(status, "full"));
  return { ...world, device };
}

test("under refuse a full outbox acknowledges nothing, and goes on when fusion takes readings", async (t) => {
  const world = await refusing(t);
  const { daemon, fusion, device: pressing, log } = world;
  const before = pressing.acknowledged.size;
  await new Promise((resolve) => setTimeout(resolve, WATCHES_MS));
  assert.equal(pressing.acknowledged.size, before, "nothing is acknowledged");
  const held = await assertWithinLimit(world);
  assert.equal(held.ledger.evicted, 0);

  const casual = await device(t, daemon.ports.mqtt);
  for (let n = 0; n < 5; n++) await casual.publishAsync("observations/smoke", `[{"n":${n}},{"n":${n}}]`);
  const refused = await daemon.untilStatus(({ refused }) => refused["outbox-full"] === 10);
  assert.equal(refused.ledger.accepted, held.ledger.accepted, "what has no acknowledgement is refused by name");
  assert.equal(refused.sources.find(({ name }) => name === "mqtt")?.refused, 10);

  await fusion.listen();
  await until("readings are acknowledged again", () => pressing.acknowledged.size > before + 100);
  pressing.stop();
  await until("all is acknowledged", () => pressing.acknowledged.size === pressing.published);
  const { ledger } = await daemon.untilStatus(({ ledger, conditions }) => {
    return ledger.pending === 0 && !conditions.some(({ component }) => component === "outbox");
  });
  assert.equal(ledger.accepted, pressing.acknowledged.size);
  assert.deepEqual([ledger.evicted, ledger.delivered], [0, ledger.accepted]);
  assert.equal(new Set(fusion.received.map(({ id }) => id)).size, ledger.accepted);
  assertChanges(log, "full");
});

test("under refuse a critical reading is acknowledged although others wait for room, and one without acknowledgement is kept", async (t) => {
  const { daemon, device: pressing } = await refusing(t);
  const before = await daemon.status();
  const critical = await device(t, daemon.ports.mqtt);
  for (let n = 0; n < 5; n++)
    await critical.publishAsync("alerts/mast", `{"ts":${n + 1_780_000_000},"n":${n}}`, { qos: 1 });
  await critical.publishAsync("observations/smoke", '{"n":5,"priority":"critical"}', { qos: 1 });
  // What is sent again is a copy of what is stored: nothing is left to wait for.
  await critical.publishAsync("alerts/mast", '{"ts":1780000000,"n":0}', { qos: 1 });
  await critical.publishAsync("alerts/mast", '{"n":6}');
  const status = await daemon.untilStatus(({ ledger }) => ledger.accepted === (before.ledger.accepted ?? 0) + 7);
  assertBalanced(status);
  assert.ok(has(status, "full"));
  assert.equal(pendingOf(status).critical, 7);
  assert.deepEqual([status.refused["outbox-full"], status.ledger.duplicates], [0, 1]);
  assert.ok(pressing.acknowledged.size < pressing.published);
});

test("control: where critical readings join no commit that waits for room, they wait with it", async (t) => {
  const dist = mutant(t, "outbox/group-commit.js", "if (!this.#gathering.holdsCritical)", "if (true)");
  const { daemon } = await refusing(t, { dist });
  const critical = await device(t, daemon.ports.mqtt);
  let acknowledged = false;
  void critical.publishAsync("alerts/mast", "{}", { qos: 1 }).then(
    () => {
      acknowledged = true;
    },
    () => {},
  );
  await new Promise((resolve) => setTimeout(resolve, WATCHES_MS));
  assert.ok(!acknowledged);
});

test("a daemon that refuses ends cleanly, and what it did not acknowledge comes again", async (t) => {
  const { daemon, device: pressing } = await refusing(t);
  const before = pressing.acknowledged.size;
  assert.equal(await daemon.stop(), 0);
  assert.equal(pressing.acknowledged.size, before);
});

test("control: under refuse an outbox that does not look for room acknowledges for ever", async (t) => {
  const dist = mutant(t, "outbox/retention.js", "used + need > goal", "false");
  const { daemon } = await gateway(t, { maxBytes: "1MiB", whenFull: "refuse" }, { dist });
  const pressing = await PressingDevice.start(t, daemon.ports.mqtt, { noise: 2000 });
  await until("more is acknowledged than fits", () => pressing.acknowledged.size > 2000);
});

test("what has waited for maxAge expires without new traffic, is counted, and says so once", async (t) => {
  const { daemon, fusion, log } = await gateway(t, { maxAge: "3s" });
  const client = await device(t, daemon.ports.mqtt);
  for (let n = 0; n < 50; n++) await client.publishAsync("observations/smoke", `{"n":${n}}`, { qos: 1 });
  const status = await daemon.untilStatus(({ ledger }) => ledger.expired === 50);
  assertBalanced(status);
  assert.ok(has(status, "expiring"));
  assert.equal(status.ledger.pending, 0);
  assert.match(await (await daemon.get("/metrics")).text(), /readings_expired_total 50\n/);
  assert.equal(turnsOf(log, "expiring").length, 1);
  await fusion.listen();
  await client.publishAsync("observations/smoke", '{"n":50}', { qos: 1 });
  await daemon.until(({ delivered }) => delivered === 1);
  assert.deepEqual(
    fusion.received.map(({ attributes }) => attributes.n),
    [50],
  );
});

const DISK_MIB = 48;

test("with less free disk than reserveFreeDisk the file stops growing, and readings still come and go", {
  skip: noSmallDisk("ext4"),
}, async (t) => {
  const disk = SmallDisk.mount(t, "ext4", DISK_MIB);
  const world = await gateway(t, { reserveFreeDisk: "24MiB" }, { dataDir: disk.folder });
  const { daemon, fusion } = world;
  const pressing = await PressingDevice.start(t, daemon.ports.mqtt, { noise: 8000, window: 4 });
  await daemon.untilStatus(({ ledger }) => (ledger.evicted ?? 0) > 100);
  assert.ok(disk.free > 22 * 2 ** 20, `${disk.free} bytes are left`);
  pressing.stop();
  await until("all is acknowledged", () => pressing.acknowledged.size === pressing.published);
  const before = await daemon.status();
  const giveBack = disk.fill(4 * 2 ** 20);
  await new Promise((resolve) => setTimeout(resolve, WATCHES_MS));
  const after = await daemon.status();
  assert.equal(after.ledger.pending, before.ledger.pending, "nothing goes because another program took the disk");
  const more = await PressingDevice.start(t, daemon.ports.mqtt, { name: "more", noise: 8000, window: 4 });
  await until("readings are acknowledged", () => more.acknowledged.size > 300);
  assert.ok(disk.free > 2 * 2 ** 20, `${disk.free} bytes are left`);
  more.stop();
  await until("all is acknowledged", () => more.acknowledged.size === more.published);
  giveBack();
  await fusion.listen();
  const drained = await daemon.untilStatus(({ ledger }) => ledger.pending === 0);
  assertBalanced(drained);
  assert.equal(drained.ledger.accepted, pressing.acknowledged.size + more.acknowledged.size);
});
