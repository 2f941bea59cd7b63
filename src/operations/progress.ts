/** How far each part had come: a count by name that only grows. */
export type Progress = ReadonlyMap<string, number>;

/** The parts that have not got on between two looks; one that was not there before has. Pure. */
export function stuckSince(before: Progress, now: Progress): readonly string[] {
  return [...now].filter(([name, count]) => count <= (before.get(name) ?? -1)).map(([name]) => name);
}
