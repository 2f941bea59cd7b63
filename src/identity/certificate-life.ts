/** When a certificate has to be renewed. Pure: dates in, verdict out; whether the clock can be trusted is another question. */

/** From when to when a certificate is valid; wall time, milliseconds. */
export interface Validity {
  readonly notBefore: number;
  readonly notAfter: number;
}

/** `not-yet-valid`: more often a clock that is behind than a certificate that is ahead. */
export type LifeState = "valid" | "renewal-due" | "expired" | "not-yet-valid";

/** When renewal is due, at two thirds of the lifetime: what then goes wrong has the last third to be put right in. */
export function renewalDueAt({ notBefore, notAfter }: Validity): number {
  return notBefore + ((notAfter - notBefore) * 2) / 3;
}

/** How a certificate stands at wall time `now`. */
export function lifeState(validity: Validity, now: number): LifeState {
  if (now < validity.notBefore) return "not-yet-valid";
  if (now >= validity.notAfter) return "expired";
  return now >= renewalDueAt(validity) ? "renewal-due" : "valid";
}

/** A new certificate's dates, made at wall time `now`: backdated by a tenth of its lifetime at most, and never beyond `end`. */
export function validityFrom(
  now: number,
  lifetime: number,
  backdate: number,
  end = Number.POSITIVE_INFINITY,
): Validity {
  return { notBefore: now - Math.min(backdate, lifetime / 10), notAfter: Math.min(now + lifetime, end) };
}
