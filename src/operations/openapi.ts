/** The API's description (OpenAPI 3.1), put together from the very schemas by which requests are validated. */
import type { FastifySchema } from "fastify";
import { ERROR_CODES } from "./error-codes.ts";
import type { Need } from "./http-guard.ts";
import { PROBLEM_TYPE } from "./problem.ts";
import { problemDetails } from "./schemas.ts";

export interface DescribedRoute {
  readonly method: "GET" | "POST" | "DELETE";
  readonly url: string;
  readonly summary: string;
  readonly schema: Pick<FastifySchema, "body" | "querystring" | "params">;
  /** Schema of the body of a 200, or the media type where it is not JSON. */
  readonly answer: object | string;
  /** Without it: a key that may read for a GET, one that may write for the rest. */
  readonly need?: Need;
  /** The answer goes on until the caller or the gateway ends it. */
  readonly endless?: true;
}

/** What a route asks of its caller. */
export function needOf({ method, need }: Pick<DescribedRoute, "method" | "need">): Need {
  return need ?? (method === "GET" ? "read" : "write");
}

interface ObjectSchema {
  readonly properties?: Readonly<Record<string, { readonly description?: string }>>;
  readonly required?: readonly string[];
}

/** The document for the routes given. */
export function openApi(routes: readonly DescribedRoute[], version: string): object {
  const paths: Record<string, Record<string, object>> = {};
  for (const route of routes) {
    const path = route.url.replace(/:(\w+)/g, "{$1}");
    paths[path] = { ...paths[path], [route.method.toLowerCase()]: operation(route) };
  }
  return {
    openapi: "3.1.0",
    info: { title: "Summit Edge local API", version },
    paths,
    components: {
      securitySchemes: {
        key: {
          type: "http",
          scheme: "bearer",
          bearerFormat: "se_ID_SECRET",
          description:
            "An API key (summit-edge keys create). Needed wherever http.bind is not loopback, or http.auth is always.",
        },
      },
      schemas: { Problem: { ...problemDetails, properties: { ...problemDetails.properties, code } } },
    },
  };
}

/** The taxonomy of errors; a fault of the gateway's own parts brings the code that stands in its log. */
const code = {
  description: Object.entries(ERROR_CODES)
    .map(([name, { status, means }]) => `${name} (${status}): ${means}`)
    .join("\n"),
  anyOf: [{ enum: Object.keys(ERROR_CODES) }, { type: "string", pattern: "^[A-Z][A-Z0-9_]*$" }],
};

function operation(route: DescribedRoute): object {
  const { summary, schema, answer } = route;
  const need = needOf(route);
  const parameters = [...parametersOf("path", schema.params), ...parametersOf("query", schema.querystring)];
  const content = typeof answer === "string" ? { [answer]: {} } : { "application/json": { schema: answer } };
  return {
    summary,
    // None at all, or a key: whether this gateway asks for one is its configuration's matter.
    security: need === "open" ? [] : [{}, { key: [need] }],
    ...(parameters.length > 0 && { parameters }),
    ...(schema.body !== undefined && {
      requestBody: { required: true, content: { "application/json": { schema: schema.body } } },
    }),
    responses: {
      200: { description: "As asked for.", content },
      default: {
        description: "A problem (RFC 9457).",
        content: { [PROBLEM_TYPE]: { schema: { $ref: "#/components/schemas/Problem" } } },
      },
    },
  };
}

function parametersOf(place: "path" | "query", schema: unknown): object[] {
  const { properties = {}, required = [] } = (schema ?? {}) as ObjectSchema;
  return Object.entries(properties).map(([name, { description, ...value }]) => ({
    name,
    in: place,
    // What has a default need not be given, though it is always there once validated.
    required: place === "path" || (required.includes(name) && !("default" in value)),
    ...(description !== undefined && { description }),
    schema: value,
  }));
}
