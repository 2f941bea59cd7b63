/** Certificates, authorities and tokens of the uplink that change while requests go out. */
import assert from "node:assert/strict";
import { copyFileSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import type { IncomingMessage } from "node:http";
import { createServer } from "node:https";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { describe, it, type TestContext } from "node:test";
import type { TLSSocket } from "node:tls";
import { pino } from "pino";
import type { UplinkConfig } from "#src/config/schema.js";
import { systemClock } from "#src/kernel/clock.js";
import { Conditions } from "#src/kernel/conditions.js";
import { Reloads } from "#src/kernel/reloading.js";
import { HttpsTransport } from "#src/uplink/https.js";
import type { UplinkRequest } from "#src/uplink/transport.js";
import { missing } from "../support/commands.ts";
import { type CertificateFiles, SiteAuthority } from "../support/site-authority.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { until } from "../support/until.ts";
import { uplinkConfig } from "./uplink-config.ts";

const REQUEST: UplinkRequest = {
  body: Buffer.from('{"observations":[]}'),
  contentEncoding: undefined,
  idempotencyKey: "key-1",
  traceparent: `00-${"a".repeat(32)}-${"b".repeat(16)}-01`,
};
const NEVER = new AbortController().signal;

interface Seen {
  readonly certificate: string | undefined;
  readonly authorization: string | undefined;
}

/** A fusion that asks for certificates of `authority`, and notes who came. */
async function fusionOf(t: TestContext, authority: SiteAuthority, own: CertificateFiles) {
  const seen: Seen[] = [];
  const answers: (() => void)[] = [];
  const state = { holds: false };
  const options = {
    cert: readFileSync(own.certFile),
    key: readFileSync(own.keyFile),
    ca: readFileSync(authority.caFile),
    requestCert: true,
    rejectUnauthorized: true,
  };
  const server = createServer(options, (request: IncomingMessage, response) => {
    const { CN } = (request.socket as TLSSocket).getPeerCertificate().subject ?? {};
    seen.push({ certificate: String(CN), authorization: request.headers.authorization });
    request.resume().on("end", () => {
      const answer = (): void => void response.writeHead(204).end();
      if (state.holds) answers.push(answer);
      else answer();
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  const { port } = server.address() as AddressInfo;
  return { url: `https://127.0.0.1:${port}/`, seen, answers, state };
}

/** A transport with its files, and what health says of it. */
function transportTo(t: TestContext, url: string, changes: Partial<UplinkConfig>) {
  const log = pino({ level: "silent" });
  const conditions = new Conditions(systemClock, log);
  const reloads = new Reloads({ clock: systemClock, conditions, log, audit: () => {} });
  const config = uplinkConfig(url, changes);
  const transport = new HttpsTransport({ config, clock: systemClock, version: "1.2.3", reloads });
  t.after(() => {
    transport.close();
    reloads.stop();
  });
  return { transport, reloads, conditions };
}

function inUse(folder: string) {
  const path = (name: string): string => join(folder, `${name}.in-use`);
  const put = (name: string, source: string): void => {
    copyFileSync(source, path(`${name}.new`));
    renameSync(path(`${name}.new`), path(name));
  };
  return { path, put };
}

describe("the uplink's files", { skip: missing("openssl") }, () => {
  it("change its client certificate for the next request, and leave the one that is under way alone", async (t) => {
    const folder = temporaryFolder(t);
    const site = new SiteAuthority(folder, "site");
    const fusion = await fusionOf(t, site, site.issue("localhost", { usage: "serverAuth" }));
    const { path, put } = inUse(folder);
    const install = (files: CertificateFiles): void => {
      put("cert", files.certFile);
      put("key", files.keyFile);
    };
    install(site.issue("first"));
    const tls = { caFile: site.caFile, certFile: path("cert"), keyFile: path("key") };
    const { transport, reloads, conditions } = transportTo(t, fusion.url, { tls });
    let renewed = 0;
    transport.onRenewed(() => renewed++);
    assert.equal((await transport.post(REQUEST, NEVER)).kind, "answer");
    fusion.state.holds = true;
    const underWay = transport.post(REQUEST, NEVER);
    await until("it is under way", () => fusion.answers.length === 1);

    install(site.issue("second"));
    const { changed } = await reloads.reload();
    assert.deepEqual(changed, ["uplink.tls.certFile", "uplink.tls.keyFile"]);
    assert.equal(renewed, 1);
    fusion.state.holds = false;
    fusion.answers[0]?.();
    assert.equal((await underWay).kind, "answer");
    assert.equal((await transport.post(REQUEST, NEVER)).kind, "answer");
    const shown = fusion.seen.map(({ certificate }) => certificate);
    assert.deepEqual(shown, ["first", "first", "second"]);

    writeFileSync(path("key"), "no key");
    const { refused } = await reloads.reload();
    assert.match(refused[0]?.reason ?? "", /key\.in-use is no PEM private key/);
    assert.equal(conditions.list()[0]?.component, "uplink");
    assert.equal((await transport.post(REQUEST, NEVER)).kind, "answer", "the old one stays");
  });

  it("change whom it trusts", async (t) => {
    const folder = temporaryFolder(t);
    const [site, next] = [new SiteAuthority(folder, "site"), new SiteAuthority(folder, "next")];
    const fusion = await fusionOf(t, site, next.issue("localhost", { usage: "serverAuth" }));
    const { path, put } = inUse(folder);
    put("ca", site.caFile);
    const { transport, reloads } = transportTo(t, fusion.url, {
      tls: { ...site.issue("gateway"), caFile: path("ca") },
    });
    const exchange = await transport.post(REQUEST, NEVER);
    assert.equal(exchange.kind === "no-answer" && exchange.fault, "failing");
    put("ca", next.caFile);
    assert.deepEqual((await reloads.reload()).changed, ["uplink.tls.caFile"]);
    assert.equal((await transport.post(REQUEST, NEVER)).kind, "answer");
  });

  it("change its token, before fusion has refused the old one", async (t) => {
    const folder = temporaryFolder(t);
    const site = new SiteAuthority(folder, "site");
    const fusion = await fusionOf(t, site, site.issue("localhost", { usage: "serverAuth" }));
    const tokenFile = join(folder, "token");
    writeFileSync(tokenFile, "first");
    const tls = { ...site.issue("gateway"), caFile: site.caFile };
    const { transport, reloads, conditions } = transportTo(t, fusion.url, { tls, tokenFile });
    await transport.post(REQUEST, NEVER);
    writeFileSync(tokenFile, "second");
    await reloads.reload();
    await transport.post(REQUEST, NEVER);
    writeFileSync(tokenFile, "no token of ours");
    await reloads.reload();
    const [condition] = conditions.list();
    assert.match(
      condition?.detail ?? "",
      /token does not hold a token\. What was in force before stays\. Put the token/,
    );
    assert.doesNotMatch(condition?.detail ?? "", /of ours/);
    await transport.post(REQUEST, NEVER);
    const shown = fusion.seen.map(({ authorization }) => authorization);
    assert.deepEqual(shown, ["Bearer first", "Bearer second", "Bearer second"]);
  });
});
