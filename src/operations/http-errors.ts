/** How a request that fails is answered: always as problem details, never with anything of the program's inside. */
import type { ServerResponse } from "node:http";
import type { Duplex } from "node:stream";
import type { FastifyError, FastifyReply, FastifyRequest } from "fastify";
import { GatewayError } from "../kernel/errors.ts";
import type { Logger } from "../kernel/telemetry.ts";
import { ERROR_CODES, type ErrorCode } from "./error-codes.ts";
import { PROBLEM_TYPE, type Problem, problem } from "./problem.ts";
import { Refused } from "./refused.ts";

/** What every answer carries; the policy is for answers that are no page. */
const SECURITY_HEADERS: Readonly<Record<string, string>> = {
  "cache-control": "no-store",
  "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
  "cross-origin-opener-policy": "same-origin",
  "cross-origin-resource-policy": "same-origin",
  "referrer-policy": "no-referrer",
  "x-content-type-options": "nosniff",
  "x-frame-options": "DENY",
};
/** A year; for this name alone, whose neighbours are not ours. */
const STRICT_TRANSPORT = { "strict-transport-security": "max-age=31536000" };

/** The header fields of every answer on a connection with or without TLS. */
export function securityHeaders(tls: boolean): Readonly<Record<string, string>> {
  return tls ? { ...SECURITY_HEADERS, ...STRICT_TRANSPORT } : SECURITY_HEADERS;
}

export const pathOf = (request: FastifyRequest): string => request.url.split("?", 1)[0] ?? "/";

/** The problem of that code, with the status that belongs to it. */
export function problemOfCode(code: ErrorCode, detail: string): Problem {
  return problem(ERROR_CODES[code].status, code, detail);
}

/** Answers with whatever ended the request. */
export function answerFailure(
  error: FastifyError,
  request: FastifyRequest,
  reply: FastifyReply,
  log: Logger,
): FastifyReply {
  if (error instanceof Refused) reply.headers(error.headers);
  const body = problemOf(error, request, log);
  // As bytes: Fastify would append a charset to the type of a text, and this media type has no such parameter.
  return reply
    .code(body.status)
    .header("content-type", PROBLEM_TYPE)
    .send(Buffer.from(JSON.stringify(body)));
}

/** Answers on a connection that has no request of Fastify's, and closes it. */
export function answerRaw(socket: Duplex, body: Problem, tls: boolean): void {
  const text = JSON.stringify(body);
  const fields = { ...rawHeaders(text, tls), connection: "close" };
  const lines = Object.entries(fields).map(([name, value]) => `${name}: ${value}\r\n`);
  socket.end(`HTTP/1.1 ${body.status} ${body.title}\r\n${lines.join("")}\r\n${text}`);
}

/** Answers a request that does not get as far as Fastify. */
export function answerEarly(response: ServerResponse, body: Problem, tls: boolean): void {
  const text = JSON.stringify(body);
  response.writeHead(body.status, { ...rawHeaders(text, tls), connection: "close" }).end(text);
}

const rawHeaders = (text: string, tls: boolean): Record<string, string> => ({
  ...securityHeaders(tls),
  "content-type": PROBLEM_TYPE,
  "content-length": String(Buffer.byteLength(text)),
});

/** Fastify's own refusals as this API names them. */
const FRAMEWORK_CODES: Readonly<Record<string, ErrorCode>> = {
  FST_ERR_CTP_BODY_TOO_LARGE: "BODY_TOO_LARGE",
  FST_ERR_CTP_INVALID_MEDIA_TYPE: "UNSUPPORTED_MEDIA_TYPE",
  FST_ERR_CTP_INVALID_JSON_BODY: "INVALID_JSON",
  FST_ERR_CTP_EMPTY_JSON_BODY: "INVALID_JSON",
  FST_ERR_MAX_PARAM_LENGTH: "URL_TOO_LONG",
};

/** The parts of a request that are checked, as its sender calls them. */
const PARTS: Readonly<Record<string, string>> = {
  querystring: "the query",
  params: "the address",
  headers: "the header fields",
  body: "the body",
};

function invalid(faults: readonly { instancePath: string; message?: string }[], part: string): Problem {
  const [first] = faults;
  const field = first?.instancePath.slice(1).replaceAll("/", ".") ?? "";
  const where = `${field === "" ? "" : `${field} in `}${PARTS[part] ?? part}`;
  const errors = faults.map(({ instancePath, message }) => ({
    pointer: `/${part}${instancePath}`,
    detail: message ?? "is not valid",
  }));
  return problem(400, "VALIDATION_FAILED", `${where} ${first?.message ?? "is not valid"}`, { errors });
}

/** What an error that ended a request looks like from outside. Only what nobody expected is logged. */
function problemOf(error: FastifyError, request: FastifyRequest, log: Logger): Problem {
  if (error instanceof Refused) {
    return problem(error.status, error.code, error.message, error.hint === undefined ? {} : { hint: error.hint });
  }
  if (error.validation !== undefined) {
    return invalid(error.validation, error.validationContext ?? "body");
  }
  if (error instanceof GatewayError) {
    log.warn({ code: error.code, op: error.op, url: pathOf(request) }, error.message);
    return problem(503, error.code, error.message, { hint: error.hint });
  }
  if (error.code === "FST_ERR_HANDLER_TIMEOUT") {
    log.warn({ url: pathOf(request) }, "a request was not answered in time");
    return problemOfCode("UPSTREAM_TIMEOUT", "what is behind this call did not answer in time");
  }
  const code = FRAMEWORK_CODES[error.code];
  if (code !== undefined) return problemOfCode(code, error.message);
  const status = error.statusCode ?? 500;
  if (status < 500) return problem(status, "BAD_REQUEST", error.message);
  log.error({ err: error, url: pathOf(request) }, "a request failed");
  return problemOfCode("INTERNAL_ERROR", "the gateway could not answer; its log says why");
}
