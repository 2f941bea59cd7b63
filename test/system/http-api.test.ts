/** The HTTP API of the real daemon on a network: TLS, keys, commands on its machine, and each protection with its control. */
import assert from "node:assert/strict";
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { request as plainRequest } from "node:http";
import { Agent, request } from "node:https";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { type TestContext, test } from "node:test";
import { connect, type PeerCertificate, type TLSSocket } from "node:tls";
import { summitEdge } from "../support/command.ts";
import { Daemon, type DaemonOptions, type Ports, writeConfig } from "../support/daemon.ts";
import { mutant } from "../support/mutant.ts";
import { SiteAuthority } from "../support/site-authority.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

interface Answer {
  readonly status: number;
  readonly headers: NodeJS.Dict<string | string[]>;
  readonly text: string;
}

interface Settings {
  readonly folder?: string;
  /** Keys of `http` besides those that open it. */
  readonly http?: object;
  readonly dist?: string;
}

/** A daemon that listens on all addresses with TLS, and how to speak to it. */
class OpenGateway {
  readonly folder: string;
  readonly site: SiteAuthority;
  readonly config: string;
  readonly ports: Ports;
  readonly tls: { readonly certFile: string; readonly keyFile: string };
  readonly #options: DaemonOptions;
  daemon: Daemon | undefined;

  private constructor(ports: Ports, { folder, http: changed = {}, dist }: Settings & { readonly folder: string }) {
    mkdirSync(folder, { recursive: true });
    this.folder = folder;
    this.ports = ports;
    this.site = new SiteAuthority(folder, "site");
    this.tls = { certFile: join(folder, "http.crt"), keyFile: join(folder, "http.key") };
    this.#issue();
    const http = { bind: "0.0.0.0", port: ports.http, tls: this.tls, ...changed };
    const changes = { http, mqtt: { listeners: [] }, log: { level: "info" } };
    this.#options = { folder, ports, changes, log: "pipe", ...(dist !== undefined && { dist }) };
    this.config = writeConfig({ ...this.#options, ports });
  }

  static async start(t: TestContext, settings: Settings = {}): Promise<OpenGateway> {
    const folder = settings.folder ?? temporaryFolder(t);
    const gateway = new OpenGateway(await Daemon.freePorts(), { ...settings, folder });
    t.after(() => gateway.daemon?.stop("SIGKILL"));
    await gateway.start();
    return gateway;
  }

  async start(): Promise<void> {
    this.daemon = await Daemon.launch(this.#options);
    this.#log = "";
    for (const stream of [this.daemon.child.stdout, this.daemon.child.stderr])
      stream?.on("data", (chunk: Buffer) => {
        this.#log += String(chunk);
      });
    await this.until("it is ready", async () => (await this.get("/readyz").catch(() => undefined))?.status === 200);
  }

  #log = "";
  get log(): string {
    return this.#log;
  }

  /** Puts a new certificate and key in the place of those that are there. */
  renew(): void {
    this.#issue();
  }

  #issue(): void {
    const made = this.site.issue("gateway", { usage: "serverAuth" });
    for (const key of ["certFile", "keyFile"] as const) {
      copyFileSync(made[key], `${this.tls[key]}.new`);
      renameSync(`${this.tls[key]}.new`, this.tls[key]);
    }
  }

  async until(what: string, holds: () => Promise<boolean>): Promise<void> {
    const deadline = performance.now() + 60_000;
    while (!(await holds())) {
      assert.equal(this.daemon?.child.exitCode, null, this.log);
      assert.ok(performance.now() < deadline, `${what}; ${this.log}`);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  async key(name: string, scope: string): Promise<string> {
    const made = await summitEdge(["keys", "create", name, "--scope", scope, "--json", "--config", this.config]);
    return JSON.parse(made.stdout).key;
  }

  cli(...args: string[]) {
    return summitEdge([...args, "--config", this.config]);
  }

  get(path: string, headers: Record<string, string> = {}, agent?: Agent): Promise<Answer> {
    return this.call("GET", path, headers, undefined, agent);
  }

  call(method: string, path: string, headers: Record<string, string>, body?: string, agent?: Agent): Promise<Answer> {
    const ca = readFileSync(this.site.caFile);
    // As the certificate has it: `https` would take it from Host, which is what some tests lie about.
    const at = { host: "127.0.0.1", servername: "localhost", port: this.ports.http, ca };
    const options = { ...at, path, method, headers, agent: agent ?? false };
    return new Promise((resolve, reject) => {
      const outgoing = request(options, async (incoming) => {
        resolve({ status: incoming.statusCode ?? 0, headers: incoming.headers, text: await text(incoming) });
      });
      outgoing.on("error", reject);
      outgoing.end(body);
    });
  }

  requeue(headers: Record<string, string>): Promise<Answer> {
    const typed = { "content-type": "application/json", ...headers };
    return this.call("POST", "/api/v1/dead-letters/requeue", typed, JSON.stringify({ all: true }));
  }

  /** The certificate that a new connection is shown. */
  certificate(): Promise<PeerCertificate> {
    return new Promise((resolve, reject) => {
      const socket: TLSSocket = connect(
        { port: this.ports.http, host: "127.0.0.1", ca: readFileSync(this.site.caFile) },
        () => {
          resolve(socket.getPeerCertificate());
          socket.destroy();
        },
      );
      socket.on("error", reject);
    });
  }
}

const bearer = (key: string) => ({ authorization: `Bearer ${key}` });
const codeOf = ({ text: body }: Answer): string => JSON.parse(body).code;

test("off loopback without TLS neither the check nor the daemon goes along, and both say what to do", async (t) => {
  const folder = temporaryFolder(t);
  for (const http of [{ bind: "0.0.0.0" }, { bind: "::", auth: "always" }, { bind: "192.0.2.1" }]) {
    const config = writeConfig({ folder, ports: await Daemon.freePorts(), changes: { http } });
    for (const command of [["config", "check"], ["run"]]) {
      const { status, stderr } = await summitEdge([...command, "--config", config]);
      assert.equal(status, 2, stderr);
      assert.match(stderr, /http\.bind: .* is not loopback: .*set http\.tls\.certFile and http\.tls\.keyFile/);
    }
  }
});

test("on a network each call needs TLS and a key of the right scope; a new key works at once, a revoked one never again", async (t) => {
  const gateway = await OpenGateway.start(t);
  assert.match(gateway.log, /asks for keys, and there is none: make one with summit-edge keys create/);
  await assert.rejects(
    new Promise((resolve, reject) => {
      plainRequest({ host: "127.0.0.1", port: gateway.ports.http, path: "/healthz" }, resolve)
        .on("error", reject)
        .end();
    }),
  );
  assert.equal(codeOf(await gateway.get("/api/v1/status")), "KEY_REQUIRED");
  const [read, write] = [await gateway.key("prometheus", "read"), await gateway.key("ops", "write")];
  const status = await gateway.get("/api/v1/status", bearer(read));
  assert.equal(status.status, 200);
  assert.equal(status.headers["strict-transport-security"], "max-age=31536000");
  assert.match((await gateway.get("/metrics", bearer(read))).text, /^summit_edge_/m);
  assert.equal(codeOf(await gateway.requeue(bearer(read))), "SCOPE_INSUFFICIENT");
  assert.equal((await gateway.requeue(bearer(write))).status, 200);
  assert.equal((await gateway.cli("keys", "revoke", "prometheus")).status, 0);
  assert.equal(codeOf(await gateway.get("/api/v1/status", bearer(read))), "KEY_INVALID");
  for (const file of readdirSync(gateway.folder, { recursive: true, withFileTypes: true })) {
    if (!file.isFile()) continue;
    const content = readFileSync(join(file.parentPath, file.name), "latin1");
    for (const key of [read, write]) assert.ok(!content.includes(key.slice(12)), file.name);
  }
  for (const key of [read, write]) assert.ok(!gateway.log.includes(key.slice(12)));
});

test("commands on the gateway's machine need no key; elsewhere they take one, and the authority of its certificate", async (t) => {
  const gateway = await OpenGateway.start(t);
  const { status, stdout, stderr } = await gateway.cli("status", "--json");
  assert.equal(status, 0, stderr);
  assert.equal(JSON.parse(stdout).gateway, "sierra-014");
  assert.match((await gateway.cli("dead-letters", "requeue", "--all")).stdout, /^0 readings requeued/);
  const url = ["status", "--json", "--url", `https://localhost:${gateway.ports.http}`];
  const untrusted = await summitEdge(url);
  assert.equal(untrusted.status, 1);
  assert.match(untrusted.stderr, /hint: Name the authority of its certificate with --ca-file/);
  const keyless = await summitEdge([...url, "--ca-file", gateway.site.caFile]);
  assert.match(keyless.stderr, /needs an API key of scope read\nhint: .*summit-edge keys create/);
  const keyFile = join(gateway.folder, "ops.key");
  const made = await gateway.cli("keys", "create", "ops");
  writeFileSync(keyFile, made.stdout.split("\n")[0] ?? "");
  const known = await summitEdge([...url, "--ca-file", gateway.site.caFile, "--key-file", keyFile]);
  assert.equal(JSON.parse(known.stdout).gateway, "sierra-014", known.stderr);
});

test("the commands' socket is its owner's alone, outlives no daemon, and may lie as deep as the data does", async (t) => {
  const gateway = await OpenGateway.start(t, {
    folder: join(temporaryFolder(t), "deep-".repeat(20), "er-".repeat(20)),
  });
  const socket = join(gateway.folder, "data", "api.sock");
  assert.ok(socket.length > 107, "longer than the address of a socket may be");
  assert.equal(statSync(socket).mode & 0o777, 0o600);
  assert.match((await gateway.cli("status")).stdout, /^sierra-014/);
  await gateway.daemon?.stop("SIGKILL");
  assert.ok(existsSync(socket), "left by the daemon that was killed");
  assert.match((await gateway.cli("outbox", "stats")).stdout, /^waiting +0/, "opened without a daemon");
  const refused = await gateway.cli("status");
  assert.match(refused.stderr, /the daemon does not answer at .*api\.sock: .*\nhint: See whether it runs/);
  await gateway.start();
  assert.match((await gateway.cli("status")).stdout, /^sierra-014/);
  assert.equal(await gateway.daemon?.stop(), 0);
  assert.ok(!existsSync(socket));
});

test("a new certificate is taken without a restart, and what is open goes on; a broken one is refused and said", async (t) => {
  const gateway = await OpenGateway.start(t);
  const first = await gateway.certificate();
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  t.after(() => agent.destroy());
  assert.equal((await gateway.get("/healthz", {}, agent)).status, 200);
  gateway.renew();
  gateway.daemon?.child.kill("SIGHUP");
  await gateway.until("the new certificate is shown", async () => {
    await gateway.get("/healthz", {}, agent);
    return (await gateway.certificate()).serialNumber !== first.serialNumber;
  });
  writeFileSync(gateway.tls.certFile, "nonsense");
  gateway.daemon?.child.kill("SIGHUP");
  const conditions = async () => JSON.parse((await gateway.cli("status", "--json")).stdout).conditions;
  await gateway.until("health tells of the broken file", async () =>
    (await conditions()).some(({ component, code }: { component: string; code: string }) => {
      return component === "http" && code === "tls-files";
    }),
  );
  assert.equal((await gateway.get("/healthz")).status, 200);
});

test("a name in the certificate may be used, another may not, over TLS as well", async (t) => {
  const gateway = await OpenGateway.start(t);
  assert.equal((await gateway.get("/healthz", { host: "localhost:1" })).status, 200);
  assert.equal(codeOf(await gateway.get("/healthz", { host: "evil.example" })), "FORBIDDEN_HOST");
});

/** Each protection: how to see that it holds, and the program without it. */
const PROTECTIONS: readonly {
  readonly name: string;
  readonly file: string;
  readonly from: string;
  readonly to: string;
  readonly holds: (gateway: OpenGateway) => Promise<boolean>;
}[] = [
  {
    name: "a key is needed",
    file: "operations/http-guard.js",
    from: "this.#keysNeeded = asksForKeys(config)",
    to: "this.#keysNeeded = false",
    holds: async (gateway) => (await gateway.get("/api/v1/status")).status === 401,
  },
  {
    name: "the scope counts",
    file: "operations/http-guard.js",
    from: "if (RANK[scope] >= RANK[need])",
    to: "if (true)",
    holds: async (gateway) => (await gateway.requeue(bearer(await gateway.key("r", "read")))).status === 403,
  },
  {
    name: "the secret counts, not the id alone",
    file: "identity/api-keys.js",
    from: "!timingSafeEqual(digestOf(text)",
    to: "!timingSafeEqual(Buffer.from(stored.sha256, 'hex')",
    holds: async (gateway) => {
      const forged = (await gateway.key("victim", "read")).replace(/[0-9a-f]{64}$/, "0".repeat(64));
      return (await gateway.get("/api/v1/status", bearer(forged))).status === 401;
    },
  },
  {
    name: "the name counts",
    file: "operations/http-guard.js",
    from: "if (found !== undefined)",
    to: "if (false)",
    holds: async (gateway) => (await gateway.get("/healthz", { host: "evil.example" })).status === 403,
  },
  {
    name: "the rate counts",
    file: "operations/http-guard.js",
    from: "if (seconds === undefined)",
    to: "if (true)",
    holds: async (gateway) => {
      const agent = new Agent({ keepAlive: true, maxSockets: 8 });
      const calls = Array.from({ length: 100 }, () => gateway.get("/health", {}, agent));
      const answers = await Promise.all(calls);
      agent.destroy();
      const refused = answers.find(({ status }) => status === 429);
      return refused !== undefined && Number(refused.headers["retry-after"]) >= 1;
    },
  },
];

test("each protection holds in the real daemon, and is what holds it: without it the test fails", async (t) => {
  const http = { limits: { requestRate: 2 } };
  const gateway = await OpenGateway.start(t, { http });
  for (const { name, holds } of PROTECTIONS) assert.ok(await holds(gateway), name);
  await gateway.daemon?.stop();
  for (const { name, file, from, to, holds } of PROTECTIONS) {
    const open = await OpenGateway.start(t, { http, dist: mutant(t, file, from, to) });
    assert.equal(await holds(open), false, `control: ${name}`);
    await open.daemon?.stop();
  }
});
