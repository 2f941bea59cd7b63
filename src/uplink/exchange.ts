/**
 * One HTTP request from connecting to the end of its answer, each phase with a time limit of its own. Knows HTTP, not
 * what is sent or what an answer means.
 */
import type { ClientRequest, IncomingMessage, RequestOptions } from "node:http";
import type { Socket } from "node:net";
import type { Clock } from "../kernel/clock.ts";
import { codeOf, messageOf } from "../kernel/errors.ts";
import type { Exchange, NoAnswer } from "./transport.ts";

/** Milliseconds. */
export interface Timeouts {
  /** To connect, TLS included. */
  readonly connect: number;
  /** Without progress while sending. */
  readonly write: number;
  /** From the end of the request to the end of the answer. */
  readonly read: number;
}

export interface ExchangeSettings {
  readonly request: (options: RequestOptions) => ClientRequest;
  readonly options: RequestOptions;
  readonly secure: boolean;
  readonly timeouts: Timeouts;
  readonly maxAnswerBytes: number;
  readonly clock: Pick<Clock, "after">;
}

/** Small enough that a link of 2 kB/s shows progress well within the default write time limit. */
const WRITE_CHUNK_BYTES = 16 * 1024;

type Phase = "connect" | "handshake" | "write" | "read";

/** How a request ended. `stale`: the server had closed the idle connection that was used; nothing was answered. */
export interface Ended {
  readonly exchange: Exchange;
  readonly stale: boolean;
}

/** The longest that an exchange of `bytes` can take, in milliseconds, if each chunk only just makes progress in time. */
export function longestExchangeMs({ connect, write, read }: Timeouts, bytes: number): number {
  return connect + write * Math.ceil(bytes / WRITE_CHUNK_BYTES) + read;
}

/** Sends `body` and waits for the answer. Always resolves. */
export function exchange(settings: ExchangeSettings, body: Uint8Array, signal: AbortSignal): Promise<Ended> {
  return new Promise((resolve) => new Conversation(settings, body, signal, resolve).start());
}

class Conversation {
  readonly #settings: ExchangeSettings;
  readonly #body: Uint8Array;
  readonly #signal: AbortSignal;
  readonly #resolve: (ended: Ended) => void;
  readonly #onAbort = (): void => this.#end({ kind: "aborted" });
  #request: ClientRequest | undefined;
  #phase: Phase = "connect";
  #cancelTimer: () => void = () => {};
  #sent = 0;
  #bytesReadBefore = 0;
  #answering = false;
  #ended = false;

  constructor(settings: ExchangeSettings, body: Uint8Array, signal: AbortSignal, resolve: (ended: Ended) => void) {
    this.#settings = settings;
    this.#body = body;
    this.#signal = signal;
    this.#resolve = resolve;
  }

  start(): void {
    if (this.#signal.aborted) {
      this.#onAbort();
      return;
    }
    this.#signal.addEventListener("abort", this.#onAbort, { once: true });
    const request = this.#settings.request(this.#settings.options);
    this.#request = request;
    this.#enter("connect", this.#settings.timeouts.connect);
    request.on("socket", (socket) => this.#assigned(request, socket));
    request.on("response", (answer) => this.#read(answer));
    request.on("error", (error) => this.#failed(error));
  }

  #assigned(request: ClientRequest, socket: Socket): void {
    this.#bytesReadBefore = socket.bytesRead;
    if (request.reusedSocket || !socket.connecting) {
      this.#write(request);
      return;
    }
    socket.once("connect", () => {
      // The time limit runs on: it covers the TLS handshake as well.
      if (this.#settings.secure) this.#phase = "handshake";
      else this.#write(request);
    });
    if (this.#settings.secure) socket.once("secureConnect", () => this.#write(request));
  }

  #write(request: ClientRequest): void {
    if (this.#ended || this.#answering) return;
    this.#enter("write", this.#settings.timeouts.write);
    const chunk = this.#body.subarray(this.#sent, this.#sent + WRITE_CHUNK_BYTES);
    this.#sent += chunk.length;
    if (this.#sent < this.#body.length) {
      request.write(chunk, (error) => {
        if (!error) this.#write(request);
      });
      return;
    }
    request.end(chunk, () => {
      if (!this.#ended && !this.#answering) this.#enter("read", this.#settings.timeouts.read);
    });
  }

  #read(answer: IncomingMessage): void {
    if (this.#ended) {
      answer.destroy();
      return;
    }
    this.#answering = true;
    // An answer may begin before the request has ended; from then on only the answer matters.
    if (this.#phase !== "read") this.#enter("read", this.#settings.timeouts.read);
    const chunks: Buffer[] = [];
    let length = 0;
    const finish = (truncated: boolean): void => {
      const body = new TextDecoder().decode(Buffer.concat(chunks));
      this.#end({ kind: "answer", status: answer.statusCode ?? 0, headers: answer.headers, body, truncated });
    };
    answer.on("data", (chunk: Buffer) => {
      length += chunk.length;
      chunks.push(chunk);
      if (length > this.#settings.maxAnswerBytes) finish(true);
    });
    answer.on("end", () => finish(false));
    answer.on("error", (error) => this.#failed(error));
  }

  #enter(phase: Phase, limitMs: number): void {
    this.#phase = phase;
    this.#cancelTimer();
    this.#cancelTimer = this.#settings.clock.after(limitMs, () => this.#timedOut(limitMs));
  }

  #timedOut(limitMs: number): void {
    const what = {
      connect: "no connection",
      handshake: "no end to the TLS handshake",
      write: "no progress in sending the request",
      read: "no complete answer",
    }[this.#phase];
    // A handshake that hangs has used up the time to connect, but something answered the SYN.
    const code = `${this.#phase === "handshake" ? "connect" : this.#phase}-timeout`;
    this.#end(this.#noAnswer(code, `${what} within ${limitMs} ms`));
  }

  #failed(error: Error): void {
    const code = codeOf(error) ?? error.name;
    const socket = this.#request?.socket;
    const stale =
      this.#request?.reusedSocket === true &&
      !this.#answering &&
      (code === "ECONNRESET" || code === "EPIPE") &&
      (socket?.bytesRead ?? this.#bytesReadBefore) === this.#bytesReadBefore;
    // Node.js 20 gives the error of several refused addresses no message of its own.
    const detail = messageOf(error) || code;
    this.#end(this.#noAnswer(code, this.#phase === "handshake" ? `TLS handshake: ${detail}` : detail), stale);
  }

  #noAnswer(code: string, detail: string): NoAnswer {
    return { kind: "no-answer", fault: this.#phase === "connect" ? "unreachable" : "failing", code, detail };
  }

  #end(ended: Exchange, stale = false): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#cancelTimer();
    this.#signal.removeEventListener("abort", this.#onAbort);
    const whole = ended.kind === "answer" && !ended.truncated && this.#request?.writableFinished === true;
    // A connection on which something is outstanding would carry it into the next exchange.
    if (!whole) this.#request?.destroy();
    this.#resolve({ exchange: ended, stale });
  }
}
