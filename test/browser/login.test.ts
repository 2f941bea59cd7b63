import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, before, beforeEach, test } from "node:test";
import type { Browser, Page } from "playwright-core";
import { ApiKeys } from "#src/identity/api-keys.js";
import { systemClock } from "#src/kernel/clock.js";
import type { HttpServer } from "#src/operations/http.js";
import { LEAST_CONTRAST, openBrowser, openPage, openServer } from "../support/browser.ts";
import { httpConfig } from "../support/http-config.ts";
import { MemoryGatewayView } from "../support/memory-view.ts";
import { skipWithout } from "../support/programs.ts";

const skip = skipWithout("chromium");
const DEADLINE = { timeout: 60_000 };

let browser: Browser | undefined;
let folder: string;
let keys: ApiKeys;
let server: HttpServer;
let page: Page;
let complaints: string[];

before(async () => {
  if (skip === false) browser = await openBrowser();
});
after(() => browser?.close());

beforeEach(async () => {
  if (browser === undefined) return;
  folder = await mkdtemp(join(tmpdir(), "summit-edge-login-"));
  keys = new ApiKeys(folder, systemClock);
  const view = new MemoryGatewayView();
  view.startedAt = systemClock.monotonic();
  server = await openServer(httpConfig({ auth: "always" }), view, keys);
  ({ page, complaints } = await openPage(browser));
});
afterEach(async () => {
  await page?.close();
  await server?.close();
  if (folder !== undefined) await rm(folder, { recursive: true });
});

const visit = (path = "/") => page.goto(`http://127.0.0.1:${server.port}${path}`);

/** Pastes a key, and whatever was around it, into the page's form. */
async function paste(text: string): Promise<void> {
  await page.locator("#key").waitFor(DEADLINE);
  await page.locator("#key").fill(text);
  await page.locator("form button").first().click();
}
/** What the page complains of but answers of 401. */
const policyComplaints = () => complaints.filter((text) => !/status of 401/.test(text));

test("the page asks for a key, shows the gateway with it, and keeps it in this tab", { skip }, async () => {
  const { text } = await keys.create({ name: "ops", scope: "read" });
  await visit();
  await page.locator("#login").waitFor(DEADLINE);
  assert.equal(await page.locator("#main").isVisible(), false);
  assert.doesNotMatch((await page.locator("body").textContent()) ?? "", /sierra-014/);
  await paste(`  ${text}\n`);
  await page.locator("#main").waitFor(DEADLINE);
  assert.equal(await page.locator("#gateway").textContent(), "sierra-014");
  assert.equal(await page.locator("#login").isVisible(), false);
  await page.reload();
  await page.locator("#main").waitFor(DEADLINE);
  assert.doesNotMatch(await page.content(), new RegExp(text), "the key stands nowhere in the page");
  assert.deepEqual(policyComplaints(), []);
});

test("signing out forgets the key; a key that is revoked meanwhile leads back to the form with the reason", {
  skip,
}, async () => {
  const { text } = await keys.create({ name: "ops", scope: "read" });
  await visit();
  await paste(text);
  await page.locator("#sign-out").click(DEADLINE);
  await page.locator("#login").waitFor(DEADLINE);
  assert.equal(await page.evaluate("sessionStorage.length"), 0);
  await paste(text);
  await page.locator("#main").waitFor(DEADLINE);
  await keys.revoke("ops");
  await page
    .locator("#login-why")
    .filter({ hasText: "Not let in: the key is none of this gateway's" })
    .waitFor(DEADLINE);
  assert.equal(await page.locator("#main").isVisible(), false);
  assert.equal(await page.evaluate("sessionStorage.length"), 0);
});

test("what is no key is not sent, and said to be none", { skip }, async () => {
  await visit();
  await paste("Grüße");
  await page.locator("#login-why").filter({ hasText: "That is no key" }).waitFor(DEADLINE);
});

test("the page to try the API shares the key, and sends it", { skip }, async () => {
  const { text } = await keys.create({ name: "ops", scope: "read" });
  await visit("/docs");
  await paste(text);
  await page.locator("details").first().waitFor(DEADLINE);
  const status = page.locator("details").filter({ hasText: "/api/v1/status" });
  await status.locator("summary").click();
  await status.locator("button").click();
  await status.locator("output p").waitFor(DEADLINE);
  assert.match((await status.locator("output p").textContent()) ?? "", /^200 /);
  await visit("/");
  await page.locator("#main").waitFor(DEADLINE);
  assert.deepEqual(policyComplaints(), []);
});

test("the form fits a phone, and can be read by day and by night", { skip }, async () => {
  for (const path of ["/", "/docs"]) {
    for (const colorScheme of ["light", "dark"] as const) {
      await page.emulateMedia({ colorScheme });
      await page.setViewportSize({ width: 375, height: 800 });
      await visit(path);
      await paste("nonsense");
      const overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth";
      assert.equal(await page.evaluate(overflow), 0);
      const least = (await page.evaluate(LEAST_CONTRAST)) as { contrast: number; text: string };
      assert.ok(least.contrast >= 4.5, `${path} ${colorScheme}: ${least.contrast.toFixed(2)} at «${least.text}»`);
    }
  }
});
