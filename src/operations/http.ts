/**
 * The local HTTP API, the metrics and the status page.
 *
 * Invariants: every error is problem details with a stable code, never a stack trace; a writing call from another site's
 * page is refused; connections, bodies and waiting times are bounded. It does not authenticate: it listens on loopback
 * unless the operator says otherwise.
 */
import { createRequire } from "node:module";
import type { Ajv } from "ajv";
import {
  type FastifyError,
  type FastifyInstance,
  type FastifyReply,
  type FastifyRequest,
  type FastifySchemaValidationError,
  type FastifyServerOptions,
  fastify,
} from "fastify";
import type { HttpConfig } from "../config/schema.ts";
import type { Clock } from "../kernel/clock.ts";
import { codeOf, GatewayError, messageOf } from "../kernel/errors.ts";
import type { Logger } from "../kernel/telemetry.ts";
import { assessHealth, type Health } from "./health.ts";
import { PROBLEM_TYPE, type Problem, problem } from "./problem.ts";
import { Refused } from "./refused.ts";
import { addRoutes } from "./routes.ts";
import { refusalOf } from "./same-site.ts";
import type { GatewayView } from "./view.ts";

const MAX_BODY_BYTES = 64 * 1024;
const MAX_CONNECTIONS = 64;
/** For a whole request to come in. */
const REQUEST_TIMEOUT_MS = 10_000;
/** For an answer to be made: longer than the slowest card takes to commit. */
const HANDLER_TIMEOUT_MS = 60_000;
const KEEP_ALIVE_MS = 5_000;
/** How often health is looked at when nobody asks, so that `since` tells when something went wrong, not who asked first. */
const ASSESS_EVERY_MS = 5_000;

export interface HttpServerParts {
  readonly view: GatewayView;
  readonly config: HttpConfig;
  readonly clock: Clock;
  readonly log: Logger;
}

/** The HTTP server. Inert until `open`. */
export class HttpServer {
  readonly #parts: HttpServerParts;
  #app: FastifyInstance | undefined;
  #health: Health | undefined;
  #cancelAssessment = (): void => {};

  constructor(parts: HttpServerParts) {
    this.#parts = parts;
  }

  /** The port that is bound, which tells what port 0 became; `undefined` while closed. */
  get port(): number | undefined {
    const address = this.#app?.server.address();
    return typeof address === "object" ? address?.port : undefined;
  }

  /**
   * Binds `http.bind` and `http.port`.
   * @throws GatewayError PORT_TAKEN, PORT_FORBIDDEN, ADDRESS_UNAVAILABLE or LISTEN_FAILED
   */
  async open(): Promise<void> {
    const { view, config, clock, log } = this.#parts;
    const app = createServer(log);
    app.addHook("onRequest", async (request) => guardWriting(request, config.bind));
    await addRoutes(app, { view, clock, health: () => this.#assess() });
    try {
      await app.listen({ host: config.bind, port: config.port });
    } catch (error) {
      await app.close();
      throw listenFault(error, config);
    }
    app.server.maxConnections = MAX_CONNECTIONS;
    this.#app = app;
    this.#assessRegularly();
    log.info({ bind: config.bind, port: this.port }, "HTTP API is open");
  }

  /** Stops listening and lets what is being answered finish. */
  async close(): Promise<void> {
    this.#cancelAssessment();
    const app = this.#app;
    this.#app = undefined;
    await app?.close();
  }

  #assess(): Health {
    this.#health = assessHealth(this.#parts.view, this.#parts.clock.now(), this.#health);
    return this.#health;
  }

  #assessRegularly(): void {
    this.#assess();
    this.#cancelAssessment = this.#parts.clock.after(ASSESS_EVERY_MS, () => this.#assessRegularly());
  }
}

function createServer(log: Logger): FastifyInstance {
  const answer = (error: FastifyError, request: FastifyRequest, reply: FastifyReply): FastifyReply =>
    sendProblem(reply, problemOf(error, request, log));
  const app: FastifyInstance = fastify({
    bodyLimit: MAX_BODY_BYTES,
    requestTimeout: REQUEST_TIMEOUT_MS,
    handlerTimeout: HANDLER_TIMEOUT_MS,
    keepAliveTimeout: KEEP_ALIVE_MS,
    // The page's polls would otherwise hold up the end of the daemon until each connection's keep-alive has run out.
    forceCloseConnections: "idle",
    http: { connectionsCheckingInterval: 2_000, headersTimeout: KEEP_ALIVE_MS },
    routerOptions: { maxParamLength: 128 },
    schemaController: { compilersFactory: NO_COMPILERS },
    frameworkErrors: (error, request, reply) => {
      setSecurityHeaders(reply);
      answer(error, request, reply);
    },
    clientErrorHandler: (error, socket) => {
      log.debug({ code: codeOf(error) }, "a request could not be read");
      if (!socket.writable) return;
      const status = codeOf(error) === "ERR_HTTP_REQUEST_TIMEOUT" ? 408 : 400;
      const body = JSON.stringify(problem(status, "BAD_REQUEST", "the request is not valid HTTP or came too slowly"));
      const head = `HTTP/1.1 ${status} Bad Request\r\nconnection: close\r\ncontent-type: ${PROBLEM_TYPE}\r\n`;
      socket.end(`${head}content-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`);
    },
  });
  app.removeContentTypeParser("text/plain");
  useOwnCompilers(app);
  app.addHook("onRequest", async (_request, reply) => setSecurityHeaders(reply));
  app.addHook("onResponse", async (request, reply) =>
    log.debug({ method: request.method, url: request.url, status: reply.statusCode }, "answered"),
  );
  app.setErrorHandler(answer);
  app.setNotFoundHandler((request, reply) =>
    sendProblem(reply, problem(404, "RESOURCE_NOT_FOUND", `there is no ${request.method} ${pathOf(request)}`)),
  );
  return app;
}

/**
 * How requests are checked and answers written. The validator is loaded by the first request that needs it: most daemons
 * are only ever asked how they are, and it weighs megabytes. Answers are made by this program: they are not checked again.
 */
function useOwnCompilers(app: FastifyInstance): void {
  app.setSerializerCompiler(() => JSON.stringify);
  app.setValidatorCompiler<object>(({ schema, httpPart }) => {
    let validate: ReturnType<Ajv["compile"]> | undefined;
    // A query holds text, so it is converted; a body says what it means, so it is taken at its word.
    return (data: unknown) => {
      validate ??= validatorOf(httpPart !== "body").compile(schema);
      return validate(data) ? { value: data } : { error: (validate.errors ?? []) as FastifySchemaValidationError[] };
    };
  });
}

/** Fastify loads its own compilers unless it is given some, whether or not they are replaced afterwards. */
const NO_COMPILERS = {
  buildValidator: () => undefined,
  buildSerializer: () => undefined,
} as unknown as NonNullable<NonNullable<FastifyServerOptions["schemaController"]>["compilersFactory"]>;

function validatorOf(coerceTypes: boolean): Ajv {
  const ajv = createRequire(import.meta.url)("ajv") as typeof import("ajv");
  return new ajv.Ajv({ removeAdditional: false, useDefaults: true, validateFormats: false, coerceTypes });
}

function setSecurityHeaders(reply: FastifyReply): void {
  reply.headers({
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
  });
}

function guardWriting(request: FastifyRequest, bind: string): void {
  if (request.method === "GET" || request.method === "HEAD") return;
  const { host, origin } = request.headers;
  const refusal = refusalOf({ host, origin, localAddress: request.socket.localAddress }, bind);
  if (refusal !== undefined) throw new Refused(403, refusal.code, refusal.detail);
}

const pathOf = (request: FastifyRequest): string => request.url.split("?", 1)[0] ?? "/";

function sendProblem(reply: FastifyReply, body: Problem): FastifyReply {
  // As bytes: Fastify would append a charset to the type of a text, and this media type has no such parameter.
  return reply
    .code(body.status)
    .header("content-type", PROBLEM_TYPE)
    .send(Buffer.from(JSON.stringify(body)));
}

/** Codes of Fastify's own refusals as this API names them. */
const FRAMEWORK_CODES: Readonly<Record<string, string>> = {
  FST_ERR_CTP_BODY_TOO_LARGE: "BODY_TOO_LARGE",
  FST_ERR_CTP_INVALID_MEDIA_TYPE: "UNSUPPORTED_MEDIA_TYPE",
  FST_ERR_CTP_INVALID_JSON_BODY: "INVALID_JSON",
  FST_ERR_CTP_EMPTY_JSON_BODY: "INVALID_JSON",
  FST_ERR_HANDLER_TIMEOUT: "TIMED_OUT",
};

/** What an error that ended a request looks like from outside. Only what nobody expected is logged. */
function problemOf(error: FastifyError, request: FastifyRequest, log: Logger): Problem {
  if (error instanceof Refused) {
    return problem(error.status, error.code, error.message, error.hint === undefined ? {} : { hint: error.hint });
  }
  if (error.validation !== undefined) {
    const errors = error.validation.map(({ instancePath, message }) => ({
      pointer: `/${error.validationContext ?? "body"}${instancePath}`,
      detail: message ?? "is not valid",
    }));
    return problem(400, "VALIDATION_FAILED", error.message, { errors });
  }
  if (error instanceof GatewayError) {
    log.warn({ code: error.code, op: error.op, url: pathOf(request) }, error.message);
    return problem(503, error.code, error.message, { hint: error.hint });
  }
  const status = error.statusCode ?? 500;
  const code = FRAMEWORK_CODES[error.code];
  if (code !== undefined) return problem(status, code, error.message);
  if (status < 500) return problem(status, "BAD_REQUEST", error.message);
  log.error({ err: error, url: pathOf(request) }, "a request failed");
  return problem(500, "INTERNAL_ERROR", "the gateway could not answer; its log says why");
}

function listenFault(error: unknown, { bind, port }: HttpConfig): GatewayError {
  const where = `port ${port} on ${bind}`;
  const fault = (code: string, message: string, hint: string): GatewayError =>
    new GatewayError({ code, op: "http.open", message, hint, cause: error });
  switch (codeOf(error)) {
    case "EADDRINUSE":
      return fault("PORT_TAKEN", `${where} is taken`, `Stop the program that holds it, or change http.port.`);
    case "EACCES":
      return fault("PORT_FORBIDDEN", `${where} may not be opened`, "Set http.port to a port above 1023.");
    case "EADDRNOTAVAIL":
    case "ENOTFOUND":
      return fault("ADDRESS_UNAVAILABLE", `this machine has no address ${bind}`, "Set http.bind to one that it has.");
    default:
      return fault(
        "LISTEN_FAILED",
        `${where} cannot be opened: ${messageOf(error)}`,
        "Look at http.bind and http.port.",
      );
  }
}
