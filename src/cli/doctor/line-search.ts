/** Which speed and parity a device speaks at: they are tried in turn until what is heard makes sense. */
import { likelyBaudRates, USUAL_BAUD_RATES } from "../../codec/baud-guess.ts";
import { hiddenParity } from "../../codec/line-quality.ts";
import type { Recognition } from "../../codec/recognise.ts";
import type { HeardPiece } from "../../codec/recognise-guess.ts";
import type { LineSettings } from "../../sources/serial/port.ts";

export type LineTry = Pick<LineSettings, "baudRate" | "dataBits" | "parity">;

/** What was heard with one setting, and what it may be. */
export interface Attempt {
  readonly line: LineTry;
  readonly heard: readonly HeardPiece[];
  readonly found: readonly Recognition[];
}

/** The most usual ones first: where nothing at all was heard, there is nothing to go by. */
const BY_USE: readonly number[] = [9600, 4800, 115_200, 38_400, 19_200, 57_600, 2400, 1200];
/** Eight bits with parity, as Modbus has it, leaves nothing but gaps where it is read without. */
const WITH_PARITY: readonly LineTry[] = [19_200, 9600].map((baudRate) => ({ baudRate, dataBits: 8, parity: "even" }));

/** Whether an attempt has shown what it is. Rubbish may well begin alike again and again, and is as long. */
export function isFound({ found: [best] }: Attempt): boolean {
  return best?.certainty === "sure";
}

/** What was heard may be, the best guess first. */
export type Recognise = (heard: readonly HeardPiece[]) => Promise<readonly Recognition[]>;

/**
 * The attempts, in order, the last one with what is to be known: found, or the end of what can be tried. `listen` gives what was heard
 * with a setting, and nothing where there is no time left.
 */
export async function* searchLine(
  first: LineTry,
  listen: (line: LineTry) => Promise<readonly HeardPiece[] | undefined>,
  recognise: Recognise,
): AsyncGenerator<Attempt> {
  const tried = new Set<string>();
  for (let line: LineTry | undefined = first; line !== undefined; ) {
    tried.add(textOf(line));
    const heard = await listen(line);
    if (heard === undefined) return;
    const attempt: Attempt = { line, heard, found: await recognise(heard) };
    yield attempt;
    // Sentences with parity bits have a form as well; what they are is seen without.
    const parity: "even" | "odd" | undefined =
      line.dataBits === 8 && line.parity === "none" ? hiddenParity(bytesOf(attempt)) : undefined;
    if (parity !== undefined) line = { baudRate: line.baudRate, dataBits: 7, parity };
    else if (isFound(attempt)) return;
    else line = candidates(attempt).find((candidate) => !tried.has(textOf(candidate)));
  }
}

/** All that was heard. */
export function bytesOf({ heard }: Pick<Attempt, "heard">): Buffer {
  return Buffer.concat(heard.map(({ bytes }) => bytes));
}

/** What to try after this, the most probable first. */
function candidates(attempt: Attempt): LineTry[] {
  const bytes = bytesOf(attempt);
  const plain = (baudRate: number): LineTry => ({ baudRate, dataBits: 8, parity: "none" });
  const rates = bytes.length === 0 ? BY_USE : likelyBaudRates(bytes, attempt.line.baudRate, true);
  return [...[...rates, ...USUAL_BAUD_RATES].map(plain), ...WITH_PARITY];
}

/** `4800 bit/s 8N1`. */
export function textOf({ baudRate, dataBits, parity }: LineTry): string {
  return `${baudRate} bit/s ${dataBits}${parity.charAt(0).toUpperCase()}1`;
}
