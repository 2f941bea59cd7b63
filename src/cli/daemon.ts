/** How commands reach the daemon: over its HTTP API while it runs, or into its outbox's file when it does not. */
import { loadConfig } from "../config/load.ts";
import { codeOf, GatewayError, messageOf } from "../kernel/errors.ts";
import type { Problem } from "../operations/problem.ts";
import type { ReplayOut } from "../operations/replay-routes.ts";
import type { Status } from "../operations/status.ts";
import type {
  DeadLetter,
  DeadLetterPage,
  OutboxAdmin,
  OutboxStats,
  Selection,
  SelectionResult,
  StoredReading,
} from "../operations/view.ts";
import type { Terminal } from "./terminal.ts";

/** Where to look for the daemon; what every such command takes. */
export interface DaemonOptions {
  readonly config?: string;
  readonly url?: string;
}

const DEFAULT_BIND = "127.0.0.1";
const DEFAULT_PORT = 8480;
const READ_TIMEOUT_MS = 10_000;
/** Longer than the daemon allows itself for an answer, so that its own problem details are what one reads. */
const WRITE_TIMEOUT_MS = 70_000;

/** What finding the daemon needs of whoever asks. */
type Asker = Pick<Terminal, "env" | "installedConfig">;

/** Which configuration tells of the daemon: the one that was named, else, without `--url`, the installed one, if any. */
function configOf({ config, url }: DaemonOptions, terminal: Asker): string | undefined {
  return config ?? (url === undefined ? terminal.installedConfig() : undefined);
}

/** The daemon's address: `--url`, else the configuration's `http`, else the default. */
export async function daemonUrl(options: DaemonOptions, terminal: Asker): Promise<URL> {
  if (options.url !== undefined) return parsedUrl(options.url);
  const config = configOf(options, terminal);
  if (config === undefined) return new URL(`http://${DEFAULT_BIND}:${DEFAULT_PORT}`);
  const { http } = await loadConfig(config, terminal.env);
  const port = http?.port ?? DEFAULT_PORT;
  if (port === 0) {
    const message = "http.port is 0: the daemon has taken any free port";
    throw new GatewayError({ code: "PORT_UNKNOWN", op: "cli.connect", message, hint: "Give its address with --url." });
  }
  return new URL(`http://${reachable(http?.bind ?? DEFAULT_BIND)}:${port}`);
}

function parsedUrl(text: string): URL {
  if (/^https?:/i.test(text) && URL.canParse(text)) return new URL(text);
  const message = `${text} is not an http address`;
  throw new GatewayError({ code: "URL_INVALID", op: "cli.connect", message, hint: "Write it as http://host:port." });
}

/** An address at which a listener bound to `bind` can be reached from this machine. */
function reachable(bind: string): string {
  if (bind === "0.0.0.0") return "127.0.0.1";
  if (bind === "::") return "[::1]";
  return bind.includes(":") ? `[${bind}]` : bind;
}

/** The daemon's HTTP API. Its problems come back as GatewayError with the same code and hint. */
export class Daemon {
  readonly #url: URL;

  constructor(url: URL) {
    this.#url = url;
  }

  /** Whether anything listens there. */
  async listens(): Promise<boolean> {
    try {
      await this.#fetch("healthz", { signal: AbortSignal.timeout(READ_TIMEOUT_MS) });
      return true;
    } catch (error) {
      if (isRefused(error)) return false;
      throw error;
    }
  }

  status(): Promise<Status> {
    return this.#get<Status>("api/v1/status");
  }

  /** The outbox as the running daemon lets an operator handle it. */
  readonly outbox: OutboxAdmin = {
    stats: () => this.#get<OutboxStats>("api/v1/outbox"),
    peek: async (query) => (await this.#get<{ readings: StoredReading[] }>("api/v1/outbox/peek", query)).readings,
    deadLetters: {
      list: async (query) => {
        const { deadLetters, next } = await this.#get<{
          deadLetters: DeadLetterPage["deadLetters"];
          next: string | null;
        }>("api/v1/dead-letters", query);
        return { deadLetters, ...(next !== null && { next }) };
      },
      show: async (id) => {
        try {
          return await this.#get<DeadLetter>(`api/v1/dead-letters/${encodeURIComponent(id)}`);
        } catch (error) {
          if (error instanceof GatewayError && error.code === "RESOURCE_NOT_FOUND") return undefined;
          throw error;
        }
      },
      requeue: (selection) => this.#select("requeue", selection),
      drop: (selection) => this.#select("drop", selection),
    },
  };

  /** Sending a past range again; only the running daemon can. */
  readonly replay = {
    start: (body: object): Promise<ReplayOut> =>
      this.#write("POST", "api/v1/outbox/replay", {
        headers: { "content-type": "application/json" },
        body: JSON.stringify(body),
      }),
    progress: (): Promise<ReplayOut> => this.#get("api/v1/outbox/replay"),
    stop: (): Promise<ReplayOut> => this.#write("DELETE", "api/v1/outbox/replay", {}),
  };

  async #write<T>(method: string, path: string, init: RequestInit): Promise<T> {
    return bodyOf<T>(await this.#fetch(path, { method, ...init, signal: AbortSignal.timeout(WRITE_TIMEOUT_MS) }));
  }

  async #get<T>(path: string, query: Readonly<Record<string, string | number | undefined>> = {}): Promise<T> {
    const search = new URLSearchParams();
    for (const [name, value] of Object.entries(query)) if (value !== undefined) search.set(name, String(value));
    const answer = await this.#fetch(`${path}?${search}`, { signal: AbortSignal.timeout(READ_TIMEOUT_MS) });
    return bodyOf<T>(answer);
  }

  async #select(action: "requeue" | "drop", selection: Selection): Promise<SelectionResult> {
    const answer = await this.#fetch(`api/v1/dead-letters/${action}`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(selection === "all" ? { all: true } : { ids: selection }),
      signal: AbortSignal.timeout(WRITE_TIMEOUT_MS),
    });
    return bodyOf<SelectionResult>(answer);
  }

  async #fetch(path: string, init: RequestInit): Promise<Response> {
    try {
      return await fetch(new URL(path, this.#url), init);
    } catch (error) {
      const reason = error instanceof Error && error.cause !== undefined ? error.cause : error;
      throw new GatewayError({
        code: "DAEMON_UNREACHABLE",
        op: "cli.connect",
        message: `the daemon does not answer at ${this.#url.origin}: ${messageOf(reason) || codeOf(reason)}`,
        hint: "See whether it runs (systemctl status summit-edge), or say where it listens with --url or --config.",
        cause: reason,
      });
    }
  }
}

const isRefused = (error: unknown): boolean => error instanceof GatewayError && codeOf(error.cause) === "ECONNREFUSED";

async function bodyOf<T>(answer: Response): Promise<T> {
  if (answer.ok && /\bjson\b/.test(answer.headers.get("content-type") ?? "")) return (await answer.json()) as T;
  const text = await answer.text();
  const problem = problemIn(text);
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
  const daemon = new Daemon(await daemonUrl(options, terminal));
  const config = configOf(options, terminal);
  if (config === undefined || options.url !== undefined || (await daemon.listens())) return use(daemon.outbox);
  const { openOffline } = await import("../outbox/offline.ts");
  const offline = await openOffline(await loadConfig(config, terminal.env));
  try {
    return await use(offline.admin);
  } finally {
    await offline.close();
  }
}
