import type { MqttGate } from "./gate.ts";
import type { Arrival } from "./listeners.ts";
import type { PublishLane } from "./publish-lane.ts";
import type { Publisher } from "./readings.ts";

/** A client's connection from its arrival on, as the parts of the broker share it. */
export interface Connection {
  readonly gate: MqttGate;
  readonly arrival: Arrival;
  /** Aborts when it closes. */
  readonly ended: AbortSignal;
  /** Whether its CONNECT brought a client id: else the engine made one up. */
  clientIdGiven: boolean;
  /** Topic of the will that its CONNECT brought. */
  willTopic: string | undefined;
  /** The keep-alive that is in force for it, in seconds. */
  keepAlive: number;
  /** Once it was let in. */
  admitted: Publisher | undefined;
  lane: PublishLane | undefined;
}
