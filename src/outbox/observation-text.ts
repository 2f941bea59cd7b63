/**
 * An observation as it is stored and sent: its JSON with the `gateway` member (contract, section 4). The sequence number stands
 * last, so that it can be put in when the commit is put together and the number is given away.
 */
import type { ClockQuality, Observation } from "../observation/observation.ts";

const NO_SEQ = "0}}";

/** Writes observations of one gateway. The id stands first: the outbox finds it there without parsing. */
export class ObservationWriter {
  readonly #gatewayId: string;
  #receivedAt = Number.NaN;
  #receivedIso = "";

  constructor(gatewayId: string) {
    this.#gatewayId = gatewayId;
  }

  /** The text, still without its sequence number. One flat string, because it may have to wait for its commit. */
  write(observation: Observation, receivedAt: number, clock: ClockQuality): string {
    if (receivedAt !== this.#receivedAt) {
      this.#receivedAt = receivedAt;
      this.#receivedIso = new Date(receivedAt).toISOString();
    }
    return JSON.stringify({
      id: observation.id,
      class: observation.class,
      ts_iso: observation.ts_iso,
      confidence: observation.confidence,
      lat: observation.lat,
      lon: observation.lon,
      source: observation.source,
      priority: observation.priority,
      attributes: observation.attributes,
      traceparent: observation.traceparent,
      gateway: { id: this.#gatewayId, received_at: this.#receivedIso, clock, seq: 0 },
    });
  }
}

/** The text with its sequence number. */
export function withSeq(text: string, seq: number): string {
  return `${text.slice(0, -NO_SEQ.length)}${seq}}}`;
}
