import assert from "node:assert/strict";
import { test } from "node:test";
import { addressCaller, MAX_CALLERS, RequestRates } from "#src/operations/request-rates.js";
import { TestClock } from "../support/test-clock.ts";

test("three seconds' worth may come at once, and then as many as the rate lets in", async () => {
  const clock = new TestClock();
  const rates = new RequestRates(2, clock);
  for (let call = 0; call < 6; call++) assert.equal(rates.take("a"), undefined);
  assert.equal(rates.take("a"), 1);
  await clock.advance(499);
  assert.equal(rates.take("a"), 1);
  await clock.advance(1);
  assert.equal(rates.take("a"), undefined);
  assert.equal(rates.take("a"), 1);
  await clock.advance(60_000);
  for (let call = 0; call < 6; call++) assert.equal(rates.take("a"), undefined);
  assert.notEqual(rates.take("a"), undefined, "waiting longer saves up no more");
});

test("a wall clock that is set does not change what anybody may ask", () => {
  const clock = new TestClock();
  const rates = new RequestRates(1, clock);
  for (let call = 0; call < 3; call++) rates.take("a");
  clock.setWall(clock.now() + 3_600_000);
  assert.equal(rates.take("a"), 1);
});

test("one caller does not use up what another may ask; 0 is no limit", () => {
  const clock = new TestClock();
  const rates = new RequestRates(1, clock);
  for (let call = 0; call < 4; call++) rates.take("a");
  assert.equal(rates.take("b"), undefined);
  const unlimited = new RequestRates(0, clock);
  for (let call = 0; call < 10_000; call++) assert.equal(unlimited.take("a"), undefined);
});

test("of many callers those seen last are remembered, and no more", () => {
  const rates = new RequestRates(1, new TestClock());
  for (let call = 0; call < 4; call++) rates.take("first");
  for (let caller = 0; caller < MAX_CALLERS - 1; caller++) rates.take(`caller ${caller}`);
  assert.equal(rates.take("first"), 1, "still remembered");
  for (let caller = 0; caller < 10 * MAX_CALLERS; caller++) rates.take(`other ${caller}`);
  assert.equal(rates.size, MAX_CALLERS);
});

test("an IPv4 address is one caller, and a whole IPv6 network of 64 bits too", () => {
  assert.equal(addressCaller("10.0.0.7"), "10.0.0.7");
  assert.equal(addressCaller("::ffff:10.0.0.7"), "10.0.0.7");
  const network = addressCaller("2001:db8:1:2:3:4:5:6");
  for (const same of ["2001:db8:1:2::", "2001:DB8:1:2::9", "2001:0db8:0001:2:ffff:ffff:ffff:ffff"])
    assert.equal(addressCaller(same), network, same);
  for (const other of ["2001:db8:1:3::9", "2001:db8:1::2", "::1"])
    assert.notEqual(addressCaller(other), network, other);
  assert.equal(addressCaller("fe80::1%eth0"), addressCaller("fe80::2%eth1"));
  assert.equal(addressCaller("::1"), "::1");
  assert.equal(addressCaller("::2"), "0:0:0:0::/64");
});
