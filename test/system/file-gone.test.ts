/** The outbox's file is removed, or another one put in its place, while the daemon has it open: what was acknowledged stays. */
import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { ExitStatus } from "#src/kernel/errors.js";
import { Store } from "#src/outbox/store.js";
import { Daemon, type Ports } from "../support/daemon.ts";
import { device } from "../support/device.ts";
import { mutant } from "../support/mutant.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { until } from "../support/until.ts";

const READINGS = 50;

interface World {
  readonly daemon: Daemon;
  readonly folder: string;
  readonly ports: Ports;
  readonly file: string;
  /** Sends a reading that nobody has to acknowledge. */
  readonly press: () => { acknowledged: boolean };
}

/** A daemon that holds readings, which have been acknowledged. */
async function holding(t: TestContext, dist?: string): Promise<World> {
  const folder = temporaryFolder(t);
  const ports = await Daemon.freePorts();
  const daemon = await Daemon.start({ folder, ports, ...(dist !== undefined && { dist }) });
  t.after(() => daemon.stop("SIGKILL"));
  const client = await device(t, ports.mqtt);
  for (let n = 0; n < READINGS; n++) await client.publishAsync("observations/smoke", `{"n":${n}}`, { qos: 1 });
  const press = () => {
    const pressed = { acknowledged: false };
    client.publishAsync("observations/smoke", '{"n":"late"}', { qos: 1 }).then(
      () => {
        pressed.acknowledged = true;
      },
      () => {},
    );
    return pressed;
  };
  return { daemon, folder, ports, file: join(folder, "data", "outbox.db"), press };
}

const isGone = ({ conditions }: { conditions: readonly { code: string; severity: string }[] }): boolean =>
  conditions.some(({ code, severity }) => code === "outbox-file-gone" && severity === "failing");

/** Starts it again in the same folder: how many readings wait, and whether the books balance. */
async function ledgerAfterwards(t: TestContext, { folder, ports }: World): Promise<Record<string, number>> {
  const daemon = await Daemon.start({ folder, ports });
  t.after(() => daemon.stop("SIGKILL"));
  const { ledger } = await daemon.status();
  assert.equal(await daemon.stop(), 0);
  return ledger;
}

for (const [what, parts] of [
  ["a file", [""]],
  ["a file with all beside it", ["", "-wal", "-shm", ".state"]],
  ["a log", ["-wal"]],
] as const) {
  test(`${what} that is removed is put back with all that was acknowledged, and the daemon ends for a start afresh`, async (t) => {
    const world = await holding(t);
    for (const part of parts) rmSync(world.file + part);
    const pressed = world.press();
    assert.equal(await world.daemon.ended(), ExitStatus.ioError);
    assert.equal(pressed.acknowledged, false, "nothing is acknowledged into a file that is gone");
    const { accepted, pending, damaged } = await ledgerAfterwards(t, world);
    assert.deepEqual([accepted, pending, damaged], [READINGS, READINGS, 0]);
  });
}

test("a daemon that is stopped after its file was removed puts it back first", async (t) => {
  const world = await holding(t);
  rmSync(world.file);
  assert.equal(await world.daemon.stop(), 0);
  const { pending, damaged } = await ledgerAfterwards(t, world);
  assert.deepEqual([pending, damaged], [READINGS, 0]);
});

test("another file in its place is left alone and said; once it is moved away, the daemon's own is put back", async (t) => {
  const world = await holding(t);
  const { daemon, file } = world;
  rmSync(file);
  writeFileSync(file, "somebody's");
  const pressed = world.press();
  await daemon.untilStatus(isGone);
  assert.equal((await daemon.get("/healthz")).status, 200, "it stays up");
  await until("its content is kept beside it", () => existsSync(`${file}.replaced-1`));
  assert.equal(readFileSync(file, "utf8"), "somebody's");
  assert.equal(pressed.acknowledged, false);
  renameSync(file, `${file}.theirs`);
  assert.equal(await daemon.ended(), ExitStatus.ioError);
  const { pending, damaged } = await ledgerAfterwards(t, world);
  assert.deepEqual([pending, damaged], [READINGS, 0]);
  assert.equal(readFileSync(`${file}.theirs`, "utf8"), "somebody's");
  const left = readdirSync(join(file, "..")).filter((name) => /replaced|copy/.test(name));
  assert.deepEqual(left, []);
});

test("a file that is put back in its place by whoever took it is gone on with", async (t) => {
  const world = await holding(t);
  const { daemon, file, press } = world;
  renameSync(file, `${file}.ours`);
  writeFileSync(file, "somebody's");
  press();
  await daemon.untilStatus(isGone);
  await until("its content is kept beside it", () => existsSync(`${file}.replaced-1`));
  renameSync(`${file}.ours`, file);
  assert.equal(await daemon.ended(), ExitStatus.ioError, "its log was removed meanwhile");
  const { accepted, pending, damaged } = await ledgerAfterwards(t, world);
  assert.deepEqual([accepted, pending, damaged], [READINGS, READINGS, 0]);
});

test("a daemon that is stopped while another file is in its place leaves its content beside it", async (t) => {
  const { daemon, file, press } = await holding(t);
  rmSync(file);
  writeFileSync(file, "somebody's");
  press();
  await daemon.untilStatus(isGone);
  assert.equal(await daemon.stop(), 0);
  assert.equal(readFileSync(file, "utf8"), "somebody's");
  assert.ok(!existsSync(`${file}-wal`), "no log is there to be replayed over the other file");
  const store = new Store({ file: `${file}.replaced-1`, maxBytes: 2 ** 30, bootId: "" });
  t.after(() => store.close());
  assert.equal(
    store.ledgers().reduce((sum, { pending }) => sum + pending, 0),
    READINGS,
  );
});

test("control: a daemon that does not look acknowledges what is lost with it", async (t) => {
  const looks = "const stat = statOf(this.#parts.file);";
  const dist = mutant(t, "outbox/file-place.js", looks, `return "in-place"; ${looks}`);
  const world = await holding(t, dist);
  rmSync(world.file);
  const pressed = world.press();
  await until("it is acknowledged", () => pressed.acknowledged);
  await world.daemon.stop("SIGKILL");
  const { pending } = await ledgerAfterwards(t, world);
  assert.equal(pending, 0);
});
