/** A fusion that remembers what it received, in the test's own process, and answers as it is told. */
import {
  createServer,
  type IncomingHttpHeaders,
  type IncomingMessage,
  type Server,
  type ServerResponse,
} from "node:http";
import { gunzipSync } from "node:zlib";
import type { StoredReading } from "#src/operations/view.js";
import { freePort } from "./free-port.ts";

/** An observation as it arrives, with what the gateway added. */
export type Received = StoredReading;

export interface Envelope {
  readonly schema: string;
  readonly gateway_id: string;
  readonly sent_at: string;
  readonly replayed: boolean;
  readonly observations: readonly Received[];
}

/** One request. */
export interface ReceivedBatch extends Envelope {
  /** When it had come in, on the clock of `performance.now()`. */
  readonly at: number;
  readonly method: string;
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
  /** As it came over the wire. */
  readonly raw: Buffer;
  /** Decoded. */
  readonly text: string;
}

export interface Answer {
  readonly status: number;
  readonly headers?: Record<string, string>;
  /** Sent as JSON. */
  readonly body?: unknown;
}

const SETTLED: Answer = { status: 204 };

export class Collector {
  readonly #server: Server;
  /** Every request, whatever it was answered. */
  readonly batches: ReceivedBatch[] = [];
  /** The readings of the requests that were answered with success, in order; what such an answer rejected included. */
  readonly received: Received[] = [];
  /** What to answer; `"hang"`: nothing, ever. */
  answer: (batch: ReceivedBatch) => Answer | "hang" = () => SETTLED;
  /** Whether `batches` and `received` are kept; a test of many readings keeps what it needs from `answer`. */
  remembers = true;
  #port: number;

  private constructor(port: number) {
    this.#port = port;
    this.#server = createServer((request, response) => this.#take(request, response));
  }

  /** On a port that stays its own while it is stopped, where none is given. */
  static async start(port?: number): Promise<Collector> {
    const collector = new Collector(port ?? (await freePort()));
    await collector.listen();
    return collector;
  }

  get requests(): number {
    return this.batches.length;
  }

  get keys(): string[] {
    return this.batches.map(({ headers }) => String(headers["idempotency-key"]));
  }

  get port(): number {
    return this.#port;
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}/api/v1/observations/batch`;
  }

  /** Listens, again after `stop` on the same port. Returns when it began to, on the clock of `performance.now()`. */
  async listen(): Promise<number> {
    await new Promise<void>((resolve, reject) => {
      this.#server.once("error", reject);
      this.#server.listen(this.#port, "127.0.0.1", resolve);
    });
    const address = this.#server.address();
    this.#port = typeof address === "object" ? (address?.port ?? 0) : 0;
    return performance.now();
  }

  /** Refuses connections from now on, and ends those that are open. */
  stop(): Promise<void> {
    return new Promise((resolve) => {
      this.#server.close(() => resolve());
      this.#server.closeAllConnections();
    });
  }

  #take(request: IncomingMessage, response: ServerResponse): void {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
      const raw = Buffer.concat(chunks);
      const { headers, method = "", url: path = "" } = request;
      const text = (headers["content-encoding"] === "gzip" ? gunzipSync(raw) : raw).toString();
      const batch = { at: performance.now(), method, path, headers, raw, text, ...(JSON.parse(text) as Envelope) };
      if (this.remembers) this.batches.push(batch);
      const answer = this.answer(batch);
      if (answer === "hang") return;
      if (this.remembers && answer.status < 300)
        for (const observation of batch.observations) this.received.push(observation);
      const type = answer.status < 400 ? "application/json" : "application/problem+json";
      response.writeHead(
        answer.status,
        answer.body === undefined ? answer.headers : { "content-type": type, ...answer.headers },
      );
      response.end(answer.body === undefined ? undefined : JSON.stringify(answer.body));
    });
  }
}
