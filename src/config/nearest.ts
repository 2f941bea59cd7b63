/** Which of the known names somebody may have meant. Pure. */

/** Insertions, deletions, substitutions and swaps of neighbours that turn one text into the other, upper and lower case alike. */
export function editDistance(one: string, other: string): number {
  const a = one.toLowerCase();
  const b = other.toLowerCase();
  let beforeLast: number[] = [];
  let last = Array.from({ length: b.length + 1 }, (_, column) => column);
  for (let row = 1; row <= a.length; row++) {
    const current = [row];
    for (let column = 1; column <= b.length; column++) {
      const same = a[row - 1] === b[column - 1];
      const swapped = row > 1 && column > 1 && a[row - 1] === b[column - 2] && a[row - 2] === b[column - 1];
      current[column] = Math.min(
        (last[column] ?? 0) + 1,
        (current[column - 1] ?? 0) + 1,
        (last[column - 1] ?? 0) + (same ? 0 : 1),
        swapped ? (beforeLast[column - 2] ?? 0) + 1 : Number.POSITIVE_INFINITY,
      );
    }
    beforeLast = last;
    last = current;
  }
  return last[b.length] ?? 0;
}

/** The known name that is nearest to `name`; `undefined` where even that one has little in common with it. */
export function nearest(name: string, known: readonly string[]): string | undefined {
  const bounded = name.slice(0, 64);
  const [best] = known
    .map((candidate) => ({ candidate, distance: editDistance(bounded, candidate) }))
    .sort((a, b) => a.distance - b.distance);
  if (best === undefined) return undefined;
  const tolerated = Math.max(1, Math.floor(Math.max(bounded.length, best.candidate.length) * 0.4));
  return best.distance <= tolerated ? best.candidate : undefined;
}

/** `did you mean …?`, or the names that there are: what an error about an unknown name ends with. */
export function suggestion(name: string, known: readonly string[]): string {
  const meant = nearest(name, known);
  if (meant !== undefined) return `did you mean \`${meant}\`?`;
  return known.length === 0 ? "nothing may stand here" : `known here: ${known.join(", ")}`;
}
