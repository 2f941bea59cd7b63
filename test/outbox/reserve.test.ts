import assert from "node:assert/strict";
import { existsSync, statSync, truncateSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { Reserve } from "#src/outbox/reserve.js";
import { noSmallDisk, SmallDisk } from "../support/small-disk.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

const BYTES = 256 * 1024;

test("a reserve takes its space on the disk, is taken over by the next run, and is made anew where it is not whole", (t) => {
  const folder = temporaryFolder(t);
  const file = join(folder, "outbox.reserve");
  const open = () => new Reserve(join(folder, "outbox.db"), BYTES, () => 0);
  const reserve = open();
  assert.equal(reserve.held, false);
  assert.equal(reserve.make(), true);
  const { size, blocks } = statSync(file);
  assert.equal(size, BYTES);
  assert.ok(blocks * 512 >= BYTES, "it is not sparse");
  assert.equal(open().held, true);
  truncateSync(file, 0);
  truncateSync(file, BYTES);
  assert.equal(open().held, false, "holes are no reserve");
  assert.equal(open().make(), true);
  assert.ok(statSync(file).blocks * 512 >= BYTES);
});

test("a reserve that was needed as soon as it was made is made again ever more seldom", (t) => {
  let now = 0;
  const reserve = new Reserve(join(temporaryFolder(t), "outbox.db"), BYTES, () => now);
  const waits: number[] = [];
  for (let round = 0; round < 9; round++) {
    const from = now;
    while (!reserve.make()) now += 1000;
    waits.push((now - from) / 1000);
    reserve.release();
  }
  assert.deepEqual(waits, [0, 1, 3, 7, 15, 31, 60, 60, 60]);
});

test("a reserve leaves a disk alone that has no space for it, and is made when there is", {
  skip: noSmallDisk("tmpfs"),
}, (t) => {
  const disk = SmallDisk.mount(t, "tmpfs", 2);
  const reserve = new Reserve(join(disk.folder, "outbox.db"), BYTES, () => 0);
  const giveBack = disk.fill(BYTES);
  assert.equal(reserve.make(), false);
  assert.equal(existsSync(join(disk.folder, "outbox.reserve")), false);
  giveBack();
  assert.equal(reserve.make(), true);
});
