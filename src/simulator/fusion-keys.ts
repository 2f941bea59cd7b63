import { createHash } from "node:crypto";
import type { ReadBatch } from "./fusion-envelope.ts";

/** The newest keys are remembered; a gateway repeats one soon or never. */
const MAX_KEYS = 10_000;

/**
 * Watches over the promise that an idempotency key belongs to one set of readings (contract, section 5). The answer does
 * not depend on it: copies are known by the readings' own ids.
 */
export class IdempotencyKeys {
  readonly #setOf = new Map<string, string>();

  /** Whether this key came with another set of readings before. */
  conflicts(key: string, batch: ReadBatch): boolean {
    const ids = [...batch.valid, ...batch.rejected].map((reading) => reading.id).sort();
    const set = createHash("sha256")
      .update(`${batch.gatewayId}\n${ids.join("\n")}`)
      .digest("base64");
    const known = this.#setOf.get(key);
    if (known !== undefined) return known !== set;
    this.#setOf.set(key, set);
    if (this.#setOf.size > MAX_KEYS) {
      const [oldest] = this.#setOf.keys();
      if (oldest !== undefined) this.#setOf.delete(oldest);
    }
    return false;
  }
}
