import { STATUS_CODES } from "node:http";

/** RFC 9457 problem details, with the stable `code` that the contract asks for. */
export interface Problem {
  readonly type: "about:blank";
  readonly title: string;
  readonly status: number;
  readonly code: string;
  readonly detail: string;
  /** What the operator does next. */
  readonly hint?: string;
  /** Which members of the request are at fault, as JSON pointers. */
  readonly errors?: readonly { readonly pointer: string; readonly detail: string }[];
}

export const PROBLEM_TYPE = "application/problem+json";

/** A problem of the given HTTP status; its title is the status's own phrase. */
export function problem(
  status: number,
  code: string,
  detail: string,
  more: Pick<Problem, "hint" | "errors"> = {},
): Problem {
  return { type: "about:blank", title: STATUS_CODES[status] ?? "Error", status, code, detail, ...more };
}
