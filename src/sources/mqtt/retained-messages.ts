/** The broker's retained messages, bounded in number and bytes; aedes-persistence, which keeps them, counts neither. */
import { Readable } from "node:stream";
import type { AedesPublishPacket } from "aedes";
import type { MqttLimits } from "../../config/schema.ts";
import { ownCopy } from "./session.ts";

/** What keeps them. */
export interface RetainedStore {
  storeRetained(packet: AedesPublishPacket): Promise<void>;
  createRetainedStreamCombi(filters: readonly string[]): Readable;
}

export class RetainedMessages {
  readonly #memory: RetainedStore;
  readonly #limits: Pick<MqttLimits, "maxRetainedMessages" | "maxRetainedBytes">;
  readonly #dropped: () => void;
  /** Of each, by topic. */
  readonly #bytes = new Map<string, number>();
  #total = 0;

  /** `dropped` is told of each message that a bound kept out. */
  constructor(
    memory: RetainedStore,
    limits: Pick<MqttLimits, "maxRetainedMessages" | "maxRetainedBytes">,
    dropped: () => void,
  ) {
    this.#memory = memory;
    this.#limits = limits;
    this.#dropped = dropped;
  }

  /** Keeps a message, an empty one in the place of none; or drops it, where there are as many as there may be. */
  store(packet: AedesPublishPacket): Promise<void> {
    const before = this.#bytes.get(packet.topic);
    const bytes = packet.payload.length;
    if (bytes > 0) {
      const { maxRetainedBytes, maxRetainedMessages } = this.#limits;
      const total = this.#total - (before ?? 0) + bytes;
      if (total > maxRetainedBytes || (before === undefined && this.#bytes.size >= maxRetainedMessages)) {
        this.#dropped();
        return Promise.resolve();
      }
      this.#bytes.set(packet.topic, bytes);
    } else this.#bytes.delete(packet.topic);
    this.#total += bytes - (before ?? 0);
    return this.#memory.storeRetained({ ...packet, payload: ownCopy(packet.payload) });
  }

  /** Those that one of the filters covers. */
  matching(filters: readonly string[]): Readable {
    return this.#bytes.size === 0 ? Readable.from([]) : this.#memory.createRetainedStreamCombi(filters);
  }
}
