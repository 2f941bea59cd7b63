/**
 * Preloaded (`--import`) into a daemon: how late its event loop is. SIGUSR2 begins the measurement; at the end of the process
 * the figures stand in the file that LAG_FILE names.
 */
import { writeFileSync } from "node:fs";

const EVERY_MS = 5;
const file = process.env.LAG_FILE;
let late: number[] = [];

function sample(): void {
  const due = performance.now() + EVERY_MS;
  setTimeout(() => {
    late.push(Math.max(0, performance.now() - due));
    sample();
  }, EVERY_MS).unref();
}

if (file !== undefined) {
  sample();
  process.on("SIGUSR2", () => {
    late = [];
  });
  process.on("exit", () => {
    const sorted = late.toSorted((a, b) => a - b);
    const at = (share: number): number => sorted[Math.floor(sorted.length * share)] ?? Number.NaN;
    writeFileSync(file, JSON.stringify({ samples: sorted.length, p50: at(0.5), p99: at(0.99), most: sorted.at(-1) }));
  });
}
