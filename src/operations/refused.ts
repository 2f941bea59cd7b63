/** A request that is answered with a problem: an expected end of a route, not a fault of the program. */
export class Refused extends Error {
  readonly status: number;
  readonly code: string;
  /** What the operator does next. */
  readonly hint: string | undefined;

  constructor(status: number, code: string, detail: string, hint?: string) {
    super(detail);
    this.name = "Refused";
    this.status = status;
    this.code = code;
    this.hint = hint;
  }
}
