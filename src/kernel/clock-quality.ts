/**
 * Whether the machine's wall clock can be trusted: a board without a battery-backed clock wakes up in the past and is set right
 * by NTP or a GPS receiver, minutes or days later.
 *
 * Two things are watched. The sources are asked every minute, every 10 s while a synchronisation is to be expected; the first that
 * can tell decides. And the wall clock is compared with the monotonic one every 2 s: a jump between them is a step, after
 * which the clock counts as stepped until a source that was asked later calls it synchronised.
 *
 * It corrects nothing. The outbox does, by the offset between the two clocks at the first synchronisation.
 */
import type { ClockQuality } from "../observation/observation.ts";
import type { Clock } from "./clock.ts";
import type { ClockSource } from "./clock-source.ts";

const COMPARE_EVERY_MS = 2_000;
const ASK_EVERY_MS = 60_000;
/** While the clock is not synchronised, for `EXPECTED_WITHIN_MS` after the start, a step or the loss of synchronisation. */
const ASK_SOON_MS = 10_000;
/** A synchronisation that comes later than that comes with a step, which is seen at once, or is not urgent. */
const EXPECTED_WITHIN_MS = 600_000;
/** Slewing, at chrony's fastest (a tenth of a second each second), moves the clock by a fifth of this between two looks. */
const STEP_MS = 1_000;
/** The start of the daemon does not wait longer for the first answer. */
const FIRST_ANSWER_MS = 3_000;

export interface ClockStatus {
  readonly quality: ClockQuality;
  /** Who said so; `undefined` where nobody on this machine can tell. */
  readonly source: string | undefined;
  /** For how long the quality has been what it is, in milliseconds. */
  readonly forMs: number;
  /** Steps noticed since the start. */
  readonly steps: number;
  readonly lastStep: ClockStep | undefined;
}

export interface ClockStep {
  /** Wall time after the step, milliseconds. */
  readonly at: number;
  /** By how much, in milliseconds; positive: forward. */
  readonly byMs: number;
}

export class ClockWatch {
  readonly #clock: Clock;
  readonly #sources: readonly ClockSource[];
  #onChange: (status: ClockStatus) => void = () => {};
  #onSynchronised: (offsetMs: number) => void = () => {};
  #source: string | undefined;
  #quality: ClockQuality = "unsynchronised";
  #since: number;
  /** Wall time less monotonic time, as of the last look. */
  #offset: number;
  #steps = 0;
  #lastStep: ClockStep | undefined;
  #answered = false;
  /** `#offset` at the first synchronisation. */
  #synchronisedOffset: number | undefined;
  #asking = false;
  #askedAt = Number.NEGATIVE_INFINITY;
  #askAt = Number.NEGATIVE_INFINITY;
  #cancel: () => void = () => {};
  readonly #firstAnswer = new AbortController();
  #stopped = false;

  /** Inert until `start`. */
  constructor(clock: Clock, sources: readonly ClockSource[]) {
    this.#clock = clock;
    this.#sources = sources;
    this.#since = clock.monotonic();
    this.#offset = offsetOf(clock);
  }

  /**
   * Watches until `stop`; `onChange` hears of the first answer, of each change of quality and of each step. Resolves once the
   * sources have been asked, or after 3 s.
   */
  async start(onChange: (status: ClockStatus) => void): Promise<void> {
    this.#onChange = onChange;
    this.#look();
    await this.#clock.sleep(FIRST_ANSWER_MS, this.#firstAnswer.signal);
  }

  stop(): void {
    this.#stopped = true;
    this.#cancel();
    this.#firstAnswer.abort();
  }

  /** What is known now. */
  quality(): ClockQuality {
    return this.#quality;
  }

  /** Whether the first synchronisation may yet come: somebody can tell, and has not said so. */
  get awaited(): boolean {
    return this.#synchronisedOffset === undefined && (!this.#answered || this.#source !== undefined);
  }

  /** Calls `listener` once: wall time is monotonic time plus this many milliseconds, as of the first synchronisation seen. */
  onceSynchronised(listener: (offsetMs: number) => void): void {
    this.#onSynchronised = listener;
    if (this.#synchronisedOffset !== undefined) listener(this.#synchronisedOffset);
  }

  status(): ClockStatus {
    return {
      quality: this.#quality,
      source: this.#source,
      forMs: this.#clock.monotonic() - this.#since,
      steps: this.#steps,
      lastStep: this.#lastStep,
    };
  }

  #look(): void {
    this.#compare();
    if (!this.#asking && this.#clock.monotonic() >= this.#askAt) void this.#ask();
    this.#cancel = this.#clock.after(COMPARE_EVERY_MS, () => this.#look());
  }

  #compare(): void {
    const offset = offsetOf(this.#clock);
    const byMs = offset - this.#offset;
    this.#offset = offset;
    if (Math.abs(byMs) < STEP_MS) return;
    this.#steps++;
    this.#lastStep = { at: this.#clock.now(), byMs: Math.round(byMs) };
    // A clock that is stepped without end is not asked about without end.
    this.#askAt = Math.min(this.#askAt, this.#askedAt + ASK_SOON_MS);
    this.#become("stepped", true);
  }

  async #ask(): Promise<void> {
    this.#asking = true;
    this.#askedAt = this.#clock.monotonic();
    this.#askAt = Number.POSITIVE_INFINITY;
    const steps = this.#steps;
    const { name, answer } = await this.#firstThatCanTell();
    this.#asking = false;
    if (this.#stopped) return;
    this.#compare();
    this.#source = name;
    const first = !this.#answered;
    this.#answered = true;
    // An answer to what was asked before a step says nothing about the clock after it.
    if (answer && this.#steps === steps) this.#synchronised();
    else if (this.#quality !== "stepped") this.#become("unsynchronised", first);
    this.#askAt = Math.min(this.#askAt, this.#askedAt + this.#pauseMs());
    this.#firstAnswer.abort();
  }

  #pauseMs(): number {
    if (this.#quality === "synchronised" || this.#source === undefined) return ASK_EVERY_MS;
    return this.#clock.monotonic() - this.#since < EXPECTED_WITHIN_MS ? ASK_SOON_MS : ASK_EVERY_MS;
  }

  async #firstThatCanTell(): Promise<{ name: string | undefined; answer: boolean }> {
    for (const source of this.#sources) {
      const answer = await source.ask();
      if (answer !== undefined) return { name: source.name, answer };
    }
    return { name: undefined, answer: false };
  }

  #synchronised(): void {
    this.#become("synchronised");
    if (this.#synchronisedOffset !== undefined) return;
    this.#synchronisedOffset = this.#offset;
    this.#onSynchronised(this.#offset);
  }

  #become(quality: ClockQuality, say = false): void {
    if (quality === this.#quality && !say) return;
    this.#quality = quality;
    this.#since = this.#clock.monotonic();
    this.#onChange(this.status());
  }
}

/** More than this between two looks at the same clock: something else ran meanwhile, and the wall clock was read too late. */
const AT_ONCE_MS = 50;
const TRIES = 5;

/** Wall time less monotonic time, of one moment. */
function offsetOf(clock: Clock): number {
  let offset = 0;
  for (let tries = 0; tries < TRIES; tries++) {
    const before = clock.monotonic();
    const wall = clock.now();
    offset = wall - before;
    if (clock.monotonic() - before < AT_ONCE_MS) break;
  }
  return offset;
}
