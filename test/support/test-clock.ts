import { type Clock, sleepOn } from "#src/kernel/clock.js";

/** A clock that stands still until it is told to go on. Wall and monotonic time can be moved apart. */
export class TestClock implements Clock {
  #wall: number;
  #monotonic = 1000;
  #timers: { at: number; action: () => void }[] = [];

  constructor(wall = Date.UTC(2026, 6, 1, 12)) {
    this.#wall = wall;
  }

  now(): number {
    return this.#wall;
  }

  monotonic(): number {
    return this.#monotonic;
  }

  after(delayMs: number, action: () => void): () => void {
    const timer = { at: this.#monotonic + Math.max(0, delayMs), action };
    this.#timers.push(timer);
    return () => {
      this.#timers = this.#timers.filter((other) => other !== timer);
    };
  }

  sleep(delayMs: number, signal?: AbortSignal): Promise<void> {
    return sleepOn(this, delayMs, signal);
  }

  /** Sets the wall clock, as NTP or an operator would; monotonic time goes on as it was. */
  setWall(wall: number): void {
    this.#wall = wall;
  }

  /** Lets time pass without firing anything, as a blocked event loop does. */
  stall(ms: number): void {
    this.#pass(this.#monotonic + ms);
  }

  /** Timers that have not fired yet: what the part under test is waiting for. */
  get waiting(): number {
    return this.#timers.length;
  }

  /** Lets time pass, firing what comes due in order, and gives promises a turn after each. */
  async advance(ms: number): Promise<void> {
    const end = this.#monotonic + ms;
    for (;;) {
      await settle();
      const next = this.#timers.filter((timer) => timer.at <= end).sort((a, b) => a.at - b.at)[0];
      if (next === undefined) break;
      this.#timers = this.#timers.filter((timer) => timer !== next);
      this.#pass(Math.max(next.at, this.#monotonic));
      next.action();
    }
    this.#pass(end);
    await settle();
  }

  #pass(to: number): void {
    this.#wall += to - this.#monotonic;
    this.#monotonic = to;
  }
}

/** Gives promises and immediates that are due a turn. */
async function settle(): Promise<void> {
  for (let turn = 0; turn < 5; turn++) await new Promise((resolve) => setImmediate(resolve));
}
