/**
 * A disk that is really full: acknowledgements stop, delivery goes on in the space of the reserve, the daemon stays up and
 * says so, and when there is space again everything resumes. What was acknowledged is what was stored is what is delivered.
 */
import assert from "node:assert/strict";
import { existsSync, statSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import Database from "better-sqlite3";
import { ExitStatus } from "#src/kernel/errors.js";
import { Collector } from "../support/collector.ts";
import { Daemon, type DaemonOptions, type Status } from "../support/daemon.ts";
import { fillForWrites, noDiskFaults } from "../support/disk-fault.ts";
import { mutant } from "../support/mutant.ts";
import { PressingDevice } from "../support/pressing-device.ts";
import { type DiskKind, noSmallDisk, SmallDisk } from "../support/small-disk.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { until } from "../support/until.ts";

const MEGABYTES = 24;
/** In which time nothing may happen that ought not to. */
const WATCHES_MS = 2500;

const isFull = ({ conditions }: Status): boolean =>
  conditions.some(({ component, code }) => component === "outbox" && code === "disk-full");

const watch = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, WATCHES_MS));

interface World {
  readonly fusion: Collector;
  readonly daemon: Daemon;
  readonly folder: string;
  restart(): Promise<Daemon>;
}

/** A gateway with its dataDir in `dataDir`, and a fusion that is away. */
async function gateway(t: TestContext, dataDir: string, options: Partial<DaemonOptions> = {}): Promise<World> {
  const fusion = await Collector.start();
  t.after(() => fusion.stop());
  await fusion.stop();
  const folder = temporaryFolder(t);
  const ports = await Daemon.freePorts();
  const changes = {
    gateway: { id: "sierra-014", dataDir },
    outbox: { commitDelay: { normal: "0ms" }, reserveFreeDisk: "0B" },
    uplink: {
      url: fusion.url,
      reachability: "100ms",
      batch: { linger: "10ms" },
      retry: { initial: "50ms", max: "200ms" },
      breaker: { recovery: "500ms" },
    },
  };
  const restart = async () => {
    const daemon = await Daemon.start({ folder, ports, changes, ...options });
    t.after(() => daemon.stop("SIGKILL"));
    return daemon;
  };
  return { fusion, folder, daemon: await restart(), restart };
}

/** Everything that is acknowledged in the end has been delivered, and the books and the file are in order. */
async function assertAllThere(
  daemon: Daemon,
  fusion: Collector,
  device: PressingDevice,
  dataDir: string,
): Promise<void> {
  device.stop();
  await until("what is under way is acknowledged", () => device.acknowledged.size === device.published);
  const { ledger } = await daemon.untilStatus(({ ledger }) => ledger.pending === 0);
  const delivered = new Set(fusion.received.map(({ attributes }) => Number(attributes.n)));
  for (const n of device.acknowledged) assert.ok(delivered.has(n), `${n} was acknowledged and not delivered`);
  assert.equal(ledger.accepted, device.acknowledged.size, "acknowledged is what was stored");
  assert.equal(ledger.delivered, ledger.accepted);
  assert.equal(await daemon.stop(), 0);
  const file = new Database(join(dataDir, "outbox.db"), { readonly: true });
  assert.equal(file.pragma("integrity_check", { simple: true }), "ok");
  file.close();
}

/** Nothing is acknowledged any more, and the daemon says why. */
async function assertWithheld(daemon: Daemon, device: PressingDevice): Promise<void> {
  const before = device.acknowledged.size;
  await watch();
  assert.equal(device.acknowledged.size, before, "an acknowledgement came although nothing can be stored");
  assert.equal((await daemon.get("/healthz")).status, 200, "the daemon stays up");
  const health = (await (await daemon.get("/health")).json()) as { components: { component: string; why: string }[] };
  assert.match(health.components.find(({ component }) => component === "outbox")?.why ?? "", /disk is full/);
}

for (const kind of ["tmpfs", "ext4"] as const satisfies readonly DiskKind[]) {
  const skip = noSmallDisk(kind);

  test(`an outbox that has filled its ${kind} delivers everything, and takes readings again in the room that leaves`, {
    skip,
  }, async (t) => {
    const disk = SmallDisk.mount(t, kind, MEGABYTES);
    const { fusion, daemon } = await gateway(t, disk.folder);
    const device = await PressingDevice.start(t, daemon.ports.mqtt);
    await daemon.untilStatus(isFull);
    await assertWithheld(daemon, device);
    const before = device.acknowledged.size;
    await fusion.listen();
    await daemon.until(({ delivered }) => (delivered ?? 0) >= before);
    await until("readings are acknowledged again", () => device.acknowledged.size > before + 100);
    await assertAllThere(daemon, fusion, device, disk.folder);
  });

  test(`on a ${kind} that another program fills, delivery goes on, and acknowledgements with the space`, {
    skip,
  }, async (t) => {
    const disk = SmallDisk.mount(t, kind, MEGABYTES);
    const { fusion, daemon } = await gateway(t, disk.folder);
    const reserve = join(disk.folder, "outbox.reserve");
    assert.ok(statSync(reserve).blocks * 512 >= statSync(reserve).size, "the reserve is not sparse");
    const device = await PressingDevice.start(t, daemon.ports.mqtt, { pauseMs: 5 });
    await until("some are acknowledged", () => device.acknowledged.size > 100);
    const giveBack = disk.fill();
    await daemon.untilStatus(isFull);
    await assertWithheld(daemon, device);
    const before = device.acknowledged.size;
    await fusion.listen();
    await daemon.until(({ delivered }) => (delivered ?? 0) >= before);
    assert.equal(existsSync(reserve), false, "its space is in use");
    assert.equal(device.acknowledged.size, before, "what delivery frees is not enough for readings");
    giveBack();
    await daemon.untilStatus((status) => !isFull(status));
    assert.ok(existsSync(reserve), "the reserve is made again");
    await until("readings are acknowledged again", () => device.acknowledged.size > before + 100);
    await assertAllThere(daemon, fusion, device, disk.folder);
  });

  test(`a daemon on a full ${kind} ends cleanly, starts again, and delivers`, { skip }, async (t) => {
    const disk = SmallDisk.mount(t, kind, MEGABYTES);
    const { fusion, daemon, restart } = await gateway(t, disk.folder);
    const device = await PressingDevice.start(t, daemon.ports.mqtt, { pauseMs: 5 });
    await until("some are acknowledged", () => device.acknowledged.size > 100);
    const giveBack = disk.fill();
    await daemon.untilStatus(isFull);
    const before = device.acknowledged.size;
    assert.equal(await daemon.stop(), 0);
    disk.fill();
    const again = await restart();
    // What the log held has been brought into the file meanwhile: that is room for some more.
    await again.untilStatus(isFull);
    await fusion.listen();
    await again.until(({ delivered }) => (delivered ?? 0) >= before);
    giveBack();
    await again.untilStatus((status) => !isFull(status));
    const held = device.acknowledged.size;
    await until("readings are acknowledged again", () => device.acknowledged.size > held + 100);
    await assertAllThere(again, fusion, device, disk.folder);
  });
}

test("control: without its reserve an outbox that has filled the disk delivers, and cannot note that it did", {
  skip: noSmallDisk("tmpfs"),
}, async (t) => {
  const dist = mutant(t, "outbox/full-disk.js", "this.#reserve.release();", ";");
  const disk = SmallDisk.mount(t, "tmpfs", MEGABYTES);
  const { fusion, daemon } = await gateway(t, disk.folder, { dist });
  await PressingDevice.start(t, daemon.ports.mqtt);
  await daemon.untilStatus(isFull);
  await fusion.listen();
  await until("fusion gets something", () => fusion.received.length > 0);
  await watch();
  assert.equal((await daemon.status()).ledger.delivered, 0);
});

for (const [error, what] of [
  ["ENOSPC", "the disk is full"],
  ["EDQUOT", "the quota is used up"],
] as const)
  test(`when writes say that ${what}, acknowledgements wait, and come when it is not any more`, {
    skip: noDiskFaults(),
  }, async (t) => {
    const dataDir = temporaryFolder(t);
    const { fusion, daemon } = await gateway(t, dataDir);
    await fusion.listen();
    const device = await PressingDevice.start(t, daemon.ports.mqtt, { pauseMs: 5 });
    await until("some are acknowledged", () => device.acknowledged.size > 100);
    for (let round = 0; round < 3; round++) {
      const wellAgain = await fillForWrites(t, daemon.child.pid, error);
      await daemon.untilStatus(isFull);
      await assertWithheld(daemon, device);
      const before = device.acknowledged.size;
      await wellAgain();
      await until("readings are acknowledged again", () => device.acknowledged.size > before + 100);
      await daemon.untilStatus((status) => !isFull(status));
    }
    await assertAllThere(daemon, fusion, device, dataDir);
  });

test("control: a quota that is not told from a failing card ends the daemon", { skip: noDiskFaults() }, async (t) => {
  const dist = mutant(t, "outbox/reserve.js", 'codeOf(fault) !== "SQLITE_IOERR_WRITE"', "true");
  const { daemon } = await gateway(t, temporaryFolder(t), { dist });
  const device = await PressingDevice.start(t, daemon.ports.mqtt, { pauseMs: 5 });
  await until("some are acknowledged", () => device.acknowledged.size > 100);
  await fillForWrites(t, daemon.child.pid, "EDQUOT");
  assert.equal(await daemon.ended(), ExitStatus.ioError);
});

test("a card that fails is not taken for a full one", { skip: noDiskFaults() }, async (t) => {
  const { daemon } = await gateway(t, temporaryFolder(t));
  const device = await PressingDevice.start(t, daemon.ports.mqtt, { pauseMs: 5 });
  await until("some are acknowledged", () => device.acknowledged.size > 100);
  await fillForWrites(t, daemon.child.pid, "EIO");
  assert.equal(await daemon.ended(), ExitStatus.ioError);
});
