/**
 * What the demo shows: headings, sentences, and one live line. On a terminal the live line is written over itself; elsewhere
 * it is a plain line now and then, so that a log of it can be read.
 */
import type { Clock } from "../../kernel/clock.ts";

export interface ScreenOptions {
  readonly out: { write(text: string): unknown; readonly isTTY?: boolean; readonly columns?: number };
  /** Whether to colour; never without a terminal. */
  readonly colour: boolean;
  readonly clock: Pick<Clock, "monotonic">;
}

const COLOURS = { bold: 1, dim: 2, red: 31, green: 32, yellow: 33, cyan: 36 } as const;
export type Colour = keyof typeof COLOURS;

const ESCAPE = "\u001b[";
const CLEAR_LINE = `\r${ESCAPE}2K`;
/** Between two plain live lines. */
const PLAIN_EVERY_MS = 5_000;
const DEFAULT_COLUMNS = 100;
const MAX_COLUMNS = 110;
const INDENT = "   ";

export class Screen {
  readonly #options: ScreenOptions;
  readonly #terminal: boolean;
  #live = false;
  #plainAt = Number.NEGATIVE_INFINITY;

  constructor(options: ScreenOptions) {
    this.#options = options;
    this.#terminal = options.out.isTTY === true;
  }

  /** A heading, and below it what happens and why. */
  heading(title: string, text = ""): void {
    this.#write(`\n${this.paint("bold", title)}\n${text === "" ? "" : this.#filled(text)}`);
    this.#plainAt = this.#options.clock.monotonic();
  }

  say(text: string): void {
    this.#write(this.#filled(text));
  }

  /** A line that is not to be broken, such as a command to copy. */
  verbatim(line: string): void {
    this.#write(line === "" ? "\n" : `${INDENT}${line}\n`);
  }

  /** Something that was shown to be so. */
  good(text: string): void {
    this.#write(`${this.paint("green", " ✓")} ${this.#filled(text).trimStart()}`);
  }

  bad(text: string): void {
    this.#write(`${this.paint("red", " ✗")} ${this.#filled(text).trimStart()}`);
  }

  /** How things stand, in one line; it takes the place of the one before. */
  live(text: string): void {
    const { out, clock } = this.#options;
    if (this.#terminal) {
      const width = (out.columns ?? DEFAULT_COLUMNS) - INDENT.length - 1;
      out.write(`${CLEAR_LINE}${INDENT}${this.paint("cyan", text.slice(0, Math.max(0, width)))}`);
      this.#live = true;
      return;
    }
    if (clock.monotonic() - this.#plainAt < PLAIN_EVERY_MS) return;
    this.#plainAt = clock.monotonic();
    out.write(`${INDENT}${text}\n`);
  }

  /** Lets the live line stand as it is. */
  keep(): void {
    if (this.#live) this.#options.out.write("\n");
    this.#live = false;
  }

  paint(colour: Colour, text: string): string {
    return this.#terminal && this.#options.colour ? `${ESCAPE}${COLOURS[colour]}m${text}${ESCAPE}0m` : text;
  }

  #write(text: string): void {
    if (this.#live) this.#options.out.write(CLEAR_LINE);
    this.#live = false;
    this.#options.out.write(text);
  }

  /** Indented, and broken between words so that it fits. */
  #filled(text: string): string {
    const width = Math.min(this.#options.out.columns ?? DEFAULT_COLUMNS, MAX_COLUMNS) - INDENT.length - 1;
    const lines = [""];
    for (const word of text.split(" ")) {
      const line = lines.at(-1) ?? "";
      if (line !== "" && line.length + 1 + word.length > width) lines.push(word);
      else lines[lines.length - 1] = line === "" ? word : `${line} ${word}`;
    }
    return lines.map((line) => `${INDENT}${line}\n`).join("");
  }
}
