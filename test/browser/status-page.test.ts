import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, test } from "node:test";
import type { Browser, Page } from "playwright-core";
import { systemClock } from "#src/kernel/clock.js";
import type { HttpServer } from "#src/operations/http.js";
import { LEAST_CONTRAST, openBrowser, openPage, openServer } from "../support/browser.ts";
import { httpConfig } from "../support/http-config.ts";
import { MemoryGatewayView } from "../support/memory-view.ts";
import { skipWithout } from "../support/programs.ts";

const skip = skipWithout("chromium");
const DEADLINE = { timeout: 60_000 };

let browser: Browser | undefined;
let view: MemoryGatewayView;
let server: HttpServer;
let page: Page;
let complaints: string[];

before(async () => {
  if (skip === false) browser = await openBrowser();
});
after(() => browser?.close());

beforeEach(async () => {
  if (browser === undefined) return;
  view = new MemoryGatewayView();
  view.startedAt = systemClock.monotonic();
  server = await openServer(httpConfig(), view);
  ({ page, complaints } = await openPage(browser));
});
afterEach(async () => {
  await page?.close();
  await server?.close();
});

async function visit(width: number): Promise<void> {
  await page.setViewportSize({ width, height: 900 });
  await page.goto(`http://127.0.0.1:${server.port}/`);
  await page.waitForSelector("#main:not([hidden])", DEADLINE);
}
/** The text of an element, its white space made single blanks. */
const shown = async (selector: string): Promise<string> =>
  ((await page.locator(selector).textContent()) ?? "").replace(/\s+/g, " ").trim();
const waitForText = (selector: string, wanted: string) =>
  page.locator(selector).filter({ hasText: wanted }).waitFor(DEADLINE);

/** A gateway in an outage, with everything that can be long as long as it gets. */
function setOutage(): void {
  const now = Date.now();
  const { facts } = view;
  facts.uplink = {
    state: "waiting",
    breaker: "open",
    url: `https://fusion.example/${"a-very-long-path/".repeat(8)}`,
    lastSuccessAt: now - 7_200_000,
    lastFailure: { at: now - 9_000, code: "connect", detail: `connection refused by ${"x".repeat(120)}` },
    nextTryInSeconds: 41.2,
  };
  const detail = `/dev/serial/by-id/usb-${"FTDI_".repeat(20)}-port0 is gone`;
  facts.conditions = [
    { component: "serial:mast", code: "port-gone", severity: "failing", detail, since: now - 60_000 },
  ];
  const traffic = { bytes: 123_456_789, frames: 1_234_567, refused: 12_345, discarded: 54_321, discardedBytes: 1 };
  const port = {
    path: `/dev/serial/by-id/usb-${"FTDI_".repeat(20)}-port0`,
    device: "/dev/ttyUSB0",
    since: now - 60_000,
  };
  facts.sources = [
    { name: "mast", kind: "serial", state: "waiting", accepted: 7, refused: 0, port: { ...port, detail, traffic } },
  ];
  facts.devices = [{ source: "device-".repeat(30), via: "mqtt", accepted: 123_456_789, lastReadingAt: now }];
}

test("the page shows health, outbox, uplink, books and sources, without a complaint", { skip }, async () => {
  await visit(1280);
  assert.equal(await shown("#gateway"), "sierra-014");
  assert.equal(await shown("#verdict-word"), "All is well");
  assert.equal(await shown("#pending"), "15");
  assert.equal(await shown("#oldest"), "1 min 1 s");
  assert.equal(await shown("#bytes"), "80.0 KiB of 2.0 GiB (0 %)");
  assert.equal(await shown("#writes"), "558 B a reading, 4.1 commits a second (over the last 2 h 0 min)");
  assert.match(
    await shown("#wear"),
    /^60\.0 GiB a year, 0\.6 % of the 10\.0 TiB .*, before the card's own amplification$/,
  );
  assert.equal(await shown("#breaker"), "closed");
  assert.equal(await shown("#uplink-say"), "Fusion takes readings.");
  assert.match(await shown("#never-accepted"), /refused: 5 invalid \(summit-edge quarantine\)\.$/);
  assert.match(await shown("#balance"), /^The books balance\. 120 accepted = 95 \+ 15 \+ 4 \+ 3 \+ 2 \+ 1$/);
  assert.match(await shown("#sources"), /mqtt\s*listening.*mast.*never/s);
  assert.deepEqual(complaints, []);
});

test("the page follows the gateway without being loaded again", { skip }, async () => {
  await visit(1280);
  view.facts.ledger = { ...view.facts.ledger, delivered: 90 };
  setOutage();
  await waitForText("#balance", "The books do not balance. 120 accepted ≠ 90 + 15 + 4 + 3 + 2 + 1 = 115");
  assert.equal(await shown("#verdict-word"), "Cannot do its work");
  assert.equal(await shown("#uplink-say"), "Fusion is away; readings are kept. Next try in 42 s.");
  assert.match(await shown("#conditions"), /port0 is gone\s*Failing · serial:mast · port-gone · for 1 min/);
  assert.match(await page.title(), /^FAILING/);
});

test("the page says how many messages had a topic that nothing took, where there were any", { skip }, async () => {
  await visit(1280);
  assert.doesNotMatch(await shown("#sources"), /mqtt\.routes/);
  view.facts.sources = [{ name: "mqtt", kind: "mqtt", state: "listening", accepted: 1, refused: 0, unrouted: 12 }];
  await visit(1280);
  assert.match(await shown("#sources"), /mqtt\s*12 messages not stored: no route in mqtt\.routes/);
});

test("the page says that a fusion that is looked for is tried as soon as it is back", { skip }, async () => {
  setOutage();
  view.facts.uplink = { ...view.facts.uplink, looksEverySeconds: 1 };
  await visit(1280);
  assert.equal(
    await shown("#uplink-say"),
    "Fusion is away; readings are kept. Next try as soon as fusion can be connected to (checked every 1 s), in 42 s at the latest.",
  );
});

test("the page says that readings may wait for the clock, and where nobody can tell how it is", { skip }, async () => {
  view.facts.clock = { ...view.facts.clock, quality: "unsynchronised" };
  await visit(1280);
  assert.match(
    await shown("#clock"),
    /UTC, unsynchronised; readings without a time .* wait for it \(outbox\.waitForClock\)$/,
  );
  view.facts.clock = { quality: "unsynchronised", forSeconds: 60, steps: 0 };
  await waitForText("#clock", "UTC, which nothing on this machine can say is right");
});

test("a serial port's device, state and traffic are shown, and what is wrong with it", { skip }, async () => {
  await visit(1280);
  assert.equal(await page.locator("#ports-card").isVisible(), false, "where there is none");
  setOutage();
  await waitForText("#ports", "port0 is gone");
  assert.match(
    await shown("#ports"),
    /^mast.*port0 is gone ?waiting for 1 min \d s ?\/dev\/ttyUSB0, \/dev\/serial.*port0 ?123,456,789 ?1,234,567 ?12,345 ?54,321$/,
  );
});

test("nothing overflows a phone's 375 pixels, however long the names are", { skip }, async () => {
  setOutage();
  for (const width of [375, 1280]) {
    await visit(width);
    const overflow = await page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth");
    assert.equal(overflow, 0, `at ${width}`);
  }
});

test("a gateway that no longer answers is said to be stale, and is live again by itself", { skip }, async () => {
  await visit(375);
  const port = server.port ?? 0;
  await server.close();
  await page.waitForSelector("#stale:not([hidden])", DEADLINE);
  assert.match(await shown("#stale"), /^The gateway does not answer\.\s+What you see is from \d\d:\d\d:\d\d/);
  assert.match(await page.title(), /^NO ANSWER/);
  assert.equal(await shown("#pending"), "15", "what was known stays on view");
  server = await openServer(httpConfig({ port }), view);
  await page.waitForSelector("#stale", { state: "hidden", ...DEADLINE });
  assert.match(await shown("#asked"), /^Live/);
});

test("what a device calls itself is shown as text and never run", { skip }, async () => {
  const hostile = `<img src=x onerror="document.body.dataset.run='1'"><script>document.body.dataset.run='1'</script>`;
  view.facts.sources = [{ name: hostile, kind: hostile, state: hostile, accepted: 1, refused: 0 }];
  view.facts.devices = [{ source: hostile, via: hostile, accepted: 1 }];
  view.facts.refused = { [hostile]: 1 };
  view.facts.conditions = [{ component: hostile, code: hostile, severity: "degraded", detail: hostile, since: 0 }];
  await visit(1280);
  assert.equal(await page.locator("#sources td").first().locator("span").first().textContent(), hostile);
  assert.equal(await page.locator("img").count(), 0);
  assert.equal(await page.evaluate("document.body.dataset.run"), undefined);
  assert.deepEqual(complaints, []);
});

test("every text stands out from its ground at 4.5 to 1 or better, by day and by night", { skip }, async () => {
  setOutage();
  for (const colorScheme of ["light", "dark"] as const) {
    await page.emulateMedia({ colorScheme });
    await visit(1280);
    const least = (await page.evaluate(LEAST_CONTRAST)) as { contrast: number; text: string };
    assert.ok(least.contrast >= 4.5, `${colorScheme}: ${least.contrast.toFixed(2)} at «${least.text}»`);
  }
});
