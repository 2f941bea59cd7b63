/** A device on a polled port, as the port's polling sees it. */
import type { AnswerFault } from "../../../codec/decoder.ts";
import type { Clock } from "../../../kernel/clock.ts";
import type { Intake, Origin } from "../../intake.ts";
import type { SerialMeters } from "../port-use.ts";
import type { SerialTraffic } from "../traffic.ts";
import type { BusLine } from "./bus-line.ts";

/** How a turn went. `detail` says, for the operator, what was asked for in vain. */
export type Turn =
  | { readonly kind: "well" }
  /** It understands, and refuses: it is there. */
  | { readonly kind: "exception"; readonly detail: string }
  /** `partly`: it gave good answers before. */
  | { readonly kind: "fault"; readonly fault: AnswerFault; readonly partly: boolean; readonly detail: string }
  /** It is busy for so many milliseconds, during which others may be asked. */
  | { readonly kind: "later"; readonly ms: number };

export interface Station {
  /** As the configuration calls it: an address, or the port's name. */
  readonly device: string;
  /** As an operator knows it: `server 3 (pump)`, `sensor 0 M1 (soil-0)`. */
  readonly label: string;
  /** How often it has its turn, in milliseconds. */
  readonly every: number;
  /** The port was opened anew: what was begun before counts no more. */
  restart?(): void;
  /** Asks it, and submits what it answers. Without `patience` nothing is asked twice. Never rejects. */
  turn(line: BusLine, patience: boolean): Promise<Turn>;
}

export interface StationParts {
  readonly intake: Intake;
  readonly clock: Clock;
  readonly meters: SerialMeters;
  readonly traffic: SerialTraffic;
}

/** Hands over what a device has answered, put together from all its answers. */
export function submitValues(values: object, origin: Origin, { intake, traffic }: StationParts): void {
  traffic.answered(origin.source, values, origin.class, intake.submit(values, origin));
}
