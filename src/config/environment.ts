/** The process's environment variables, by name. */
export type Environment = Readonly<Record<string, string | undefined>>;

/** The one place that reads `process.env`; everything else is handed what it needs. */
export const environment: Environment = process.env;

/** Whether errors are to be shown with their stack: `SUMMIT_EDGE_DEBUG` is set, and not to 0. */
export function debugging(env: Environment): boolean {
  return !["", "0", undefined].includes(env.SUMMIT_EDGE_DEBUG);
}
