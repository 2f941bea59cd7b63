/**
 * A line on which one question is asked at a time, and on which nothing is said that was not asked for.
 *
 * A question has its slot: its time-out, and what its bytes and those of the longest answer take at the line's speed. The slot ends
 * with the answer, or when it is over, whatever comes meanwhile. What comes outside of a slot is nobody's, and is dropped: a late
 * answer is never taken for that of the next question. Where a device has left a question without an answer, the next answer may be to
 * that one; its slot is then waited out, for the other answer to come and be dropped.
 */
import type { AnswerFault } from "../../../codec/decoder.ts";
import type { Clock } from "../../../kernel/clock.ts";
import type { Port } from "../port.ts";

/** Looks for an answer in what comes; it ends with the slot. */
export interface Listener {
  push(chunk: Uint8Array): void;
  /** What there was instead of an answer. */
  fault(): AnswerFault;
  end?(): void;
}

export interface Question<T> {
  /** Who is asked. */
  readonly device: string;
  /** What is sent; nothing where something is only waited for. */
  readonly bytes: Uint8Array;
  /** How long whoever is asked may take, in milliseconds. */
  readonly timeout: number;
  /** Of the longest answer. */
  readonly answerBytes: number;
  /** `found` is called at most once with the answer. */
  readonly listen: (found: (answer: T) => void) => Listener;
}

export type Reply<T> =
  | { readonly kind: "answer"; readonly answer: T }
  /** `closed`: the port was closed in the middle of it. */
  | { readonly kind: "fault"; readonly fault: AnswerFault | "closed" };

export interface LineSpeed {
  /** Bits per second. */
  readonly baudRate: number;
  /** Of a character, start, parity and stop bits included. */
  readonly bits: number;
}

export interface LineParts {
  readonly clock: Clock;
  /** Bytes that came while nothing was asked. */
  readonly unasked: (bytes: number) => void;
}

/** A frame begins after a silence of so many characters (MODBUS over Serial Line V1.02, 2.5.1.1)… */
const GAP_CHARACTERS = 3.5;
/** …but of no less than this, in milliseconds, however fast the line is. */
const LEAST_GAP_MS = 1.75;

export class BusLine {
  readonly #port: Pick<Port, "write">;
  readonly #parts: LineParts;
  readonly #characterMs: number;
  readonly #gapMs: number;
  readonly #closing = new AbortController();
  #ear: ((chunk: Uint8Array) => void) | undefined;
  #heardAt = Number.NEGATIVE_INFINITY;
  /** Devices that may still answer a question for which the time was up. */
  readonly #owing = new Set<string>();
  /** Until then the line is left to them. */
  #heldUntil = Number.NEGATIVE_INFINITY;
  #isWriting = false;

  constructor(port: Pick<Port, "write">, { baudRate, bits }: LineSpeed, parts: LineParts) {
    this.#port = port;
    this.#parts = parts;
    this.#characterMs = (bits * 1000) / baudRate;
    this.#gapMs = Math.max(LEAST_GAP_MS, GAP_CHARACTERS * this.#characterMs);
  }

  /** Aborts when the port is closed. */
  get closed(): AbortSignal {
    return this.#closing.signal;
  }

  heard(chunk: Uint8Array): void {
    this.#heardAt = this.#parts.clock.monotonic();
    if (this.#ear === undefined) this.#parts.unasked(chunk.length);
    else this.#ear(chunk);
  }

  /** The port is closed: what is being asked ends at once. */
  close(): void {
    this.#closing.abort();
  }

  /** Asks, and asks again where there is no good answer. `note` is told how each attempt ended. */
  async ask<T>(question: Question<T>, retries: number, note: (reply: Reply<T>) => void): Promise<Reply<T>> {
    for (let attempt = 0; ; attempt++) {
      await this.#quiet(question.timeout);
      const slot = question.timeout + this.#characterMs * (question.bytes.length + question.answerBytes);
      const end = this.#parts.clock.monotonic() + slot;
      const reply = await this.#exchange(question, slot);
      if (reply.kind === "fault" && reply.fault === "closed") return reply;
      note(reply);
      if (reply.kind === "fault") this.#owing.add(question.device);
      else if (this.#owing.delete(question.device)) this.#heldUntil = end;
      if (reply.kind === "answer" || attempt >= retries) return reply;
    }
  }

  /** Waits for the line to be silent between two frames, but for no longer than `mostMs`: somebody may never be silent. */
  async #quiet(mostMs: number): Promise<void> {
    const { clock } = this.#parts;
    const most = clock.monotonic() + mostMs;
    while (!this.closed.aborted) {
      const now = clock.monotonic();
      const quietAt = Math.min(most, Math.max(this.#heldUntil, this.#heardAt + this.#gapMs));
      if (quietAt <= now) return;
      await clock.sleep(quietAt - now, this.closed);
    }
  }

  #exchange<T>(question: Question<T>, slotMs: number): Promise<Reply<T>> {
    return new Promise((resolve) => {
      const end = (reply: Reply<T>): void => {
        if (this.#ear !== hear) return;
        this.#ear = undefined;
        cancel();
        this.closed.removeEventListener("abort", abort);
        listener.end?.();
        resolve(reply);
      };
      const listener = question.listen((answer) => end({ kind: "answer", answer }));
      const hear = (chunk: Uint8Array): void => listener.push(chunk);
      const abort = (): void => end({ kind: "fault", fault: "closed" });
      const cancel = this.#parts.clock.after(slotMs, () => end({ kind: "fault", fault: listener.fault() }));
      this.#ear = hear;
      this.closed.addEventListener("abort", abort, { once: true });
      if (this.closed.aborted) abort();
      else this.#send(question.bytes);
    });
  }

  /** Where flow control holds back what was sent before, nothing is added to it: the slot passes without an answer. */
  #send(bytes: Uint8Array): void {
    if (bytes.length === 0 || this.#isWriting) return;
    this.#isWriting = true;
    void this.#port.write(bytes).then(() => {
      this.#isWriting = false;
    });
  }
}
