/** Requests and answers of the reference fusion service: bounded bodies, gzip, problem details. */
import type { IncomingMessage, ServerResponse } from "node:http";
import { promisify } from "node:util";
import { gunzip } from "node:zlib";
import { codeOf, messageOf } from "../kernel/errors.ts";

/** A body as it is sent; the rest of a longer one is read and thrown away, and the request answered with 413. */
const MAX_BODY_BYTES = 16 * 2 ** 20;
/** A body once it is inflated. */
const MAX_INFLATED_BYTES = 64 * 2 ** 20;
/** A gzip member ends in its CRC-32 and its length modulo 2³² (RFC 1952, section 2.3.1). */
const GZIP_TRAILER_LENGTH_BYTES = 4;

const inflate = promisify(gunzip);

/** An answer other than success, as RFC 9457 has it. */
export class Problem extends Error {
  readonly status: number;
  readonly code: string;
  readonly headers: Readonly<Record<string, string>>;

  constructor(status: number, code: string, detail: string, headers: Readonly<Record<string, string>> = {}) {
    super(detail);
    this.status = status;
    this.code = code;
    this.headers = headers;
  }
}

export function sendJson(response: ServerResponse, status: number, value: unknown): void {
  send(response, status, { "content-type": "application/json" }, value);
}

export function sendProblem(response: ServerResponse, problem: Problem): void {
  const { status, code, message, headers } = problem;
  const details = { type: "about:blank", title: code.replaceAll("-", " "), status, code, detail: message };
  send(response, status, { ...headers, "content-type": "application/problem+json" }, details);
}

function send(response: ServerResponse, status: number, headers: Record<string, string>, value: unknown): void {
  if (response.headersSent || response.destroyed) return;
  const body = JSON.stringify(value);
  response.writeHead(status, { ...headers, "content-length": Buffer.byteLength(body), "cache-control": "no-store" });
  response.end(body);
}

/** The request's body as it was sent. Throws a `Problem` where it is too large. */
export async function readBody(request: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of request) {
    length += (chunk as Buffer).length;
    if (length <= MAX_BODY_BYTES) chunks.push(chunk as Buffer);
  }
  if (length > MAX_BODY_BYTES) throw tooLarge(MAX_BODY_BYTES);
  return Buffer.concat(chunks);
}

/** The JSON that a batch's body holds. Throws a `Problem` where its headers or its compression are not the contract's. */
export async function inflateBody(request: IncomingMessage, body: Buffer): Promise<Buffer> {
  const [type = ""] = (request.headers["content-type"] ?? "").split(";");
  if (type.trim().toLowerCase() !== "application/json") {
    throw new Problem(415, "unsupported-content-type", "a batch is application/json");
  }
  const encoding = (request.headers["content-encoding"] ?? "identity").toLowerCase();
  if (encoding === "identity") return body;
  if (encoding !== "gzip") throw new Problem(415, "unsupported-content-encoding", "a batch is gzip or identity");
  const inflated = await inflateGzip(body);
  const declared = body.readUInt32LE(body.length - GZIP_TRAILER_LENGTH_BYTES);
  if (declared !== inflated.length) {
    throw new Problem(
      400,
      "several-gzip-members",
      "the body has to be one gzip member, as not every client reads more",
    );
  }
  return inflated;
}

async function inflateGzip(body: Buffer): Promise<Buffer> {
  try {
    return await inflate(body, { maxOutputLength: MAX_INFLATED_BYTES });
  } catch (error) {
    if (codeOf(error) === "ERR_BUFFER_TOO_LARGE") throw tooLarge(MAX_INFLATED_BYTES);
    throw new Problem(400, "malformed-gzip", `the body is not gzip: ${messageOf(error)}`);
  }
}

function tooLarge(limit: number): Problem {
  return new Problem(413, "too-large", `a batch has ${limit} bytes at most`);
}
