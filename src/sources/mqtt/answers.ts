/**
 * The answers to a connection's PUBLISHes of QoS 2, in the order in which those came, whichever is committed first: for that is the order in
 * which the engine hands them on to subscribers (MQTT-4.6.0-6), and writes their PUBRECs (MQTT-4.6.0-3).
 *
 * The engine writes a PUBREC when the message's subscribers have taken it: where one does so slowly, a later PUBREC, of a message that it
 * does not get, may come first. To wait for it there as well would let one slow subscriber hold up every message of the connection.
 */

/**
 * Lets the engine acknowledge a PUBLISH and forward it, or ends its connection. `told` is called once the engine knows: at once, or in
 * its turn.
 */
export type Answer = (error?: Error | null, told?: () => void) => void;

export class AnswersInTurn {
  #waiting: { give: (() => void) | undefined }[] = [];
  #ended = false;

  /** `answer`, in its turn behind those that were asked for before. */
  behind(answer: Answer): Answer {
    const place: { give: (() => void) | undefined } = { give: undefined };
    this.#waiting.push(place);
    return (error, told) => {
      place.give = () => {
        answer(error);
        told?.();
      };
      this.#giveReady();
    };
  }

  /** The connection has ended: of what came over it some is never answered, and its session is to know the rest as soon as it is committed. */
  end(): void {
    this.#ended = true;
    this.#giveReady();
  }

  #giveReady(): void {
    if (this.#ended) {
      const ready = this.#waiting.filter(({ give }) => give !== undefined);
      this.#waiting = this.#waiting.filter(({ give }) => give === undefined);
      for (const { give } of ready) give?.();
      return;
    }
    for (let [next] = this.#waiting; next?.give !== undefined; [next] = this.#waiting) {
      this.#waiting.shift();
      next.give();
    }
  }
}
