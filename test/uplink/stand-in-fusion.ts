/** A fusion that answers as a test wants: a real HTTP(S) server on loopback. */
import { once } from "node:events";
import http from "node:http";
import https from "node:https";
import type { AddressInfo, Socket } from "node:net";
import { gunzipSync } from "node:zlib";

export interface Received {
  readonly method: string | undefined;
  readonly path: string | undefined;
  readonly headers: http.IncomingHttpHeaders;
  readonly replayed: boolean;
  readonly observations: readonly { readonly id: string; readonly priority: string; readonly value: unknown }[];
}

export type Reply =
  | { readonly status: number; readonly headers?: http.OutgoingHttpHeaders; readonly body?: unknown }
  /** Reads the request and never answers. */
  | "hang"
  /** Resets the connection instead of an answer. */
  | "reset"
  /** Promises more than it sends, and closes. */
  | "cut";

export const ACCEPTED: Reply = { status: 200, body: {} };

export class StandInFusion {
  readonly received: Received[] = [];
  /** Connections that were ever made. */
  connections = 0;
  reply: (request: Received) => Reply | Promise<Reply>;
  readonly #server: http.Server;
  readonly #sockets = new Set<Socket>();
  #port = 0;

  constructor(reply: (request: Received) => Reply | Promise<Reply> = () => ACCEPTED, tls?: https.ServerOptions) {
    this.reply = reply;
    const handler: http.RequestListener = (request, response) => void this.#handle(request, response);
    this.#server = tls === undefined ? http.createServer(handler) : https.createServer(tls, handler);
    this.#server.keepAliveTimeout = 60_000;
    this.#server.on("connection", (socket: Socket) => {
      this.connections++;
      this.#sockets.add(socket);
      socket.on("close", () => this.#sockets.delete(socket));
    });
  }

  /** Listens on the port it had before, or on any that is free. */
  async open(): Promise<this> {
    this.#server.listen(this.#port, "127.0.0.1");
    await once(this.#server, "listening");
    this.#port = (this.#server.address() as AddressInfo).port;
    return this;
  }

  /** Refuses connections from now on, and ends those that there are. */
  async close(): Promise<void> {
    if (!this.#server.listening) return;
    this.#server.close();
    this.dropConnections();
    await once(this.#server, "close");
  }

  dropConnections(): void {
    for (const socket of this.#sockets) socket.resetAndDestroy();
  }

  get port(): number {
    return this.#port;
  }

  get url(): string {
    const scheme = this.#server instanceof https.Server ? "https" : "http";
    return `${scheme}://127.0.0.1:${this.#port}/api/v1/observations/batch`;
  }

  async #handle(request: http.IncomingMessage, response: http.ServerResponse): Promise<void> {
    const chunks: Buffer[] = [];
    try {
      for await (const chunk of request) chunks.push(chunk as Buffer);
    } catch {
      return;
    }
    const raw = Buffer.concat(chunks);
    const json = (request.headers["content-encoding"] === "gzip" ? gunzipSync(raw) : raw).toString();
    const body = JSON.parse(json) as Pick<Received, "replayed" | "observations">;
    const { method, url, headers } = request;
    const received: Received = { method, path: url, headers, ...body };
    this.received.push(received);
    const reply = await this.reply(received);
    if (reply === "hang") return;
    if (reply === "reset") {
      request.socket.resetAndDestroy();
    } else if (reply === "cut") {
      response.writeHead(200, { "content-length": 100 });
      response.write("{", () => request.socket.destroy());
    } else {
      const text = typeof reply.body === "string" || reply.body === undefined ? reply.body : JSON.stringify(reply.body);
      response.writeHead(reply.status, { "content-type": "application/json", ...reply.headers });
      response.end(text);
    }
  }
}

/** Resolves when `condition` holds; rejects, saying `what`, when it does not within a generous time. */
export async function until(condition: () => boolean, what: string, withinMs = 20_000): Promise<void> {
  const end = performance.now() + withinMs;
  while (!condition()) {
    if (performance.now() > end) throw new Error(`not within ${withinMs} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
