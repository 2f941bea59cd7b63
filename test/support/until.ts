const DEADLINE_MS = 30_000;
const LOOK_EVERY_MS = 5;

/**
 * Resolves as soon as `holds` does; fails after a deadline that only a hang reaches. `meanwhile` runs before each further
 * look, to let a test clock's time pass.
 */
export async function until(
  what: string,
  holds: () => boolean,
  meanwhile: () => Promise<void> = async () => {},
  deadlineMs: number = DEADLINE_MS,
): Promise<void> {
  const deadline = performance.now() + deadlineMs;
  while (!holds()) {
    if (performance.now() > deadline) throw new Error(`not within ${deadlineMs / 1000} s: ${what}`);
    await meanwhile();
    await new Promise((resolve) => setTimeout(resolve, LOOK_EVERY_MS));
  }
}
