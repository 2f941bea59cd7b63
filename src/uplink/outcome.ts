/**
 * What an answer means (contract, section 5): a pure function from what came back to what the gateway does about it.
 * It decides nothing about *when* to try again; that is the matter of policies.ts and gate.ts. What fusion sends is
 * bounded here before it goes into dead letters and logs.
 */
import type { DeadLetterReason } from "../outbox/batch.ts";
import type { Answer, Exchange, Fault } from "./transport.ts";

/** One reading that fusion refused by name in an otherwise accepted batch. */
export interface Rejection {
  readonly id: string;
  readonly reason: DeadLetterReason;
  readonly retriable: boolean;
}

/** Everything is kept and tried again later; counts towards the breaker. */
export interface Failure {
  readonly kind: "failed";
  readonly fault: Fault;
  /** `http-503`, `ECONNREFUSED`, `read-timeout`, `unintelligible-answer`, …. */
  readonly code: string;
  readonly detail: string;
  /** How long fusion asked to be left alone, at most an hour; 0 where it did not ask. */
  readonly retryAfterMs: number;
}

/** The readings, not the link, are at fault, or so fusion says: the batch is halved. Does not count towards the breaker. */
export type Refusal =
  /** 400 or 422. */
  | { readonly kind: "refused"; readonly reason: DeadLetterReason }
  /** 413 */
  | { readonly kind: "too-large"; readonly reason: DeadLetterReason };

export type Outcome =
  | { readonly kind: "accepted" }
  | { readonly kind: "partial"; readonly rejected: readonly Rejection[]; readonly retryAfterMs: number }
  | Refusal
  | Failure
  | { readonly kind: "aborted" };

/** The longest that a `Retry-After` can make the gateway wait. */
export const MAX_RETRY_AFTER_MS = 3_600_000;
const MAX_CODE_CHARS = 64;
const MAX_DETAIL_CHARS = 1024;
const MAX_PROBLEM_CHARS = 4096;
/** How much of a body that is not problem details is quoted to the operator. */
const MAX_QUOTE_CHARS = 200;

/**
 * The outcome of a request. `now` is wall time in milliseconds, used only for a `Retry-After` date in an answer that
 * carries no `Date` of its own.
 */
export function outcomeOf(exchange: Exchange, now: number): Outcome {
  if (exchange.kind === "aborted") return exchange;
  if (exchange.kind === "no-answer") {
    return { kind: "failed", fault: exchange.fault, code: exchange.code, detail: exchange.detail, retryAfterMs: 0 };
  }
  const { status } = exchange;
  if (status >= 200 && status < 300) return outcomeOfSuccess(exchange, now);
  if (status === 400 || status === 422) return { kind: "refused", reason: reasonIn(exchange) };
  if (status === 413) return { kind: "too-large", reason: reasonIn(exchange) };
  return failure(exchange, faultOf(status), now, `http-${status}`, describe(exchange));
}

function faultOf(status: number): Fault {
  if (status === 401 || status === 403) return "credentials";
  if ([404, 405, 410, 415].includes(status)) return "misconfigured";
  if ([408, 425, 429].includes(status) || (status >= 500 && status < 600)) return "failing";
  return "unexpected";
}

function failure(answer: Answer, fault: Fault, now: number, code: string, detail: string): Failure {
  return { kind: "failed", fault, code, detail, retryAfterMs: retryAfterOf(answer, now) };
}

function outcomeOfSuccess(answer: Answer, now: number): Outcome {
  const unintelligible = (what: string): Failure =>
    failure(answer, "unexpected", now, "unintelligible-answer", `answered ${answer.status} with ${what}`);
  if (answer.truncated) return unintelligible("more than is read of an answer");
  if (answer.body.trim() === "") return { kind: "accepted" };
  const body = parseJson(answer.body);
  if (!isObject(body)) return unintelligible(`a body that is not a JSON object: ${quote(answer.body)}`);
  // A server whose empty list is written as null means the same as one that writes [].
  const listed = body.rejected ?? [];
  if (!Array.isArray(listed)) return unintelligible("a `rejected` that is not a list");
  if (listed.length === 0) return { kind: "accepted" };
  const rejected = listed.map(rejectionIn);
  if (!rejected.every((rejection) => rejection !== undefined)) return unintelligible("a rejection without an id");
  return { kind: "partial", rejected, retryAfterMs: retryAfterOf(answer, now) };
}

function rejectionIn(item: unknown): Rejection | undefined {
  if (!isObject(item) || typeof item.id !== "string") return undefined;
  return {
    id: item.id.toLowerCase(),
    reason: { code: textOf(item.code, MAX_CODE_CHARS) ?? "rejected", detail: textOf(item.detail) ?? "" },
    retriable: item.retriable === true,
  };
}

/**
 * Where the rejected readings stand among `ids`, the ids that were sent, in order; a failure where one was not sent: an
 * answer to somebody else's batch says nothing about ours.
 */
export function locate(
  rejected: readonly Rejection[],
  ids: readonly string[],
): (Rejection & { readonly index: number })[] | Failure {
  const byId = new Map(rejected.map((rejection) => [rejection.id, rejection]));
  const located = ids.flatMap((id, index) => {
    const rejection = byId.get(id);
    return rejection === undefined ? [] : [{ ...rejection, index }];
  });
  const sent = new Set(ids);
  const stranger = rejected.find(({ id }) => !sent.has(id));
  if (stranger === undefined) return located;
  const detail = `the answer rejects ${cut(stranger.id, MAX_CODE_CHARS)}, which was not sent`;
  return { kind: "failed", fault: "unexpected", code: "unknown-ids", detail, retryAfterMs: 0 };
}

/** What goes with the dead letter: the problem details of RFC 9457 where the answer has them. */
function reasonIn(answer: Answer): DeadLetterReason {
  const problem = answer.truncated ? undefined : parseJson(answer.body);
  const fallback = `http-${answer.status}`;
  if (!isObject(problem)) return { code: fallback, detail: quote(answer.body) };
  const code = textOf(problem.code, MAX_CODE_CHARS) ?? lastPartOf(problem.type) ?? fallback;
  const detail = textOf(problem.detail) ?? textOf(problem.title) ?? "";
  return JSON.stringify(problem).length > MAX_PROBLEM_CHARS ? { code, detail } : { code, detail, problem };
}

/** `…/problems/out-of-range` and `…#out-of-range` name the problem in their last part; `about:blank` names none. */
function lastPartOf(type: unknown): string | undefined {
  if (typeof type !== "string" || type === "about:blank") return undefined;
  return textOf(
    type
      .split(/[/#:?]/)
      .filter((part) => part !== "")
      .at(-1),
    MAX_CODE_CHARS,
  );
}

function describe(answer: Answer): string {
  const { status } = answer;
  if (status >= 300 && status < 400) {
    const location = single(answer.headers.location) ?? "nowhere";
    return `answered ${status}, a redirect to ${cut(location, MAX_QUOTE_CHARS)}; redirects are not followed`;
  }
  const said = reasonIn(answer).detail;
  return said === "" ? `answered ${status}` : `answered ${status}: ${said}`;
}

/**
 * `Retry-After` (RFC 9110, 10.2.3) in milliseconds, both forms, capped; 0 where there is none or it makes no sense. A
 * date is read against the answer's own `Date`, because the gateway's clock may never have been set.
 */
function retryAfterOf(answer: Answer, now: number): number {
  const value = single(answer.headers["retry-after"])?.trim() ?? "";
  if (/^\d+$/.test(value)) return Math.min(Number(value) * 1000, MAX_RETRY_AFTER_MS);
  if (!/^[A-Za-z]{3}/.test(value)) return 0;
  const sent = Date.parse(single(answer.headers.date) ?? "");
  const wait = Date.parse(value) - (Number.isNaN(sent) ? now : sent);
  return Number.isNaN(wait) ? 0 : Math.min(Math.max(0, wait), MAX_RETRY_AFTER_MS);
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function textOf(value: unknown, limit = MAX_DETAIL_CHARS): string | undefined {
  return typeof value === "string" && value !== "" ? cut(value, limit) : undefined;
}

function single(header: string | readonly string[] | undefined): string | undefined {
  return typeof header === "string" ? header : header?.[0];
}

function quote(body: string): string {
  return cut(body.trim().replace(/\s+/g, " "), MAX_QUOTE_CHARS);
}

function cut(text: string, limit: number): string {
  return text.length > limit ? `${text.slice(0, limit - 1)}…` : text;
}
