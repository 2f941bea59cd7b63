/** What could not be read, kept for the operator: the newest few, and only their first bytes. */

export interface QuarantineEntry {
  /** Wall time in milliseconds. */
  readonly at: number;
  readonly reason: string;
  readonly detail: string;
  /** The source's name: `mqtt`, or the port's. */
  readonly source: string;
  /** Topic or device file. */
  readonly via: string;
  /** The first bytes as text; what is no UTF-8 shows as U+FFFD. */
  readonly head: string;
}

/** Entries kept; a further one replaces the oldest. */
const CAPACITY = 100;
/** Bytes (of text: UTF-16 code units) kept of each. */
export const HEAD_BYTES = 256;

export class Quarantine {
  readonly #ring: QuarantineEntry[] = [];
  #oldest = 0;

  add(entry: QuarantineEntry): void {
    if (this.#ring.length < CAPACITY) {
      this.#ring.push(entry);
      return;
    }
    this.#ring[this.#oldest] = entry;
    this.#oldest = (this.#oldest + 1) % CAPACITY;
  }

  /** Oldest first. */
  list(): QuarantineEntry[] {
    return [...this.#ring.slice(this.#oldest), ...this.#ring.slice(0, this.#oldest)];
  }
}

/** The first bytes of what came in, as text. */
export function headOf(raw: Uint8Array | string): string {
  if (typeof raw === "string") return raw.slice(0, HEAD_BYTES);
  return Buffer.from(raw.buffer, raw.byteOffset, Math.min(raw.byteLength, HEAD_BYTES)).toString();
}
