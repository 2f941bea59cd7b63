import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { formatDuration, formatSize, parseDuration, parseSize } from "#src/config/units.js";
import { GatewayError } from "#src/kernel/errors.js";

describe("units", () => {
  test("a duration is milliseconds, whatever its unit", () => {
    const written = {
      "0s": 0,
      "0ms": 0,
      "250ms": 250,
      "30s": 30_000,
      "5m": 300_000,
      "12h": 43_200_000,
      "7d": 604_800_000,
    };
    for (const [text, ms] of Object.entries(written)) assert.equal(parseDuration(text), ms, text);
    assert.equal(parseDuration("1.5s"), 1500);
    assert.equal(parseDuration("0.25h"), 900_000);
    assert.equal(parseDuration("36500d"), 36_500 * 86_400_000);
  });

  test("a size is bytes: KiB counts by 1024, KB by 1000", () => {
    const written = {
      "0B": 0,
      "512B": 512,
      "64KiB": 65_536,
      "1.5MiB": 1_572_864,
      "2GiB": 2 ** 31,
      "1KB": 1000,
      "2GB": 2e9,
    };
    for (const [text, bytes] of Object.entries(written)) assert.equal(parseSize(text), bytes, text);
  });

  test("what is no duration is refused, with examples of what is", () => {
    for (const text of [
      "",
      "30",
      "s",
      "30 s",
      "-1s",
      "1e3s",
      "5min",
      "1,5s",
      "30S",
      "٣s",
      "36501d",
      "0.1ms",
      `${"9".repeat(400)}s`,
    ])
      assert.throws(
        () => parseDuration(text),
        (error) =>
          error instanceof GatewayError && error.code === "INVALID_DURATION" && /250ms.*30s.*7d/.test(error.hint),
        text,
      );
    assert.throws(() => parseDuration("30"), /its unit is missing/);
  });

  test("what is no size is refused, with examples of what is", () => {
    for (const text of ["", "64", "64K", "64kib", "-1B", "1025TiB", "0.1B", "64KiB\n"])
      assert.throws(
        () => parseSize(text),
        (error) => error instanceof GatewayError && error.code === "INVALID_SIZE" && /64KiB.*2GiB/.test(error.hint),
        text,
      );
  });

  test("whatever is formatted reads back as the same value", () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 36_500 * 86_400_000 }), (ms) => parseDuration(formatDuration(ms)) === ms),
    );
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: 36_500 }),
        (days) => parseDuration(formatDuration(days * 86_400_000)) === days * 86_400_000,
      ),
    );
    fc.assert(fc.property(fc.integer({ min: 0, max: 2 ** 50 }), (bytes) => parseSize(formatSize(bytes)) === bytes));
  });

  test("a value is formatted in the largest unit that shows it exactly", () => {
    assert.deepEqual([0, 250, 90_000, 60_000, 604_800_000].map(formatDuration), ["0s", "250ms", "90s", "1m", "7d"]);
    assert.deepEqual([0, 1000, 65_536, 2 ** 31].map(formatSize), ["0B", "1000B", "64KiB", "2GiB"]);
  });

  test("no text whatever makes the parsers fail in another way", () => {
    const either = (parse: (text: string) => number) => (text: string) => {
      try {
        return Number.isSafeInteger(parse(text));
      } catch (error) {
        return error instanceof GatewayError;
      }
    };
    fc.assert(fc.property(fc.string(), either(parseDuration)));
    fc.assert(fc.property(fc.string(), either(parseSize)));
  });
});
