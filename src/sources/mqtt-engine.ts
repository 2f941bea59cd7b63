import { Aedes, type AedesOptions, type PublishPacket } from "aedes";

type Done = (error?: Error | null) => void;

/**
 * aedes, sparing itself the work of a message that nobody will get: in the field there is mostly no local subscriber, and
 * finding that out afresh costs aedes a third of all it does for a PUBLISH.
 */
export class MqttEngine extends Aedes {
  readonly #anySubscriber: () => boolean;

  /** `anySubscriber` says whether any client, present or absent, has a subscription. */
  constructor(options: AedesOptions, anySubscriber: () => boolean) {
    super(options);
    this.#anySubscriber = anySubscriber;
  }

  /** Called by aedes itself with the publishing client in between, which its types leave out. */
  override publish(packet: PublishPacket, clientOrDone: unknown, done?: Done): void {
    const ownTopic = packet.topic.startsWith("$");
    if (done === undefined || ownTopic || packet.retain || this.#anySubscriber()) {
      (super.publish as (...args: unknown[]) => void).call(this, packet, clientOrDone, done);
    } else done();
  }
}
