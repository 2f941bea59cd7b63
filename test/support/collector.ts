/** A fusion that remembers what it received, in the test's own process. */
import { createServer, type Server } from "node:http";
import { gunzipSync } from "node:zlib";

export interface Received {
  readonly id: string;
  readonly ts_iso: string;
  readonly source: string;
  readonly priority: string;
  readonly attributes: Record<string, unknown>;
  readonly gateway: { readonly seq: number };
}

export class Collector {
  readonly #server: Server;
  readonly received: Received[] = [];
  readonly keys: string[] = [];
  requests = 0;

  private constructor(server: Server) {
    this.#server = server;
  }

  static async start(port = 0): Promise<Collector> {
    const server = createServer((request, response) => {
      const chunks: Buffer[] = [];
      request.on("data", (chunk: Buffer) => chunks.push(chunk));
      request.on("end", () => {
        collector.requests++;
        collector.keys.push(String(request.headers["idempotency-key"]));
        const raw = Buffer.concat(chunks);
        const text = request.headers["content-encoding"] === "gzip" ? gunzipSync(raw) : raw;
        collector.received.push(...(JSON.parse(text.toString()) as { observations: Received[] }).observations);
        response.writeHead(204).end();
      });
    });
    const collector = new Collector(server);
    await new Promise<void>((resolve) => server.listen(port, "127.0.0.1", resolve));
    return collector;
  }

  get port(): number {
    const address = this.#server.address();
    return typeof address === "object" ? (address?.port ?? 0) : 0;
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}/api/v1/observations/batch`;
  }

  stop(): Promise<void> {
    return new Promise((resolve) => {
      this.#server.close(() => resolve());
      this.#server.closeAllConnections();
    });
  }
}
