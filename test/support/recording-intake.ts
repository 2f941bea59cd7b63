import type { Admission, Intake, Origin } from "#src/sources/intake.js";

/** An intake that accepts everything and remembers it. `saturated` is for the test to set. */
export class RecordingIntake implements Intake {
  readonly readings: { readonly payload: unknown; readonly origin: Origin }[] = [];
  readonly refusals: {
    readonly reason: "invalid" | "unauthorised";
    readonly detail: string;
    readonly raw: string;
    readonly origin: Origin;
  }[] = [];
  saturated = false;
  #listeners: (() => void)[] = [];

  submit(payload: unknown, origin: Origin, committed?: () => void): Admission {
    const payloads = Array.isArray(payload) ? payload : [payload];
    for (const one of payloads) this.readings.push({ payload: one, origin });
    if (committed !== undefined) queueMicrotask(committed);
    return { accepted: payloads.length, duplicates: 0, refused: 0, unauthorised: 0 };
  }

  refuse(reason: "invalid" | "unauthorised", detail: string, raw: Uint8Array | string, origin: Origin): void {
    const text = typeof raw === "string" ? raw : Buffer.from(raw).toString("latin1");
    this.refusals.push({ reason, detail, raw: text, origin });
  }

  refuses(): boolean {
    return false;
  }

  onceRelieved(listener: () => void): void {
    this.#listeners.push(listener);
  }

  /** Has room again, and says so. */
  relieve(): void {
    this.saturated = false;
    for (const listener of this.#listeners.splice(0)) listener();
  }

  /** Who waits for room. */
  get waitingForRelief(): number {
    return this.#listeners.length;
  }

  /** The payloads in the order of their arrival, of one source where it is named. */
  payloads(name?: string): unknown[] {
    return this.readings
      .filter(({ origin }) => name === undefined || origin.name === name)
      .map(({ payload }) => payload);
  }
}
