/** Faults that the reference fusion service shows on request, so that what a gateway does about them can be seen. */
import { Ajv, type ErrorObject } from "ajv";
import { FAULT_MODE_NAMES, type FaultModeName } from "./fusion-fault-modes.ts";
import { chanceOf, seededRandom } from "./random.ts";

export interface Fault {
  readonly mode: FaultModeName;
  /** Waits so long before it answers, in any mode. */
  readonly latencyMs?: number;
  /** Seconds, or an HTTP date. */
  readonly retryAfter?: number | string;
  readonly status?: number;
  /**
   * Share of the requests that meet the fault; in mode `reject` the share of the readings it names, the same ones
   * whenever they come again. Default 1.
   */
  readonly share?: number;
  /** How many requests meet it (in mode `reject`: how many come at all) before all is well again; without it, no end. */
  readonly count?: number;
  readonly rejectIds?: readonly string[];
  readonly rejectClass?: string;
  /** Whether a rejected reading may be sent again. Default false. */
  readonly retriable?: boolean;
}

const faultSchema = {
  type: "object",
  required: ["mode"],
  additionalProperties: false,
  properties: {
    mode: { enum: FAULT_MODE_NAMES },
    latencyMs: { type: "number", minimum: 0, maximum: 3_600_000 },
    retryAfter: {
      anyOf: [
        { type: "integer", minimum: 0 },
        { type: "string", minLength: 1, maxLength: 64 },
      ],
    },
    status: { type: "integer", minimum: 300, maximum: 599 },
    share: { type: "number", minimum: 0, maximum: 1 },
    count: { type: "integer", minimum: 1 },
    rejectIds: { type: "array", maxItems: 10_000, items: { type: "string" } },
    rejectClass: { type: "string", minLength: 1 },
    retriable: { type: "boolean" },
  },
  if: { properties: { mode: { const: "status" } } },
  // biome-ignore lint/suspicious/noThenProperty: a keyword of JSON Schema
  then: { required: ["status"] },
} as const;

const ajv = new Ajv({ strict: true, strictRequired: false });
const isFault = ajv.compile<Fault>(faultSchema);

/** A fault as it came in a request, or what is wrong with it. */
export function readFault(value: unknown): { readonly fault: Fault } | { readonly problem: string } {
  if (isFault(value)) return { fault: value };
  return { problem: (isFault.errors ?? []).map(problemOf).join(", ") };
}

function problemOf(error: ErrorObject): string {
  const field = `fault${error.instancePath.replaceAll("/", ".")}`;
  if (error.keyword === "enum") return `${field} must be one of ${FAULT_MODE_NAMES.join(", ")}`;
  if (error.keyword === "additionalProperties") {
    const known = Object.keys(faultSchema.properties).join(", ");
    return `${field} has no ${JSON.stringify(error.params.additionalProperty)}; known there: ${known}`;
  }
  return `${field} ${error.message ?? error.keyword}`;
}

/** The fault that is set, and which requests meet it. */
export class FaultPlan {
  readonly #seed: number;
  readonly #random: () => number;
  #fault: Fault = { mode: "none" };
  #remaining = Number.POSITIVE_INFINITY;

  constructor(seed: number) {
    this.#seed = seed;
    this.#random = seededRandom(seed);
  }

  /** The fault that is set, with as many requests as are left to it. */
  get current(): Fault {
    return Number.isFinite(this.#remaining) ? { ...this.#fault, count: this.#remaining } : this.#fault;
  }

  set(fault: Fault): void {
    this.#fault = fault;
    this.#remaining = fault.count ?? Number.POSITIVE_INFINITY;
  }

  /** What the request that begins now meets. */
  draw(): Fault {
    const fault = this.#fault;
    if (fault.mode === "none") return fault;
    if (fault.mode !== "reject" && this.#random() >= (fault.share ?? 1)) return { mode: "none" };
    this.#remaining--;
    if (this.#remaining <= 0) this.set({ mode: "none" });
    return fault;
  }

  /** Whether a fault of mode `reject` is about this reading. */
  rejects(fault: Fault, reading: { readonly id: string; readonly class: string }): boolean {
    if (fault.mode !== "reject") return false;
    const named = fault.rejectIds?.includes(reading.id) === true || fault.rejectClass === reading.class;
    if (!named && (fault.rejectIds !== undefined || fault.rejectClass !== undefined)) return false;
    return chanceOf(this.#seed, reading.id) < (fault.share ?? 1);
  }
}
