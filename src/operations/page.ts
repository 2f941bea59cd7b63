import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";

export interface Page {
  readonly html: string;
  /** Content-Security-Policy under which this page, and nothing else, can run. */
  readonly policy: string;
}

/** A page: one file without anything from elsewhere; its own script and style are allowed by their hashes. */
export async function loadPage(file: "status-page.html" | "docs-page.html"): Promise<Page> {
  const html = await readFile(new URL(`./${file}`, import.meta.url), "utf8");
  const policy = [
    "default-src 'none'",
    `script-src ${hashes(html, "script")}`,
    `style-src ${hashes(html, "style")}`,
    "connect-src 'self'",
    "img-src data:",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
  ].join("; ");
  return { html, policy };
}

function hashes(html: string, tag: "script" | "style"): string {
  const found = [...html.matchAll(new RegExp(`<${tag}>(.*?)</${tag}>`, "gs"))];
  return found.map(([, body = ""]) => `'sha256-${createHash("sha256").update(body).digest("base64")}'`).join(" ");
}
