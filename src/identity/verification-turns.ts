/**
 * Whose password is verified next, where more come than can be verified at a time.
 *
 * A verification is dear, and anybody can ask for one. So turns are by address: the one with the fewest wrong passwords since its
 * last right one comes first, among equals the one that was served longest ago; those of one address in the order in which they came.
 * An address that has given a wrong password has few waiting at a time: whoever guesses must not fill the broker's places.
 *
 * A fleet behind one address waits like any other, however many they are, as long as its passwords are right. Nothing is kept
 * for ever: of addresses that have been served, the most recent are remembered.
 */

/** Verifications under way; each takes a thread of the pool's four, and its cost in memory. */
export const VERIFYING_AT_ONCE = 2;
/** Waiting at a time from an address that has given a wrong password. */
export const MAX_WAITING_AFTER_FAILURE = 4;
/** Addresses whose wrong passwords and turns are remembered. */
const MAX_REMEMBERED = 1024;

export interface Candidate {
  /** Where it comes from. */
  readonly address: string;
  /** Ends its wait. */
  readonly signal: AbortSignal;
  /** Told when it has to wait. */
  readonly waits?: (() => void) | undefined;
}

/** `refused`: as many of its address wait as may. `given-up`: its signal came first. */
export type Turn = "mine" | "refused" | "given-up";

interface Memory {
  /** Wrong passwords since the last right one. */
  failures: number;
  /** The number of its last turn, in the order of all turns. */
  served: number;
}

const UNKNOWN: Readonly<Memory> = { failures: 0, served: 0 };

export class VerificationTurns {
  /** By address, what waits, in the order in which it came; none is empty. */
  readonly #waiting = new Map<string, Set<() => void>>();
  /** The address served longest ago first. */
  readonly #known = new Map<string, Memory>();
  #running = 0;
  #turns = 0;

  /** Those who wait for their turn. */
  get waiting(): number {
    let sum = 0;
    for (const { size } of this.#waiting.values()) sum += size;
    return sum;
  }

  /** Resolves when the candidate's turn has come, or never will. Whoever had a turn ends it with `done`. */
  async take(candidate: Candidate): Promise<Turn> {
    const { address, signal, waits } = candidate;
    if (signal.aborted) return "given-up";
    if (this.#running < VERIFYING_AT_ONCE) {
      this.#begin(address);
      return "mine";
    }
    const queue = this.#waiting.get(address);
    if (this.#memoryOf(address).failures > 0 && (queue?.size ?? 0) >= MAX_WAITING_AFTER_FAILURE) return "refused";
    waits?.();
    return await this.#wait(candidate);
  }

  /** A turn is over, which was this address's: with a right password or a wrong one, or with neither where it failed. */
  done(address: string, right: boolean | undefined): void {
    const memory = this.#known.get(address);
    if (memory !== undefined && right !== undefined) memory.failures = right ? 0 : memory.failures + 1;
    this.#running--;
    const next = this.#next();
    if (next === undefined) return;
    const [begin] = this.#waiting.get(next) ?? [];
    this.#begin(next);
    begin?.();
  }

  #wait({ address, signal }: Candidate): Promise<Turn> {
    const queue = this.#waiting.get(address) ?? new Set();
    this.#waiting.set(address, queue);
    return new Promise((resolve) => {
      const end = (turn: Turn) => () => {
        queue.delete(begin);
        if (queue.size === 0) this.#waiting.delete(address);
        signal.removeEventListener("abort", giveUp);
        resolve(turn);
      };
      const begin = end("mine");
      const giveUp = end("given-up");
      queue.add(begin);
      signal.addEventListener("abort", giveUp, { once: true });
    });
  }

  #begin(address: string): void {
    this.#running++;
    const { failures } = this.#memoryOf(address);
    this.#known.delete(address);
    this.#known.set(address, { failures, served: ++this.#turns });
    if (this.#known.size <= MAX_REMEMBERED) return;
    const [longestAgo] = this.#known.keys();
    if (longestAgo !== undefined) this.#known.delete(longestAgo);
  }

  /** The address whose turn is next; `undefined` where nobody waits. */
  #next(): string | undefined {
    let best: string | undefined;
    let least = UNKNOWN;
    for (const address of this.#waiting.keys()) {
      const memory = this.#memoryOf(address);
      const comesFirst =
        memory.failures === least.failures ? memory.served < least.served : memory.failures < least.failures;
      if (best !== undefined && !comesFirst) continue;
      best = address;
      least = memory;
    }
    return best;
  }

  #memoryOf(address: string): Readonly<Memory> {
    return this.#known.get(address) ?? UNKNOWN;
  }
}
