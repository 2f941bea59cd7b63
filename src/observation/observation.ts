/** The vocabulary of readings once they are understood. Pure: types and constants only. */

/** Highest first: the order in which lanes are sent, and the reverse of the order in which they are evicted. */
export const PRIORITIES = ["critical", "high", "normal", "low"] as const;

export type Priority = (typeof PRIORITIES)[number];

/** How far the gateway's wall clock could be trusted when a reading was received. */
export type ClockQuality = "synchronised" | "unsynchronised" | "stepped";

/** A JSON value, as a device sent it. */
export type JsonValue = null | boolean | number | string | readonly JsonValue[] | { readonly [key: string]: JsonValue };

/**
 * A reading, normalised and valid (contract, section 4): what fusion will get, but for the `gateway` member, which the
 * outbox adds when it commits.
 */
export interface Observation {
  /** UUID, lower case; the same for each copy of the same reading. */
  readonly id: string;
  readonly class: string;
  /** RFC 3339, UTC, milliseconds. */
  readonly ts_iso: string;
  /** 0..1 */
  readonly confidence: number;
  /** Degrees, −90..90. */
  readonly lat?: number;
  /** Degrees, −180..180. */
  readonly lon?: number;
  readonly source: string;
  readonly priority: Priority;
  readonly attributes: { readonly [key: string]: JsonValue };
  /** W3C Trace Context, where the reading brought one. */
  readonly traceparent?: string;
  /** The reading brought no time of its own: `ts_iso` is the gateway's clock when it came in. Not sent. */
  readonly timedByGateway?: true;
}
