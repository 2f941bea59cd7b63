/**
 * The ids of the readings accepted last, to recognise copies: a ring of 128-bit ids with an open-addressing index over
 * it. Typed arrays, because 100,000 ids as strings would weigh five times as much on a small board.
 */
export class RecentIds {
  readonly #capacity: number;
  /** Four words an id, oldest overwritten first. */
  readonly #ring: Uint32Array;
  /** Slot → ring position + 1; 0 is empty. At most half full, so that probes stay short. */
  readonly #index: Uint32Array;
  readonly #mask: number;
  #next = 0;
  #size = 0;
  readonly #words = new Uint32Array(4);

  /** Remembers the last `capacity` ids. */
  constructor(capacity: number) {
    this.#capacity = capacity;
    this.#ring = new Uint32Array(capacity * 4);
    let slots = 16;
    while (slots < capacity * 2) slots *= 2;
    this.#index = new Uint32Array(slots);
    this.#mask = slots - 1;
  }

  get size(): number {
    return this.#size;
  }

  /** Remembers an id; `false` where it was remembered already. */
  add(id: string): boolean {
    return this.#addWords(parseId(id, this.#words), 0);
  }

  /** How many ids have been remembered since this one, which is among them. */
  ageOf(id: string): number {
    const entry = this.#index[this.#find(parseId(id, this.#words), 0)] ?? 0;
    return (this.#next - entry + this.#capacity) % this.#capacity;
  }

  /** Remembers ids from their words, four each, as `words` of a parsed id. */
  addAll(words: Uint32Array): void {
    for (let at = 0; at + 4 <= words.length; at += 4) this.#addWords(words, at);
  }

  /** The id of the four words at `at`. */
  #addWords(words: Uint32Array, at: number): boolean {
    let slot = this.#find(words, at);
    if (this.#index[slot] !== 0) return false;
    if (this.#size === this.#capacity) {
      this.#forget(this.#next);
      slot = this.#find(words, at);
    } else this.#size++;
    for (let word = 0; word < 4; word++) this.#ring[this.#next * 4 + word] = words[at + word] ?? 0;
    this.#index[slot] = this.#next + 1;
    this.#next = (this.#next + 1) % this.#capacity;
    return true;
  }

  /** The slot that holds the four words at `at`, or the empty one where they would go. */
  #find(words: Uint32Array, at: number): number {
    let slot = this.#home(words, at);
    for (;;) {
      const entry = this.#index[slot] ?? 0;
      if (entry === 0 || this.#matches((entry - 1) * 4, words, at)) return slot;
      slot = (slot + 1) & this.#mask;
    }
  }

  #matches(kept: number, words: Uint32Array, at: number): boolean {
    for (let word = 0; word < 4; word++) if (this.#ring[kept + word] !== words[at + word]) return false;
    return true;
  }

  /** Where an id's probe begins. All words take part: in a time-ordered UUID some are alike for long. */
  #home(words: Uint32Array, at: number): number {
    let hash = Math.imul((words[at] ?? 0) ^ ((words[at + 1] ?? 0) >>> 7), 0x9e3779b1);
    hash = Math.imul(hash ^ (words[at + 2] ?? 0) ^ (hash >>> 15), 0x85ebca6b);
    hash = Math.imul(hash ^ (words[at + 3] ?? 0) ^ (hash >>> 13), 0xc2b2ae35);
    return (hash ^ (hash >>> 16)) & this.#mask;
  }

  /** Empties the slot of a ring position and closes the gap, so that no probe ends too early. */
  #forget(position: number): void {
    const at = position * 4;
    let hole = this.#find(this.#ring, at);
    let slot = hole;
    for (;;) {
      slot = (slot + 1) & this.#mask;
      const entry = this.#index[slot] ?? 0;
      if (entry === 0) break;
      const home = this.#home(this.#ring, (entry - 1) * 4);
      const distanceToHole = (hole - home) & this.#mask;
      if (distanceToHole <= ((slot - home) & this.#mask)) {
        this.#index[hole] = entry;
        hole = slot;
      }
    }
    this.#index[hole] = 0;
  }
}

/** The value of a hexadecimal digit, by its character code. */
const DIGITS = new Uint8Array(128);
for (const digit of "0123456789abcdefABCDEF") DIGITS[digit.charCodeAt(0)] = Number.parseInt(digit, 16);

/** A UUID's text (RFC 9562, section 4) as four 32-bit words. */
export function parseId(id: string, into: Uint32Array = new Uint32Array(4)): Uint32Array {
  into[0] = (quarter(id, 0) << 16) | quarter(id, 4);
  into[1] = (quarter(id, 9) << 16) | quarter(id, 14);
  into[2] = (quarter(id, 19) << 16) | quarter(id, 24);
  into[3] = (quarter(id, 28) << 16) | quarter(id, 32);
  return into;
}

function quarter(id: string, at: number): number {
  return (digit(id, at) << 12) | (digit(id, at + 1) << 8) | (digit(id, at + 2) << 4) | digit(id, at + 3);
}

function digit(id: string, at: number): number {
  return DIGITS[id.charCodeAt(at)] ?? 0;
}
