import type { Clock } from "../kernel/clock.ts";
import type { Scenario } from "./scenario.ts";

/** The scenario's time, which runs `speed` times as fast as the monotonic clock from the moment this is called. */
export function scenarioTime(clock: Pick<Clock, "monotonic">, scenario: Scenario, speed: number): () => number {
  const begun = clock.monotonic();
  return () => scenario.startedAt + (clock.monotonic() - begun) * speed;
}

/**
 * The scenario's time at one report after the other, which are due every `intervalMs`. It does not depend on when a timer
 * fired, so that a run can be repeated.
 */
export function scenarioTimes(scenario: Scenario, intervalMs: number, speed: number): () => number {
  let reports = 0;
  return () => scenario.startedAt + ++reports * intervalMs * speed;
}
