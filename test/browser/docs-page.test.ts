import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, test } from "node:test";
import type { Browser, Locator, Page } from "playwright-core";
import type { HttpServer } from "#src/operations/http.js";
import { LEAST_CONTRAST, openBrowser, openPage, openServer } from "../support/browser.ts";
import { httpConfig } from "../support/http-config.ts";
import { deadLetter, MemoryGatewayView, storedReading } from "../support/memory-view.ts";
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
  server = await openServer(httpConfig(), view);
  ({ page, complaints } = await openPage(browser));
});
afterEach(async () => {
  await page?.close();
  await server?.close();
});

async function visit(width = 1280): Promise<void> {
  await page.setViewportSize({ width, height: 900 });
  await page.goto(`http://127.0.0.1:${server.port}/docs`);
  await page.locator("details").first().waitFor(DEADLINE);
}

/** Opens one operation of the list. */
async function opened(method: string, path: string): Promise<Locator> {
  const summary = page.locator("summary").filter({ hasText: new RegExp(`^${method}${path}[A-Z]`) });
  await summary.click();
  return page.locator("details").filter({ has: summary });
}

/** Sends what the operation's form holds, and gives the status line and the body of the answer. */
async function sent(operation: Locator): Promise<{ status: string; body: string }> {
  await operation.locator("button").click();
  await operation.locator("output p").waitFor(DEADLINE);
  const status = await operation.locator("output p").textContent();
  const body = await operation.locator("output pre").textContent();
  return { status: status ?? "", body: body ?? "" };
}

test("every operation of the description is listed, without a complaint", { skip }, async () => {
  await visit();
  const { paths } = (await (await fetch(`http://127.0.0.1:${server.port}/openapi.json`)).json()) as { paths: object };
  const described = Object.entries(paths).flatMap(([path, methods]) =>
    Object.keys(methods).map((method) => `${method.toUpperCase()} ${path}`),
  );
  const listed = await page
    .locator("summary")
    .evaluateAll((all) => all.map((each) => `${each.children[0]?.textContent} ${each.children[1]?.textContent}`));
  assert.deepEqual(listed, described);
  assert.deepEqual(complaints, []);
});

test("a request can be tried, with its parameters, and its answer read", { skip }, async () => {
  view.readings = [storedReading(1, { priority: "critical" }), storedReading(2)];
  await visit();
  const peek = await opened("GET", "/api/v1/outbox/peek");
  await peek.locator("input").fill("5");
  await peek.locator("select").selectOption("critical");
  const { status, body } = await sent(peek);
  assert.match(status, /^200 /);
  assert.deepEqual(
    JSON.parse(body).readings.map(({ gateway }: { gateway: { seq: number } }) => gateway.seq),
    [1],
  );
  assert.equal(await peek.locator("output > code").textContent(), "GET /api/v1/outbox/peek?limit=5&priority=critical");
  await peek.locator("input").fill("0");
  await peek.locator("button").click();
  await peek.locator("output p[data-good=false]").waitFor(DEADLINE);
  assert.match((await peek.locator("output pre").textContent()) ?? "", /VALIDATION_FAILED/);
});

test("a call that changes something says so, begins with an example, and goes through", { skip }, async () => {
  view.deadLetters = [deadLetter(1), deadLetter(2)];
  await visit();
  const drop = await opened("POST", "/api/v1/dead-letters/drop");
  assert.match((await drop.locator("button").textContent()) ?? "", /changes the gateway/);
  assert.deepEqual(JSON.parse(await drop.locator("textarea").inputValue()), { ids: ["…"] });
  await drop.locator("textarea").fill(JSON.stringify({ ids: [deadLetter(1).id] }));
  assert.deepEqual(JSON.parse((await sent(drop)).body), { count: 1, unknown: [] });
  const show = await opened("GET", "/api/v1/dead-letters/{id}");
  await show.locator("input").fill(deadLetter(2).id);
  assert.equal(JSON.parse((await sent(show)).body).id, deadLetter(2).id);
  assert.deepEqual(complaints, []);
});

test("what the gateway answers is shown as text and never run", { skip }, async () => {
  const hostile = `<img src=x onerror="document.body.dataset.run='1'"><script>document.body.dataset.run='1'</script>`;
  view.readings = [storedReading(1, { source: hostile })];
  await visit();
  const { body } = await sent(await opened("GET", "/api/v1/outbox/peek"));
  assert.ok(body.includes("<img"));
  assert.equal(await page.locator("img").count(), 0);
  assert.equal(await page.evaluate("document.body.dataset.run"), undefined);
});

test("nothing overflows a phone, and every text can be read by day and by night", { skip }, async () => {
  for (const colorScheme of ["light", "dark"] as const) {
    await page.emulateMedia({ colorScheme });
    await visit(375);
    for (const operation of await page.locator("details").all()) await operation.locator("summary").click();
    await sent(page.locator("details").filter({ hasText: "/api/v1/status" }));
    const overflow = await page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth");
    assert.equal(overflow, 0);
    const least = (await page.evaluate(LEAST_CONTRAST)) as { contrast: number; text: string };
    assert.ok(least.contrast >= 4.5, `${colorScheme}: ${least.contrast.toFixed(2)} at «${least.text}»`);
  }
});
