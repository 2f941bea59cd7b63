// A reporter of node:test: where the suite's time goes, by file, the ten slowest first.
import { relative } from "node:path";

const SHOWN = 10;

export default async function* slowestFiles(events) {
  const seconds = new Map();
  for await (const { type, data } of events) {
    if ((type !== "test:pass" && type !== "test:fail") || data.nesting !== 0 || data.file === undefined) continue;
    seconds.set(data.file, (seconds.get(data.file) ?? 0) + data.details.duration_ms / 1000);
  }
  const slowest = [...seconds]
    .filter(([, took]) => took >= 1)
    .sort(([, a], [, b]) => b - a)
    .slice(0, SHOWN);
  yield "\nslowest files\n";
  for (const [file, took] of slowest) yield `${took.toFixed(0).padStart(6)} s  ${relative(process.cwd(), file)}\n`;
}
