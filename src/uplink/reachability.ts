/**
 * Looks whether fusion can be connected to again, by a plain TCP connect and no more: no TLS, no request, a few packets.
 * It says nothing about whether fusion works.
 */
import { lookup } from "node:dns/promises";
import { connect } from "node:net";
import type { Clock } from "../kernel/clock.ts";

/** Share by which each interval is shortened or lengthened, so that a hundred gateways do not knock in step. */
const JITTER = 0.2;

export interface ReachabilityParts {
  readonly endpoint: { readonly host: string; readonly port: number };
  /** Milliseconds between looks. */
  readonly interval: number;
  /** Milliseconds that one connect may take. */
  readonly timeout: number;
  readonly clock: Clock;
  /** [0, 1) */
  readonly random: () => number;
  /** Called once, when a connect has succeeded after one that failed. The watch has ended by then. */
  readonly onReachable: () => void;
}

export class Reachability {
  readonly #parts: ReachabilityParts;
  #watch: AbortController | undefined;
  /** Whether a connect has failed since the watch began, or before. */
  #away = false;

  constructor(parts: ReachabilityParts) {
    this.#parts = parts;
  }

  /** Whether fusion is looked for: the first connect that succeeds is its return. */
  get looking(): boolean {
    return this.#watch !== undefined && this.#away;
  }

  /**
   * Looks at every interval until a connect succeeds. `away`: whether a connect has failed; where only a connection was
   * lost, one must fail first, for a fusion that can be connected to all the time has not come back. Goes on where it is
   * looking already.
   */
  start(away: boolean): void {
    this.#away ||= away;
    if (this.#watch !== undefined) return;
    this.#watch = new AbortController();
    void this.#look(this.#watch.signal);
  }

  stop(): void {
    this.#watch?.abort();
    this.#watch = undefined;
    this.#away = false;
  }

  async #look(signal: AbortSignal): Promise<void> {
    const { clock, interval, random, onReachable } = this.#parts;
    for (;;) {
      await clock.sleep(interval * (1 - JITTER + 2 * JITTER * random()), signal);
      if (signal.aborted) return;
      const reachable = await this.#connects(signal);
      if (signal.aborted) return;
      this.#away ||= !reachable;
      if (!reachable || !this.#away) continue;
      this.#watch = undefined;
      this.#away = false;
      onReachable();
      return;
    }
  }

  async #connects(signal: AbortSignal): Promise<boolean> {
    const { host, port } = this.#parts.endpoint;
    // Not bounded by the time limit: a lookup cannot be cancelled, and lookups that pile up would take every thread of
    // the pool that the file system needs as well.
    const addresses = await lookup(host, { all: true }).catch(() => []);
    for (const { address } of addresses) {
      if (signal.aborted) return false;
      if (await this.#connectsTo(address, port, signal)) return true;
    }
    return false;
  }

  #connectsTo(host: string, port: number, signal: AbortSignal): Promise<boolean> {
    return new Promise((resolve) => {
      const socket = connect({ host, port });
      const end = (reachable: boolean): void => {
        cancel();
        signal.removeEventListener("abort", giveUp);
        socket.destroy();
        resolve(reachable);
      };
      const giveUp = (): void => end(false);
      const cancel = this.#parts.clock.after(this.#parts.timeout, giveUp);
      signal.addEventListener("abort", giveUp, { once: true });
      socket.once("connect", () => end(true));
      socket.once("error", giveUp);
    });
  }
}
