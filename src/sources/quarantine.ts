/** What could not be read, kept for the operator: a few, the newest of each device, and only their first bytes. */

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

/** Entries kept. */
export const QUARANTINE_CAPACITY = 100;
/** While a device has more than one in so many of them, its oldest entry gives way to a further one, whoever that is from; else the oldest of all does. */
const SHARES = 10;
/** Bytes kept of each. */
export const HEAD_BYTES = 256;
/** Characters kept of what is said about each: a topic may have 65,535. */
const MOST_CHARACTERS = 512;

interface Kept {
  readonly entry: QuarantineEntry;
  readonly sender: string;
}

/** What is kept, to look at. */
export interface Refusals {
  readonly size: number;
  /** Oldest first; `most` of them where that is given, chosen as those that are kept are. */
  list(most?: number): QuarantineEntry[];
}

/** The newest entries, but no device's so many that they hide the others'. */
export class Quarantine implements Refusals {
  readonly #capacity: number;
  /** Oldest first. */
  readonly #kept: Kept[] = [];
  /** Entries by sender. */
  readonly #counts = new Map<string, number>();

  constructor(capacity = QUARANTINE_CAPACITY) {
    this.#capacity = capacity;
  }

  add({ detail, via, device, ...rest }: QuarantineEntry): void {
    const entry = { ...rest, detail: beginningOf(detail), via: beginningOf(via), device: beginningOf(device) };
    const sender = `${entry.source}\n${entry.device}`;
    this.#kept.push({ entry, sender });
    this.#counts.set(sender, (this.#counts.get(sender) ?? 0) + 1);
    if (this.#kept.length > this.#capacity) this.#drop();
  }

  list(most = this.#capacity): QuarantineEntry[] {
    const chosen = new Quarantine(most);
    for (const { entry } of this.#kept) chosen.add(entry);
    return chosen.#kept.map(({ entry }) => entry);
  }

  get size(): number {
    return this.#kept.length;
  }

  #drop(): void {
    const crowd = this.#crowd();
    const at = crowd === undefined ? 0 : this.#kept.findIndex(({ sender }) => sender === crowd);
    for (const { sender } of this.#kept.splice(at, 1)) {
      const left = (this.#counts.get(sender) ?? 0) - 1;
      if (left > 0) this.#counts.set(sender, left);
      else this.#counts.delete(sender);
    }
  }

  /** Who has most entries, and more than a share of them. */
  #crowd(): string | undefined {
    let crowd: string | undefined;
    let most = Math.max(1, Math.floor(this.#capacity / SHARES));
    for (const [sender, count] of this.#counts) {
      if (count > most) [crowd, most] = [sender, count];
    }
    return crowd;
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
