/** The real daemon and its counterparts as child processes, for measuring them from outside. */
import { type ChildProcess, spawn } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { stringify } from "yaml";

const MAIN = new URL("../../main.js", import.meta.url).pathname;
const READY_WITHIN_MS = 60_000;

export interface Ports {
  readonly http: number;
  readonly mqtt: number;
  readonly mqtts: number;
}

export interface Status {
  readonly ledger: Record<string, number>;
  readonly outbox: Record<string, number>;
}

/** A port that nobody listens on at the moment. */
export function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const server = createServer();
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      server.close(() => resolve(typeof address === "object" ? (address?.port ?? 0) : 0));
    });
  });
}

/** A child that prints `{"port": …}` once it listens. */
export async function startScript(name: string, ...args: string[]): Promise<{ child: ChildProcess; port: number }> {
  const child = spawn(process.execPath, [new URL(`./${name}.js`, import.meta.url).pathname, ...args], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  for await (const line of createInterface({ input: child.stdout })) {
    return { child, port: (JSON.parse(line) as { port: number }).port };
  }
  throw new Error(`${name} ended before it listened`);
}

/** `summit-edge run` in a folder of its own. */
export class Daemon {
  readonly child: ChildProcess;
  readonly ports: Ports;
  readonly folder: string;

  private constructor(child: ChildProcess, ports: Ports, folder: string) {
    this.child = child;
    this.ports = ports;
    this.folder = folder;
  }

  /** Starts it and waits until it is ready. */
  static async start(folder: string, uplinkUrl: string | undefined, changes: object = {}): Promise<Daemon> {
    const ports = { http: await freePort(), mqtt: await freePort(), mqtts: await freePort() };
    const config = {
      gateway: { id: "bench", dataDir: join(folder, "data") },
      log: { level: "warn" },
      mqtt: {
        listeners: [
          { bind: "127.0.0.1", port: ports.mqtt },
          { bind: "127.0.0.1", port: ports.mqtts, tls: { development: true } },
        ],
        limits: { publishRate: 0 },
      },
      outbox: { commitDelay: { critical: "0ms", high: "0ms", normal: "0ms", low: "0ms" } },
      http: { port: ports.http },
      ...(uplinkUrl === undefined ? {} : { uplink: { url: uplinkUrl, reachability: "100ms" } }),
      ...changes,
    };
    const file = join(folder, "gateway.yaml");
    writeFileSync(file, stringify(config));
    const child = spawn(process.execPath, [MAIN, "run", "--config", file], { stdio: ["ignore", "inherit", "inherit"] });
    const daemon = new Daemon(child, ports, folder);
    await daemon.#ready();
    return daemon;
  }

  get ca(): string {
    return readFileSync(join(this.folder, "data", "certs-development", "ca.pem"), "utf8");
  }

  async status(): Promise<Status> {
    const answer = await fetch(`http://127.0.0.1:${this.ports.http}/api/v1/status`);
    return (await answer.json()) as Status;
  }

  /** Polls until the ledger is as wanted; returns the seconds that took. */
  async until(holds: (ledger: Record<string, number>) => boolean, pollMs = 20): Promise<number> {
    const from = performance.now();
    while (!holds((await this.status()).ledger)) await new Promise((resolve) => setTimeout(resolve, pollMs));
    return (performance.now() - from) / 1000;
  }

  /** Resident memory, MiB. */
  get residentMiB(): number {
    return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${this.child.pid}/status`, "utf8"))?.[1]) / 1024;
  }

  /** Bytes that reached the device, or will. */
  get writtenBytes(): number {
    return Number(/^write_bytes: (\d+)/m.exec(readFileSync(`/proc/${this.child.pid}/io`, "utf8"))?.[1]);
  }

  stop(): Promise<void> {
    return new Promise((resolve) => {
      this.child.once("exit", () => resolve());
      this.child.kill("SIGTERM");
    });
  }

  async #ready(): Promise<void> {
    const deadline = performance.now() + READY_WITHIN_MS;
    while (performance.now() < deadline && this.child.exitCode === null) {
      const answer = await fetch(`http://127.0.0.1:${this.ports.http}/readyz`).catch(() => undefined);
      if (answer?.status === 200) return;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    throw new Error("the daemon did not become ready");
  }
}
