import assert from "node:assert/strict";
import { readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:net";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { createServer as createTlsServer } from "node:tls";
import { stringify } from "yaml";
import type { UplinkFact } from "#src/cli/doctor/check-network.js";
import type { Finding } from "#src/cli/doctor/finding.js";
import { probeFiles } from "#src/cli/doctor/probe-files.js";
import { probeUplink } from "#src/cli/doctor/probe-network.js";
import { loadConfig } from "#src/config/load.js";
import { Authority } from "../support/authority.ts";
import { summitEdge } from "../support/command.ts";
import { Daemon, type Ports, writeConfig } from "../support/daemon.ts";
import { freePort } from "../support/free-port.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

interface Report {
  readonly status: number | null;
  readonly ok: boolean;
  readonly findings: readonly Finding[];
}

/** Runs `doctor --json` as a user does. */
async function doctor(file: string): Promise<Report> {
  const { status, stdout, stderr } = await summitEdge(["doctor", "--config", file, "--json"]);
  assert.equal(stderr, "");
  return { status, ...(JSON.parse(stdout) as { ok: boolean; findings: Finding[] }) };
}

function found(report: Report, check: string, detail: RegExp): Finding {
  const finding = report.findings.find((each) => each.check === check && detail.test(each.detail));
  assert.ok(finding, `${check} ${detail}: ${JSON.stringify(report.findings, undefined, 2)}`);
  return finding;
}

/** A daemon that is stopped when the test ends, and its configuration. */
async function running(t: TestContext): Promise<{ daemon: Daemon; file: string; ports: Ports }> {
  const folder = temporaryFolder(t);
  const ports = await Daemon.freePorts();
  const daemon = await Daemon.start({ folder, ports });
  t.after(() => daemon.stop("SIGKILL"));
  return { daemon, file: join(folder, "gateway.yaml"), ports };
}

/** All that it writes to its log. */
async function textOf({ child }: Daemon): Promise<string> {
  let text = "";
  for await (const chunk of child.stdout ?? []) text += String(chunk);
  return text;
}

test("a running daemon is asked how it is, and not disturbed", async (t) => {
  const { daemon, file, ports } = await running(t);
  const report = await doctor(file);
  assert.equal(found(report, "daemon", /sierra-014, version .*, running for/).level, "ok");
  for (const port of Object.values(ports)) {
    assert.equal(found(report, "ports", new RegExp(`port ${port} on 127.0.0.1 is open`)).level, "ok");
  }
  assert.equal(found(report, "outbox", /^0 waiting; /).level, "ok");
  found(report, "card wear", /no reading yet|commits a second/);
  assert.equal(found(report, "uplink", /no uplink\.url/).level, "warn");
  assert.equal((await daemon.get("/readyz")).status, 200);
  assert.equal(await daemon.stop(), 0);
});

test("a daemon that holds the data folder and does not answer is found by its lock, which is left to it", async (t) => {
  const { daemon, ports } = await running(t);
  const moved = writeConfig({ folder: daemon.folder, ports: { ...ports, http: await freePort() } });
  const report = await doctor(moved);
  const finding = found(report, "daemon", /has the outbox open/);
  assert.equal(finding.level, "fail");
  assert.match(finding.detail, new RegExp(`^process ${daemon.child.pid} `));
  assert.equal(report.status, 1);
  assert.equal((await daemon.get("/readyz")).status, 200);
});

test("after a stop the outbox's files tell whether it was a clean one, and are not touched", async (t) => {
  const { daemon, file } = await running(t);
  await daemon.stop("SIGKILL");
  const files = () =>
    readdirSync(join(daemon.folder, "data"), { withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map(({ name }) => [name, statSync(join(daemon.folder, "data", name)).mtimeMs]);
  const before = files();
  assert.equal(found(await doctor(file), "outbox", /not a clean one/).level, "warn");
  assert.deepEqual(files(), before);
  // The command tidies the log up; what the stop was like stays.
  assert.equal((await summitEdge(["outbox", "stats", "--config", file])).status, 0);
  assert.equal(found(await doctor(file), "outbox", /not a clean one/).level, "warn");
  const again = await Daemon.launch({ folder: daemon.folder, changes: { log: { level: "info" } }, log: "pipe" });
  const log = textOf(again);
  await again.ready();
  await again.stop();
  assert.match(await log, /"level":"info".*"seconds":[\d.]+,.*the last stop was not a clean one: .* is whole/);
  assert.equal(found(await doctor(file), "outbox", /closed cleanly/).level, "ok");
});

test("a port that another program has fails, with exit status 1 and one line that says what to do", async (t) => {
  const folder = temporaryFolder(t);
  const ports = await Daemon.freePorts();
  const file = writeConfig({ folder, ports });
  const other = await listening(t, createServer(), ports.mqtt);
  const { status, stdout } = await summitEdge(["doctor", "--config", file]);
  assert.equal(status, 1);
  const line = stdout.split("\n").find((each) => each.startsWith("fail"));
  assert.match(
    line ?? "",
    new RegExp(`^fail {2}ports +mqtt\\.listeners\\[0\\]: port ${other} .* taken by another program\\. See`),
  );
  assert.match(stdout, /\n\n\d+ checks: \d+ ok, \d+ to look at, [1-9]\d* failed\.\n$/);
});

test("a configuration that is not valid is a usage error", async (t) => {
  const file = join(temporaryFolder(t), "gateway.yaml");
  writeFileSync(file, "upling: {}\n");
  const { status, stderr } = await summitEdge(["doctor", "--config", file]);
  assert.equal(status, 2);
  assert.match(stderr, /uplink/);
});

test("files are found missing, expired, of another key, or readable by everybody", async (t) => {
  const folder = temporaryFolder(t);
  const authority = await Authority.make(folder, "site");
  const good = await authority.issue("good");
  const old = await authority.issue("old", { notAfter: new Date(Date.now() - 1000) });
  const token = join(folder, "token");
  writeFileSync(token, "no token at all\n", { mode: 0o600 });
  const tls = { certFile: old.certFile, keyFile: good.keyFile, caFile: join(folder, "nowhere.pem") };
  const listeners = [{ bind: "127.0.0.1", port: 0, tls: { ...good, clientCertificate: "none" } }];
  const file = join(folder, "gateway.yaml");
  writeFileSync(file, stringify({ mqtt: { listeners }, uplink: { url: "https://x.invalid/", tls, tokenFile: token } }));
  const facts = new Map((await probeFiles(await loadConfig(file, {}))).map((fact) => [fact.key, fact]));
  assert.equal(facts.get("mqtt.listeners[0].tls.certFile")?.certificates?.[0]?.subject, "CN=good");
  assert.equal(facts.get("mqtt.listeners[0].tls.keyFile")?.useless, undefined);
  assert.equal(facts.get("uplink.tls.caFile")?.fault, "ENOENT");
  assert.ok((facts.get("uplink.tls.certFile")?.certificates?.[0]?.notAfter ?? Infinity) < Date.now());
  assert.match(facts.get("uplink.tls.keyFile")?.useless ?? "", /does not belong to/);
  assert.equal(facts.get("uplink.tokenFile")?.useless, "does not hold a token");
  assert.equal(facts.get("uplink.tokenFile")?.exposed, undefined);
  assert.match(facts.get("mqtt.listeners[0].tls.keyFile")?.exposed ?? "", /everybody on this machine may read it/);
});

test("the way to fusion is gone up to the handshake, and not a byte further", async (t) => {
  const folder = temporaryFolder(t);
  const authority = await Authority.make(folder, "fusion-ca");
  const server = await authority.issue("fusion", { usage: "serverAuth" });
  const client = await authority.issue("sierra-014");
  const pem = { cert: readFileSync(server.certFile), key: readFileSync(server.keyFile) };
  const ca = readFileSync(authority.caFile);
  let received = 0;
  const open = await listening(
    t,
    createTlsServer(pem, (socket) => socket.on("data", ({ length }) => (received += length))),
  );
  const closed = await listening(t, createTlsServer({ ...pem, ca, requestCert: true, rejectUnauthorized: true }));
  const probe = async (uplink: object): Promise<UplinkFact> => {
    const file = join(folder, "gateway.yaml");
    writeFileSync(file, stringify({ uplink }));
    return await probeUplink((await loadConfig(file, {})).uplink);
  };
  const tls = { caFile: authority.caFile };
  const reached = await probe({ url: `https://localhost:${open}/`, tls });
  assert.equal(reached.kind, "reached");
  assert.ok(reached.kind === "reached" && reached.protocol === "TLSv1.3" && (reached.validTo ?? 0) > Date.now());
  assert.equal(received, 0);

  const stranger = await probe({ url: `https://127.0.0.1:${open}/` });
  assert.match(stranger.kind === "refused" ? stranger.code : stranger.kind, /UNABLE_TO|SELF_SIGNED/);
  const mutual = await probe({ url: `https://127.0.0.1:${closed}/`, tls: { ...tls, ...client } });
  assert.equal(mutual.kind, "reached", JSON.stringify(mutual));
  const wrong = await (await Authority.make(folder, "elsewhere")).issue("sierra-014");
  const unwanted = await probe({ url: `https://127.0.0.1:${closed}/`, tls: { ...tls, ...wrong } });
  assert.equal(unwanted.kind, "refused", JSON.stringify(unwanted));
  const fileless = await probe({ url: `https://127.0.0.1:${open}/`, tls: { caFile: join(folder, "no.pem") } });
  assert.equal(fileless.kind, "unready");

  assert.equal((await probe({ url: `https://127.0.0.1:${await freePort()}/` })).kind, "unconnected");
  assert.equal((await probe({ url: "https://no-such-name.invalid/" })).kind, "unresolved");
  assert.equal((await probe({ url: `http://127.0.0.1:${open}/` })).kind, "reached");
  assert.deepEqual(await probe({}), { kind: "none" });
});

async function listening(t: TestContext, server: Server, port = 0): Promise<number> {
  await new Promise<void>((resolve) => server.listen(port, "127.0.0.1", resolve));
  t.after(() => server.close());
  server.on("tlsClientError", () => {});
  const address = server.address();
  return typeof address === "object" ? (address?.port ?? 0) : 0;
}
