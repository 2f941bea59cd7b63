/**
 * The sockets behind the HTTP API: how many there may be, how long each may take, and what is answered to bytes that never
 * become a request.
 */
import { createServer, type RequestListener, type Server, type ServerOptions } from "node:http";
import { createServer as createTlsServer, type Server as TlsServer } from "node:https";
import type { Socket } from "node:net";
import { TLSSocket, type TlsOptions } from "node:tls";
import { isLoopback } from "../config/http-access.ts";
import { codeOf } from "../kernel/errors.ts";
import type { Logger } from "../kernel/telemetry.ts";
import type { ErrorCode } from "./error-codes.ts";
import { answerEarly, answerRaw, problemOfCode } from "./http-errors.ts";
import { addressCaller } from "./request-rates.ts";

/** For the header of a request to come in. */
const HEADERS_TIMEOUT_MS = 5_000;
/** For a whole request to come in. */
const REQUEST_TIMEOUT_MS = 10_000;
/** For a TLS handshake. */
const HANDSHAKE_TIMEOUT_MS = 10_000;
/** How often the two above are looked at. */
const CHECK_EVERY_MS = 2_000;
/** Between requests of a connection. */
const KEEP_ALIVE_MS = 5_000;
/** For an answer to be made: longer than the slowest card takes to commit. */
export const HANDLER_TIMEOUT_MS = 60_000;
/** Without a byte in either direction: whoever does not read his answer goes, and nobody who waits for one. */
const IDLE_TIMEOUT_MS = HANDLER_TIMEOUT_MS + 30_000;
const MAX_HEADER_BYTES = 8 * 1024;

const OPTIONS: ServerOptions = {
  headersTimeout: HEADERS_TIMEOUT_MS,
  requestTimeout: REQUEST_TIMEOUT_MS,
  keepAliveTimeout: KEEP_ALIVE_MS,
  connectionsCheckingInterval: CHECK_EVERY_MS,
  maxHeaderSize: MAX_HEADER_BYTES,
  // A request without Host is refused by us, who say why.
  requireHostHeader: false,
};

/** How many connections may be open, through all listeners together, and from one address that is not this machine's. */
export class Connections {
  readonly #most: number;
  readonly #mostOfAnAddress: number;
  readonly #refused: (address: string | undefined) => void;
  readonly #open = new Map<string, number>();
  #count = 0;

  constructor(most: number, refused: (address: string | undefined) => void) {
    this.#most = most;
    this.#mostOfAnAddress = Math.ceil(most / 2);
    this.#refused = refused;
  }

  /** Counts a connection until it is closed, or closes it where there is no room for it. */
  admit(socket: Socket): void {
    const caller = addressCaller(socket.remoteAddress);
    const held = this.#open.get(caller) ?? 0;
    const most = isLoopback(caller) ? this.#most : this.#mostOfAnAddress;
    if (this.#count >= this.#most || held >= most) {
      this.#refused(socket.remoteAddress);
      socket.destroy();
      return;
    }
    this.#count++;
    this.#open.set(caller, held + 1);
    socket.once("close", () => {
      this.#count--;
      const left = (this.#open.get(caller) ?? 1) - 1;
      if (left > 0) this.#open.set(caller, left);
      else this.#open.delete(caller);
    });
  }
}

/** An HTTP server, with TLS where it is given its material; it does not listen yet. */
export function createListener(
  handler: RequestListener,
  tls: TlsOptions | undefined,
  connections: Connections,
  log: Logger,
): Server | TlsServer {
  const server =
    tls === undefined
      ? createServer(OPTIONS, handler)
      : createTlsServer({ ...OPTIONS, ...tls, handshakeTimeout: HANDSHAKE_TIMEOUT_MS }, handler);
  server.setTimeout(IDLE_TIMEOUT_MS);
  // Before the TLS handshake begins: an unfinished one is a connection too.
  server.prependListener("connection", (socket: Socket) => connections.admit(socket));
  server.on("clientError", (error, socket) => {
    const code = codeOf(error);
    log.debug({ code }, "a request could not be read");
    // Nothing can be said where the handshake has failed, nor to whom has gone.
    const mute = socket instanceof TLSSocket && socket.getCipher()?.version === undefined;
    if (!socket.writable || mute || code === "ECONNRESET") socket.destroy();
    else answerRaw(socket, problemOfCode(...unreadable(code)), tls !== undefined);
  });
  server.on("checkExpectation", (_request, response) => {
    const body = problemOfCode("EXPECTATION_FAILED", "Expect may be 100-continue, and nothing else");
    answerEarly(response, body, tls !== undefined);
  });
  server.on("connect", (_request, socket) => {
    answerRaw(socket, problemOfCode("BAD_REQUEST", "this is no proxy: there is no CONNECT"), tls !== undefined);
  });
  return server;
}

function unreadable(code: string | undefined): [ErrorCode, string] {
  switch (code) {
    case "HPE_HEADER_OVERFLOW":
      return [
        "HEADERS_TOO_LARGE",
        `the header fields, the address included, are larger than ${MAX_HEADER_BYTES} bytes`,
      ];
    case "HPE_CHUNK_EXTENSIONS_OVERFLOW":
      return ["BODY_TOO_LARGE", "the chunks' extensions are too large"];
    case "ERR_HTTP_REQUEST_TIMEOUT":
      return ["REQUEST_TIMEOUT", `a request has ${REQUEST_TIMEOUT_MS / 1000} s to come in`];
    default:
      return ["BAD_REQUEST", "the request is not valid HTTP"];
  }
}
