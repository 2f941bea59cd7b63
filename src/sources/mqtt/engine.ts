import { Aedes, type AedesOptions, type PublishPacket } from "aedes";

type Done = (error?: Error | null) => void;

export interface EngineQuestions {
  /** Whether any client, present or absent, has a subscription. */
  readonly anySubscriber: () => boolean;
  /** Whether a message was acknowledged and must go no further. */
  readonly isWithheld: (packet: PublishPacket) => boolean;
}

/**
 * aedes, sparing itself the work of a message that nobody will get: in the field there is mostly no local subscriber, and
 * finding that out afresh costs aedes a third of all it does for a PUBLISH. And a message that its hook has not allowed can be
 * dropped here: aedes itself closes the connection then.
 */
export class MqttEngine extends Aedes {
  readonly #ask: EngineQuestions;

  constructor(options: AedesOptions, ask: EngineQuestions) {
    super(options);
    this.#ask = ask;
    // Its own check, of at most 100 levels, cuts the client off, which then sends the same thing for ever. The hooks ask
    // before it, for every topic that a client brings, and answer: nothing deeper gets past them.
    (this as { maxTopicLevels?: number }).maxTopicLevels = Number.POSITIVE_INFINITY;
  }

  /** Called by aedes itself with the publishing client in between, which its types leave out. */
  override publish(packet: PublishPacket, clientOrDone: unknown, done?: Done): void {
    const ownTopic = packet.topic.startsWith("$");
    packet.dup = false; // of its delivery to us, and nobody else's (MQTT-3.3.1-3)
    if (done !== undefined && this.#ask.isWithheld(packet)) done();
    else if (done === undefined || ownTopic || packet.retain || this.#ask.anySubscriber()) {
      (super.publish as (...args: unknown[]) => void).call(this, packet, clientOrDone, done);
    } else done();
  }
}
