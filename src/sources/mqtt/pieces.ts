const FIRST_BYTES = 64;

/**
 * Gathers the pieces in which a packet comes in, in one buffer: each chunk of a socket costs some 300 bytes besides its own, so that
 * a packet sent byte by byte would hold hundreds of times its size.
 */
export class Pieces {
  #buffer: Buffer | undefined;
  #length = 0;

  /** Bytes gathered. */
  get length(): number {
    return this.#length;
  }

  add(chunk: Buffer): void {
    const needed = this.#length + chunk.length;
    if (this.#buffer === undefined || this.#buffer.length < needed) {
      const larger = Buffer.allocUnsafeSlow(Math.max(FIRST_BYTES, needed, 2 * (this.#buffer?.length ?? 0)));
      this.#buffer?.copy(larger, 0, 0, this.#length);
      this.#buffer = larger;
    }
    chunk.copy(this.#buffer, this.#length);
    this.#length = needed;
  }

  /** Gives what was gathered, and starts afresh. */
  take(): Buffer {
    const gathered = this.#buffer?.subarray(0, this.#length) ?? Buffer.alloc(0);
    this.#buffer = undefined;
    this.#length = 0;
    return gathered;
  }
}
