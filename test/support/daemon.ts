/** The real daemon and its counterparts as child processes, for measuring them from outside. */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { stringify } from "yaml";
import { freePort } from "./free-port.ts";

const DIST = new URL("../../", import.meta.url).pathname;
const READY_WITHIN_MS = 60_000;
/** What only a hang reaches. */
const DEADLINE_MS = 120_000;

export interface Ports {
  readonly http: number;
  readonly mqtt: number;
  readonly mqtts: number;
}

/** `GET /api/v1/status`, as far as tests look at it. */
export interface Status {
  readonly ledger: Record<string, number>;
  readonly refused: Record<string, number>;
  readonly outbox: Record<string, number>;
  readonly uplink: { readonly state: string; readonly breaker: string; readonly looksEverySeconds: number | null };
  readonly sources: readonly {
    readonly name: string;
    readonly kind: string;
    readonly state: string;
    readonly accepted: number;
    readonly refused: number;
    readonly lastReadingAt: string | null;
  }[];
  readonly clock: {
    readonly quality: string;
    readonly source: string | null;
    readonly steps: number;
    readonly lastStep: { readonly at: string; readonly seconds: number } | null;
  };
  readonly conditions: readonly { readonly component: string; readonly code: string; readonly severity: string }[];
}

/** A script of test/bench that prints `{"port": …}` once it listens, as a child. */
export async function startScript(name: string, ...args: string[]): Promise<{ child: ChildProcess; port: number }> {
  const child = spawn(process.execPath, [join(DIST, "test", "bench", `${name}.js`), ...args], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  for await (const line of createInterface({ input: child.stdout })) {
    return { child, port: (JSON.parse(line) as { port: number }).port };
  }
  throw new Error(`${name} ended before it listened`);
}

/** Of /proc/PID/stat: a hundredth of a second on every Linux. */
const TICK_MS = 10;

/** Processor time that a process has taken, user and system, in milliseconds. */
export function processorMs(pid: number | undefined): number {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8")
    .replace(/^.*\) /, "")
    .split(" ");
  return (Number(fields[11]) + Number(fields[12])) * TICK_MS;
}

/** What `systemd/summit-edge.service` starts Node.js with. */
export const FIELD_NODE_OPTIONS = ["--max-semi-space-size=4", "--max-old-space-size=128", "--v8-pool-size=1"];

export interface DaemonOptions {
  /** Holds the configuration and, in `data`, the dataDir: another daemon in the same folder goes on where this one ended. */
  readonly folder: string;
  readonly uplinkUrl?: string;
  /** Top-level keys of the configuration to put in place of the usual ones. */
  readonly changes?: object;
  readonly ports?: Ports;
  /** The compiled program; a mutant's folder in a control. */
  readonly dist?: string;
  /** Options of Node.js; `FIELD_NODE_OPTIONS` are the unit's. */
  readonly nodeOptions?: readonly string[];
  /** What the daemon is started under: `strace …`. */
  readonly under?: readonly string[];
  /** Where the log goes; nowhere by default. */
  readonly log?: "inherit" | "ignore" | "pipe";
}

/** `summit-edge run` as a child process. */
export class Daemon {
  readonly child: ChildProcess;
  readonly ports: Ports;
  readonly folder: string;

  private constructor(child: ChildProcess, ports: Ports, folder: string) {
    this.child = child;
    this.ports = ports;
    this.folder = folder;
  }

  static async freePorts(): Promise<Ports> {
    return { http: await freePort(), mqtt: await freePort(), mqtts: await freePort() };
  }

  /** Starts it and waits until it is ready. */
  static async start(options: DaemonOptions): Promise<Daemon> {
    const daemon = await Daemon.launch(options);
    await daemon.ready();
    return daemon;
  }

  /** Starts it, and does not wait: for one that may end before it is ready. */
  static async launch(options: DaemonOptions): Promise<Daemon> {
    const { folder, dist = DIST, under = [], nodeOptions = [], log = "ignore" } = options;
    const ports = options.ports ?? (await Daemon.freePorts());
    const file = writeConfig({ ...options, ports });
    const command = [...under, process.execPath, ...nodeOptions, join(dist, "main.js"), "run", "--config", file];
    const child = spawn(command[0] ?? "", command.slice(1), { stdio: ["ignore", log, log] });
    return new Daemon(child, ports, folder);
  }

  get ca(): string {
    return readFileSync(join(this.folder, "data", "certs-development", "ca.pem"), "utf8");
  }

  get(path: string): Promise<Response> {
    return fetch(`http://127.0.0.1:${this.ports.http}${path}`);
  }

  async status(): Promise<Status> {
    return (await (await this.get("/api/v1/status")).json()) as Status;
  }

  /** Polls until the ledger is as wanted; returns the seconds that took. */
  async until(holds: (ledger: Record<string, number>) => boolean, pollMs = 20): Promise<number> {
    const from = performance.now();
    await this.untilStatus(({ ledger }) => holds(ledger), pollMs);
    return (performance.now() - from) / 1000;
  }

  /** Polls until the status is as wanted, and returns it. */
  async untilStatus(holds: (status: Status) => boolean, pollMs = 20): Promise<Status> {
    const deadline = performance.now() + DEADLINE_MS;
    for (;;) {
      const status = await this.status();
      if (holds(status)) return status;
      if (performance.now() > deadline)
        throw new Error(`still, after ${DEADLINE_MS / 1000} s: ${JSON.stringify(status)}`);
      await new Promise((resolve) => setTimeout(resolve, pollMs));
    }
  }

  /** Resident memory, MiB. */
  get residentMiB(): number {
    return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${this.child.pid}/status`, "utf8"))?.[1]) / 1024;
  }

  /** Processor time that it has taken, user and system, in milliseconds. */
  get processorMs(): number {
    return processorMs(this.child.pid);
  }

  /** Bytes that reached the device, or will. */
  get writtenBytes(): number {
    return Number(/^write_bytes: (\d+)/m.exec(readFileSync(`/proc/${this.child.pid}/io`, "utf8"))?.[1]);
  }

  /** Sends a signal and waits for the end; returns the exit status, `null` where the signal ended it. */
  stop(signal: NodeJS.Signals = "SIGTERM"): Promise<number | null> {
    const ended = this.ended();
    this.child.kill(signal);
    return ended;
  }

  /** Resolves with the exit status once it has ended, `null` where a signal ended it. */
  ended(): Promise<number | null> {
    return new Promise((resolve) => {
      if (this.child.exitCode !== null || this.child.signalCode !== null) resolve(this.child.exitCode);
      this.child.once("exit", (status) => resolve(status));
    });
  }

  /** Resolves once it is ready; rejects where it ends before. */
  async ready(): Promise<void> {
    const deadline = performance.now() + READY_WITHIN_MS;
    while (performance.now() < deadline && this.child.exitCode === null && this.child.signalCode === null) {
      const answer = await fetch(`http://127.0.0.1:${this.ports.http}/readyz`).catch(() => undefined);
      if (answer?.status === 200) return;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    throw new Error("the daemon did not become ready");
  }
}

/** Writes the configuration that `Daemon.start` uses, and returns its file. */
export function writeConfig(options: DaemonOptions & { readonly ports: Ports }): string {
  const { folder, ports, uplinkUrl, changes } = options;
  mkdirSync(folder, { recursive: true });
  const file = join(folder, "gateway.yaml");
  writeFileSync(file, stringify({ ...usualConfig(folder, ports, uplinkUrl), ...changes }));
  return file;
}

function usualConfig(folder: string, ports: Ports, uplinkUrl: string | undefined): object {
  return {
    gateway: { id: "sierra-014", dataDir: join(folder, "data") },
    log: { level: "warn" },
    mqtt: {
      listeners: [
        { bind: "127.0.0.1", port: ports.mqtt },
        { bind: "127.0.0.1", port: ports.mqtts, tls: { development: true } },
      ],
      limits: { publishRate: 0 },
    },
    outbox: { commitDelay: { critical: "0ms", high: "0ms", normal: "0ms", low: "0ms" } },
    // Whoever measures may ask as often as it likes.
    http: { port: ports.http, limits: { requestRate: 0 } },
    ...(uplinkUrl === undefined ? {} : { uplink: { url: uplinkUrl, reachability: "100ms" } }),
  };
}
