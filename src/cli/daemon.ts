/** How commands reach the daemon: over its HTTP API while it runs, or into its outbox's file when it does not. */
import type { Command } from "commander";
import { environment } from "../config/environment.ts";
import { opensLocalSocket } from "../config/http-access.ts";
import { loadConfig } from "../config/load.ts";
import { ConfigError } from "../config/problem.ts";
import type { Config } from "../config/schema.ts";
import { codeOf, GatewayError, messageOf } from "../kernel/errors.ts";
import { localSocketPath } from "../kernel/socket-address.ts";
import { auditedOutbox } from "../operations/audit/audited.ts";
import type { Problem } from "../operations/problem.ts";
import type { QuarantineOut } from "../operations/quarantine-route.ts";
import type { ReplayOut } from "../operations/replay-routes.ts";
import type { Status } from "../operations/status.ts";
import { ALIVE_EVERY_MS, type TailWhat, type TimedTailLine } from "../operations/tail-line.ts";
import type {
  DeadLetter,
  DeadLetterPage,
  OutboxAdmin,
  OutboxStats,
  Selection,
  SelectionResult,
  StoredReading,
} from "../operations/view.ts";
import { type ApiAddress, type ApiAnswer, type ApiCall, callApi, streamApi } from "./api-call.ts";
import { callerName, openTrail } from "./audit-trail.ts";
import { readOptionFile } from "./option-file.ts";
import type { Terminal } from "./terminal.ts";

/** Where to look for the daemon; what every such command takes. */
export interface DaemonOptions {
  readonly config?: string;
  readonly url?: string;
  readonly keyFile?: string;
  readonly caFile?: string;
}

/** Adds the options that open the door of a daemon that asks for keys, or is elsewhere. */
export function withKeyOptions(command: Command): Command {
  return command
    .option(
      "--key-file <file>",
      "file with an API key, for a daemon that asks for one (not needed by root on its machine)",
    )
    .option("--ca-file <file>", "PEM file with the authority of the daemon's certificate, instead of the system's");
}

const DEFAULT_BIND = "127.0.0.1";
const DEFAULT_PORT = 8480;
const READ_TIMEOUT_MS = 10_000;
/** Longer than the daemon allows itself for an answer, so that its own problem details are what one reads. */
const WRITE_TIMEOUT_MS = 70_000;
/** A tail says that the daemon is still there three times as often. */
const SILENCE_MS = 3 * ALIVE_EVERY_MS;

/** What finding the daemon needs of whoever asks. */
type Query = Readonly<Record<string, string | number | undefined>>;

/** A page as the API gives it. */
interface PageOut {
  readonly deadLetters: DeadLetterPage["deadLetters"];
  readonly next: string | null;
}

type Asker = Pick<Terminal, "env" | "installedConfig">;

/** Which configuration tells of the daemon: the one that was named, else, without `--url`, the installed one, if any. */
export function configOf({ config, url }: DaemonOptions, terminal: Asker): string | undefined {
  return config ?? (url === undefined ? terminal.installedConfig() : undefined);
}

/**
 * Where the daemon is: `--url`, else what the configuration's `http` says, else the default. Where the configuration asks for
 * keys, the commands on its machine go by the daemon's socket, unless they are given a key.
 */
export async function daemonAddress(options: DaemonOptions, terminal: Asker): Promise<ApiAddress> {
  const key = (await readOptionFile("--key-file", options.keyFile))?.trim();
  const ca = await readOptionFile("--ca-file", options.caFile);
  const opened = { ...(key !== undefined && { key }), ...(ca !== undefined && { ca }) };
  if (options.url !== undefined) return { url: parsedUrl(options.url), ...opened };
  const config = configOf(options, terminal);
  if (config === undefined) return { url: new URL(`http://${DEFAULT_BIND}:${DEFAULT_PORT}`), ...opened };
  const { http, gateway } = await configForAsking(config, terminal);
  const url = new URL(`${http.tls === undefined ? "http" : "https"}://${reachable(http.bind)}:${http.port}`);
  if (key === undefined && opensLocalSocket(http)) return { url, socket: localSocketPath(gateway.dataDir) };
  if (http.port !== 0) return { url, ...opened };
  const message = "http.port is 0: the daemon has taken any free one";
  throw new GatewayError({
    code: "PORT_UNKNOWN",
    op: "cli.connect",
    message,
    hint: "Give its address, whose port stands in its log (HTTP API is open): --url http://127.0.0.1:PORT",
  });
}

/** The running daemon tells on loopback what its configuration's file, which is not for everybody, is only asked the way to. */
async function configForAsking(file: string, { env }: Asker): Promise<Config> {
  try {
    return await loadConfig(file, env);
  } catch (error) {
    if (!(error instanceof ConfigError) || codeOf(error.cause) !== "EACCES") throw error;
    const ask = `Or ask the running gateway at its address: --url http://${DEFAULT_BIND}:${DEFAULT_PORT} (its http.port).`;
    throw new ConfigError(file, error.problems, { hint: `${error.hint} ${ask}`, cause: error.cause });
  }
}

function parsedUrl(text: string): URL {
  if (/^https?:/i.test(text) && URL.canParse(text)) return new URL(text);
  const message = `${text} is not an http address`;
  throw new GatewayError({
    code: "URL_INVALID",
    op: "cli.connect",
    message,
    hint: "Write it as http://host:port: --url http://127.0.0.1:8480",
  });
}

/** An address at which a listener bound to `bind` can be reached from this machine. */
function reachable(bind: string): string {
  if (bind === "0.0.0.0") return "127.0.0.1";
  if (bind === "::") return "[::1]";
  return bind.includes(":") ? `[${bind}]` : bind;
}

/** The daemon's HTTP API. Its problems come back as GatewayError with the same code and hint. */
export class Daemon {
  readonly #at: ApiAddress;

  constructor(at: ApiAddress) {
    this.#at = at;
  }

  /** Whether anything listens there. */
  async listens(): Promise<boolean> {
    try {
      await this.#call({ path: "healthz", timeoutMs: READ_TIMEOUT_MS });
      return true;
    } catch (error) {
      if (isAbsent(error)) return false;
      throw error;
    }
  }

  status(): Promise<Status> {
    return this.#get<Status>("api/v1/status");
  }

  /** What was refused last, newest first; at most `limit` (1 to 100). */
  quarantine(limit: number): Promise<QuarantineOut> {
    return this.#get<QuarantineOut>("api/v1/quarantine", { limit });
  }

  /** The outbox as the running daemon lets an operator handle it. */
  readonly outbox: OutboxAdmin = {
    stats: () => this.#get<OutboxStats>("api/v1/outbox"),
    peek: async (query) => (await this.#get<{ readings: StoredReading[] }>("api/v1/outbox/peek", query)).readings,
    deadLetters: {
      list: async (query) => {
        const page = await this.#find<PageOut>("api/v1/dead-letters", query);
        return page && { deadLetters: page.deadLetters, ...(page.next !== null && { next: page.next }) };
      },
      show: (id) => this.#find<DeadLetter>(`api/v1/dead-letters/${encodeURIComponent(id)}`),
      requeue: (selection) => this.#select("requeue", selection),
      drop: (selection) => this.#select("drop", selection),
    },
  };

  /** Sending a past range again; only the running daemon can. */
  readonly replay = {
    start: (body: object): Promise<ReplayOut> => this.#write("POST", "api/v1/outbox/replay", body),
    progress: (): Promise<ReplayOut> => this.#get("api/v1/outbox/replay"),
    stop: (): Promise<ReplayOut> => this.#write("DELETE", "api/v1/outbox/replay"),
  };

  async #write<T>(method: "POST" | "DELETE", path: string, body?: object): Promise<T> {
    return bodyOf<T>(await this.#call({ method, path, body, timeoutMs: WRITE_TIMEOUT_MS }));
  }

  async #get<T>(path: string, query: Query = {}): Promise<T> {
    const search = new URLSearchParams();
    for (const [name, value] of Object.entries(query)) if (value !== undefined) search.set(name, String(value));
    return bodyOf<T>(await this.#call({ path: `${path}?${search}`, timeoutMs: READ_TIMEOUT_MS }));
  }

  /** As `#get`; `undefined` where there is no such thing. */
  async #find<T>(path: string, query?: Query): Promise<T | undefined> {
    try {
      return await this.#get<T>(path, query);
    } catch (error) {
      if (error instanceof GatewayError && error.code === "RESOURCE_NOT_FOUND") return undefined;
      throw error;
    }
  }

  #select(action: "requeue" | "drop", selection: Selection): Promise<SelectionResult> {
    const body = selection === "all" ? { all: true } : { ids: selection };
    return this.#write("POST", `api/v1/dead-letters/${action}`, body);
  }

  /**
   * What comes over a serial port of the daemon, a line for each thing, until `signal` ends it or the daemon stops.
   * @throws GatewayError RESOURCE_NOT_FOUND where it has no port of that name
   */
  async tail(name: string, what: TailWhat, signal: AbortSignal, take: (line: TimedTailLine) => void): Promise<void> {
    const path = `api/v1/serial/${encodeURIComponent(name)}/tail?what=${what}`;
    const refused = await this.#reach((user) =>
      streamApi(this.#at, { path, user, signal, silenceMs: SILENCE_MS }, (line) => take(JSON.parse(line))),
    );
    if (refused !== undefined) bodyOf(refused);
  }

  #call(call: ApiCall & { readonly timeoutMs: number }): Promise<ApiAnswer> {
    return this.#reach((user) => callApi(this.#at, { ...call, user }));
  }

  async #reach<T>(ask: (user: string) => Promise<T>): Promise<T> {
    try {
      return await ask(callerName(environment));
    } catch (error) {
      if (error instanceof GatewayError) throw error;
      const where = this.#at.socket ?? this.#at.url.origin;
      throw new GatewayError({
        code: "DAEMON_UNREACHABLE",
        op: "cli.connect",
        message: `the daemon does not answer at ${where}: ${messageOf(error) || codeOf(error)}`,
        hint: hintOf(codeOf(error)),
        cause: error,
      });
    }
  }
}

/** Codes of a certificate that nobody here vouches for, or that is for other names. */
const UNTRUSTED =
  /^(?:DEPTH_ZERO_SELF_SIGNED_CERT|SELF_SIGNED_CERT_IN_CHAIN|UNABLE_TO_.*|ERR_TLS_CERT_ALTNAME_INVALID)$/;

function hintOf(code: string | undefined): string {
  if (code === "EACCES" || code === "EPERM")
    return "This gateway asks for keys: run the command as root (sudo) or as the daemon's user, or give it a key with --url and --key-file.";
  if (UNTRUSTED.test(code ?? ""))
    return "Name the authority of its certificate with --ca-file, and call it by a name that the certificate holds.";
  return "See whether it runs (systemctl status summit-edge), or say where it listens with --url or --config.";
}

/** Nobody listens: the port is closed, or the socket's file is gone, or was left by a daemon that was killed. */
const isAbsent = (error: unknown): boolean =>
  error instanceof GatewayError && ["ECONNREFUSED", "ENOENT"].includes(codeOf(error.cause) ?? "");

function bodyOf<T>(answer: ApiAnswer): T {
  const ok = answer.status >= 200 && answer.status < 300;
  if (ok && /\bjson\b/.test(answer.contentType)) return JSON.parse(answer.text) as T;
  const problem = problemIn(answer.text);
  throw new GatewayError({
    code: problem?.code ?? "ANSWER_UNKNOWN",
    op: "cli.ask",
    message: problem?.detail ?? `${answer.url} answered ${answer.status}, which no summit-edge daemon does`,
    hint: problem?.hint ?? "See the daemon's log (journalctl -u summit-edge), or whether the address is right.",
  });
}

function problemIn(text: string): Partial<Problem> | undefined {
  try {
    return JSON.parse(text) as Partial<Problem>;
  } catch {
    return undefined;
  }
}

/** The daemon, or, where nothing listens at its address, the file of its configuration where that is known. */
export async function daemonOrConfig(options: DaemonOptions, terminal: Asker): Promise<Daemon | { config: string }> {
  const daemon = new Daemon(await daemonAddress(options, terminal));
  const config = configOf(options, terminal);
  if (config === undefined || options.url !== undefined || (await daemon.listens())) return daemon;
  return { config };
}

/**
 * Calls `use` with the outbox: the running daemon's, or, where nothing listens at its address and the configuration says
 * where the file is, the file itself under the `dataDir` lock.
 * @throws GatewayError DAEMON_UNREACHABLE, or what `use` and the file bring
 */
export async function withOutbox<T>(
  options: DaemonOptions,
  terminal: Terminal,
  use: (admin: OutboxAdmin) => Promise<T>,
): Promise<T> {
  const found = await daemonOrConfig(options, terminal);
  if (found instanceof Daemon) return use(found.outbox);
  const { openOffline } = await import("../outbox/offline.ts");
  const loaded = await loadConfig(found.config, terminal.env);
  const offline = await openOffline(loaded);
  const trail = await openTrail(loaded, terminal);
  try {
    return await use(auditedOutbox(offline.admin, trail, trail.actor));
  } finally {
    await trail.close();
    await offline.close();
  }
}
