/**
 * The audit trail as the program's parts write to it: events in, durable entries out.
 *
 * Invariants: `record` returns at once and never throws; events are written in the order in which they came, with the moment at
 * which they came; at most `MAX_WAITING` wait for a card that cannot be written, and how many were lost beyond that is an entry of
 * its own. It decides nothing about who may do what, and never reads events back.
 */
import type { Audit, AuditEvent } from "../../kernel/audit.ts";
import type { Clock } from "../../kernel/clock.ts";
import { messageOf } from "../../kernel/errors.ts";
import type { FileLock } from "../../kernel/file-lock.ts";
import type { Link } from "./entry.ts";
import { FloodGate, isCheap } from "./flood.ts";
import { AuditStore, type Stamped } from "./store.ts";

/** Events that wait to be written. */
export const MAX_WAITING = 1000;
/** Events in one write. */
const BATCH = 100;
/** What anybody can cause waits as long for company, to spare the card. */
const COMPANY_MS = 200;
/** After the trail could not be written. */
const RETRY_MS = 10_000;
/** Another process holds the trail for the length of one write. */
const LOCK_RETRY_MS = 20;
const LOCK_TRIES = 250;

export interface TrailParts {
  readonly folder: string;
  /** What all segments together may take. */
  readonly maxBytes: number;
  readonly clock: Clock;
  readonly bootId: string;
  /** How far the wall clock can be trusted now. */
  readonly clockQuality: () => string;
  /** Says that the trail cannot be written, and why; `undefined`: it can again. */
  readonly onFault: (why: string | undefined) => void;
  /** Entries that were durable were found missing. */
  readonly onDamage: () => void;
  /** The trail's end, after each write. */
  readonly onWritten?: (link: Link) => void;
}

export class AuditTrail {
  readonly #parts: TrailParts;
  readonly #store: AuditStore;
  readonly #flood: FloodGate;
  #waiting: Stamped[] = [];
  #lost = 0;
  #running = false;
  #failing = false;
  #writing: Promise<void> | undefined;
  #cancelTimer: (() => void) | undefined;
  #end: Link | undefined;

  /** Inert until `start`; what is recorded before waits. */
  constructor(parts: TrailParts) {
    this.#parts = parts;
    this.#store = new AuditStore(parts.folder, parts.maxBytes);
    this.#flood = new FloodGate(parts.clock, (event) => this.#add(event));
  }

  /** Keeps one event. */
  readonly record: Audit = (event) => {
    if (this.#flood.admits(event)) this.#add(event);
  };

  /** Begins to write. */
  start(): void {
    this.#running = true;
    if (this.#waiting.length > 0) this.#write();
  }

  /** Resolves once what was recorded is durable, or a try to write it has failed. */
  async flush(): Promise<void> {
    if (!this.#running) return;
    while (this.#waiting.length > 0) {
      await this.#write();
      if (this.#failing) return;
    }
    await this.#writing;
  }

  /** Writes what waits, what was only counted included, and ends. */
  async close(): Promise<void> {
    this.#flood.flush();
    await this.flush();
    this.#cancelTimer?.();
    this.#running = false;
  }

  /** The last entry that this process has written. */
  get end(): Link | undefined {
    return this.#end;
  }

  #add(event: AuditEvent): void {
    if (this.#waiting.length >= MAX_WAITING) {
      this.#lost++;
      return;
    }
    this.#waiting.push({ event, stamp: this.#stamp() });
    if (this.#running && !this.#failing) this.#writeIn(isCheap(event) ? COMPANY_MS : 0);
  }

  #stamp(): Stamped["stamp"] {
    const { clock, bootId, clockQuality } = this.#parts;
    const at = new Date(clock.now()).toISOString();
    return { at, boot: bootId, uptime_ms: Math.round(clock.monotonic()), clock: clockQuality() };
  }

  #writeIn(delayMs: number): void {
    if (delayMs > 0 && this.#cancelTimer !== undefined) return;
    this.#cancelTimer?.();
    this.#cancelTimer = this.#parts.clock.after(delayMs, () => void this.#write());
  }

  #write(): Promise<void> {
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
    this.#writing ??= this.#writeAll().finally(() => {
      this.#writing = undefined;
    });
    return this.#writing;
  }

  async #writeAll(): Promise<void> {
    try {
      while (this.#waiting.length > 0) await this.#writeSome();
      this.#failing = false;
      this.#parts.onFault(undefined);
    } catch (fault) {
      this.#failing = true;
      this.#parts.onFault(messageOf(fault));
      this.#writeIn(RETRY_MS);
    }
  }

  async #writeSome(): Promise<void> {
    const lock = await this.#lock();
    try {
      const some = this.#waiting.slice(0, BATCH);
      const { link, damaged } = await this.#store.append(some);
      this.#waiting = this.#waiting.slice(some.length);
      this.#end = link;
      this.#parts.onWritten?.(link);
      if (damaged) this.#parts.onDamage();
    } finally {
      lock.release();
    }
    if (this.#lost === 0) return;
    const count = this.#lost;
    this.#lost = 0;
    this.#add({ action: "trail.lost", actor: "gateway", detail: { count } });
  }

  async #lock(): Promise<FileLock> {
    for (let tries = 0; tries < LOCK_TRIES; tries++) {
      const lock = await this.#store.tryLock();
      if (lock !== undefined) return lock;
      await this.#parts.clock.sleep(LOCK_RETRY_MS);
    }
    throw new Error("another process has held its lock for seconds");
  }
}
