/**
 * The local HTTP API, the metrics and the status page.
 *
 * Invariants: every error is problem details with a stable code, never a stack trace; every call passes the guard, which
 * knows who may do what (http-guard.ts); connections, bodies, addresses and waiting times are bounded (http-listener.ts).
 * Fastify finds the route and answers; the listeners are our own, so that all of them keep to the same bounds.
 */
import { X509Certificate } from "node:crypto";
import { chmodSync, rmSync } from "node:fs";
import type { IncomingMessage, RequestListener, Server } from "node:http";
import { Server as TlsServer } from "node:https";
import { isIP } from "node:net";
import type { TlsOptions } from "node:tls";
import { type FastifyError, type FastifyInstance, type FastifyReply, type FastifyRequest, fastify } from "fastify";
import type { HttpConfig } from "../config/schema.ts";
import type { ApiKeys } from "../identity/api-keys.ts";
import type { Audit } from "../kernel/audit.ts";
import type { Clock } from "../kernel/clock.ts";
import { codeOf } from "../kernel/errors.ts";
import { type SocketAddress, socketAddress } from "../kernel/socket-address.ts";
import { type Logger, RateLimit } from "../kernel/telemetry.ts";
import { assessHealth, type Health } from "./health.ts";
import { closed, listenFault, listening, localFault, loopbackAddresses } from "./http-binding.ts";
import { answerFailure, pathOf, securityHeaders } from "./http-errors.ts";
import { Guard, type Need } from "./http-guard.ts";
import { Connections, createListener, HANDLER_TIMEOUT_MS } from "./http-listener.ts";
import { NO_COMPILERS, useOwnCompilers } from "./http-validation.ts";
import { refusal } from "./refused.ts";
import { addRoutes } from "./routes.ts";
import type { GatewayView } from "./view.ts";

/** How often health is looked at when nobody asks, so that `since` tells when something went wrong, not who asked first. */
const ASSESS_EVERY_MS = 5_000;
/** Lines a minute about connections that were turned away. */
const CONNECTION_REPORTS = 5;
const MINUTE_MS = 60_000;
/** Node.js times no request any more once its server closes: one that never ends would hold up the daemon's end. */
const CLOSE_WITHIN_MS = 10_000;

export interface HttpServerParts {
  readonly view: GatewayView;
  readonly config: HttpConfig;
  readonly clock: Clock;
  readonly log: Logger;
  readonly audit?: Audit;
  /** Who knows the API keys; without it no key is one. */
  readonly keys?: Pick<ApiKeys, "check">;
  /** The TLS material of `http.tls`, where it is configured. */
  readonly tls?: TlsOptions;
  /** The file of a socket at which commands on this machine are let in without a key. */
  readonly localSocket?: string;
}

/** The HTTP server. Inert until `open`. */
export class HttpServer {
  readonly #parts: HttpServerParts;
  /** Requests that came in by the local socket. */
  readonly #local = new WeakSet<IncomingMessage>();
  #app: FastifyInstance | undefined;
  /** Those that are bound: the first one's port is the API's. */
  #listeners: Server[] = [];
  #socket: SocketAddress | undefined;
  #tls: TlsOptions | undefined;
  #certificate: X509Certificate | undefined;
  #health: Health | undefined;
  #cancelAssessment = (): void => {};

  constructor(parts: HttpServerParts) {
    this.#parts = parts;
    if (parts.tls !== undefined) this.useTls(parts.tls);
  }

  /** The port that is bound, which tells what port 0 became; `undefined` while closed. */
  get port(): number | undefined {
    const address = this.#listeners[0]?.address();
    return typeof address === "object" ? address?.port : undefined;
  }

  /** Serves new connections with this TLS material; what is open goes on. */
  useTls(tls: TlsOptions): void {
    const certificate = new X509Certificate(String(tls.cert));
    for (const listener of this.#listeners) if (listener instanceof TlsServer) listener.setSecureContext(tls);
    this.#tls = tls;
    this.#certificate = certificate;
  }

  /**
   * Binds `http.bind` and `http.port`, and the local socket.
   * @throws GatewayError PORT_TAKEN, PORT_FORBIDDEN, ADDRESS_UNAVAILABLE or LISTEN_FAILED
   */
  async open(): Promise<void> {
    const { view, config, clock, log } = this.#parts;
    const app = createApp(config, log);
    const guard = this.#createGuard();
    app.addHook("onRequest", async (request, reply) => {
      const { need = "read" } = request.routeOptions.config as { readonly need?: Need };
      return (await guard.admit(request, reply, need)) ? reply : undefined;
    });
    const stillAllowed = (request: FastifyRequest): Promise<boolean> => guard.stillAllowed(request);
    await addRoutes(app, { view, clock, health: () => this.#assess(), stillAllowed });
    await app.ready();
    this.#app = app;
    try {
      await this.#bind((request, response) => app.routing(request, response));
    } catch (error) {
      await this.close();
      throw error;
    }
    this.#assessRegularly();
    log.info({ bind: config.bind, port: this.port, tls: this.#tls !== undefined }, "HTTP API is open");
  }

  /** Stops listening and lets what is being answered finish, for ten seconds at most. */
  async close(): Promise<void> {
    this.#cancelAssessment();
    const listeners = this.#listeners;
    this.#listeners = [];
    const cancel = this.#parts.clock.after(CLOSE_WITHIN_MS, () => {
      for (const listener of listeners) listener.closeAllConnections();
    });
    await Promise.all(listeners.map((listener) => closed(listener)));
    cancel();
    this.#socket?.release();
    this.#socket = undefined;
    const app = this.#app;
    this.#app = undefined;
    await app?.close();
  }

  #createGuard(): Guard {
    const { config, clock, log, audit = () => {}, keys } = this.#parts;
    return new Guard({
      config,
      clock,
      log,
      audit,
      checkKey: async (text) => (await keys?.check(text)) ?? { kind: "unknown" },
      isCertified: (name) => this.#isCertified(name),
      isLocal: ({ raw }) => this.#local.has(raw),
    });
  }

  #isCertified(name: string): boolean {
    const certificate = this.#certificate;
    if (certificate === undefined) return false;
    return (isIP(name) === 0 ? certificate.checkHost(name) : certificate.checkIP(name)) !== undefined;
  }

  #createConnections(): Connections {
    const { config, clock, log } = this.#parts;
    const reports = new RateLimit(clock, CONNECTION_REPORTS, MINUTE_MS);
    return new Connections(config.limits.maxConnections, (address) => {
      const heldBack = reports.admit();
      if (heldBack === undefined) return;
      const message = "a connection was turned away: as many are open as http.limits.maxConnections lets in";
      log.warn({ address, heldBack }, message);
    });
  }

  async #bind(handler: RequestListener): Promise<void> {
    const { config, log, localSocket } = this.#parts;
    const connections = this.#createConnections();
    // A name that means both loopback addresses is to be reached at both.
    const addresses = config.bind === "localhost" ? await loopbackAddresses() : [config.bind];
    for (const [at, host] of addresses.entries()) {
      const listener = createListener(handler, this.#tls, connections, log);
      try {
        await listening(listener, { host, port: this.port ?? config.port });
        this.#listeners.push(listener);
      } catch (error) {
        if (at === 0) throw listenFault(error, config);
        log.debug({ host, code: codeOf(error) }, "localhost is not bound at this address");
      }
    }
    if (localSocket !== undefined) await this.#bindLocally(handler, localSocket);
  }

  async #bindLocally(handler: RequestListener, path: string): Promise<void> {
    const admit: RequestListener = (request, response) => {
      this.#local.add(request);
      handler(request, response);
    };
    // Counted apart: whoever fills the others keeps no operator out.
    const listener = createListener(admit, undefined, this.#createConnections(), this.#parts.log);
    try {
      // Left by a daemon that was killed: the lock on dataDir says that it is not another's.
      rmSync(path, { force: true });
      this.#socket = socketAddress(path);
      await listening(listener, { path: this.#socket.address });
      this.#listeners.push(listener);
      chmodSync(path, 0o600);
    } catch (error) {
      throw localFault(error, path);
    }
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

function createApp(config: HttpConfig, log: Logger): FastifyInstance {
  const headers = securityHeaders(config.tls !== undefined);
  const answer = (error: FastifyError, request: FastifyRequest, reply: FastifyReply): FastifyReply =>
    answerFailure(error, request, reply, log);
  const app: FastifyInstance = fastify({
    bodyLimit: config.limits.maxBodyBytes,
    handlerTimeout: HANDLER_TIMEOUT_MS,
    routerOptions: { maxParamLength: 128 },
    schemaController: { compilersFactory: NO_COMPILERS },
    frameworkErrors: (error, request, reply) => {
      reply.headers(headers);
      answer(error, request, reply);
    },
  });
  const methodsAt = routeTable(app);
  app.removeContentTypeParser("text/plain");
  useOwnCompilers(app);
  app.addHook("onRequest", async (_request, reply) => void reply.headers(headers));
  app.addHook("onResponse", async (request, reply) =>
    log.debug({ method: request.method, url: pathOf(request), status: reply.statusCode }, "answered"),
  );
  app.setErrorHandler(answer);
  app.setNotFoundHandler((request, reply) => {
    const path = pathOf(request);
    const allowed = methodsAt(path);
    const found =
      allowed.length === 0
        ? refusal("RESOURCE_NOT_FOUND", `there is no ${path.slice(0, 200)}`)
        : refusal("METHOD_NOT_ALLOWED", `${path} does not know ${request.method}`, undefined, {
            allow: allowed.join(", "),
          });
    return answer(found as FastifyError & typeof found, request, reply);
  });
  return app;
}

/** Which methods an address knows, by the routes that are added from now on. */
function routeTable(app: FastifyInstance): (path: string) => readonly string[] {
  const routes: { readonly pattern: RegExp; readonly method: string }[] = [];
  app.addHook("onRoute", ({ method, url }) => {
    const pattern = new RegExp(`^${url.replace(/[.]/g, "\\.").replace(/:\w+/g, "[^/]+")}$`);
    for (const each of [method].flat()) routes.push({ pattern, method: each });
  });
  return (path) => [...new Set(routes.flatMap(({ pattern, method }) => (pattern.test(path) ? [method] : [])))];
}
