/** A secret is in its file and nowhere else: not in what the daemon and its commands say, keep or leave behind. */
import assert from "node:assert/strict";
import { generateKeyPairSync, randomBytes } from "node:crypto";
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { connectAsync } from "mqtt";
import { Authority } from "../support/authority.ts";
import { Collector } from "../support/collector.ts";
import { summitEdge } from "../support/command.ts";
import { Daemon, writeConfig } from "../support/daemon.ts";
import { device } from "../support/device.ts";
import { mutant } from "../support/mutant.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { until } from "../support/until.ts";

const PATHS = [
  "/",
  "/docs",
  "/openapi.json",
  "/healthz",
  "/health",
  "/metrics",
  "/api/v1/status",
  "/api/v1/dead-letters",
  "/api/v1/quarantine",
];

/** What nobody may see, and where it was put. */
class Canaries {
  readonly token = `canary-token-${randomBytes(12).toString("hex")}`;
  readonly query = `canary-query-${randomBytes(12).toString("hex")}`;
  readonly password = `canary-password-${randomBytes(12).toString("hex")}`;
  readonly all: readonly string[] = [this.token, this.query, this.password];

  found(text: string): string[] {
    // As HTTP's Basic scheme and JSON Web Tokens would carry it.
    const forms = (secret: string): string[] => [secret, Buffer.from(secret).toString("base64").replace(/=+$/, "")];
    return this.all.filter((secret) => forms(secret).some((form) => text.includes(form)));
  }
}

interface World {
  readonly canaries: Canaries;
  readonly fusion: Collector;
  readonly daemon: Daemon;
  readonly folder: string;
  /** Everything that the daemon has said. */
  readonly said: () => string;
}

/** Throws on SIGUSR2 what a careless library would: an error that has the request on it. */
const careless = (tokenFile: string): string =>
  `data:text/javascript,${encodeURIComponent(`
    import { readFileSync } from "node:fs";
    process.on("SIGUSR2", () => {
      const authorization = "Bearer " + readFileSync(${JSON.stringify(tokenFile)}, "utf8").trim();
      throw Object.assign(new Error("boom"), { options: { deep: { headers: { authorization } } } });
    });`)}`;

async function world(t: TestContext, level: string, dist?: string): Promise<World> {
  const canaries = new Canaries();
  const folder = temporaryFolder(t);
  const secrets = join(folder, "secrets");
  mkdirSync(secrets);
  const tokenFile = join(secrets, "token");
  writeFileSync(tokenFile, `${canaries.token}\n`, { mode: 0o600 });
  const fusion = await Collector.start();
  t.after(() => fusion.stop());
  const ports = await Daemon.freePorts();
  const changes = {
    log: { level },
    uplink: { url: `${fusion.url}?key=${canaries.query}`, tokenFile, reachability: "100ms", retry: { max: "100ms" } },
  };
  const daemon = await Daemon.start({
    folder,
    ports,
    changes,
    under: ["sh", "-c", 'ulimit -c 0; exec "$@" 2>&1', "sh"],
    nodeOptions: ["--import", careless(tokenFile)],
    log: "pipe",
    ...(dist !== undefined && { dist }),
  });
  t.after(() => daemon.stop("SIGKILL"));
  let said = "";
  daemon.child.stdout?.setEncoding("utf8").on("data", (text: string) => {
    said += text;
  });
  return { canaries, fusion, daemon, folder, said: () => said };
}

/** Fusion refuses everything in every way it has, quoting what it was sent, then takes it. */
async function live({ canaries, fusion, daemon }: World, t: TestContext): Promise<void> {
  let n = 0;
  fusion.answer = ({ headers, path }) => {
    const quoted = `you sent ${headers.authorization} to ${path}`;
    const status = [401, 503, 404, 500][n++];
    return status === undefined
      ? { status: 422, body: { title: "no", detail: quoted, status: 422 } }
      : { status, body: { detail: quoted } };
  };
  const client = await device(t, daemon.ports.mqtt);
  await client.publishAsync("observations/smoke", JSON.stringify({ n: 1 }), { qos: 1 });
  await daemon.until(({ deadLettered }) => deadLettered === 1);
  // The canary has been where it could leak from: otherwise this test would prove nothing.
  assert.equal(fusion.batches[0]?.headers.authorization, `Bearer ${canaries.token}`);
  assert.ok(fusion.batches[0]?.path.includes(canaries.query));
  const login = { username: "mast-3", password: canaries.password, reconnectPeriod: 0, protocolVersion: 4 } as const;
  const known = await connectAsync(`mqtt://127.0.0.1:${daemon.ports.mqtt}`, login);
  await known.endAsync();
}

function filesBelow(folder: string): string[] {
  return readdirSync(folder).flatMap((name) => {
    const path = join(folder, name);
    return statSync(path).isDirectory() ? filesBelow(path) : [path];
  });
}

/** Everything that can be seen from outside, by where it was seen. */
async function seen({ daemon, folder, said }: World): Promise<[where: string, text: string][]> {
  const found: [string, string][] = [["arguments", readFileSync(`/proc/${daemon.child.pid}/cmdline`, "utf8")]];
  for (const path of PATHS) found.push([path, await (await daemon.get(path)).text()]);
  const config = ["--config", join(folder, "gateway.yaml")];
  for (const command of [
    ["config", "show"],
    ["config", "show", "--json", "--origin"],
    ["config", "check"],
    ["doctor"],
    ["doctor", "--json"],
    ["status"],
    ["dead-letters", "list"],
    ["quarantine"],
    ["audit", "list", "--json"],
  ]) {
    const { stdout, stderr } = await summitEdge([...command, ...config]);
    found.push([command.join(" "), stdout + stderr]);
  }
  for (const file of filesBelow(join(folder, "data"))) found.push([file, readFileSync(file, "latin1")]);
  found.push(["log", said()]);
  return found;
}

for (const level of ["trace", "info"]) {
  test(`at log level ${level}, secrets are in no log, answer, command, file or argument, whatever fusion quotes`, async (t) => {
    const all = await world(t, level);
    await live(all, t);
    for (const [where, text] of await seen(all)) assert.deepEqual(all.canaries.found(text), [], where);
    assert.match(all.said(), /redacted/);
  });
}

test("an end by an error that nobody caught leaves no secret in the log, though the error carries it", async (t) => {
  const all = await world(t, "trace");
  await live(all, t);
  all.daemon.child.kill("SIGUSR2");
  assert.equal(await all.daemon.ended(), 1);
  await until("the log says why", () => all.said().includes("boom"));
  assert.deepEqual(all.canaries.found(all.said()), []);
});

test("an end by SIGABRT leaves no secret behind", async (t) => {
  const all = await world(t, "trace");
  await live(all, t);
  await all.daemon.stop("SIGABRT");
  assert.deepEqual(all.canaries.found(all.said()), []);
  for (const file of filesBelow(join(all.folder, "data")))
    assert.deepEqual(all.canaries.found(readFileSync(file, "latin1")), [], file);
});

test("the control: a daemon that does not redact what fusion quotes is found out", async (t) => {
  const dist = mutant(t, "uplink/https.js", "body.replaceAll(secret, REDACTED)", "body");
  const all = await world(t, "trace", dist);
  await live(all, t);
  const leaks = (await seen(all)).filter(([, text]) => all.canaries.found(text).length > 0);
  assert.ok(leaks.some(([where]) => where === "log"));
});

test("a key that cannot be used, or a handshake that fails, shows nothing of the key", async (t) => {
  const folder = temporaryFolder(t);
  const authority = await Authority.make(folder, "nobody-knows-it");
  const { certFile } = await authority.issue("gateway");
  const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const pem = privateKey.export({ type: "pkcs8", format: "pem" }).toString();
  const [, line = ""] = pem.split("\n");
  for (const text of [pem, pem.replace("PRIVATE KEY", "PRIVATE KEX"), `${line}\n`, pem.slice(0, -40)]) {
    const keyFile = join(folder, "key.pem");
    writeFileSync(keyFile, text, { mode: 0o600 });
    const ports = await Daemon.freePorts();
    const uplink = { url: `https://127.0.0.1:${ports.mqtts}/`, tls: { certFile, keyFile, caFile: authority.caFile } };
    const tls = { certFile, keyFile };
    const mqtt = { listeners: [{ bind: "127.0.0.1", port: ports.mqtt, tls }] };
    const config = writeConfig({ folder, ports, changes: { log: { level: "trace" }, uplink, mqtt } });
    const { status, stdout, stderr } = await summitEdge(["run", "--config", config]);
    assert.notEqual(status, 0);
    assert.ok(!(stdout + stderr).includes(line), stdout + stderr);
    const looked = await summitEdge(["doctor", "--config", config]);
    assert.ok(!looked.stdout.includes(line));
  }
});

test("a value where only a file may stand is refused without being shown again", async (t) => {
  const folder = temporaryFolder(t);
  const { token } = new Canaries();
  for (const yaml of [
    `uplink: { url: https://fusion.example/, token: ${token} }`,
    `uplink: { url: "https://user:${token}@fusion.example/" }`,
    `uplink: { url: https://fusion.example/ }\nmqtt: { password: ${token} }`,
    `uplink:\n  token: "${token}\n`,
    `uplink: { tokenFile: [${token}] }`,
  ]) {
    const config = join(folder, "gateway.yaml");
    writeFileSync(config, yaml);
    for (const command of ["check", "show"]) {
      const { status, stdout, stderr } = await summitEdge(["config", command, "--config", config]);
      assert.equal(status, 2, yaml);
      assert.ok(!(stdout + stderr).includes(token), stdout + stderr);
    }
  }
});
