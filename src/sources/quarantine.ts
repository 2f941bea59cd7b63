/** What could not be read, kept for the operator: the newest few, and only their first bytes. */

export interface QuarantineEntry extends Head {
  /** Wall time in milliseconds. */
  readonly at: number;
  readonly reason: string;
  readonly detail: string;
  /** The source's name: `mqtt`, or the port's. */
  readonly source: string;
  /** Topic or device file. */
  readonly via: string;
  /** Whom its readings are taken for where they name nobody: the topic's device, the login or client id, the port's `source`. */
  readonly device: string;
}

/** The first bytes of what came in. */
export interface Head {
  /** As text; what is no UTF-8 shows as U+FFFD. */
  readonly head: string;
  /** In hexadecimal; only of what is no UTF-8, or holds control characters besides tabs and line ends. */
  readonly hex?: string;
}

/** Entries kept; a further one replaces the oldest. */
export const QUARANTINE_CAPACITY = 100;
/** Bytes kept of each. */
export const HEAD_BYTES = 256;
/** Characters kept of what is said about each: a topic may have 65,535. */
const MOST_CHARACTERS = 512;

export class Quarantine {
  readonly #ring: QuarantineEntry[] = [];
  #oldest = 0;

  add({ detail, via, device, ...rest }: QuarantineEntry): void {
    const entry = { ...rest, detail: beginningOf(detail), via: beginningOf(via), device: beginningOf(device) };
    if (this.#ring.length < QUARANTINE_CAPACITY) {
      this.#ring.push(entry);
      return;
    }
    this.#ring[this.#oldest] = entry;
    this.#oldest = (this.#oldest + 1) % QUARANTINE_CAPACITY;
  }

  /** Oldest first. */
  list(): QuarantineEntry[] {
    return [...this.#ring.slice(this.#oldest), ...this.#ring.slice(0, this.#oldest)];
  }
}

/** Copied: a part of a string would keep the whole of it in memory. */
const beginningOf = (text: string): string => Buffer.from(text.slice(0, MOST_CHARACTERS)).toString();

/** The first bytes of what came in. */
export function headOf(raw: Uint8Array | string): Head {
  const bytes = typeof raw === "string" ? Buffer.from(raw.slice(0, HEAD_BYTES)) : raw;
  const first = Buffer.from(bytes.buffer, bytes.byteOffset, Math.min(bytes.byteLength, HEAD_BYTES));
  const text = textIn(first);
  return text === undefined ? { head: first.toString(), hex: first.toString("hex") } : { head: text };
}

/** A frame of a binary protocol may well be UTF-8 by chance; its control characters tell it apart. */
const CONTROL = /[^\P{Cc}\t\n\r]/u;

/** The bytes as text, where they are text; of a last character that was cut in two nothing. */
function textIn(bytes: Uint8Array): string | undefined {
  try {
    const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
    const text = decoder.decode(bytes, { stream: bytes.byteLength === HEAD_BYTES });
    return CONTROL.test(text) ? undefined : text;
  } catch {
    return undefined;
  }
}
