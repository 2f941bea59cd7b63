import assert from "node:assert/strict";
import type { ScryptOptions } from "node:crypto";
import { describe, it } from "node:test";
import {
  entryFor,
  generatePassword,
  PasswordCheck,
  parsePasswords,
  VERIFYING_AT_ONCE,
} from "#src/identity/passwords.js";
import { until } from "../support/until.ts";

const never = new AbortController().signal;
const secret = Buffer.from("correct horse");

function entriesOf(text: string): ReadonlyMap<string, string> {
  const parsed = parsePasswords(text);
  if ("entries" in parsed) return parsed.entries;
  assert.fail(JSON.stringify(parsed.faults));
}

/** A stand-in for scrypt that counts, and ends when the test says so. */
class HeldScrypt {
  readonly begun: { length: number; options: ScryptOptions }[] = [];
  readonly #ends: (() => void)[] = [];

  readonly derive = (_password: Buffer, _salt: Buffer, length: number, options: ScryptOptions): Promise<Buffer> => {
    this.begun.push({ length, options });
    return new Promise((resolve) => this.#ends.push(() => resolve(Buffer.alloc(length))));
  };

  end(): void {
    this.#ends.shift()?.();
  }
}

describe("a password", () => {
  it("fits its own entry, and no other password does", async () => {
    const entries = new Map([["mast-3", await entryFor(secret)]]);
    const check = new PasswordCheck();
    assert.equal(await check.verify(entries, "mast-3", secret, never), entries.get("mast-3"));
    for (const wrong of ["correct hors", "", "correct horse ", "Correct horse"]) {
      assert.equal(await check.verify(entries, "mast-3", Buffer.from(wrong), never), undefined, wrong);
    }
    assert.equal(await check.verify(entries, "mast-9", secret, never), undefined);
  });

  it("is not in its entry, which is another one each time", async () => {
    const [one, other] = [await entryFor(secret), await entryFor(secret)];
    assert.match(one, /^\$scrypt\$ln=14,r=8,p=1\$[A-Za-z0-9+/]{22}\$[A-Za-z0-9+/]{43}$/);
    assert.notEqual(one, other);
    assert.ok(!Buffer.from(one.split("$")[4] ?? "", "base64").includes(secret));
  });

  it("that is generated can be typed, and is another one each time", () => {
    const some = Array.from({ length: 100 }, generatePassword);
    assert.equal(new Set(some).size, 100);
    for (const each of some) assert.match(each, /^[A-Za-z0-9_-]{24}$/);
  });

  it("of an unknown user is as much work as a known one's, by the parameters of the file", async () => {
    const entry = (await entryFor(secret)).replace("ln=14,r=8,p=1", "ln=12,r=4,p=2");
    const entries = new Map([["mast-3", entry]]);
    const scrypt = new HeldScrypt();
    const check = new PasswordCheck(scrypt.derive);
    for (const user of ["mast-3", "nobody", "__proto__"]) {
      const verified = check.verify(entries, user, secret, never);
      await until("it has begun", () => scrypt.begun.length > 0);
      scrypt.end();
      assert.equal(await verified, undefined);
      const [work, ...more] = scrypt.begun.splice(0);
      assert.deepEqual([work?.length, work?.options.N, work?.options.r, work?.options.p], [32, 4096, 4, 2]);
      assert.deepEqual(more, []);
    }
  });
});

describe("verifications", () => {
  it("are done a few at a time, in order, and those given up are never begun", async () => {
    const scrypt = new HeldScrypt();
    const check = new PasswordCheck(scrypt.derive);
    const leaving = new AbortController();
    const done: number[] = [];
    const all = Array.from({ length: 6 }, async (_, index) => {
      await check.verify(new Map(), "nobody", secret, index === 3 ? leaving.signal : never);
      done.push(index);
    });
    await until("the first have begun", () => scrypt.begun.length === VERIFYING_AT_ONCE);
    assert.equal(check.waiting, 6 - VERIFYING_AT_ONCE);
    leaving.abort();
    await all[3];
    assert.deepEqual(done, [3]);
    for (let ended = 1; ended <= 5; ended++) {
      scrypt.end();
      await until("the next has begun", () => scrypt.begun.length === Math.min(5, ended + VERIFYING_AT_ONCE));
    }
    await Promise.all(all);
    assert.deepEqual(done, [3, 0, 1, 2, 4, 5]);
    assert.equal(check.waiting, 0);
  });

  it("leave the event loop to others", async () => {
    const check = new PasswordCheck();
    const entries = new Map([["mast-3", await entryFor(secret)]]);
    let turns = 0;
    let going = true;
    const turn = (): void => {
      turns++;
      if (going) setImmediate(turn);
    };
    turn();
    await Promise.all(Array.from({ length: 4 }, () => check.verify(entries, "mast-3", secret, never)));
    going = false;
    assert.ok(turns > 100, `${turns} turns`);
  });

  it("that fail let the next one begin", async () => {
    let calls = 0;
    const check = new PasswordCheck(async (_password, _salt, length) => {
      if (++calls <= VERIFYING_AT_ONCE) throw new Error("out of memory");
      return Buffer.alloc(length);
    });
    const all = Array.from({ length: VERIFYING_AT_ONCE + 1 }, () => check.verify(new Map(), "a", secret, never));
    const ends = await Promise.allSettled(all);
    assert.deepEqual(
      ends.map(({ status }) => status),
      [...Array.from({ length: VERIFYING_AT_ONCE }, () => "rejected"), "fulfilled"],
    );
  });
});

describe("a password file", () => {
  it("has a line per user, comments, and either line end", async () => {
    const entry = await entryFor(secret);
    const entries = entriesOf(`# devices\r\n\r\nmast-3:${entry}\r\n  # more\nmast-9:${entry}`);
    assert.deepEqual(
      [...entries],
      [
        ["mast-3", entry],
        ["mast-9", entry],
      ],
    );
  });

  const good = `$scrypt$ln=14,r=8,p=1$${"a".repeat(22)}$${"b".repeat(43)}`;
  const table: [string, RegExp][] = [
    [`mast-3:${good}\nmast-3:${good}`, /^2: the user mast-3 has a line already/],
    [`a/b:${good}`, /^1: must begin with a name of 1 to 64 letters/],
    [`:${good}`, /^1: must begin with a name/],
    ["mast-3", /^1: must begin with a name/],
    ["mast-3:s3cret", /^1: what is behind mast-3: is no password that was made here/],
    ["mast-3:$7$101$s3cret$x", /^1: the password of mast-3 was made by mosquitto_passwd: add the device again/],
    [`mast-3:${good.replace("ln=14", "ln=30")}`, /is no password/],
    [`mast-3:${good.replace("p=1", "p=99")}`, /is no password/],
    [`mast-3:${good.replace("r=8", "r=0")}`, /is no password/],
  ];
  for (const [text, expected] of table) {
    it(`is refused, by its line and without what is in it: ${text.slice(0, 40)}`, () => {
      const parsed = parsePasswords(text);
      const faults = "faults" in parsed ? parsed.faults : [];
      const said = faults.map(({ line, message }) => `${line}: ${message}`).join("\n");
      assert.match(said, expected);
      assert.doesNotMatch(said, /s3cret|aaaa|bbbb/);
    });
  }
});
