import type { Clock } from "../kernel/clock.ts";

/** A terminal's Ctrl-C reaches a child of npm twice within milliseconds: by itself and passed on. */
const ECHO_MS = 1000;

/** Resolves at the first SIGINT or SIGTERM. One that comes at least a second later ends the process at once. */
export function untilStopped(clock: Pick<Clock, "after">): Promise<void> {
  return new Promise((resolve) => {
    const stop = (): void => {
      resolve();
      clock.after(ECHO_MS, () => {
        process.off("SIGINT", stop);
        process.off("SIGTERM", stop);
      });
    };
    process.on("SIGINT", stop);
    process.on("SIGTERM", stop);
  });
}
