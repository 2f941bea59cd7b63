/**
 * `verifyTrail` in a thread of its own that ends with it: a trail of `audit.maxBytes` takes seconds of a small board's time,
 * in which the daemon has other things to do.
 */
import { Worker } from "node:worker_threads";
import type { TrailReport } from "./verify.ts";

/** What the thread says, once. */
export type VerifyAnswer = { readonly report: TrailReport } | { readonly fault: string };

/** A few lines at a time make much garbage: in a small young generation it is cleared away before the process grows by it. */
const MEMORY = { maxYoungGenerationSizeMb: 1, maxOldGenerationSizeMb: 64 };

/** Looks through the trail in a folder. Aborting `signal` ends it. @throws where the trail cannot be read, or `signal` has aborted */
export async function verifyTrailApart(folder: string, signal: AbortSignal): Promise<TrailReport> {
  const worker = new Worker(new URL("./verify-worker.js", import.meta.url), {
    workerData: folder,
    resourceLimits: MEMORY,
  });
  const end = (): void => void worker.terminate();
  signal.addEventListener("abort", end);
  try {
    const answer = await new Promise<VerifyAnswer>((resolve, reject) => {
      worker.once("message", resolve);
      worker.once("error", reject);
      worker.once("exit", () => reject(new Error("the thread that looks through the trail has ended")));
    });
    if ("report" in answer) return answer.report;
    throw new Error(answer.fault);
  } finally {
    signal.removeEventListener("abort", end);
    await worker.terminate();
  }
}
