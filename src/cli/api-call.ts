/** One call of the daemon's API: over HTTP, over HTTPS, or by the socket in its dataDir. */
import { type ClientRequest, request as httpRequest, type RequestOptions } from "node:http";
import { request as httpsRequest } from "node:https";
import { text } from "node:stream/consumers";
import { socketAddress } from "../kernel/socket-address.ts";
import { CALLER_HEADER } from "../operations/caller.ts";

/** Where the API is, and what opens it. */
export interface ApiAddress {
  /** With `socket` only for the name's sake. */
  readonly url: URL;
  /** The file of the daemon's socket: who may open it needs no key. */
  readonly socket?: string;
  /** An API key. */
  readonly key?: string;
  /** PEM of the authorities to trust instead of the system's. */
  readonly ca?: string;
}

export interface ApiCall {
  readonly method?: "GET" | "POST" | "DELETE";
  /** Relative to the address, its query included. */
  readonly path: string;
  readonly body?: unknown;
  /** Who runs the command, for the audit trail. */
  readonly user?: string;
  readonly timeoutMs: number;
}

export interface ApiAnswer {
  readonly url: string;
  readonly status: number;
  readonly contentType: string;
  readonly text: string;
}

/** Asks, and gives the whole answer whatever its status. Rejects with Node.js's own error where there is none. */
export async function callApi(
  at: ApiAddress,
  { method = "GET", path, body, user, timeoutMs }: ApiCall,
): Promise<ApiAnswer> {
  const url = new URL(path, at.url);
  const sent = body === undefined ? undefined : JSON.stringify(body);
  const socket = at.socket === undefined ? undefined : socketAddress(at.socket);
  const options: RequestOptions = {
    method,
    agent: false,
    headers: {
      accept: "application/json",
      ...(sent !== undefined && { "content-type": "application/json", "content-length": Buffer.byteLength(sent) }),
      ...(user !== undefined && { [CALLER_HEADER]: user }),
      ...(at.key !== undefined && { authorization: `Bearer ${at.key}` }),
    },
    ...(socket !== undefined && { socketPath: socket.address }),
  };
  try {
    const plain = socket !== undefined || url.protocol === "http:";
    const outgoing = plain
      ? httpRequest(socket === undefined ? url : new URL(`http://localhost${url.pathname}${url.search}`), options)
      : httpsRequest(url, { ...options, ...(at.ca !== undefined && { ca: at.ca }) });
    return await answerOf(outgoing, sent, url.href, timeoutMs);
  } finally {
    socket?.release();
  }
}

function answerOf(
  outgoing: ClientRequest,
  sent: string | undefined,
  url: string,
  timeoutMs: number,
): Promise<ApiAnswer> {
  return new Promise((resolve, reject) => {
    const cancel = AbortSignal.timeout(timeoutMs);
    cancel.addEventListener("abort", () => outgoing.destroy(new Error(`no answer within ${timeoutMs / 1000} s`)));
    outgoing.once("error", reject);
    outgoing.once("response", (incoming) => {
      const contentType = incoming.headers["content-type"] ?? "";
      const status = incoming.statusCode ?? 0;
      text(incoming).then((received) => resolve({ url, status, contentType, text: received }), reject);
    });
    outgoing.end(sent);
  });
}
