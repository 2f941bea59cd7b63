/** One call of the daemon's API: over HTTP, over HTTPS, or by the socket in its dataDir. */
import { type ClientRequest, request as httpRequest, type IncomingMessage, type RequestOptions } from "node:http";
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
}

export interface ApiAnswer {
  readonly url: string;
  readonly status: number;
  readonly contentType: string;
  readonly text: string;
}

async function withRequest<T>(
  at: ApiAddress,
  { method = "GET", path, body, user }: ApiCall,
  use: (outgoing: ClientRequest, sent: string | undefined, url: string) => Promise<T>,
): Promise<T> {
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
    return await use(outgoing, sent, url.href);
  } finally {
    socket?.release();
  }
}

/** Asks, and gives the whole answer whatever its status. Rejects with Node.js's own error where there is none. */
export function callApi(at: ApiAddress, call: ApiCall & { readonly timeoutMs: number }): Promise<ApiAnswer> {
  const { timeoutMs } = call;
  return withRequest(at, call, async (outgoing, sent, url) => {
    const cancel = AbortSignal.timeout(timeoutMs);
    cancel.addEventListener("abort", () => outgoing.destroy(new Error(`no answer within ${timeoutMs / 1000} s`)));
    return await wholeAnswer(await responseTo(outgoing, sent), url);
  });
}

/**
 * Asks for an answer that goes on, and hands each of its lines to `take` as it comes. Resolves when the answer ends or `signal` ends
 * it, and to the whole answer where it was refused. Rejects where nothing comes for `silenceMs`.
 */
export function streamApi(
  at: ApiAddress,
  call: ApiCall & { readonly silenceMs: number; readonly signal: AbortSignal },
  take: (line: string) => void,
): Promise<ApiAnswer | undefined> {
  const { signal, silenceMs } = call;
  return withRequest(at, call, async (outgoing, sent, url) => {
    outgoing.setTimeout(silenceMs, () => outgoing.destroy(new Error(`nothing has come for ${silenceMs / 1000} s`)));
    const end = (): void => void outgoing.destroy();
    signal.addEventListener("abort", end);
    try {
      const incoming = await responseTo(outgoing, sent);
      if (incoming.statusCode !== 200) return await wholeAnswer(incoming, url);
      await eachLine(incoming, take);
    } catch (error) {
      if (!signal.aborted) throw error;
    } finally {
      signal.removeEventListener("abort", end);
    }
    return undefined;
  });
}

/** Rejects where the connection breaks off. */
async function eachLine(incoming: IncomingMessage, take: (line: string) => void): Promise<void> {
  let rest = "";
  for await (const piece of incoming.setEncoding("utf8")) {
    const lines = (rest + String(piece)).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) take(line);
  }
}

function responseTo(outgoing: ClientRequest, sent: string | undefined): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    outgoing.once("error", reject);
    outgoing.once("response", resolve);
    outgoing.end(sent);
  });
}

async function wholeAnswer(incoming: IncomingMessage, url: string): Promise<ApiAnswer> {
  const contentType = incoming.headers["content-type"] ?? "";
  return { url, status: incoming.statusCode ?? 0, contentType, text: await text(incoming) };
}
