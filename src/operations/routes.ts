/** What the HTTP API answers, path by path (contract, section 6). */
import type { FastifyInstance, FastifyRequest, RouteGenericInterface } from "fastify";
import type { Clock } from "../kernel/clock.ts";
import { callerOf } from "./caller.ts";
import type { Health } from "./health.ts";
import type { Need } from "./http-guard.ts";
import { type DescribedRoute, needOf, openApi } from "./openapi.ts";
import { loadPage } from "./page.ts";
import { addQuarantineRoute } from "./quarantine-route.ts";
import { Refused } from "./refused.ts";
import { addReplayRoutes } from "./replay-routes.ts";
import * as schemas from "./schemas.ts";
import { addSerialRoutes } from "./serial-routes.ts";
import { healthOut, statusOf } from "./status.ts";
import type { GatewayView, Selection } from "./view.ts";

/** The longest that Node.js can wait. */
const LONGEST_TIMER_MS = 2_147_483_647;

export interface RoutesContext {
  readonly view: GatewayView;
  readonly clock: Clock;
  /** The health as it is now. */
  readonly health: () => Health;
  /** Whether a call that goes on would be let in still. */
  readonly stillAllowed: (request: FastifyRequest) => Promise<boolean>;
}

export type Register = <R extends RouteGenericInterface>(
  route: DescribedRoute,
  handler: (request: FastifyRequest<R>) => unknown,
) => void;

/** Adds every route of the API, the status page and the page to try the API to `app`. */
export async function addRoutes(app: FastifyInstance, context: RoutesContext): Promise<void> {
  const described: DescribedRoute[] = [];
  const register: Register = (route, handler) => {
    described.push(route);
    app.route({
      method: route.method,
      url: route.url,
      schema: route.schema,
      config: { need: needOf(route) },
      // What it would answer to HEAD never ends either.
      ...(route.endless && { handlerTimeout: LONGEST_TIMER_MS, exposeHeadRoute: false }),
      handler: async (request, reply) => {
        if (typeof route.answer === "string") reply.type(route.answer);
        if (route.endless) reply.header("connection", "close");
        return handler(request as Parameters<typeof handler>[0]);
      },
    });
  };
  addHealthRoutes(register, context);
  addOutboxRoutes(register, context.view);
  addReplayRoutes(register, context.view);
  addDeadLetterRoutes(register, context.view);
  addQuarantineRoute(register, context.view);
  addSerialRoutes(register, context);

  for (const [url, file] of [
    ["/", "status-page.html"],
    ["/docs", "docs-page.html"],
  ] as const) {
    const page = await loadPage(file);
    // It holds nothing of this gateway: what it shows it asks for, with the key that the reader has given it.
    app.get(url, { config: { need: "open" satisfies Need } }, (_request, reply) =>
      reply.type("text/html; charset=utf-8").header("content-security-policy", page.policy).send(page.html),
    );
  }
  const document = openApi(described, context.view.version);
  app.get("/openapi.json", () => document);
}

function addHealthRoutes(register: Register, { view, clock, health }: RoutesContext): void {
  type Add = (url: string, summary: string, answer: object | string, handler: () => unknown) => void;
  const get: Add = (url, summary, answer, handler) =>
    register({ method: "GET", url, summary, schema: {}, answer }, handler);
  /** For who looks after machines, and asks often: it tells no more than that the gateway is there. */
  const probe: Add = (url, summary, answer, handler) =>
    register({ method: "GET", url, summary, schema: {}, answer, need: "open" }, handler);

  probe("/healthz", "Liveness: 503 when the daemon cannot do its work.", schemas.alive, () => {
    const alive = view.alive();
    if (!alive.ok) throw new Refused(503, "NOT_ALIVE", alive.reason);
    return { status: health().state === "ok" ? "ok" : "degraded" };
  });
  probe("/readyz", "Readiness: the outbox is open and the listeners are bound.", schemas.ready, () => {
    if (!view.ready()) throw new Refused(503, "NOT_READY", "the gateway is starting or stopping");
    return { status: "ready" };
  });
  get("/health", "Every component: how it is, why and since when.", schemas.health, () => healthOut(health()));
  get("/api/v1/status", "The gateway at a glance.", schemas.status, () =>
    statusOf(view, health(), { now: clock.now(), monotonic: clock.monotonic() }),
  );
  get("/metrics", "Prometheus text format.", view.metrics.contentType, () => view.metrics.metrics());
}

function addOutboxRoutes(register: Register, { outboxAdmin }: GatewayView): void {
  register(
    { method: "GET", url: "/api/v1/outbox", summary: "What waits.", schema: {}, answer: schemas.outboxStats },
    () => outboxAdmin.stats(),
  );
  register<{ Querystring: schemas.PeekQuery }>(
    {
      method: "GET",
      url: "/api/v1/outbox/peek",
      summary: "The readings that would be sent next.",
      schema: { querystring: schemas.peekQuery },
      answer: schemas.readings,
    },
    async ({ query }) => ({ readings: await outboxAdmin.peek(query) }),
  );
}

function addDeadLetterRoutes(register: Register, { outboxAdmin: { deadLetters } }: GatewayView): void {
  register<{ Querystring: schemas.DeadLetterQuery }>(
    {
      method: "GET",
      url: "/api/v1/dead-letters",
      summary: "Readings that fusion refused for good, oldest first.",
      schema: { querystring: schemas.deadLetterQuery },
      answer: schemas.deadLetterPage,
    },
    async ({ query }) => {
      const page = await deadLetters.list(query);
      if (page === undefined) throw new Refused(404, "RESOURCE_NOT_FOUND", `no page ended with ${query.after}`);
      return { deadLetters: page.deadLetters, next: page.next ?? null };
    },
  );
  register<{ Params: schemas.DeadLetterParams }>(
    {
      method: "GET",
      url: "/api/v1/dead-letters/:id",
      summary: "One of them, with its reason and the reading itself.",
      schema: { params: schemas.deadLetterParams },
      answer: schemas.deadLetter,
    },
    async ({ params }) => {
      const found = await deadLetters.show(params.id);
      if (found === undefined) throw new Refused(404, "RESOURCE_NOT_FOUND", `there is no dead letter ${params.id}`);
      return found;
    },
  );
  for (const action of ["requeue", "drop"] as const) {
    register<{ Body: schemas.SelectionBody }>(
      {
        method: "POST",
        url: `/api/v1/dead-letters/${action}`,
        summary:
          action === "requeue"
            ? "Sends them again, each in its old place by the order of acceptance."
            : "Forgets them for good.",
        schema: { body: schemas.selection },
        answer: schemas.selectionResult,
      },
      (request) => deadLetters[action](selectionOf(request.body), callerOf(request)),
    );
  }
}

function selectionOf(body: schemas.SelectionBody): Selection {
  return "ids" in body ? (body.ids as readonly string[]) : "all";
}
