import assert from "node:assert/strict";
import { test } from "node:test";
import { refusalOf, type Site } from "#src/operations/same-site.js";

const PLAIN: Site = { scheme: "http", bind: "127.0.0.1", hosts: [], isCertified: () => false, cors: [] };

const verdict = (host: string | undefined, origin?: string, bind = "127.0.0.1", localAddress = "127.0.0.1") =>
  refusalOf({ host, origin, localAddress }, { ...PLAIN, bind }, true)?.code ?? "allowed";
const ask = (host: string, origin: string | undefined, site: Partial<Site>, writes = true) =>
  refusalOf({ host, origin, localAddress: "10.0.0.7" }, { ...PLAIN, ...site }, writes)?.code ?? "allowed";

test("loopback names and addresses may write, at whatever port a tunnel gives them", () => {
  for (const host of ["127.0.0.1:8480", "localhost:8480", "LOCALHOST:9999", "[::1]:8480", "127.0.0.1", "127.8.8.8"])
    assert.equal(verdict(host), "allowed", host);
});

test("a rebound name, a look-alike and a missing Host are refused", () => {
  for (const host of ["evil.example:8480", "localhost.evil.example", "127.0.0.1.evil.example", "", "a b", undefined])
    assert.equal(verdict(host), "FORBIDDEN_HOST", String(host));
});

test("the bound address, and the one at which the call came in, may write", () => {
  assert.equal(verdict("gateway.local:8480", undefined, "gateway.local", "10.0.0.7"), "allowed");
  assert.equal(verdict("10.0.0.7:8480", undefined, "0.0.0.0", "10.0.0.7"), "allowed");
  assert.equal(verdict("10.0.0.7:8480", undefined, "::", "::ffff:10.0.0.7"), "allowed");
  assert.equal(verdict("10.0.0.8:8480", undefined, "0.0.0.0", "10.0.0.7"), "FORBIDDEN_HOST");
});

test("the gateway's own page may write, another site's, another port's and an opaque one may not", () => {
  assert.equal(verdict("localhost:8480", "http://localhost:8480"), "allowed");
  for (const origin of ["http://evil.example", "http://localhost:3000", "https://localhost:8480", "null"])
    assert.equal(verdict("localhost:8480", origin), "FORBIDDEN_ORIGIN", origin);
});

test("a name of the certificate's and a configured one are the gateway's own; others are not, for reading either", () => {
  const isCertified = (name: string) => name === "sierra.example";
  assert.equal(ask("Sierra.example:8480", undefined, { scheme: "https", isCertified }), "allowed");
  assert.equal(ask("proxy.example", undefined, { hosts: ["Proxy.example"] }), "allowed");
  assert.equal(ask("evil.example", undefined, { hosts: ["proxy.example"], isCertified }, false), "FORBIDDEN_HOST");
});

test("over TLS the gateway's own page is the https one; a configured origin may write, and reading asks for none", () => {
  assert.equal(ask("localhost:8480", "https://localhost:8480", { scheme: "https" }), "allowed");
  assert.equal(ask("localhost:8480", "http://localhost:8480", { scheme: "https" }), "FORBIDDEN_ORIGIN");
  assert.equal(ask("localhost", "https://console.example", { cors: ["https://console.example"] }), "allowed");
  assert.equal(
    ask("localhost", "https://console.example:444", { cors: ["https://console.example"] }),
    "FORBIDDEN_ORIGIN",
  );
  assert.equal(ask("localhost", "https://evil.example", {}, false), "allowed");
});
