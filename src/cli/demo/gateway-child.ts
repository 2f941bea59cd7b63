/**
 * The gateway as the demo runs it: the real command in a process of its own, so that it can be killed. It ends with the
 * demo, however that ends (`end-with-parent.ts`), and sees no Ctrl-C of the demo's terminal: the demo stops it in its turn.
 */
import { type ChildProcess, type StdioOptions, spawn } from "node:child_process";
import { closeSync, openSync } from "node:fs";
import { fileURLToPath } from "node:url";
import type { Clock } from "../../kernel/clock.ts";
import { GatewayError } from "../../kernel/errors.ts";
import type { ApiAddress } from "../api-call.ts";
import { Daemon } from "../daemon.ts";
import { Interrupted } from "./interrupted.ts";

const MAIN = fileURLToPath(new URL("../../main.js", import.meta.url));
const PRELOAD = new URL("./end-with-parent.js", import.meta.url).href;
const START_DEADLINE_MS = 60_000;
const LOOK_EVERY_MS = 100;
/** A clean stop lets the uplink finish; longer than it takes that is not waited for. */
const STOP_DEADLINE_MS = 20_000;
/** The end of what it said on standard error is kept: the message with which a command fails. */
const MAX_SAID_CHARACTERS = 8192;

export interface GatewayChildOptions {
  /** The configuration file. */
  readonly config: string;
  readonly env: NodeJS.ProcessEnv;
  /** Its HTTP API. */
  readonly api: ApiAddress;
  /** Where its log goes, at the end of what is there; without it, to the demo's own standard output. */
  readonly logFile?: string;
  readonly clock: Clock;
}

export interface Ending {
  readonly status: number | null;
  readonly signal: NodeJS.Signals | null;
}

export class GatewayChild {
  readonly #child: ChildProcess;
  readonly #clock: Clock;
  #said = "";
  #ending: Ending | undefined;
  /** Resolves when the process has ended, however it did. */
  readonly ended: Promise<Ending>;

  private constructor({ config, env, logFile, clock }: GatewayChildOptions) {
    this.#clock = clock;
    const log = logFile === undefined ? "inherit" : openSync(logFile, "a");
    const stdio: StdioOptions = ["ignore", log, "pipe", "ipc"];
    const args = ["--import", PRELOAD, MAIN, "run", "--config", config];
    this.#child = spawn(process.execPath, args, { env, stdio, detached: true });
    if (typeof log === "number") closeSync(log);
    this.#child.stderr?.setEncoding("utf8").on("data", (text: string) => {
      this.#said = (this.#said + text).slice(-MAX_SAID_CHARACTERS);
    });
    this.ended = new Promise((resolve) => {
      // `close`, not `exit`: by then all that it said has been read.
      this.#child.once("close", (status, signal) => {
        this.#ending = { status, signal };
        resolve(this.#ending);
      });
    });
  }

  /** Starts it and waits until it is ready. @throws GatewayError DEMO_GATEWAY with what it said, where it is not. */
  static async start(options: GatewayChildOptions, stopping: AbortSignal): Promise<GatewayChild> {
    const gateway = new GatewayChild(options);
    try {
      await gateway.#ready(options, stopping);
      return gateway;
    } catch (fault) {
      await gateway.stop();
      throw fault;
    }
  }

  get pid(): number | undefined {
    return this.#child.pid;
  }

  /** How it ended; `undefined` while it runs. */
  get ending(): Ending | undefined {
    return this.#ending;
  }

  /** SIGKILL: it gets no chance to put anything in order. */
  async kill(): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.ended;
  }

  /** Stops it cleanly and says how that went; one that does not end in time is killed. */
  async stop(): Promise<Ending> {
    const cancel = this.#clock.after(STOP_DEADLINE_MS, () => this.#child.kill("SIGKILL"));
    this.#child.kill("SIGTERM");
    const ending = await this.ended;
    cancel();
    return ending;
  }

  /** That it ended, or did not get on, as a fault with what it said last. */
  fault(what: string): GatewayError {
    const [, message, hint] = /^error: (.*?)(?:\nhint: (.*?))?\s*$/s.exec(this.#said) ?? [];
    return new GatewayError({
      code: "DEMO_GATEWAY",
      op: "demo.gateway",
      message: `${what}: ${message ?? (this.#said.trim() || endingText(this.#ending))}`,
      hint: hint ?? "Its log says more.",
    });
  }

  async #ready({ api, clock }: GatewayChildOptions, stopping: AbortSignal): Promise<void> {
    const daemon = new Daemon(api);
    const begun = clock.monotonic();
    for (;;) {
      if (stopping.aborted) throw new Interrupted();
      if (this.#ending !== undefined) throw this.fault("the gateway did not start");
      const elapsedMs = clock.monotonic() - begun;
      if (elapsedMs > START_DEADLINE_MS) throw this.fault(`the gateway was not ready in ${START_DEADLINE_MS / 1000} s`);
      const status = await daemon.status().catch(() => undefined);
      // Another daemon may have the port; it has been running for longer, and ours is about to say so.
      if (status?.ready === true && status.uptimeSeconds * 1000 <= elapsedMs && this.#ending === undefined) return;
      await clock.sleep(LOOK_EVERY_MS, stopping);
    }
  }
}

/** How a process ended, for a person. */
export function endingText(ending: Ending | undefined): string {
  if (ending === undefined) return "it is still running";
  return ending.signal === null ? `it ended with status ${ending.status}` : `it was ended by ${ending.signal}`;
}
