import { codeOf, GatewayError, messageOf } from "../kernel/errors.ts";

/**
 * What only the running daemon can answer.
 * @throws GatewayError DAEMON_NEEDED, which says why, where it does not answer
 */
export async function needed<T>(answer: Promise<T>, op: string, why: string, hint: string): Promise<T> {
  try {
    return await answer;
  } catch (error) {
    if (codeOf(error) !== "DAEMON_UNREACHABLE") throw error;
    throw new GatewayError({
      code: "DAEMON_NEEDED",
      op,
      message: `${why}, and ${messageOf(error)}`,
      hint,
      cause: error,
    });
  }
}
