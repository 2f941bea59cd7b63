import assert from "node:assert/strict";
import type { ScryptOptions } from "node:crypto";
import { describe, it } from "node:test";
import {
  type Attempt,
  entryFor,
  generatePassword,
  PasswordCheck,
  type PasswordEntries,
  parsePasswords,
  type Verification,
} from "#src/identity/passwords.js";
import { MAX_WAITING_AFTER_FAILURE, VERIFYING_AT_ONCE } from "#src/identity/verification-turns.js";
import { until } from "../support/until.ts";

const never = new AbortController().signal;
const secret = Buffer.from("correct horse");

function entriesOf(text: string): ReadonlyMap<string, string> {
  const parsed = parsePasswords(text);
  if ("entries" in parsed) return parsed.entries;
  assert.fail(JSON.stringify(parsed.faults));
}

/** Verifies one attempt, of anybody with any password but for what is given. */
function verify(check: PasswordCheck, entries: PasswordEntries, given: Partial<Attempt> = {}): Promise<Verification> {
  return check.verify(entries, { user: "nobody", password: secret, address: "192.0.2.1", signal: never, ...given });
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
    assert.deepEqual(await verify(check, entries, { user: "mast-3" }), { entry: entries.get("mast-3") });
    for (const wrong of ["correct hors", "", "correct horse ", "Correct horse"]) {
      assert.equal(await verify(check, entries, { user: "mast-3", password: Buffer.from(wrong) }), "wrong", wrong);
    }
    assert.equal(await verify(check, entries, { user: "mast-9" }), "wrong");
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
      const verified = verify(check, entries, { user });
      await until("it has begun", () => scrypt.begun.length > 0);
      scrypt.end();
      assert.equal(await verified, "wrong");
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
      await verify(check, new Map(), { signal: index === 3 ? leaving.signal : never });
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

  /** Verifications by their addresses, in the order in which they began, and how they ended. */
  class Queue {
    readonly begun: string[] = [];
    readonly ends: Verification[] = [];
    readonly #scrypt: (() => void)[] = [];
    readonly check: PasswordCheck;
    readonly #entries = new Map([["right", `$scrypt$ln=1,r=1,p=1$${"A".repeat(22)}$${"A".repeat(43)}`]]);

    constructor() {
      this.check = new PasswordCheck(
        (password, _salt, length) =>
          new Promise((resolve) => {
            this.#scrypt.push(() => resolve(Buffer.alloc(length, password.toString() === "right" ? 0 : 1)));
          }),
      );
    }

    async attempt(address: string, password = "wrong"): Promise<void> {
      const begins = (): void => void this.begun.push(address);
      const { signal } = new AbortController();
      const given = { address, begins, user: "right", password: Buffer.from(password), signal };
      this.ends.push(await verify(this.check, this.#entries, given));
    }

    /** Ends so many verifications, one after the other. */
    async end(count: number): Promise<void> {
      for (; count > 0; count--) {
        await until("one has begun", () => this.#scrypt.length > 0);
        const ended = this.ends.length;
        this.#scrypt.shift()?.();
        await until("it has ended", () => this.ends.length > ended);
      }
    }
  }

  it("take turns by address", async () => {
    const queue = new Queue();
    for (const address of ["a", "a", "a", "a", "a", "b", "b", "c"]) void queue.attempt(address, "right");
    await queue.end(8);
    assert.deepEqual(queue.begun, ["a", "a", "b", "c", "a", "b", "a", "a"]);
    assert.ok(queue.ends.every((end) => typeof end === "object"));
  });

  it("of an address that has given wrong passwords come after all others, and few of them wait", async () => {
    const queue = new Queue();
    for (const address of ["a", "b"]) void queue.attempt(address);
    await queue.end(2);
    for (let n = 0; n < 100; n++) for (const address of ["a", "b"]) void queue.attempt(address);
    await until("most are turned away", () => queue.ends.includes("busy"));
    assert.equal(queue.check.waiting, 2 * MAX_WAITING_AFTER_FAILURE);
    void queue.attempt("new", "right");
    void queue.attempt("new", "right");
    queue.begun.length = 0;
    await queue.end(3);
    assert.deepEqual(queue.begun.slice(0, 2), ["new", "new"]);
  });

  it("of an address count its wrong passwords only since its last right one", async () => {
    const queue = new Queue();
    for (const password of ["wrong", "wrong", "right"]) {
      void queue.attempt("a", password);
      await queue.end(1);
    }
    for (let n = 0; n < 50; n++) void queue.attempt("a", "right");
    await queue.end(50);
    assert.ok(!queue.ends.includes("busy"));
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
    await Promise.all(Array.from({ length: 4 }, () => verify(check, entries, { user: "mast-3" })));
    going = false;
    assert.ok(turns > 100, `${turns} turns`);
  });

  it("that fail let the next one begin", async () => {
    let calls = 0;
    const check = new PasswordCheck(async (_password, _salt, length) => {
      if (++calls <= VERIFYING_AT_ONCE) throw new Error("out of memory");
      return Buffer.alloc(length);
    });
    const all = Array.from({ length: VERIFYING_AT_ONCE + 1 }, () => verify(check, new Map()));
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
