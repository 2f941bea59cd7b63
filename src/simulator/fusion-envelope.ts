/**
 * What the reference fusion service takes: the envelope and the observations of contract section 5 and 4, as JSON
 * Schema, and a batch read against them. Pure.
 */
import { Ajv, type ErrorObject } from "ajv";
import { type Observation, PRIORITIES } from "../observation/observation.ts";

/** An observation as it arrives: the optional members may be missing, the gateway's is there. */
export type ReceivedObservation = Pick<Observation, "id" | "class" | "ts_iso" | "confidence"> &
  Partial<Observation> & {
    readonly gateway: {
      readonly id: string;
      readonly seq: number;
      readonly received_at: string;
      readonly clock: string;
    };
  };

/** One reading that is refused, as the answer names it. */
export interface Rejection {
  readonly id: string;
  readonly code: string;
  readonly detail: string;
  readonly retriable: boolean;
}

export interface ReadBatch {
  readonly kind: "batch";
  readonly gatewayId: string;
  readonly replayed: boolean;
  readonly valid: readonly ReceivedObservation[];
  readonly rejected: readonly Rejection[];
}

/** A request that is refused as a whole. */
export interface Refusal {
  readonly kind: "refusal";
  readonly status: number;
  readonly code: string;
  readonly detail: string;
}

/** Observations in one request; ten thousand is the most that a gateway can be configured to send. */
export const MAX_OBSERVATIONS = 10_000;

const TEXT = { type: "string", minLength: 1 } as const;

const envelopeSchema = {
  type: "object",
  required: ["schema", "gateway_id", "sent_at", "replayed", "observations"],
  additionalProperties: false,
  properties: {
    schema: { const: "summit.observations/1" },
    gateway_id: TEXT,
    sent_at: { type: "string", format: "date-time" },
    replayed: { type: "boolean" },
    observations: {
      type: "array",
      maxItems: MAX_OBSERVATIONS,
      // A reading without an id cannot be named in the answer, so it is a fault of the whole batch.
      items: { type: "object", required: ["id"], properties: { id: TEXT } },
    },
  },
} as const;

const observationSchema = {
  type: "object",
  required: ["id", "class", "ts_iso", "confidence", "gateway"],
  additionalProperties: false,
  properties: {
    id: { type: "string", format: "uuid" },
    class: TEXT,
    ts_iso: { type: "string", format: "date-time" },
    confidence: { type: "number", minimum: 0, maximum: 1 },
    lat: { type: "number", minimum: -90, maximum: 90 },
    lon: { type: "number", minimum: -180, maximum: 180 },
    source: TEXT,
    priority: { enum: PRIORITIES },
    attributes: { type: "object" },
    traceparent: { type: "string", pattern: "^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}" },
    gateway: {
      type: "object",
      required: ["id", "seq", "received_at", "clock"],
      additionalProperties: false,
      properties: {
        id: TEXT,
        seq: { type: "integer", minimum: 0, maximum: Number.MAX_SAFE_INTEGER },
        received_at: { type: "string", format: "date-time" },
        clock: { enum: ["synchronised", "unsynchronised", "stepped"] },
        time: { const: "suspect" },
        boot: TEXT,
        uptime_ms: { type: "integer", minimum: 0 },
        restamped_from: { type: "string", format: "date-time" },
      },
    },
  },
} as const;

const ajv = new Ajv({ strict: true });
ajv.addFormat("uuid", /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i);
ajv.addFormat("date-time", isDateTime);

interface Envelope {
  readonly gateway_id: string;
  readonly replayed: boolean;
  readonly observations: readonly { readonly id: string }[];
}
const isEnvelope = ajv.compile<Envelope>(envelopeSchema);
const isObservation = ajv.compile<ReceivedObservation>(observationSchema);

/** Reads a request's body, inflated already. */
export function readBatch(body: Uint8Array): ReadBatch | Refusal {
  let parsed: unknown;
  try {
    parsed = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(body));
  } catch {
    return { kind: "refusal", status: 400, code: "malformed-json", detail: "the body is not JSON in UTF-8" };
  }
  if (!isEnvelope(parsed)) {
    return { kind: "refusal", status: 422, code: "malformed-envelope", detail: explain(isEnvelope.errors) };
  }
  const valid: ReceivedObservation[] = [];
  const rejected: Rejection[] = [];
  for (const observation of parsed.observations) {
    if (isObservation(observation)) valid.push(observation);
    else rejected.push(rejection(observation, isObservation.errors));
  }
  return { kind: "batch", gatewayId: parsed.gateway_id, replayed: parsed.replayed, valid, rejected };
}

function rejection(observation: { readonly id: string }, errors: ErrorObject[] | null | undefined): Rejection {
  const error = errors?.[0];
  const { missingProperty, additionalProperty } = (error?.params ?? {}) as Record<string, string | undefined>;
  const member = error?.instancePath.split("/")[1] ?? missingProperty ?? additionalProperty ?? "observation";
  return { id: observation.id, code: `invalid-${member}`, detail: explain(errors), retriable: false };
}

function explain(errors: ErrorObject[] | null | undefined): string {
  const [error] = errors ?? [];
  const extra = error?.params.additionalProperty;
  return `${error?.instancePath ?? ""} ${error?.message ?? "invalid"}${extra === undefined ? "" : `: ${extra}`}`.trim();
}

const DATE_TIME =
  /^(\d{4})-(\d\d)-(\d\d)T([01]\d|2[0-3]):[0-5]\d:([0-5]\d|60)(\.\d+)?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)$/i;

/** RFC 3339, section 5.6, the calendar included. */
export function isDateTime(text: string): boolean {
  const [, year, month, day] = DATE_TIME.exec(text) ?? [];
  if (year === undefined) return false;
  const date = new Date(0);
  date.setUTCFullYear(Number(year), Number(month) - 1, Number(day));
  return date.getUTCMonth() === Number(month) - 1 && date.getUTCDate() === Number(day);
}
