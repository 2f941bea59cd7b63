/** What every source hands its readings to. The implementation normalises, validates, and appends to the outbox. */
import type { Priority } from "../observation/observation.ts";

/** What the source itself knows about a reading, for what the payload leaves out. */
export interface Origin {
  readonly kind: "mqtt" | "serial";
  /** The source's name in status and metrics: `mqtt`, or the port's name. */
  readonly name: string;
  /** Source of a reading that names none. */
  readonly source: string;
  readonly class?: string;
  readonly priority?: Priority;
  /** Where it came in, for the log: a topic, a device file. */
  readonly via: string;
  /** Why whoever sent it may not speak for this source; `undefined` where it may. Without it all may. */
  readonly objection?: (source: string) => string | undefined;
}

export interface Admission {
  readonly accepted: number;
  /** Copies of readings that were accepted before; acknowledged, not accepted again. */
  readonly duplicates: number;
  readonly refused: number;
  /** Of those refused: how many because of their source. */
  readonly unauthorised: number;
}

export interface Intake {
  /**
   * Takes one reading (an object) or several (an array of objects). `committed` is called exactly once, never before
   * this returns, when everything in it that was accepted (copies included) is durable; at once where nothing was.
   * Without it nobody waits for an acknowledgement: a full outbox that refuses then counts the readings as refused.
   */
  submit(payload: unknown, origin: Origin, committed?: () => void): Admission;
  /** Counts something that could not even be read as a payload. `raw` is kept in part, for the operator. */
  refuse(reason: "invalid" | "unauthorised", detail: string, raw: Uint8Array | string, origin: Origin): void;
  /** Whether a source without acknowledgements ought to pause: too much waits for its commit. */
  readonly saturated: boolean;
  /** Whether the outbox is full and refuses readings of a priority: what is to be acknowledged had better not be handed over. */
  refuses(priority: Priority): boolean;
  /** Calls `listener` once when `saturated` and what is refused have changed for the better. */
  onceRelieved(listener: () => void): void;
}
