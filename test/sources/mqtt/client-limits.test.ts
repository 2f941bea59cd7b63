import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { keepAliveOf, levelsOf, topicExcess } from "#src/sources/mqtt/client-limits.js";
import { Headcount } from "#src/sources/mqtt/headcount.js";
import { TokenBucket } from "#src/sources/mqtt/token-bucket.js";
import { TestClock } from "../../support/test-clock.ts";

describe("a topic", () => {
  const limits = { maxTopicBytes: 16, maxTopicLevels: 4 };

  it("may be as long and as deep as the limit, and no more; length is in bytes", () => {
    assert.equal(topicExcess("0123456789abcdef", limits), undefined);
    assert.match(topicExcess("0123456789abcdefg", limits) ?? "", /16 bytes.*maxTopicBytes/);
    assert.equal(topicExcess("öööööööö", limits), undefined);
    assert.match(topicExcess("öööööööö!", limits) ?? "", /16 bytes/);
    assert.equal(topicExcess("a/b/c/d", limits), undefined);
    assert.match(topicExcess("a/b/c/d/e", limits) ?? "", /4 levels.*maxTopicLevels/);
    assert.match(topicExcess("////", limits) ?? "", /4 levels/);
  });

  it("has a level more than slashes", () => {
    assert.deepEqual(["a", "a/", "/", "a/b/c"].map(levelsOf), [1, 2, 2, 3]);
  });
});

describe("a keep-alive", () => {
  const limits = { minKeepAlive: 10_000, maxKeepAlive: 60_000 };

  it("is kept within its range; none is the longest", () => {
    assert.deepEqual(
      [30, 1, 10, 60, 61, 65_535, 0].map((requested) => keepAliveOf(requested, limits)),
      [30, 10, 10, 60, 60, 60, 60],
    );
  });
});

describe("a headcount", () => {
  it("has a bound for each name, and room again when one has left", () => {
    const count = new Headcount<number>(2);
    assert.deepEqual([count.enter("a", 1), count.enter("a", 2), count.enter("a", 3)], [true, true, false]);
    assert.equal(count.enter("b", 3), true);
    count.leave("a", 3);
    assert.equal(count.enter("a", 3), false);
    count.leave("a", 1);
    assert.equal(count.enter("a", 3), true);
  });

  it("counts a member that enters twice once, until it has left twice", () => {
    const count = new Headcount<string>(1);
    assert.deepEqual([count.enter("a", "x"), count.enter("a", "x")], [true, true]);
    count.leave("a", "x");
    assert.equal(count.enter("a", "y"), false);
    count.leave("a", "x");
    assert.equal(count.enter("a", "y"), true);
  });

  it("has no bound where that is 0", () => {
    const count = new Headcount<number>(0);
    for (let n = 0; n < 1000; n++) assert.equal(count.enter("a", n), true);
  });
});

describe("a token bucket", () => {
  it("lets a second's worth pass at once, then its rate, whatever the pattern", async () => {
    const clock = new TestClock();
    const bucket = new TokenBucket(10, clock);
    let passed = 0;
    for (let ms = 0; ms < 10_000; ms += 7) {
      while (bucket.take() === 0) passed++;
      await clock.advance(7);
    }
    assert.ok(passed >= 105 && passed <= 110, String(passed));
  });

  it("says when to ask again, and then lets one pass", async () => {
    for (const rate of [1, 3, 1000]) {
      const clock = new TestClock();
      const bucket = new TokenBucket(rate, clock);
      while (bucket.take() === 0);
      await clock.advance(Math.ceil(bucket.take()) + 1);
      assert.equal(bucket.take(), 0, `rate ${rate}`);
    }
  });

  it("has no limit where the rate is 0", () => {
    const bucket = new TokenBucket(0, new TestClock());
    for (let n = 0; n < 10_000; n++) assert.equal(bucket.take(), 0);
  });
});
