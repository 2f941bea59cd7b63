/** Requests to the outbox's worker and their answers, as promises. */
import { Worker } from "node:worker_threads";
import { GatewayError } from "../kernel/errors.ts";
import type { ClockQuality } from "../observation/observation.ts";
import type { Books, Notice } from "./books.ts";
import { type News, withNews } from "./news.ts";
import type { FaultReport, Operation, Operations, Reply, Request, WorkerSettings } from "./protocol.ts";

/** A request that the worker could not perform. */
export class WorkerFault extends Error {
  readonly report: FaultReport;

  constructor(report: FaultReport) {
    super(report.code === undefined ? report.message : `${report.code}: ${report.message}`);
    this.report = report;
  }
}

export interface WorkerLinkEvents {
  /** New numbers, with every answer and when there are more; called before the answer's own promise settles. */
  books(books: Books): void;
  notice(notice: Notice): void;
  /** The file is damaged; the next start repairs it. */
  damageFound(detail: string): void;
  /** The file was removed while it was open; what it held is in its place again, for the next start. */
  putBack(file: string): void;
  /** What an operation had to do after its answer could not be done. */
  failed(fault: WorkerFault): void;
  /** The thread ended by itself. */
  died(error: Error): void;
}

interface Pending {
  resolve(gives: unknown): void;
  reject(error: Error): void;
}

export class WorkerLink {
  readonly #worker: Worker;
  readonly #events: WorkerLinkEvents;
  readonly #pending = new Map<number, Pending>();
  #nextId = 1;
  #closing = false;
  /** As the worker has told them. */
  #books: Books | undefined;

  private constructor(worker: Worker, events: WorkerLinkEvents) {
    this.#worker = worker;
    this.#events = events;
  }

  /**
   * Starts the thread and opens the file.
   * @throws GatewayError OUTBOX_CANNOT_OPEN, OUTBOX_IO_ERROR, or the store's own.
   */
  static async open(
    settings: WorkerSettings,
    events: WorkerLinkEvents,
  ): Promise<{ link: WorkerLink; books: Books; recentIds: Uint32Array }> {
    const worker = new Worker(new URL("./worker.js", import.meta.url), {
      workerData: settings,
      resourceLimits: { maxYoungGenerationSizeMb: 8, maxOldGenerationSizeMb: 128 },
    });
    const link = new WorkerLink(worker, events);
    return await new Promise((resolve, reject) => {
      worker.on("error", (error) => {
        link.#fail(error);
        reject(error);
      });
      worker.on("exit", (code) => {
        if (!link.#closing) link.#fail(new Error(`the outbox's worker ended with status ${code}`));
      });
      worker.on("message", (reply: Reply) => {
        if (reply.kind === "opened") {
          link.#books = reply.books;
          resolve({ link, books: reply.books, recentIds: reply.recentIds });
        } else if (reply.kind === "not-opened") {
          link.#closing = true;
          reject(cannotOpen(settings.file, reply.fault, reply.hint));
        } else link.#receive(reply);
      });
    });
  }

  call<O extends Operation>(op: O, takes: Operations[O]["takes"]): Promise<Operations[O]["gives"]> {
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      this.#pending.set(id, { resolve: resolve as (gives: unknown) => void, reject });
      this.#worker.postMessage({ id, op, takes } as Request);
    });
  }

  /** Checkpoints and closes the file, and ends the thread. */
  async close(clock: ClockQuality): Promise<void> {
    this.#closing = true;
    await this.call("close", { clock });
    await this.#worker.terminate();
  }

  #receive(
    reply: Extract<Reply, { kind: "done" | "books" | "failed" | "notice" | "damage-found" | "put-back" }>,
  ): void {
    if (reply.kind === "damage-found") {
      this.#events.damageFound(reply.detail);
      return;
    }
    if (reply.kind === "put-back") {
      this.#events.putBack(reply.file);
      return;
    }
    if (reply.kind === "notice") {
      this.#events.notice(reply.notice);
      return;
    }
    if (reply.kind === "books") {
      this.#noteBooks(reply.books);
      return;
    }
    const pending = this.#pending.get(reply.id);
    this.#pending.delete(reply.id);
    if (reply.kind === "failed") {
      const fault = new WorkerFault(reply.fault);
      if (pending === undefined) this.#events.failed(fault);
      else pending.reject(fault);
      return;
    }
    this.#noteBooks(reply.books);
    pending?.resolve(reply.gives);
  }

  #noteBooks(news: News<Books>): void {
    if (this.#books === undefined) return;
    this.#books = withNews(this.#books, news);
    this.#events.books(this.#books);
  }

  #fail(error: Error): void {
    for (const pending of this.#pending.values()) pending.reject(error);
    this.#pending.clear();
    this.#events.died(error);
  }
}

function cannotOpen(file: string, fault: FaultReport, hint: string | undefined): GatewayError {
  if (fault.code?.startsWith("SQLITE_IOERR") || fault.code === "EIO") {
    return new GatewayError({
      code: "OUTBOX_IO_ERROR",
      op: "outbox.open",
      message: `cannot open the outbox ${file}: ${fault.code}: ${fault.message}`,
      hint: "look into the kernel's log for errors of the card that holds gateway.dataDir (dmesg), then start again",
    });
  }
  return new GatewayError({
    code: /^(OUTBOX|DATA_DIR)_/.test(fault.code ?? "") ? (fault.code ?? "") : "OUTBOX_CANNOT_OPEN",
    op: "outbox.open",
    message: hint === undefined ? `cannot open the outbox ${file}: ${fault.message}` : fault.message,
    hint:
      hint ??
      "check that gateway.dataDir exists, that the daemon's user may write there, and that the disk is not full",
  });
}
