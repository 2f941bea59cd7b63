/** The API's description (OpenAPI 3.1), put together from the very schemas by which requests are validated. */
import type { FastifySchema } from "fastify";
import { PROBLEM_TYPE } from "./problem.ts";
import { problemDetails } from "./schemas.ts";

export interface DescribedRoute {
  readonly method: "GET" | "POST" | "DELETE";
  readonly url: string;
  readonly summary: string;
  readonly schema: Pick<FastifySchema, "body" | "querystring" | "params">;
  /** Schema of the body of a 200, or the media type where it is not JSON. */
  readonly answer: object | string;
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
  return { openapi: "3.1.0", info: { title: "Summit Edge local API", version }, paths };
}

function operation({ summary, schema, answer }: DescribedRoute): object {
  const parameters = [...parametersOf("path", schema.params), ...parametersOf("query", schema.querystring)];
  const content = typeof answer === "string" ? { [answer]: {} } : { "application/json": { schema: answer } };
  return {
    summary,
    ...(parameters.length > 0 && { parameters }),
    ...(schema.body !== undefined && {
      requestBody: { required: true, content: { "application/json": { schema: schema.body } } },
    }),
    responses: {
      200: { description: "As asked for.", content },
      default: { description: "A problem (RFC 9457).", content: { [PROBLEM_TYPE]: { schema: problemDetails } } },
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
