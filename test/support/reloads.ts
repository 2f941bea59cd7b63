import { pino } from "pino";
import { type Clock, systemClock } from "#src/kernel/clock.js";
import { Conditions } from "#src/kernel/conditions.js";
import { Reloads } from "#src/kernel/reloading.js";

/** Values that follow their files, and nobody who reads of it. */
export function silentReloads(clock: Clock = systemClock): Reloads {
  const log = pino({ level: "silent" });
  return new Reloads({ clock, conditions: new Conditions(clock, log), log, audit: () => {} });
}
