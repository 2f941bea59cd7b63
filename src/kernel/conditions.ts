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

/** How the beginning of a condition is told to the log, where its severity alone does not say that. */
export interface Telling {
  /** Whoever raises it has told the log already, with more than the detail. */
  readonly told?: true;
  /** `error`: somebody has to act, although the component does its work: readings are lost to fusion. */
  readonly level?: "error";
  /** The code of a condition of the same component that turns into this one: it goes without a line of its own. */
  readonly insteadOf?: string;
  readonly fields?: Readonly<Record<string, number>>;
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

  /** Says that something is wrong. Repeating it changes its detail, not its `since`. */
  raise(component: string, code: string, severity: Severity, detail: string, telling: Telling = {}): void {
    const key = `${component}\n${code}`;
    if (telling.insteadOf !== undefined) this.#active.delete(`${component}\n${telling.insteadOf}`);
    const known = this.#active.get(key);
    const condition: Condition = { component, code, severity, detail, since: known?.since ?? this.#clock.now() };
    this.#active.set(key, condition);
    if (telling.told || known?.severity === severity) return;
    this.#log[telling.level ?? (severity === "failing" ? "error" : "warn")](
      { component, code, ...telling.fields },
      detail,
    );
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
