import assert from "node:assert/strict";
import { mkdtempSync, renameSync, rmSync, symlinkSync, unlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, it, type TestContext } from "node:test";
import { Conditions } from "#src/kernel/conditions.js";
import { GatewayError } from "#src/kernel/errors.js";
import { GRACE_MS, LOOK_EVERY_MS, MAX_FILE_BYTES, Reloads, SETTLE_MS } from "#src/kernel/reloading.js";
import { recordingTelemetry } from "../support/broker-under-test.ts";
import { TestClock } from "../support/test-clock.ts";
import { until } from "../support/until.ts";

/** A value of two files that must say the same, and the files. */
async function pair(t: TestContext) {
  const folder = mkdtempSync(join(tmpdir(), "summit-edge-reloading-"));
  const path = (name: string): string => join(folder, name);
  const write = (name: string, text: string): void => {
    writeFileSync(path(`${name}.new`), text, { mode: 0o600 });
    renameSync(path(`${name}.new`), path(name));
  };
  const clock = new TestClock();
  const { telemetry, log } = await recordingTelemetry();
  const conditions = new Conditions(clock, telemetry.log);
  const audited: (string | undefined)[] = [];
  const audit = ({ subject }: { subject?: string }): void => void audited.push(subject);
  const reloads = new Reloads({ clock, conditions, log: telemetry.log, audit });
  t.after(() => {
    reloads.stop();
    rmSync(folder, { recursive: true });
  });
  write("left", "one");
  write("right", "one");
  const put: string[] = [];
  let loads = 0;
  const open = () =>
    reloads.open({
      section: "test",
      files: { leftFile: path("left"), rightFile: path("right"), noFile: undefined },
      condition: { component: "mqtt", code: "test-files" },
      load: ({ leftFile, rightFile, noFile }) => {
        loads++;
        assert.equal(noFile, undefined);
        if (!leftFile.content.equals(rightFile.content)) throw new Error("left and right do not fit");
        return String(leftFile.content);
      },
      put: (value, before) => put.push(`${before} → ${value}`),
    });
  /** Lets files be looked at until `holds`. */
  const looking = (what: string, holds: () => boolean) => until(what, holds, () => clock.advance(SETTLE_MS));
  /** Lets the files be looked at `times` times. */
  const looks = async (times: number): Promise<void> => {
    for (let n = 0; n < times; n++) {
      await clock.advance(LOOK_EVERY_MS);
      await until("the look is over", () => clock.waiting === 1);
    }
  };
  return { path, write, clock, reloads, conditions, log, audited, put, open, looking, looks, loads: () => loads };
}

describe("a value made of files", () => {
  it("follows files that are renamed into place, and says which", async (t) => {
    const { write, open, looking, put, log, audited } = await pair(t);
    const value = await open();
    assert.equal(value.current, "one");
    write("left", "two");
    write("right", "two");
    await looking("two is in force", () => value.current === "two");
    assert.deepEqual(put, ["one → two"]);
    assert.deepEqual((await log.line("changed files are in force")).files, ["test.leftFile", "test.rightFile"]);
    assert.deepEqual(audited, ["test.leftFile", "test.rightFile"]);
  });

  it("follows a link that is swapped, and files that are written in place", async (t) => {
    const { path, write, open, looking } = await pair(t);
    for (const version of ["one", "two"]) write(`left-${version}`, version);
    unlinkSync(path("left"));
    symlinkSync(path("left-one"), path("left"));
    const value = await open();
    symlinkSync(path("left-two"), path("left.link"));
    renameSync(path("left.link"), path("left"));
    writeFileSync(path("right"), "two");
    await looking("two is in force", () => value.current === "two");
  });

  it("keeps what is in force while files are broken, says so after a while, and takes them once they are mended", async (t) => {
    const { write, open, clock, looks, looking, conditions } = await pair(t);
    const value = await open();
    write("left", "two");
    const from = clock.monotonic();
    await looking("it is said", () => conditions.list().length > 0);
    assert.ok(clock.monotonic() - from >= GRACE_MS, "not before the other file has had its time");
    const [condition] = conditions.list();
    assert.deepEqual([condition?.component, condition?.code], ["mqtt", "test-files"]);
    assert.match(condition?.detail ?? "", /test: left and right do not fit.*before stays.*Check the files of test/);
    await looks(2);
    assert.equal(value.current, "one");
    write("right", "two");
    await looking("two is in force", () => value.current === "two");
    assert.deepEqual(conditions.list(), []);
  });

  it("says nothing of files that do not fit for a moment", async (t) => {
    const { write, open, clock, looking, log, loads } = await pair(t);
    const value = await open();
    write("left", "two");
    await until(
      "it was tried",
      () => loads() > 1,
      () => clock.advance(SETTLE_MS),
    );
    write("right", "two");
    await looking("two is in force", () => value.current === "two");
    assert.deepEqual(
      log.lines.filter(({ level }) => level !== "info"),
      [],
    );
  });

  it("is well again when the old files are put back", async (t) => {
    const { path, write, open, looking, conditions, put } = await pair(t);
    const value = await open();
    unlinkSync(path("left"));
    await looking("it is said", () => conditions.list().length > 0);
    assert.match(conditions.list()[0]?.detail ?? "", /left cannot be read: ENOENT.*Check test\.leftFile/);
    write("left", "one");
    await looking("well again", () => conditions.list().length === 0);
    assert.equal(value.current, "one");
    assert.deepEqual(put, []);
  });

  it("is not made again while nothing has changed, nor from the same content written anew", async (t) => {
    const { write, open, looks, loads } = await pair(t);
    await open();
    write("left", "one");
    await looks(5);
    assert.equal(loads(), 1);
  });

  it("waits for a file that is still being written", async (t) => {
    const { path, write, open, clock, loads, looking } = await pair(t);
    const value = await open();
    write("right", "two");
    await clock.advance(LOOK_EVERY_MS);
    for (const text of ["t", "tw", "two"]) {
      await until("the look is over", () => clock.waiting === 1);
      writeFileSync(path("left"), text);
      assert.equal(loads(), 1, "not read while it changes");
      await clock.advance(SETTLE_MS);
    }
    await looking("two is in force", () => value.current === "two");
    assert.equal(loads(), 2);
  });

  it("is read at once when asked to, and what is wrong is said at once", async (t) => {
    const { write, open, reloads, conditions } = await pair(t);
    const value = await open();
    assert.deepEqual(await reloads.reload(), { changed: [], refused: [] });
    write("left", "two");
    const refused = { kind: "refused" as const, section: "test", reason: "test: left and right do not fit" };
    assert.deepEqual(await reloads.reload(), { changed: [], refused: [refused] });
    assert.equal(conditions.list().length, 1);
    write("right", "two");
    assert.deepEqual(await value.reload(), { kind: "changed", keys: ["test.leftFile", "test.rightFile"] });
    assert.equal(value.current, "two");
    assert.deepEqual(conditions.list(), []);
  });

  it("is looked at no more once it was closed", async (t) => {
    const { write, open, reloads, loads } = await pair(t);
    const value = await open();
    value.close();
    write("left", "two");
    assert.deepEqual(await reloads.reload(), { changed: [], refused: [] });
    assert.equal(loads(), 1);
  });

  it("does not begin with files that are missing, too large or wrong", async (t) => {
    const { path, write, open } = await pair(t);
    const fails = (code: string | undefined, message: RegExp) =>
      assert.rejects(open(), (error: Error) => {
        assert.equal(error instanceof GatewayError ? error.code : undefined, code);
        return message.test(error.message);
      });
    write("left", "two");
    await fails(undefined, /do not fit/);
    writeFileSync(path("left"), Buffer.alloc(MAX_FILE_BYTES + 1));
    await fails("FILE_UNREADABLE", /left has 4194305 bytes/);
    unlinkSync(path("left"));
    await fails("FILE_UNREADABLE", /left cannot be read: ENOENT/);
  });
});
