/** Which route somebody may have meant who has published to a topic that none matches. Pure. */
import { editDistance, nearest } from "../../config/nearest.ts";
import { CLASS_LEVEL, SOURCE_LEVELS } from "../../config/route-topics.ts";

/** Levels that the topic may have too many, or too few where the route takes any. */
const MAX_LEVELS_OFF = 2;
/** Deeper topics are not compared: what that costs grows with the levels. */
const MAX_LEVELS_COMPARED = 16;

/**
 * Of the routes' topics the one nearest to a topic, level by level: every level that the route names must stand there in its
 * order, rightly spelt or nearly, as keys of the configuration are judged. `undefined` where none is near.
 */
export function nearestRoute(topic: string, routes: readonly string[]): string | undefined {
  const levels = topic.split("/");
  if (levels.length > MAX_LEVELS_COMPARED) return undefined;
  let best: { readonly route: string; readonly distance: number } | undefined;
  for (const route of routes) {
    const distance = distanceTo(route.split("/"), levels);
    if (distance < (best?.distance ?? MAX_LEVELS_OFF + 1)) best = { route, distance };
  }
  return best?.route;
}

/** Levels too many and too few, and the share of letters that differ in those that are named; infinite where one is missing. */
function distanceTo(route: readonly string[], levels: readonly string[]): number {
  // Row by row over the route's levels: the least distance of those so far to each beginning of the topic.
  let last = Array.from({ length: levels.length + 1 }, (_, passed) => passed);
  for (const wanted of route) {
    if (wanted === "#") return Math.min(...last);
    const free = takesAny(wanted);
    const row = [(last[0] ?? 0) + (free ? 1 : Number.POSITIVE_INFINITY)];
    for (const [index, level] of levels.entries()) {
      row.push(
        Math.min(
          (last[index] ?? 0) + (free ? Number(level === "") : misspelling(level, wanted)),
          (row[index] ?? 0) + 1,
          (last[index + 1] ?? 0) + (free ? 1 : Number.POSITIVE_INFINITY),
        ),
      );
    }
    last = row;
  }
  return last[levels.length] ?? Number.POSITIVE_INFINITY;
}

function takesAny(level: string): boolean {
  return level === "+" || level === CLASS_LEVEL || SOURCE_LEVELS.includes(level);
}

/** The share of letters that differ, 0 to 1; infinite where something else was meant. */
function misspelling(level: string, wanted: string): number {
  if (level === "" || !nearest(level, [wanted])?.close) return Number.POSITIVE_INFINITY;
  return editDistance(level.slice(0, wanted.length * 2), wanted) / Math.max(level.length, wanted.length);
}
