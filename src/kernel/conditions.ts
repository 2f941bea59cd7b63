import type { Clock } from "./clock.ts";
import type { Logger } from "./telemetry.ts";

/** `degraded`: the promise holds, an operator may want to look. `failing`: the component cannot do its work. */
export type Severity = "degraded" | "failing";

/** Something that is not as it should be, from the moment it was noticed until it is well again. */
export interface Condition {
  /** The part it concerns: `uplink`, `outbox`, `serial:mast`, `mqtt`, `clock`, … */
  readonly component: string;
  /** Stable, kebab-case: `uplink-refuses-everything`, `credentials`, … */
  readonly code: string;
  readonly severity: Severity;
  /** One sentence for the operator: what is wrong and what to do. */
  readonly detail: string;
  /** Wall time in milliseconds, for records. */
  readonly since: number;
}

/**
 * What is wrong at the moment, by component. Each change of state is one log line, however often a part
 * repeats what it sees.
 */
export class Conditions {
  readonly #clock: Pick<Clock, "now">;
  readonly #log: Logger;
  readonly #active = new Map<string, Condition>();

  constructor(clock: Pick<Clock, "now">, log: Logger) {
    this.#clock = clock;
    this.#log = log;
  }

  /**
   * Says that something is wrong. Repeating it changes its detail, not its `since`. `logged`: whoever says so has told the
   * log already, with more than the detail.
   */
  raise(component: string, code: string, severity: Severity, detail: string, logged = false): void {
    const key = `${component}\n${code}`;
    const known = this.#active.get(key);
    const condition: Condition = { component, code, severity, detail, since: known?.since ?? this.#clock.now() };
    this.#active.set(key, condition);
    if (logged || known?.severity === severity) return;
    this.#log[severity === "failing" ? "error" : "warn"]({ component, code }, detail);
  }

  /** Says that it is well again, with `fields` in the log; does nothing where it was not raised. */
  clear(component: string, code: string, fields: Readonly<Record<string, number>> = {}): void {
    const key = `${component}\n${code}`;
    const condition = this.#active.get(key);
    if (condition === undefined) return;
    this.#active.delete(key);
    this.#log.info({ component, code, ...fields }, "well again");
  }

  /** Clears every condition of a component. */
  clearAll(component: string): void {
    for (const condition of [...this.#active.values()]) {
      if (condition.component === component) this.clear(component, condition.code);
    }
  }

  /** All that is wrong now, in the order in which it was noticed. */
  list(): Condition[] {
    return [...this.#active.values()];
  }
}
