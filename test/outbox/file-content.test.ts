/** Another program that has SQLite bring the log in does no harm; one that writes over the outbox's file does, with its log or without. */
import assert from "node:assert/strict";
import { copyFileSync, truncateSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import Database from "better-sqlite3";
import { Store } from "#src/outbox/store.js";
import { mutant } from "../support/mutant.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

interface Rig {
  readonly file: string;
  readonly store: Store;
  /** Another program's connection. */
  readonly other: Database.Database;
  /** A commit that changes the file's first page, for the pages it takes or frees; `within` runs in its midst, `behind` when it is durable. */
  readonly commit: (within?: () => void, behind?: () => void) => void;
  readonly look: () => string | undefined;
}

function rigOf(t: TestContext, Outbox = Store): Rig {
  const file = join(temporaryFolder(t), "outbox.db");
  const store = new Outbox({ file, maxBytes: 2 ** 26, bootId: "b" });
  t.after(() => store.close());
  const other = new Database(file);
  t.after(() => other.close());
  let seq = 0;
  const commit = (within?: () => void, behind?: () => void): void => {
    const change = (): void => {
      within?.();
      store.insertDeadLetter({
        ...{ seq: ++seq, id: `${seq}`, lane: 2, code: "c", detail: "", problem: null, refusedAt: 0 },
        reading: "x".repeat(20_000),
      });
    };
    store.transaction(change, behind);
  };
  return { file, store, other, commit, look: () => store.content?.look() };
}

const BRINGS_IN = {
  "a passive checkpoint": "PRAGMA wal_checkpoint(PASSIVE)",
  "one that has the log begin anew": "PRAGMA wal_checkpoint(RESTART)",
  "one that empties the log": "PRAGMA wal_checkpoint(TRUNCATE)",
  "VACUUM and a checkpoint": "VACUUM; PRAGMA wal_checkpoint(TRUNCATE)",
};

type Moment = "between two commits" | "in the midst of one" | "as one is answered";

/** What was found after another program's doing. */
function found(rig: Rig, doing: () => void, moment: Moment): (string | undefined)[] {
  const { commit, look, store } = rig;
  const seen: (string | undefined)[] = [];
  for (let round = 0; round < 3; round++) {
    commit();
    if (round === 1) store.checkpoint();
    if (round === 2) commit();
    if (moment === "between two commits") doing();
    else if (moment === "in the midst of one") commit(doing);
    else commit(undefined, doing);
    seen.push(look());
    store.content?.note();
    commit();
    seen.push(look());
  }
  return seen;
}

for (const [what, sql] of Object.entries(BRINGS_IN)) {
  test(`${what} by another program is no overwriting`, (t) => {
    for (const moment of ["between two commits", "in the midst of one", "as one is answered"] as const) {
      if (moment === "in the midst of one" && !sql.includes("PASSIVE")) continue;
      const rig = rigOf(t);
      const seen = found(rig, () => void rig.other.exec(sql), moment);
      assert.ok(!seen.includes("overwritten"), `${moment}: ${seen}`);
      assert.ok(seen.includes("touched"), moment);
    }
  });
}

test("one that another program makes after each commit is no overwriting either", (t) => {
  const { other, commit, look, store } = rigOf(t);
  const kinds = ["PASSIVE", "RESTART", "TRUNCATE"];
  for (const before of kinds) {
    for (const kind of kinds) {
      for (const how of [before, kind, kind]) {
        commit();
        other.pragma(`wal_checkpoint(${how})`);
        assert.equal(look(), "touched", `${how} after ${before}`);
        store.content?.note();
      }
    }
  }
});

test("nor is one after which we commit what changes nothing", (t) => {
  const { other, commit, look, store } = rigOf(t);
  commit();
  other.pragma("wal_checkpoint(TRUNCATE)");
  store.transaction(() => {});
  assert.equal(look(), "touched");
});

test("a touch long after another program has brought the log in is a touch", (t) => {
  const { file, store, other, commit, look } = rigOf(t);
  commit();
  other.pragma("wal_checkpoint(PASSIVE)");
  assert.equal(look(), "touched");
  store.content?.note();
  commit();
  utimesSync(file, 1, 1);
  assert.equal(look(), "touched");
});

const OVERWRITES: Record<string, (file: string, theirs: string) => void> = {
  "another outbox, its log emptied": (file, theirs) => {
    copyFileSync(theirs, file);
    truncateSync(`${file}-wal`);
  },
  "another outbox and its log": (file, theirs) => {
    copyFileSync(theirs, file);
    copyFileSync(`${theirs}-wal`, `${file}-wal`);
  },
  noise: (file) => writeFileSync(file, Buffer.alloc(8192, 0x5a), { flag: "r+" }),
};

for (const [what, overwrite] of Object.entries(OVERWRITES)) {
  test(`an outbox's file is overwritten: ${what}`, (t) => {
    for (const checkpointed of [false, true]) {
      const [ours, theirs] = [rigOf(t), rigOf(t)];
      for (const { commit } of [ours, theirs, ours]) commit();
      if (checkpointed) ours.store.checkpoint();
      if (checkpointed) ours.commit();
      theirs.store.checkpoint();
      theirs.commit();
      overwrite(ours.file, theirs.file);
      assert.equal(ours.look(), "overwritten");
      if (!what.includes("and its log")) ours.store.setClockOffset(1);
      assert.equal(ours.look(), "overwritten", "after what is committed without a look");
    }
  });
}

test("an outbox's file is overwritten while a commit is answered, and the answer fails of it", (t) => {
  const { file, commit, look, store } = rigOf(t);
  commit();
  store.checkpoint();
  commit();
  const behind = (): void => {
    OVERWRITES.noise?.(file, "");
    throw new Error("database disk image is malformed");
  };
  assert.throws(() => commit(undefined, behind), /malformed/);
  assert.equal(look(), "overwritten");
});

test("control: without the log's index a checkpoint by another program looks like an overwriting", async (t) => {
  const dist = mutant(t, "outbox/file-content.js", "return this.#othersBroughtIn() ?", "return false ?");
  const { Store: Blind } = (await import(`${dist}/outbox/store.js`)) as { Store: typeof Store };
  const rig = rigOf(t, Blind);
  assert.ok(
    found(rig, () => void rig.other.exec("PRAGMA wal_checkpoint(TRUNCATE)"), "between two commits").includes(
      "overwritten",
    ),
  );
});
