/** How a replay's deliveries fare, kept apart from the line of live traffic. Pure. */
import type { DeadLetterReason, IndexRange, Settlement } from "../outbox/batch.ts";
import type { DeliveryLine } from "./delivery.ts";
import type { Failure } from "./outcome.ts";
import { RefusalStreak } from "./policies.ts";

/** Stands in for the line in a replay's deliveries: remembers how the last one fared, and keeps it from live traffic. */
export class ReplayLine implements DeliveryLine {
  readonly streak = new RefusalStreak();
  readonly refusing = false;
  failure: Failure | undefined;
  /** Why fusion refuses every reading, where it does. */
  refusal: DeadLetterReason | undefined;

  begin(): void {
    this.failure = undefined;
    this.refusal = undefined;
  }
  accepted(): void {
    this.streak.accepted();
  }
  answered(): void {}
  abandoned(): void {}
  failed(_permit: unknown, failure: Failure): void {
    this.failure = failure;
  }
  refusesEverything(reason: DeadLetterReason): void {
    this.refusal = reason;
  }
  pickAlone(): number {
    return 0;
  }
}

/** The parts of `range` that have no fate yet, or are wanted again later, in order. */
export function leftOf(range: IndexRange, settlement: Settlement): IndexRange[] {
  const open = new Array<boolean>(range.to - range.from).fill(true);
  for (const { from, to } of settlement.delivered) open.fill(false, from - range.from, to - range.from);
  for (const { index } of settlement.deadLettered) open[index - range.from] = false;
  const left: IndexRange[] = [];
  open.forEach((isOpen, offset) => {
    if (!isOpen) return;
    const index = range.from + offset;
    const last = left.at(-1);
    if (last?.to === index) left[left.length - 1] = { from: last.from, to: index + 1 };
    else left.push({ from: index, to: index + 1 });
  });
  return left;
}
