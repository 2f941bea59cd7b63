/**
 * An operating fault: something outside the program is not as it should be, and somebody can mend it. Expected outcomes
 * are values, not errors; programming errors are left to end the process.
 */
export class GatewayError extends Error {
  /** Stable, upper snake case, the same in logs, problem details and metrics. */
  readonly code: string;
  /** What was being done, as `room.action`, for example `outbox.open`. */
  readonly op: string;
  /** What the operator does next, one sentence. */
  readonly hint: string;

  constructor(fault: { code: string; op: string; message: string; hint: string; cause?: unknown }) {
    super(fault.message, fault.cause === undefined ? undefined : { cause: fault.cause });
    this.name = "GatewayError";
    this.code = fault.code;
    this.op = fault.op;
    this.hint = fault.hint;
  }
}

/** Exit statuses of the `summit-edge` command. */
export const ExitStatus = {
  /** The operation failed. */
  failed: 1,
  /** Wrong usage or an invalid configuration. */
  usage: 2,
  /** An I/O error on the outbox (EX_IOERR of sysexits.h): the supervisor starts the daemon afresh. */
  ioError: 74,
} as const;

/**
 * OpenSSL's line of an error, `80BC2821627F0000:error:0A00010B:SSL routines:ssl3_get_record:wrong version number:../deps/….c:350:`:
 * all but the reason is for its developers.
 */
const OPENSSL_LINE = /(?:\b[0-9A-F]+:)?error:[0-9A-F]{8}:[^:]*:[^:]*:([^:]+)(?::[\s\S]*)?$/;

/** The text of anything that was thrown. */
export function messageOf(thrown: unknown): string {
  return (thrown instanceof Error ? thrown.message : String(thrown)).replace(OPENSSL_LINE, "$1");
}

/** The `code` of a Node.js system error (`ECONNREFUSED`, …), where there is one. */
export function codeOf(thrown: unknown): string | undefined {
  const code = (thrown as { code?: unknown } | null | undefined)?.code;
  return typeof code === "string" ? code : undefined;
}
