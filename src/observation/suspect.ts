/** Times that no reading can have: from a device whose clock was never set, or whose receiver counts weeks from the wrong epoch. */
import type { ClockQuality } from "./observation.ts";
import { writeRfc3339 } from "./time.ts";

/** No device that this gateway can know was there before. */
const EARLIEST = "2020-01-01T00:00:00.000Z";
const DAY_MS = 86_400_000;

/**
 * The latest time that is believed of a device at wall time `now` (milliseconds): a day ahead. Only a synchronised clock may
 * say that another one is ahead; otherwise every time is believed.
 */
export function latestBelieved(now: number, clock: ClockQuality): string {
  return (clock === "synchronised" ? writeRfc3339(now + DAY_MS) : undefined) ?? "~";
}

/** Whether a device's time is absurd: before 2020, or after `latest`. Times are RFC 3339 in UTC with milliseconds, which sort as text. */
export function isSuspect(tsIso: string, latest: string): boolean {
  return tsIso < EARLIEST || tsIso > latest;
}
