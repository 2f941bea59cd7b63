/**
 * The reference fusion service: the receiving side of contract section 5, for development, demos and tests. Never a
 * production part: one process, no replication, and a store that does not wait for the disk.
 *
 * - It keeps each reading once, by id, and says of every batch how many were new and how many were copies.
 * - It is strict about what the contract fixes, so that a gateway's slip shows here and not in the field.
 * - It shows faults on request (`fusion-faults.ts`), over HTTP or from the program that runs it.
 * - `close` ends the network side only, as an outage would; what was received stays, and `listen` ends the outage.
 */
import { createHash, timingSafeEqual } from "node:crypto";
import { once } from "node:events";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { createServer as createTlsServer } from "node:https";
import { TLSSocket } from "node:tls";
import type { Clock } from "../kernel/clock.ts";
import { codeOf, GatewayError, messageOf } from "../kernel/errors.ts";
import type { Logger } from "../kernel/telemetry.ts";
import { isDateTime, type ReadBatch, type Rejection, readBatch } from "./fusion-envelope.ts";
import { type Fault, FaultPlan, readFault } from "./fusion-faults.ts";
import { inflateBody, Problem, readBody, sendJson, sendProblem } from "./fusion-http.ts";
import { IdempotencyKeys } from "./fusion-keys.ts";
import { type FusionStats, FusionStore, type Query } from "./fusion-store.ts";

export interface FusionOptions {
  /** SQLite file, or `:memory:` (the default). */
  readonly db?: string;
  /** Bearer token that a batch has to bring; without it none is asked for. */
  readonly token?: string;
  /** PEM; with `ca`, clients have to show a certificate that it signed. */
  readonly tls?: { readonly cert: string; readonly key: string; readonly ca?: string };
  /** For the shares of `setFault`. Default 1. */
  readonly seed?: number;
  readonly clock: Clock;
  readonly log: Pick<Logger, "info" | "error">;
}

export const BATCH_PATH = "/api/v1/observations/batch";

const MAX_CONNECTIONS = 256;
const MAX_LISTED = 1000;
const DEFAULT_LATENCY_MS = 1000;

export class FusionService {
  readonly #options: FusionOptions;
  readonly #faults: FaultPlan;
  readonly #keys = new IdempotencyKeys();
  #token: string | undefined;
  #store: FusionStore | undefined;
  #server: Server | undefined;

  constructor(options: FusionOptions) {
    this.#options = options;
    this.#token = options.token;
    this.#faults = new FaultPlan(options.seed ?? 1);
  }

  /** Listens; port 0 takes any free one. Returns the service's address. Throws `FUSION_PORT_TAKEN`, `FUSION_LISTEN`, `FUSION_DB`. */
  async listen(port: number, bind = "127.0.0.1"): Promise<{ readonly port: number; readonly url: string }> {
    if (this.#server !== undefined) throw new Error("fusion is listening already");
    this.#store ??= openStore(this.#options.db ?? ":memory:");
    const { tls } = this.#options;
    const server = tls === undefined ? createServer() : createTlsServer({ ...tls, requestCert: tls.ca !== undefined });
    server.maxConnections = MAX_CONNECTIONS;
    server.on("request", (request: IncomingMessage, response: ServerResponse) => void this.#serve(request, response));
    server.listen(port, bind);
    try {
      await once(server, "listening");
    } catch (error) {
      throw listenFault(error, port, bind);
    }
    this.#server = server;
    const address = server.address();
    const taken = typeof address === "object" && address !== null ? address.port : port;
    const host = bind.includes(":") ? `[${bind}]` : bind;
    return { port: taken, url: `${tls === undefined ? "http" : "https"}://${host}:${taken}` };
  }

  /** Takes the service off the network: open connections are cut, new ones refused. `listen` brings it back. */
  async close(): Promise<void> {
    const server = this.#server;
    if (server === undefined) return;
    this.#server = undefined;
    const closed = once(server, "close");
    server.close();
    server.closeAllConnections();
    await closed;
  }

  /** Ends it for good, the store included. */
  async dispose(): Promise<void> {
    await this.close();
    this.#store?.close();
    this.#store = undefined;
  }

  get fault(): Fault {
    return this.#faults.current;
  }

  setFault(fault: Fault): void {
    this.#faults.set(fault);
    this.#options.log.info({ fault }, fault.mode === "none" ? "fusion is well" : `fusion shows a fault: ${fault.mode}`);
  }

  /** From now on batches have to bring this token; `undefined`: none. */
  setToken(token: string | undefined): void {
    this.#token = token;
  }

  stats(): FusionStats {
    return this.#opened().stats();
  }

  /** Whether the reading with this id has arrived. */
  has(id: string): boolean {
    return this.#opened().has(id);
  }

  /** The readings asked for as they arrived, the newest first. */
  find(query: Query): unknown[] {
    return this.#opened().find(query);
  }

  #opened(): FusionStore {
    if (this.#store === undefined) throw new Error("fusion has no store: it was never started, or is disposed of");
    return this.#store;
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    try {
      await this.#route(request, response);
    } catch (error) {
      if (error instanceof Problem) {
        sendProblem(response, error);
        return;
      }
      // The client went away, or the service was closed, in the middle of it.
      if (request.socket.destroyed || this.#store === undefined) return;
      this.#options.log.error({ err: error }, `fusion could not answer: ${messageOf(error)}`);
      sendProblem(response, new Problem(500, "internal", messageOf(error)));
    }
  }

  async #route(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? "/", "http://fusion");
    switch (`${request.method} ${url.pathname}`) {
      case `POST ${BATCH_PATH}`:
        return this.#receive(request, response);
      case "GET /observations": {
        const observations = this.find(queryOf(url.searchParams));
        return sendJson(response, 200, { observations });
      }
      case "GET /stats":
        return sendJson(response, 200, { service: "reference fusion", ...this.stats() });
      case "GET /faults":
        return sendJson(response, 200, this.fault);
      case "PUT /faults":
        return this.#changeFault(request, response);
      case "GET /healthz":
        return sendJson(response, 200, { status: "ok" });
    }
    const known = [BATCH_PATH, "/observations", "/stats", "/faults", "/healthz"].includes(url.pathname);
    throw known
      ? new Problem(405, "method-not-allowed", `${request.method} is not for ${url.pathname}`)
      : new Problem(404, "not-found", `there is nothing at ${url.pathname}`);
  }

  async #changeFault(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const body = await readBody(request);
    let value: unknown;
    try {
      value = JSON.parse(body.toString("utf8"));
    } catch {
      throw new Problem(400, "malformed-json", "the body is not JSON");
    }
    const read = readFault(value);
    if ("problem" in read) throw new Problem(400, "invalid-fault", read.problem);
    this.setFault(read.fault);
    sendJson(response, 200, this.fault);
  }

  async #receive(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const store = this.#opened();
    store.count("requests");
    const fault = this.#faults.draw();
    if (fault.mode === "reset") return resetConnection(request);
    const body = await readBody(request);
    const latencyMs = fault.latencyMs ?? (fault.mode === "latency" ? DEFAULT_LATENCY_MS : 0);
    if (latencyMs > 0) await this.#options.clock.sleep(latencyMs);
    if (fault.mode === "hang") return;
    answerFault(fault);
    this.#authorise(request);
    const batch = readBatch(await inflateBody(request, body));
    if (batch.kind === "refusal") throw new Problem(batch.status, batch.code, batch.detail);
    const result = this.#apply(batch, fault, request.headers["idempotency-key"]);
    if (fault.mode === "apply-then-drop-reply") {
      request.socket.destroy();
      return;
    }
    sendJson(response, 200, result);
  }

  #authorise(request: IncomingMessage): void {
    if (this.#token === undefined) return;
    const digest = (text: string): Buffer => createHash("sha256").update(text).digest();
    const given = digest(request.headers.authorization ?? "");
    if (!timingSafeEqual(given, digest(`Bearer ${this.#token}`))) {
      throw new Problem(401, "unauthorised", "the bearer token is missing or wrong", { "www-authenticate": "Bearer" });
    }
  }

  #apply(
    batch: ReadBatch,
    fault: Fault,
    key: string | string[] | undefined,
  ): { accepted: number; duplicates: number; rejected: readonly Rejection[] } {
    const refused = new Set(batch.valid.filter((reading) => this.#faults.rejects(fault, reading)));
    if (refused.size > 0 && fault.status !== undefined) {
      throw new Problem(fault.status, "fault-reject", `refused on request, because of ${refused.size} readings`);
    }
    const rejected: Rejection[] = Array.from(refused, ({ id }) => ({
      id,
      code: "fault-reject",
      detail: "refused on request",
      retriable: fault.retriable ?? false,
    }));
    rejected.push(...batch.rejected);
    const store = this.#opened();
    if (typeof key === "string") store.count("keyConflicts", this.#keys.conflicts(key, batch) ? 1 : 0);
    if (fault.mode === "forget") return { accepted: batch.valid.length, duplicates: 0, rejected };
    const stored = store.receive(
      batch.valid.filter((reading) => !refused.has(reading)),
      {
        replayed: batch.replayed,
        rejected: rejected.length,
        receivedAt: new Date(this.#options.clock.now()).toISOString(),
      },
    );
    return { ...stored, rejected };
  }
}

/** Answers in the service's place where the fault says so. */
function answerFault(fault: Fault): void {
  const statuses: Partial<Record<Fault["mode"], number | undefined>> = {
    unavailable: 503,
    "refuse-all": 422,
    status: fault.status,
  };
  const status = statuses[fault.mode];
  if (status === undefined) return;
  const headers = fault.retryAfter === undefined ? {} : { "retry-after": String(fault.retryAfter) };
  throw new Problem(status, `fault-${fault.mode}`, "a fault that was asked for", headers);
}

function resetConnection({ socket }: IncomingMessage): void {
  // Under TLS there is no RST to be had from Node.js.
  if (socket instanceof TLSSocket) socket.destroy();
  else socket.resetAndDestroy();
}

function queryOf(parameters: URLSearchParams): Query {
  const limit = Number(parameters.get("limit") ?? 100);
  if (!Number.isInteger(limit) || limit < 1 || limit > MAX_LISTED) {
    throw new Problem(400, "invalid-limit", `limit is a whole number from 1 to ${MAX_LISTED}`);
  }
  const since = parameters.get("since");
  if (since !== null && !isDateTime(since)) throw new Problem(400, "invalid-since", "since is an RFC 3339 time");
  const [id, wanted, source] = [parameters.get("id"), parameters.get("class"), parameters.get("source")];
  return {
    limit,
    ...(id === null ? {} : { id }),
    ...(wanted === null ? {} : { class: wanted }),
    ...(source === null ? {} : { source }),
    ...(since === null ? {} : { since }),
  };
}

function openStore(file: string): FusionStore {
  try {
    return new FusionStore(file);
  } catch (error) {
    throw new GatewayError({
      code: "FUSION_DB",
      op: "fusion.open",
      message: `cannot open ${file}: ${messageOf(error)}`,
      hint: "Name a file in a folder that exists and can be written to, or :memory:.",
      cause: error,
    });
  }
}

function listenFault(error: unknown, port: number, bind: string): GatewayError {
  const taken = codeOf(error) === "EADDRINUSE";
  return new GatewayError({
    code: taken ? "FUSION_PORT_TAKEN" : "FUSION_LISTEN",
    op: "fusion.listen",
    message: taken ? `port ${port} on ${bind} is taken` : `cannot listen on ${bind}:${port}: ${messageOf(error)}`,
    hint: taken
      ? "Stop the program that has it, or choose another port with --port."
      : "Choose another address with --bind or another port with --port.",
    cause: error,
  });
}
