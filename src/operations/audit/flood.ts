/**
 * Keeps what strangers can cause at will from wearing out the card, and from pushing everything else out of the trail.
 *
 * Of each such action the first few in a window are kept one by one; the rest are counted, and kept as one entry when the window
 * ends. While they go on, windows grow to an hour. What somebody with a right to it does is always kept by itself.
 */
import type { AuditAction, AuditEvent } from "../../kernel/audit.ts";
import type { Clock } from "../../kernel/clock.ts";

/** Kept one by one in each window. */
const BURST = 20;
const FIRST_WINDOW_MS = 60_000;
const LONGEST_WINDOW_MS = 3_600_000;
/** Different actors named in what sums them up. */
const ACTORS = 5;

interface Window {
  readonly lengthMs: number;
  readonly actors: Set<string>;
  passed: number;
  times: number;
  /** Sum of `detail.count`, where the events have one. */
  count: number;
  readonly cancel: () => void;
}

/** Whether whoever is at the other end of a wire, or a part by itself, can cause this as often as it likes. */
export function isCheap({ action, actor }: AuditEvent): boolean {
  return /\.(refused|denied|limited)$/.test(action) || actor === "gateway";
}

export class FloodGate {
  readonly #clock: Pick<Clock, "after">;
  readonly #keep: (event: AuditEvent) => void;
  readonly #windows = new Map<AuditAction, Window>();

  /** `keep` is called with what sums up a window. */
  constructor(clock: Pick<Clock, "after">, keep: (event: AuditEvent) => void) {
    this.#clock = clock;
    this.#keep = keep;
  }

  /** Whether the event is to be kept by itself; otherwise it has been counted. */
  admits(event: AuditEvent): boolean {
    if (!isCheap(event)) return true;
    const window = this.#windows.get(event.action) ?? this.#open(event.action, FIRST_WINDOW_MS);
    if (window.passed < BURST) {
      window.passed++;
      return true;
    }
    window.times++;
    const { count } = event.detail ?? {};
    if (typeof count === "number") window.count += count;
    if (window.actors.size < ACTORS) window.actors.add(event.actor);
    return false;
  }

  /** Keeps what has been counted so far. */
  flush(): void {
    for (const action of [...this.#windows.keys()]) this.#close(action);
  }

  #open(action: AuditAction, lengthMs: number): Window {
    const cancel = this.#clock.after(lengthMs, () => {
      const held = this.#close(action);
      if (held) this.#open(action, Math.min(2 * lengthMs, LONGEST_WINDOW_MS));
    });
    const window = { lengthMs, actors: new Set<string>(), passed: 0, times: 0, count: 0, cancel };
    this.#windows.set(action, window);
    return window;
  }

  #close(action: AuditAction): boolean {
    const window = this.#windows.get(action);
    if (window === undefined) return false;
    window.cancel();
    this.#windows.delete(action);
    const { times, count, actors, lengthMs } = window;
    if (times === 0) return false;
    const detail = { times, ...(count > 0 && { count }), within_s: lengthMs / 1000, actors: [...actors].join(", ") };
    this.#keep({ action, actor: "gateway", subject: "several", detail });
    return true;
  }
}
