/** How commands tell of the card's wear. Pure. */
import type { Status } from "../operations/status.ts";
import { count, size, span } from "./format.ts";

type Wear = NonNullable<Status["wear"]>;

/** `558 B a reading, 4.1 commits a second (over the last 2 h 0 min)` */
export function writesText({ bytesPerReading, commitsPerSecond, measuredSeconds }: Wear): string {
  const each = bytesPerReading === null ? "no reading yet" : `${count(Math.round(bytesPerReading))} B a reading`;
  return `${each}, ${commitsPerSecond.toFixed(1)} commits a second (over the last ${span(measuredSeconds)})`;
}

/** A year at this rate, and which share of the card's rated life that is; honest about what it leaves out. */
export function wearText({ bytesPerYear, enduranceSharePerYear, enduranceBytes }: Wear): string {
  if (bytesPerYear === null || enduranceSharePerYear === null) return "measuring";
  const share = percentOf(enduranceSharePerYear);
  return `${size(Math.round(bytesPerYear))} a year, ${share} of the ${size(enduranceBytes)} in outbox.cardEndurance, before the card's own amplification`;
}

function percentOf(share: number): string {
  return share > 0 && share < 0.0005 ? "less than 0.1 %" : `${(100 * share).toFixed(1)} %`;
}
