/** The faults that the reference fusion service can show, in words: what each does, and how it is asked for. */

interface FaultMode {
  /** What fusion then does. */
  readonly means: string;
  /** A body for `PUT /faults`. */
  readonly example: string;
}

const MODES = {
  none: { means: "all is well", example: '{"mode":"none"}' },
  latency: { means: "answers as ever, after latencyMs", example: '{"mode":"latency","latencyMs":2000}' },
  unavailable: {
    means: "503, with Retry-After where retryAfter (seconds, or an HTTP date) is set",
    example: '{"mode":"unavailable","retryAfter":5}',
  },
  hang: { means: "takes the request and never answers", example: '{"mode":"hang"}' },
  reset: { means: "resets the connection as soon as a request begins", example: '{"mode":"reset","share":0.5}' },
  "apply-then-drop-reply": {
    means: "stores the readings, then drops the connection instead of answering",
    example: '{"mode":"apply-then-drop-reply","count":3}',
  },
  forget: {
    means: "says that it has stored the readings, and has not: the loss that no gateway can see",
    example: '{"mode":"forget","count":1}',
  },
  reject: {
    means: "refuses the readings in rejectIds or of rejectClass (else all) by name; see also retriable, status",
    example: '{"mode":"reject","rejectClass":"smoke"}',
  },
  "refuse-all": { means: "422 for every batch", example: '{"mode":"refuse-all"}' },
  status: {
    means: "answers status, with Retry-After where retryAfter is set",
    example: '{"mode":"status","status":429,"retryAfter":5}',
  },
} satisfies Record<string, FaultMode>;

export type FaultModeName = keyof typeof MODES;

export const FAULT_MODES: Readonly<Record<FaultModeName, FaultMode>> = MODES;

export const FAULT_MODE_NAMES = Object.keys(MODES) as readonly FaultModeName[];
