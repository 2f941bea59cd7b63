import { ERROR_CODES, type ErrorCode } from "./error-codes.ts";

/** A request that is answered with a problem: an expected end of a route, not a fault of the program. */
export class Refused extends Error {
  readonly status: number;
  readonly code: string;
  /** What the operator does next. */
  readonly hint: string | undefined;
  /** Header fields that belong to the answer: `retry-after`, `allow`, … */
  readonly headers: Readonly<Record<string, string>>;

  constructor(
    status: number,
    code: string,
    detail: string,
    hint?: string,
    headers: Readonly<Record<string, string>> = {},
  ) {
    super(detail);
    this.name = "Refused";
    this.status = status;
    this.code = code;
    this.hint = hint;
    this.headers = headers;
  }
}

/** The refusal of that code, with the status that belongs to it. */
export function refusal(
  code: ErrorCode,
  detail: string,
  hint?: string,
  headers?: Readonly<Record<string, string>>,
): Refused {
  return new Refused(ERROR_CODES[code].status, code, detail, hint, headers);
}
