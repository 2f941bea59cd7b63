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

export interface Guess {
  readonly name: string;
  /** Whether the two have so much in common that nothing else can have been meant. */
  readonly close: boolean;
}

/** Shorter parts than this stand in many a word by chance. */
const LEAST_SHARED = 3;
/** As much of the longer name may differ. */
const TOLERATED = 0.4;

/**
 * The known name that is nearest to `name`: one that begins with it or with which it begins, else one that holds it or that
 * it holds, else the one with the fewest changes for its length. `undefined` only where nothing is known.
 */
export function nearest(name: string, known: readonly string[]): Guess | undefined {
  const bounded = name.slice(0, 64);
  const [best] = known
    .map((candidate) => ({ candidate, tier: tierOf(bounded, candidate), ...difference(bounded, candidate) }))
    .sort((a, b) => a.tier - b.tier || a.share - b.share);
  if (best === undefined) return undefined;
  return { name: best.candidate, close: best.tier < 2 || best.distance <= 1 || best.share <= TOLERATED };
}

function tierOf(one: string, other: string): 0 | 1 | 2 {
  const [shorter = "", longer = ""] = [one.toLowerCase(), other.toLowerCase()].sort((a, b) => a.length - b.length);
  if (shorter.length < LEAST_SHARED) return 2;
  if (longer.startsWith(shorter)) return 0;
  return longer.includes(shorter) ? 1 : 2;
}

function difference(one: string, other: string): { distance: number; share: number } {
  const distance = editDistance(one, other);
  return { distance, share: distance / Math.max(one.length, other.length, 1) };
}

/** What an error about an unknown name ends with: `did you mean …?`, or where nothing is near, the names that there are. */
export function suggestion(name: string, known: readonly string[]): string {
  const guess = nearest(name, known);
  if (guess === undefined) return "nothing may stand here";
  return guess.close ? `did you mean \`${guess.name}\`?` : listed(known);
}

/** The names that there are. */
export function listed(known: readonly string[]): string {
  return `known here: ${known.join(", ")}`;
}
