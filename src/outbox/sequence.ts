/**
 * Which sequence numbers a block holds, as runs. A block begins as one run; what is settled out of its middle leaves
 * gaps. Pure.
 */

/** First and last sequence number of a run, both included. */
export type Run = readonly [first: number, last: number];

/** The numbers of runs, one by one. */
export function expand(runs: readonly Run[]): number[] {
  const numbers: number[] = [];
  for (const [first, last] of runs) for (let seq = first; seq <= last; seq++) numbers.push(seq);
  return numbers;
}

/** Ascending numbers as the fewest runs. */
export function collapse(numbers: readonly number[]): Run[] {
  const runs: Run[] = [];
  for (const seq of numbers) append(runs, seq);
  return runs;
}

/** Adds a number that is larger than all of the runs'. */
export function append(runs: Run[], seq: number): void {
  const [first, last] = runs.at(-1) ?? [];
  if (first !== undefined && last === seq - 1) runs[runs.length - 1] = [first, seq];
  else runs.push([seq, seq]);
}

/** Runs of several blocks as the fewest, in ascending order, whatever blocks they came from. */
export function merge(runs: readonly Run[]): Run[] {
  const merged: [number, number][] = [];
  for (const [first, last] of [...runs].sort((a, b) => a[0] - b[0])) {
    const run = merged.at(-1);
    if (run !== undefined && run[1] + 1 === first) run[1] = last;
    else merged.push([first, last]);
  }
  return merged;
}

/** The runs of the numbers at positions `from` (included) to `to` (not). */
export function slice(runs: readonly Run[], from: number, to: number): Run[] {
  const part: Run[] = [];
  let position = 0;
  for (const [first, last] of runs) {
    const length = last - first + 1;
    const begin = Math.max(from - position, 0);
    const end = Math.min(to - position, length);
    if (begin < end) part.push([first + begin, first + end - 1]);
    position += length;
  }
  return part;
}
