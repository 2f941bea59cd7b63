import type { Clock } from "../kernel/clock.ts";
import type { Scenario } from "./scenario.ts";

/** The scenario's time, which runs `speed` times as fast as the monotonic clock from the moment this is called. */
export function scenarioTime(clock: Pick<Clock, "monotonic">, scenario: Scenario, speed: number): () => number {
  const begun = clock.monotonic();
  return () => scenario.startedAt + (clock.monotonic() - begun) * speed;
}
