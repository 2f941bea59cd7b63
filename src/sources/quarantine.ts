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

/** Entries kept; a further one replaces the oldest of the device that has most of them, so that one device does not hide the others. */
export const QUARANTINE_CAPACITY = 100;
/** Bytes kept of each. */
export const HEAD_BYTES = 256;
/** Characters kept of what is said about each: a topic may have 65,535. */
const MOST_CHARACTERS = 512;

export class Quarantine {
  /** Oldest first. */
  readonly #entries: QuarantineEntry[] = [];

  add({ detail, via, device, ...rest }: QuarantineEntry): void {
    const entry = { ...rest, detail: beginningOf(detail), via: beginningOf(via), device: beginningOf(device) };
    if (this.#entries.length === QUARANTINE_CAPACITY) this.#entries.splice(this.#mostDispensable(), 1);
    this.#entries.push(entry);
  }

  /** Oldest first. */
  list(): QuarantineEntry[] {
    return [...this.#entries];
  }

  #mostDispensable(): number {
    const counts = new Map<string, number>();
    for (const entry of this.#entries) counts.set(senderOf(entry), (counts.get(senderOf(entry)) ?? 0) + 1);
    const most = Math.max(...counts.values());
    return this.#entries.findIndex((entry) => counts.get(senderOf(entry)) === most);
  }
}

const senderOf = ({ source, device }: QuarantineEntry): string => `${source}\n${device}`;

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
