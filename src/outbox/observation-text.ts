/**
 * An observation as it is stored and sent: its JSON with the `gateway` member (contract, section 4), in two halves around
 * the sequence number, which is given away only when the commit is put together.
 */
import type { ClockQuality, Observation } from "../observation/observation.ts";

export interface ObservationText {
  readonly head: string;
  readonly tail: string;
}

/** Writes observations of one gateway. The id stands first: the outbox finds it there without parsing. */
export class ObservationWriter {
  readonly #gateway: string;
  #receivedAt = Number.NaN;
  #receivedIso = "";

  constructor(gatewayId: string) {
    this.#gateway = `,"gateway":{"id":${JSON.stringify(gatewayId)},"seq":`;
  }

  write(observation: Observation, receivedAt: number, clock: ClockQuality): ObservationText {
    if (receivedAt !== this.#receivedAt) {
      this.#receivedAt = receivedAt;
      this.#receivedIso = new Date(receivedAt).toISOString();
    }
    const { lat, lon, traceparent } = observation;
    const position = `${lat === undefined ? "" : `,"lat":${lat}`}${lon === undefined ? "" : `,"lon":${lon}`}`;
    const trace = traceparent === undefined ? "" : `,"traceparent":${JSON.stringify(traceparent)}`;
    return {
      head: `{"id":"${observation.id}","class":${JSON.stringify(observation.class)},"ts_iso":"${observation.ts_iso}","confidence":${observation.confidence}${position},"source":${JSON.stringify(observation.source)},"priority":"${observation.priority}","attributes":${JSON.stringify(observation.attributes)}${this.#gateway}`,
      tail: `,"received_at":"${this.#receivedIso}","clock":"${clock}"}${trace}}`,
    };
  }
}
