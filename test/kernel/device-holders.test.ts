import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, openSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { deviceHolders, holderText, lockHolder } from "#src/kernel/device-holders.js";
import { temporaryFolder } from "../support/temporary-folder.ts";

function site(t: TestContext) {
  const folder = temporaryFolder(t);
  const [proc, lockFolder, device] = ["proc", "lock", "ttyUSB0"].map((name) => join(folder, name)) as [
    string,
    string,
    string,
  ];
  for (const made of [proc, lockFolder]) mkdirSync(made);
  writeFileSync(device, "");
  const { dev, ino } = statSync(device);
  const hex = (part: number): string => part.toString(16).padStart(2, "0");
  const place = `${hex((dev >> 8) & 0xfff)}:${hex(dev & 0xff)}:${ino}`;
  const process = (pid: number, program: string, files: readonly string[] = []): void => {
    mkdirSync(join(proc, String(pid), "fd"), { recursive: true });
    writeFileSync(join(proc, String(pid), "comm"), `${program}\n`);
    for (const [fd, file] of files.entries()) symlinkSync(file, join(proc, String(pid), "fd", String(fd)));
  };
  return { folder, places: { proc, lockFolder }, device, place, process };
}

test("a lock's holder is found by the device, whatever name it was opened by", async (t) => {
  const { folder, places, device, place, process } = site(t);
  process(4711, "picocom");
  const other = place.replace(/\d+$/, (inode) => String(Number(inode) + 1));
  writeFileSync(
    join(places.proc, "locks"),
    `1: POSIX  ADVISORY  WRITE 1 ${place} 0 EOF\n2: FLOCK  ADVISORY  WRITE 2 ${other} 0 EOF\n3: FLOCK  ADVISORY  WRITE 4711 ${place} 0 EOF\n`,
  );
  symlinkSync(device, join(folder, "by-id"));
  assert.deepEqual(await lockHolder(join(folder, "by-id"), places), { pid: 4711, program: "picocom" });
});

test("a lock file counts while its process runs", async (t) => {
  const { places, device } = site(t);
  const minicom = spawn("sleep", ["600"]);
  t.after(() => minicom.kill());
  writeFileSync(join(places.lockFolder, "LCK..ttyUSB0"), `${String(minicom.pid).padStart(10)} minicom root\n`);
  assert.deepEqual(await lockHolder(device, places), { pid: minicom.pid });
  minicom.kill();
  await once(minicom, "exit");
  assert.equal(await lockHolder(device, places), undefined, "control: its process has ended");
});

test("a lock file that is a pipe, which nobody writes to, keeps nobody waiting", async (t) => {
  const { places, device } = site(t);
  execFileSync("mkfifo", [join(places.lockFolder, "LCK..ttyUSB0")]);
  assert.equal(await lockHolder(device, places), undefined);
});

test("who has the device open without any lock is found among the open files", async (t) => {
  const { places, device, process } = site(t);
  process(7, "cat", ["/dev/null", device]);
  process(8, "sh", ["/dev/null"]);
  assert.equal(await lockHolder(device, places), undefined);
  assert.deepEqual(await deviceHolders(device, places), [{ pid: 7, program: "cat" }]);
});

test("on this machine, a process that has a file open is found", async (t) => {
  const { device } = site(t);
  openSync(device, "r");
  const cat = spawn("tail", ["-f", device]);
  t.after(() => cat.kill());
  while ((await deviceHolders(device)).length === 0) await new Promise((resolve) => setTimeout(resolve, 10));
  assert.deepEqual(await deviceHolders(device), [{ pid: cat.pid, program: "tail" }]);
});

test("holders read as a sentence's end", () => {
  assert.equal(
    holderText([{ pid: 7, program: "cat" }, { pid: 8 }, { pid: 0 }, { pid: process.pid }]),
    "cat (process 7) and process 8 and a process of another container and this gateway itself, as another port",
  );
});
