import { pino } from "pino";
import { type Browser, chromium, type Page } from "playwright-core";
import type { HttpConfig } from "#src/config/schema.js";
import type { ApiKeys } from "#src/identity/api-keys.js";
import { systemClock } from "#src/kernel/clock.js";
import { HttpServer } from "#src/operations/http.js";
import type { GatewayView } from "#src/operations/view.js";

const ARGS = [
  "--headless",
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

/** The machine's own Chromium, with a user data folder of its own that is gone when it is closed. */
export function openBrowser(): Promise<Browser> {
  return chromium.launch({ executablePath: "/usr/bin/chromium", args: ARGS });
}

/** A page, and whatever it complains of itself: refused by its policy, or thrown. */
export async function openPage(browser: Browser): Promise<{ page: Page; complaints: string[] }> {
  const page = await browser.newPage();
  const complaints: string[] = [];
  page.on("console", (message) => complaints.push(message.text()));
  page.on("pageerror", (error) => complaints.push(String(error)));
  return { page, complaints };
}

/** The gateway's HTTP server on `config`, for a page to be looked at; what it logs is nobody's. */
export async function openServer(config: HttpConfig, view: GatewayView, keys?: ApiKeys): Promise<HttpServer> {
  const log = pino({ level: "silent" });
  const server = new HttpServer({ view, config, clock: systemClock, log, ...(keys !== undefined && { keys }) });
  await server.open();
  return server;
}

/** The least contrast (WCAG 2.2, 1.4.3) of any text on the page against the ground it stands on, and where. */
export const LEAST_CONTRAST = `(() => {
  const channels = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = (colour) => channels(colour).slice(0, 3).map((c) => c / 255)
    .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, at) => sum + c * [0.2126, 0.7152, 0.0722][at], 0);
  const ground = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor;
      if ((channels(colour)[3] ?? 1) > 0) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  const texts = [...document.querySelectorAll("body *")].filter((node) =>
    node.checkVisibility() && [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim() !== ""));
  const all = texts.map((node) => {
    const [a, b] = [light(getComputedStyle(node).color), light(ground(node))].sort((x, y) => y - x);
    return { contrast: (a + 0.05) / (b + 0.05), text: node.textContent.trim() };
  });
  return all.sort((a, b) => a.contrast - b.contrast)[0];
})()`;
