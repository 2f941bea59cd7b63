/**
 * Time is handed in, never taken: every part that waits, measures or stamps gets a `Clock`. Durations and time-outs come
 * from `monotonic`, which no operator, satellite or NTP daemon can turn back; `now` is wall time and is for records only.
 */
export interface Clock {
  /** Wall time in milliseconds since the Unix epoch. For records, never for durations. */
  now(): number;
  /** Milliseconds since the machine's start (on Linux); never steps back, comparable between processes of one boot. */
  monotonic(): number;
  /** Calls `action` once after `delayMs` (0 or more); the returned function cancels it. Does not keep the process alive. */
  after(delayMs: number, action: () => void): () => void;
  /** Resolves after `delayMs`, or as soon as `signal` aborts (without an error: the caller looks at the signal). */
  sleep(delayMs: number, signal?: AbortSignal): Promise<void>;
}

/** The longest delay that one Node.js timer can hold (2³¹ − 1 ms); a longer one would fire at once. */
const LONGEST_TIMER_MS = 2_147_483_647;

function after(delayMs: number, action: () => void): () => void {
  let timer: NodeJS.Timeout;
  let remaining = Math.max(0, delayMs);
  const arm = (): void => {
    const step = Math.min(remaining, LONGEST_TIMER_MS);
    remaining -= step;
    timer = setTimeout(remaining > 0 ? arm : action, step);
    timer.unref();
  };
  arm();
  return () => clearTimeout(timer);
}

/** `sleep` in terms of `after`, for any clock. */
export function sleepOn(clock: Pick<Clock, "after">, delayMs: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal?.aborted) {
      resolve();
      return;
    }
    const wake = (): void => {
      cancel();
      signal?.removeEventListener("abort", wake);
      resolve();
    };
    const cancel = clock.after(delayMs, wake);
    signal?.addEventListener("abort", wake, { once: true });
  });
}

/** What `performance.now()`, which counts from the process's start, lacks to CLOCK_MONOTONIC. */
const MONOTONIC_OFFSET_MS = Number(process.hrtime.bigint()) / 1e6 - performance.now();

/** The machine's own clocks. */
export const systemClock: Clock = {
  now: () => Date.now(),
  monotonic: () => MONOTONIC_OFFSET_MS + performance.now(),
  after,
  sleep: (delayMs, signal) => sleepOn({ after }, delayMs, signal),
};
